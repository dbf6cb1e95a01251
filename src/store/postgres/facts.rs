//! What a server says of itself, and whether it will do.

use tokio_postgres::Client;

use super::columns::Columns;
use super::connections::in_time;
use super::fault::Attempt;
use crate::store::StoreError;

/// The oldest server: the first that tells a transaction's outcome by its full number.
const OLDEST: i32 = 130_000;

const ASKED: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
     current_setting('server_encoding'), current_setting('synchronous_commit'), current_setting('fsync'), \
     current_setting('default_transaction_isolation')";

/// Settings of a server, a database and a user.
pub(super) struct Facts {
    version: i32,
    /// The version as people write it.
    pub(super) shown: String,
    encoding: String,
    commits: String,
    syncs: String,
    isolation: String,
}

impl Facts {
    /// Asks for them.
    pub(super) async fn ask(client: &Client) -> Attempt<Self> {
        let rows = in_time(client.query_typed(ASKED, &[])).await?;
        let row = rows.first().ok_or(StoreError::Closed)?;
        let mut columns = Columns::of(row);
        Ok(Self {
            version: columns.take()?,
            shown: columns.take()?,
            encoding: columns.take()?,
            commits: columns.take()?,
            syncs: columns.take()?,
            isolation: columns.take()?,
        })
    }

    /// Refuses a server on which a store can't be.
    pub(super) fn judge(&self) -> Result<(), StoreError> {
        let wrong = |what: String| Err(StoreError::Unavailable(what));
        let Self { version, shown, encoding, .. } = self;
        if *version < OLDEST {
            return wrong(format!("the server is PostgreSQL {shown}; version 13 or later is needed"));
        }
        if encoding != "UTF8" {
            return wrong(format!("the database's encoding is {encoding}; UTF8 is needed"));
        }
        Ok(())
    }

    /// Whether what is acknowledged outlasts the server's machine.
    pub(super) fn syncs(&self) -> bool {
        self.syncs != "off"
    }

    /// Whether a transaction that does not say otherwise sees what others committed meanwhile.
    pub(super) fn reads_committed(&self) -> bool {
        // The laxer mode is the same one here.
        self.isolation.starts_with("read ")
    }

    /// The `synchronous_commit` of what is written. A stricter mode than the usual one is the administrator's wish; a
    /// laxer one would break a promise.
    pub(super) fn commit_mode(&self) -> &'static str {
        match self.commits.as_str() {
            "remote_apply" => "remote_apply",
            "remote_write" => "remote_write",
            _ => "on",
        }
    }
}
