//! How far a running batch's input is done without a gap.

use std::collections::HashSet;

use super::Database;
use super::arguments::arguments;
use super::batch_rows;
use super::columns::Columns;
use super::connections::Queries;
use super::content;
use super::fault::{Attempt, damaged};
use super::results::done_lines;
use super::transaction::Transaction;
use crate::domain::ids::{BatchKey, FileKey};
use crate::domain::segment::EntryKind;
use crate::store::Result;

/// The first line with an item that has no result; `u32::MAX` where there is none.
///
/// It lies in a leased segment or at the start of an untouched one, so only those are looked at: the
/// leased ones by their first line, until the next begins behind what was found.
pub(crate) async fn line(database: &Database, batch: BatchKey) -> Result<u32> {
    let snapshot = database.snapshot().await?;
    let Some(record) = batch_rows::by_key(&snapshot, batch).await? else { return Ok(u32::MAX) };
    if record.status.is_terminal() {
        return Ok(u32::MAX);
    }
    let mut frontier = first_untouched(&snapshot, batch, record.file).await?;
    let sql = "SELECT segment.no, segment.first_line FROM batch_segment \
               JOIN segment ON segment.id = ($2::bigint << 32 | batch_segment.segment) \
               WHERE batch_segment.batch = $1 ORDER BY segment.first_line";
    for row in snapshot.rows(sql, &arguments![batch.0, record.file.0]).await? {
        let mut columns = Columns::of(&row);
        let (no, first_line): (u32, u32) = (columns.uint()?, columns.uint()?);
        if first_line >= frontier {
            break;
        }
        if let Some(line) = first_undone(&snapshot, batch, record.file, no).await? {
            frontier = frontier.min(line);
        }
    }
    Ok(frontier)
}

/// The first line of the segments beyond every cursor.
async fn first_untouched(snapshot: &Transaction, batch: BatchKey, file: FileKey) -> Attempt<u32> {
    let sql = "SELECT min((SELECT first_line FROM segment WHERE segment.file = $2 \
                           AND segment.model = cursor.model AND segment.no >= cursor.next_segment \
                           ORDER BY segment.no LIMIT 1)) \
               FROM cursor WHERE batch = $1";
    let row = snapshot.row(sql, &arguments![batch.0, file.0]).await?;
    let first = row.map(|row| Columns::of(&row).optional_uint()).transpose()?;
    Ok(first.flatten().unwrap_or(u32::MAX))
}

/// The first item of a segment that has no result.
async fn first_undone(
    snapshot: &Transaction,
    batch: BatchKey,
    file: FileKey,
    no: u32,
) -> Attempt<Option<u32>> {
    let Some(segment) = content::segment(snapshot, file, no).await? else { return Ok(None) };
    let (first, last) = (segment.head.first_line, segment.head.last_line);
    let done: HashSet<u32> = done_lines(snapshot, batch, first, last).await?.into_iter().collect();
    let open = segment.open().map_err(|error| damaged(&error.to_string()))?;
    let mut items = open.entries().iter().filter(|entry| entry.kind != EntryKind::Blank);
    Ok(items.find(|entry| !done.contains(&entry.line)).map(|entry| entry.line))
}
