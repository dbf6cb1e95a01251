//! The one worker of a file.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::writing::Writing;
use crate::domain::time::Timestamp;
use crate::domain::worker::{WorkerKey, WorkerRecord, WorkerState};
use crate::store::WorkerSettings;

/// Its key: leases bear it.
const ONLY: i64 = 1;

/// This process is the worker from now on, whatever the one before was called.
pub(super) fn register(
    writing: &mut Writing<'_>,
    settings: &WorkerSettings,
    now: Timestamp,
) -> Result<(), Fault> {
    writing.connection.execute(
        "INSERT INTO worker (key, name, epoch, version, started_at, beat_at) VALUES (?1, ?2, 1, ?3, ?4, ?4) \
         ON CONFLICT (key) DO UPDATE SET name = excluded.name, epoch = epoch + 1, version = excluded.version, \
         started_at = excluded.started_at, beat_at = excluded.beat_at, ended_at = NULL",
        params![ONLY, settings.name, settings.version, now.micros()],
    )?;
    Ok(())
}

/// Notes its clean end.
pub(super) fn end(writing: &mut Writing<'_>) -> Result<(), Fault> {
    let now = writing.now.micros();
    writing.connection.execute("UPDATE worker SET ended_at = ?1, beat_at = ?1", [now])?;
    Ok(())
}

/// It alone.
pub(crate) fn all(connection: &Connection) -> Result<Vec<WorkerRecord>, Fault> {
    let sql = "SELECT key, name, epoch, version, started_at, beat_at FROM worker";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(WorkerRecord {
            key: WorkerKey(row.get(0)?),
            name: row.get(1)?,
            epoch: row.get(2)?,
            version: row.get(3)?,
            started_at: Timestamp::from_micros(row.get(4)?),
            beat_at: Timestamp::from_micros(row.get(5)?),
            // Who asks runs on it.
            state: WorkerState::Alive,
            running: 0,
            leases: 0,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
