//! What is to run, as the engine reads it.

use super::Database;
use super::arguments::arguments;
use super::columns::Columns;
use super::connections::Queries;
use super::fault::Attempt;
use crate::domain::ids::BatchKey;
use crate::store::{Cursor, LedgerEntry, Result, StoreError};

/// A batch's cursors.
pub(crate) async fn cursors(database: &Database, batch: BatchKey) -> Result<Vec<Cursor>> {
    let sql = "SELECT model, next_segment FROM cursor WHERE batch = $1 ORDER BY model";
    let rows = database.rows(sql, &arguments![batch.0]).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        Ok(Cursor { model: columns.take()?, next_segment: columns.uint()? })
    };
    Ok(rows.iter().map(read).collect::<Attempt<_>>()?)
}

/// The segments leased and unfinished.
pub(crate) async fn leased(database: &Database, batch: BatchKey) -> Result<Vec<u32>> {
    let sql = "SELECT segment FROM batch_segment WHERE batch = $1 ORDER BY segment";
    let rows = database.rows(sql, &arguments![batch.0]).await?;
    Ok(rows.iter().map(|row| Columns::of(row).uint()).collect::<Attempt<_>>()?)
}

/// The levels that others saved since a version, and the version to ask with next.
///
/// A version is the number of the transaction that saved the level. Of those, all that are below the oldest one still
/// under way have ended: what they saved is seen now, and what the others saved is seen again the next time.
pub(crate) async fn ledger_since(database: &Database, version: i64) -> Result<(Vec<LedgerEntry>, i64)> {
    let worker = database.membership().last_known().map_or(0, |known| known.key);
    let sql = "SELECT seen.version, name, state \
               FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS version) AS seen \
               LEFT JOIN ledger ON ledger.version >= $1 AND ledger.worker <> $2 ORDER BY name";
    let rows = database.rows(sql, &arguments![version, worker]).await?;
    let (mut entries, mut seen) = (Vec::new(), version);
    for row in &rows {
        let mut columns = Columns::of(row);
        seen = columns.take().map_err(StoreError::from)?;
        let name: Option<String> = columns.take().map_err(StoreError::from)?;
        if let Some(name) = name {
            entries.push(LedgerEntry { name, state: columns.take().map_err(StoreError::from)? });
        }
    }
    Ok((entries, seen))
}

/// The saved levels of the gate.
pub(crate) async fn ledger(database: &Database) -> Result<Vec<LedgerEntry>> {
    let rows = database.rows("SELECT name, state FROM ledger ORDER BY name", &[]).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        Ok(LedgerEntry { name: columns.take()?, state: columns.take()? })
    };
    Ok(rows.iter().map(read).collect::<Attempt<_>>()?)
}
