//! What is to run, as the engine reads it.

use super::Database;
use super::arguments::arguments;
use super::columns::Columns;
use super::connections::Queries;
use super::fault::Attempt;
use crate::domain::ids::BatchKey;
use crate::store::{Cursor, LedgerEntry, Result};

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

/// The saved levels of the gate.
pub(crate) async fn ledger(database: &Database) -> Result<Vec<LedgerEntry>> {
    let rows = database.rows("SELECT name, state FROM ledger ORDER BY name", &[]).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        Ok(LedgerEntry { name: columns.take()?, state: columns.take()? })
    };
    Ok(rows.iter().map(read).collect::<Attempt<_>>()?)
}
