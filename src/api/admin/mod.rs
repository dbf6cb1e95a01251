//! Administration: keys, apps, lanes, workers and the configuration.

mod apps;
mod keys;
mod lanes;
mod limits;
mod reload;
mod workers;

pub(super) use apps::{list_apps, put_app};
pub(super) use keys::{create_key, list_keys, revoke_key};
pub(super) use lanes::{pause_lane, resume_lane};
pub(super) use reload::reload_configuration;
pub(super) use workers::list_workers;

/// Most bytes of a body.
const MAX_BODY: usize = 64 << 10;
