//! The engine's work on the readers: what is to run.

use rusqlite::Connection;

use super::fault::Fault;
use crate::domain::ids::BatchKey;
use crate::store::{Cursor, LedgerEntry};

/// A batch's cursors.
pub(crate) fn cursors(connection: &Connection, batch: BatchKey) -> Result<Vec<Cursor>, Fault> {
    let sql = "SELECT model, next_segment FROM cursor WHERE batch = ?1 ORDER BY model";
    let mut statement = connection.prepare_cached(sql)?;
    let rows =
        statement.query_map([batch.0], |row| Ok(Cursor { model: row.get(0)?, next_segment: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The segments leased and unfinished.
pub(crate) fn leased(connection: &Connection, batch: BatchKey) -> Result<Vec<u32>, Fault> {
    let sql = "SELECT segment FROM batch_segment WHERE batch = ?1 ORDER BY segment";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([batch.0], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The saved levels of the gate.
pub(crate) fn ledger(connection: &Connection) -> Result<Vec<LedgerEntry>, Fault> {
    let mut statement = connection.prepare_cached("SELECT name, state FROM ledger ORDER BY name")?;
    let rows = statement.query_map([], |row| Ok(LedgerEntry { name: row.get(0)?, state: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
