//! Boots: one row per start, which tells the next start how this one ended.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;
use super::workers;
use super::writing::Writing;
use crate::domain::ids::BatchKey;
use crate::domain::time::Timestamp;
use crate::store::previous_boot::{PreviousBoot, REMEMBERED};
use crate::store::{BootReport, WorkerSettings};

/// Writes this boot's row and tells of the boot before.
pub(crate) fn begin(
    writing: &mut Writing<'_>,
    worker: &WorkerSettings,
    now: Timestamp,
) -> Result<BootReport, Fault> {
    workers::register(writing, worker, now)?;
    let previous = last(writing.connection)?;
    let suspect = previous.as_ref().and_then(PreviousBoot::suspect_now);
    writing.connection.execute(
        "INSERT INTO boot (started_at, suspect_batch, suspect_line, suspect_deaths, worker) \
         SELECT ?1, ?2, ?3, ?4, key FROM worker",
        params![
            now.micros(),
            suspect.map(|(batch, _, _)| batch.0),
            suspect.map(|(_, line, _)| line),
            suspect.map_or(0, |(_, _, deaths)| deaths)
        ],
    )?;
    let boot = writing.connection.last_insert_rowid();
    writing.connection.execute("DELETE FROM boot WHERE id <= ?1", [boot - REMEMBERED])?;
    Ok(BootReport {
        boot,
        clean: previous.as_ref().is_none_or(|previous| previous.clean),
        recorded_before: previous.as_ref().is_none_or(|previous| previous.recorded),
        alone: suspect,
    })
}

fn last(connection: &Connection) -> Result<Option<PreviousBoot>, Fault> {
    let previous = connection
        .query_row(
            "SELECT ended_at IS NOT NULL, recorded, alone_batch, alone_line, \
                    suspect_batch, suspect_line, suspect_deaths \
             FROM boot ORDER BY id DESC LIMIT 1",
            [],
            |row| {
                let item = |batch: Option<i64>, line: Option<u32>| batch.map(BatchKey).zip(line);
                let suspect = item(row.get(4)?, row.get(5)?);
                let deaths = row.get(6)?;
                Ok(PreviousBoot {
                    clean: row.get(0)?,
                    recorded: row.get(1)?,
                    alone: item(row.get(2)?, row.get(3)?),
                    suspect: suspect.map(|(batch, line)| (batch, line, deaths)),
                })
            },
        )
        .optional()?;
    Ok(previous)
}

/// Names the item that is about to run alone.
pub(crate) fn name_alone(writing: &mut Writing<'_>, batch: BatchKey, line: u32) -> Result<(), Fault> {
    writing.connection.execute(
        "UPDATE boot SET alone_batch = ?1, alone_line = ?2 WHERE id = (SELECT max(id) FROM boot)",
        params![batch.0, line],
    )?;
    Ok(())
}

/// Notes a clean end.
pub(crate) fn end(writing: &mut Writing<'_>) -> Result<(), Fault> {
    writing.connection.execute(
        "UPDATE boot SET ended_at = ?1 WHERE id = (SELECT max(id) FROM boot)",
        [writing.now.micros()],
    )?;
    workers::end(writing)
}
