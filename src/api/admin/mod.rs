//! Administration: keys, apps and lanes.

mod apps;
mod keys;
mod lanes;
mod limits;

pub(super) use apps::{list_apps, put_app};
pub(super) use keys::{create_key, list_keys, revoke_key};
pub(super) use lanes::{pause_lane, resume_lane};

/// Most bytes of a body.
const MAX_BODY: usize = 64 << 10;
