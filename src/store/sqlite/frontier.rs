//! How far a running batch's input is done without a gap.

use rusqlite::{Connection, OptionalExtension, params};

use super::batch_rows;
use super::content;
use super::fault::{Fault, damaged};
use super::results::has_line;
use crate::domain::ids::{BatchKey, FileKey};
use crate::domain::segment::EntryKind;

/// The first line with an item that has no result; `u32::MAX` where there is none.
///
/// It lies in a leased segment or at the start of an untouched one, so only those are looked at: the
/// leased ones by their first line, until the next begins behind what was found.
pub(crate) fn line(connection: &Connection, batch: BatchKey) -> Result<u32, Fault> {
    let snapshot = connection.unchecked_transaction()?;
    let Some(record) = batch_rows::by_key(&snapshot, batch)? else { return Ok(u32::MAX) };
    if record.status.is_terminal() {
        return Ok(u32::MAX);
    }
    let mut frontier = first_untouched(&snapshot, batch, record.file)?;
    let mut statement = snapshot.prepare_cached(
        "SELECT segment.no, segment.first_line FROM batch_segment \
         JOIN segment ON segment.id = (?2 << 32 | batch_segment.segment) \
         WHERE batch_segment.batch = ?1 ORDER BY segment.first_line",
    )?;
    let mut leased = statement.query(params![batch.0, record.file.0])?;
    while let Some(row) = leased.next()? {
        if row.get::<_, u32>(1)? >= frontier {
            break;
        }
        if let Some(line) = first_undone(&snapshot, batch, record.file, row.get(0)?)? {
            frontier = frontier.min(line);
        }
    }
    Ok(frontier)
}

/// The first line of the segments beyond every cursor.
fn first_untouched(connection: &Connection, batch: BatchKey, file: FileKey) -> Result<u32, Fault> {
    let first: Option<Option<u32>> = connection
        .prepare_cached(
            "SELECT min((SELECT first_line FROM segment WHERE segment.file = ?2 \
                         AND segment.model = cursor.model AND segment.no >= cursor.next_segment \
                         ORDER BY segment.no LIMIT 1)) \
             FROM cursor WHERE batch = ?1",
        )?
        .query_row(params![batch.0, file.0], |row| row.get(0))
        .optional()?;
    Ok(first.flatten().unwrap_or(u32::MAX))
}

/// The first item of a segment that has no result.
fn first_undone(
    connection: &Connection,
    batch: BatchKey,
    file: FileKey,
    segment: u32,
) -> Result<Option<u32>, Fault> {
    let Some(segment) = content::segment(connection, file, segment)? else { return Ok(None) };
    let open = segment.open().map_err(|error| damaged(&error.to_string()))?;
    for entry in open.entries().iter().filter(|entry| entry.kind != EntryKind::Blank) {
        if !has_line(connection, batch, entry.line)? {
            return Ok(Some(entry.line));
        }
    }
    Ok(None)
}
