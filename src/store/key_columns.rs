//! The columns of a key, in the order in which both databases' rows are read.

/// Selects a key's columns; conditions follow.
macro_rules! select_keys {
    ($conditions:literal) => {
        concat!(
            "SELECT api_key.id, api_key.app, app.name, api_key.name, scope, hash, api_key.created_at, \
             expires_at, revoked_at, last_used, replaces \
             FROM api_key JOIN app ON app.key = api_key.app WHERE ",
            $conditions
        )
    };
}

pub(in crate::store) use select_keys;
