//! Administration: keys, apps, lanes, workers, backups and the configuration.

mod apps;
mod backup;
mod keys;
mod lanes;
mod limits;
mod reload;
mod workers;

pub(super) use apps::{list_apps, put_app};
pub(super) use backup::create_backup;
pub(super) use keys::{create_key, list_keys, revoke_key};
pub(super) use lanes::{pause_lane, resume_lane};
pub(super) use reload::reload_configuration;
pub(super) use workers::list_workers;

/// Most bytes of a body.
const MAX_BODY: usize = 64 << 10;
