//! Administration: keys and apps.

mod apps;
mod keys;
mod limits;

pub(super) use apps::{list_apps, put_app};
pub(super) use keys::{create_key, list_keys, revoke_key};

/// Most bytes of a body.
const MAX_BODY: usize = 64 << 10;
