//! The input, opened: segments against their heads, item keys, and each batch's results against its lines.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::content;
use super::fault::Fault;
use super::results::done_lines;
use crate::domain::ids::{BatchKey, FileKey};
use crate::domain::segment::{EntryKind, Segment, SegmentHead};
use crate::store::StoreError;
use crate::store::check::CheckReport;
use crate::store::packed_keys::{ordered, unpack};

/// Segments read at once: their heads only.
const HEADS: usize = 256;

/// A batch whose results are compared with its input.
struct Run {
    key: BatchKey,
    id: String,
    ended: bool,
    /// How far leasing has come, by model.
    cursors: BTreeMap<String, u32>,
    /// Segments leased and unfinished.
    leased: BTreeSet<u32>,
    results: u64,
    /// Of these, the ones whose line the input has.
    met: u64,
}

/// Opens everything that was put in and is still there.
pub(super) fn check(connection: &Connection, report: &mut CheckReport) -> Result<(), Fault> {
    let sql = "SELECT key, id FROM file WHERE source IN ('upload', 'inline') AND status = 'processed' \
               AND deleted_at IS NULL ORDER BY key";
    let mut statement = connection.prepare(sql)?;
    let files = statement.query_map([], |row| Ok((FileKey(row.get(0)?), row.get::<_, String>(1)?)))?;
    let (mut looked_at, mut opened) = (0, 0);
    for file in files {
        let (file, id) = file?;
        looked_at += 1;
        opened += check_file(connection, file, &id, report)?;
        check_keys(connection, file, &id, report)?;
    }
    report.looked_at.extend([("input files", looked_at), ("segments", opened)]);
    Ok(())
}

/// Opens a file's segments; how many.
fn check_file(
    connection: &Connection,
    file: FileKey,
    id: &str,
    report: &mut CheckReport,
) -> Result<u64, Fault> {
    let mut runs = runs(connection, file)?;
    let (mut next, mut opened) = (0, 0);
    loop {
        let heads = content::heads(connection, file, None, next, HEADS)?;
        let Some(last) = heads.last() else { break };
        next = last.no.saturating_add(1);
        for head in heads {
            opened += 1;
            match lines(connection, file, &head) {
                Ok(lines) => {
                    for run in &mut runs {
                        compare(connection, run, &head, &lines, report)?;
                    }
                }
                Err(Fault::Refused(StoreError::Damaged(why))) => {
                    report.add("input", [format!("file {id}: segment {}: {why}", head.no)]);
                    // Its lines are not known, so nothing can be said of their results.
                    runs.clear();
                }
                Err(fault) => return Err(fault),
            }
        }
    }
    for run in runs.iter().filter(|run| run.met != run.results) {
        let strays = run.results.saturating_sub(run.met);
        report.add(
            "results",
            [format!("batch {}: {strays} results of lines that its input does not have", run.id)],
        );
    }
    Ok(opened)
}

/// The batches of a file that took results, with how far they are.
fn runs(connection: &Connection, file: FileKey) -> Result<Vec<Run>, Fault> {
    let sql = "SELECT key, id, ended_at IS NOT NULL, (SELECT count(*) FROM result WHERE result.batch = batch.key) \
               FROM batch WHERE file = ?1 AND deleted_at IS NULL AND status <> 'failed' ORDER BY key";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([file.0])?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        let key = BatchKey(row.get(0)?);
        let results: i64 = row.get(3)?;
        let cursors = super::work::cursors(connection, key)?.into_iter();
        runs.push(Run {
            key,
            id: row.get(1)?,
            ended: row.get(2)?,
            cursors: cursors.map(|cursor| (cursor.model, cursor.next_segment)).collect(),
            leased: super::work::leased(connection, key)?.into_iter().collect(),
            results: results.unsigned_abs(),
            met: 0,
        });
    }
    Ok(runs)
}

/// The lines of a segment's items, ascending, once it agrees with its head.
fn lines(connection: &Connection, file: FileKey, head: &SegmentHead) -> Result<Vec<u32>, Fault> {
    let damaged = |why: &str| Fault::from(StoreError::Damaged(why.to_owned()));
    let segment = content::segment(connection, file, head.no)?.ok_or_else(|| damaged("it is gone"))?;
    let open = segment.open().map_err(|error| damaged(&error.to_string()))?;
    let Segment { head, .. } = &segment;
    let entries = open.entries();
    let is_item = |kind| matches!(kind, EntryKind::Item | EntryKind::Faulty);
    let lines: Vec<u32> =
        entries.iter().filter(|entry| is_item(entry.kind)).map(|entry| entry.line).collect();
    let ends = (entries.first().map_or(0, |entry| entry.line), entries.last().map_or(0, |entry| entry.line));
    let bytes: u64 = entries.iter().map(|entry| open.raw(entry).len() as u64).sum();
    let agree = lines.len() == head.item_count as usize
        && ends == (head.first_line, head.last_line)
        && bytes == u64::from(head.raw_bytes);
    if agree { Ok(lines) } else { Err(damaged("its row says something else than its data")) }
}

/// Looks whether each line of a segment has a result or is still to be run.
fn compare(
    connection: &Connection,
    run: &mut Run,
    head: &SegmentHead,
    lines: &[u32],
    report: &mut CheckReport,
) -> Result<(), Fault> {
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(()) };
    let done: BTreeSet<u32> = done_lines(connection, run.key, *first, *last)?.into_iter().collect();
    let missing: Vec<u32> = lines.iter().copied().filter(|line| !done.contains(line)).collect();
    run.met += (lines.len() - missing.len()) as u64;
    let ahead = run.cursors.get(&*head.model).is_some_and(|next| head.no >= *next);
    if !ahead && !run.leased.contains(&head.no) && !missing.is_empty() {
        let what =
            if run.ended { "has no result" } else { "is lost: it has no result and nothing will run it" };
        report.add("lines", missing.iter().map(|line| format!("batch {}: line {line} {what}", run.id)));
    }
    Ok(())
}

/// Blocks of item keys: readable, sorted, and where their row says.
fn check_keys(
    connection: &Connection,
    file: FileKey,
    id: &str,
    report: &mut CheckReport,
) -> Result<(), Fault> {
    let sql = "SELECT chunk, no, first_hash, last_hash, keys FROM item_key WHERE file = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![file.0])?;
    while let Some(row) = rows.next()? {
        let (chunk, no): (u32, u32) = (row.get(0)?, row.get(1)?);
        let bounds: (i64, i64) = (row.get(2)?, row.get(3)?);
        let keys = unpack(row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?);
        let good = keys.is_ok_and(|keys| {
            let ends = keys.first().zip(keys.last());
            ends.is_some_and(|(first, last)| (ordered(first.hash), ordered(last.hash)) == bounds)
                && keys.is_sorted_by_key(|key| key.hash)
        });
        if !good {
            report.add("input", [format!("file {id}: block {no} of item keys in chunk {chunk} is damaged")]);
        }
    }
    Ok(())
}
