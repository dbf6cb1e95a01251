//! What keeps services and copies apart: a copy holds a lock while it runs, and leaves a mark, a table that is there from
//! its first row until it was checked.
//!
//! The lock belongs to a transaction, not to a session: behind a proxy that gives each transaction another session a
//! lock of the latter would belong to nobody. Services share it for a moment when they start.

use std::time::Duration;

use super::arguments::arguments;
use super::columns::Columns;
use super::connections::{Queries, in_time};
use super::fault::Attempt;
use super::server::Server;
use super::transaction::Transaction;
use crate::store::StoreError;

/// Whether the schema has the mark.
pub(super) const IS_MARKED: &str =
    "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'copying')";

/// The same, and whether no copy runs.
const MAY_SERVE: &str = "SELECT pg_try_advisory_xact_lock_shared(hashtextextended('sluicegate holds ' || $1, 0)), \
     EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'copying')";

/// How long a start waits for the lock: the server process of one that is gone may take a moment to notice.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets no service start on half a store: what has not arrived yet would be missing, and new rows would take its keys.
///
/// # Errors
/// [`StoreError::SchemaInUse`] while a copy runs, or a service of a version that wants the schema for itself;
/// [`StoreError::UnfinishedCopy`] if a copy into the schema has not ended.
pub(super) async fn refuse(server: &Server, schema: &str) -> Result<(), StoreError> {
    let alone = server.connect().await?;
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let asked: Attempt<(bool, bool)> = async {
            let row = in_time(alone.client.query_typed_one(MAY_SERVE, &arguments![schema])).await?;
            Ok((row.try_get(0)?, row.try_get(1)?))
        }
        .await;
        match asked? {
            (true, false) => return Ok(()),
            (true, true) => return Err(StoreError::UnfinishedCopy(schema.to_owned())),
            (false, _) if tokio::time::Instant::now() >= until => {
                return Err(StoreError::SchemaInUse(schema.to_owned()));
            }
            (false, _) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The same, in the transaction that makes a process a worker: a copy that begins after it sees the worker.
///
/// # Errors
/// As of [`refuse`].
pub(super) async fn keep_out(transaction: &Transaction) -> Attempt<()> {
    let row = transaction.row("SELECT current_schema()::text", &[]).await?;
    let schema: String = row.map_or_else(|| Ok(String::new()), |row| Columns::of(&row).take())?;
    let Some(row) = transaction.row(MAY_SERVE, &arguments![schema]).await? else { return Ok(()) };
    let mut columns = Columns::of(&row);
    match (columns.take()?, columns.take()?) {
        (true, false) => Ok(()),
        (true, true) => Err(StoreError::UnfinishedCopy(schema).into()),
        (false, _) => Err(StoreError::SchemaInUse(schema).into()),
    }
}
