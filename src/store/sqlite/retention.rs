//! Erasing, a little at a time: no command holds the writer for more than a few milliseconds.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use super::batches;
use super::connection::open_reader;
use super::fault::Fault;
use super::values::{pair, uint};
use super::writing::Writing;
use crate::domain::ids::BatchKey;
use crate::domain::time::Timestamp;
use crate::store::retention::Horizon;
use crate::store::{DueOfApp, Swept};

/// Time that one command erases.
const COMMAND_TIME: Duration = Duration::from_millis(4);
/// Small rows erased between two looks at the clock.
const ROWS: u32 = 32;
/// Things hidden by one command.
const HIDDEN: u32 = 16;
/// Free pages that stay in the database for what comes next, as giving them back costs writes: 16 MB.
const KEPT_PAGES: i64 = 4_096;

/// What is due, as its statement selects it.
pub(in crate::store) fn due(path: &Path, sql: &str) -> crate::store::Result<Vec<DueOfApp>> {
    let read = || -> Result<_, Fault> {
        let connection = open_reader(path)?;
        let mut statement = connection.prepare(sql)?;
        let due = statement.query_map([], |row| {
            Ok(DueOfApp {
                app: row.get(0)?,
                batches: uint(row, 1)?,
                results: uint(row, 2)?,
                result_bytes: uint(row, 3)?,
                files: uint(row, 4)?,
                file_bytes: uint(row, 5)?,
            })
        })?;
        Ok(due.collect::<rusqlite::Result<_>>()?)
    };
    Ok(read()?)
}

/// At open: hides what a boot before left behind half made. No upload outlives its process.
pub(crate) fn give_up_unfinished(connection: &Connection, now: Timestamp) -> Result<(), Fault> {
    for sql in [
        "UPDATE file SET deleted_at = ?1 WHERE status = 'uploading' AND deleted_at IS NULL",
        "UPDATE file SET deleted_at = ?1 WHERE source = 'inline' AND deleted_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = file.key AND batch.deleted_at IS NULL)",
    ] {
        connection.execute(sql, [now.micros()])?;
    }
    Ok(())
}

/// One command's worth: hides what is too old, else erases what is hidden, else gives pages back.
pub(crate) fn sweep(writing: &mut Writing<'_>, horizon: Horizon) -> Result<Swept, Fault> {
    let began = Instant::now();
    let mut swept = Swept { rows: hide_old(writing, horizon)?, more: false };
    loop {
        let rows = erase_some(writing)?;
        swept.rows += rows;
        writing.effects.rows += rows;
        if rows == 0 {
            break;
        }
        if began.elapsed() >= COMMAND_TIME {
            swept.more = true;
            return Ok(swept);
        }
    }
    while began.elapsed() < COMMAND_TIME {
        if !give_pages_back(writing.connection)? {
            return Ok(swept);
        }
    }
    swept.more = true;
    Ok(swept)
}

fn hide_old(writing: &mut Writing<'_>, horizon: Horizon) -> Result<u64, Fault> {
    let now = writing.now.micros();
    let mut hidden = writing.connection.execute(
        "UPDATE file SET deleted_at = ?1 WHERE key IN (SELECT key FROM file \
         WHERE expires_at <= ?2 AND deleted_at IS NULL AND status = 'processed' LIMIT ?3)",
        params![now, horizon.now.micros(), HIDDEN],
    )?;
    if let Some(before) = horizon.files {
        hidden += writing.connection.execute(
            "UPDATE file SET deleted_at = ?1 WHERE key IN (SELECT key FROM file \
             WHERE created_at <= ?2 AND source = 'upload' AND status = 'processed' \
             AND deleted_at IS NULL LIMIT ?3)",
            params![now, before.micros(), HIDDEN],
        )?;
    }
    let mut rows = hidden as u64;
    if let Some(before) = horizon.results {
        let mut statement = writing.connection.prepare_cached(
            "SELECT key FROM batch WHERE ended_at <= ?1 AND deleted_at IS NULL ORDER BY ended_at LIMIT ?2",
        )?;
        let keys = statement
            .query_map(params![before.micros(), HIDDEN], |row| row.get(0).map(BatchKey))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for key in keys {
            batches::hide(writing, key)?;
            rows += 1;
        }
    }
    Ok(rows)
}

/// Erases a few rows of the first thing that is hidden; 0 once there is none.
fn erase_some(writing: &Writing<'_>) -> Result<u64, Fault> {
    let connection = writing.connection;
    if let Some(batch) = first(connection, "SELECT key FROM batch WHERE deleted_at IS NOT NULL LIMIT 1")? {
        return erase_batch(connection, batch);
    }
    // Views have no content of their own; an input stays while a batch runs it.
    let sql = "SELECT key FROM file WHERE deleted_at IS NOT NULL \
               AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = file.key AND batch.ended_at IS NULL) \
               LIMIT 1";
    match first(connection, sql)? {
        Some(file) => erase_file(connection, file),
        None => Ok(0),
    }
}

fn first(connection: &Connection, sql: &str) -> Result<Option<i64>, Fault> {
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
}

/// Large rows first, one by one; the batch's own row last, as it is what a sweep finds the rest by.
fn erase_batch(connection: &Connection, batch: i64) -> Result<u64, Fault> {
    let sql =
        "DELETE FROM result_chunk WHERE rowid = (SELECT rowid FROM result_chunk WHERE batch = ?1 LIMIT 1)";
    let mut rows = connection.prepare_cached(sql)?.execute([batch])?;
    if rows == 0 {
        let sql = "DELETE FROM result WHERE id IN \
                   (SELECT id FROM result WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)";
        let last = pair(batch, u32::MAX.into());
        rows = connection.prepare_cached(sql)?.execute(params![pair(batch, 0), last, ROWS])?;
    }
    if rows == 0 {
        for sql in ["DELETE FROM batch_detail WHERE batch = ?1", "DELETE FROM batch WHERE key = ?1"] {
            rows += connection.prepare_cached(sql)?.execute([batch])?;
        }
    }
    Ok(rows as u64)
}

fn erase_file(connection: &Connection, file: i64) -> Result<u64, Fault> {
    let bounds = params![pair(file, 0), pair(file, u32::MAX.into())];
    let mut rows = connection
        .prepare_cached(
            "DELETE FROM segment_chunk WHERE rowid = \
             (SELECT rowid FROM segment_chunk WHERE segment BETWEEN ?1 AND ?2 LIMIT 1)",
        )?
        .execute(bounds)?;
    if rows == 0 {
        // Up to 256 KB each, so only a few between two looks at the clock.
        let sql = "DELETE FROM segment WHERE id IN \
                   (SELECT id FROM segment WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 4)";
        rows = connection.prepare_cached(sql)?.execute(bounds)?;
    }
    for sql in [
        "DELETE FROM item_key WHERE rowid IN (SELECT rowid FROM item_key WHERE file = ?1 LIMIT 8)",
        "DELETE FROM duplicate_line WHERE (file, segment, line) IN \
         (SELECT file, segment, line FROM duplicate_line WHERE file = ?1 LIMIT 256)",
        "DELETE FROM file_summary WHERE file = ?1",
        "DELETE FROM file WHERE key = ?1",
    ] {
        if rows == 0 {
            rows = connection.prepare_cached(sql)?.execute([file])?;
        }
    }
    Ok(rows as u64)
}

/// Gives a few free pages back to the disk; `false` once few enough are free.
fn give_pages_back(connection: &Connection) -> Result<bool, Fault> {
    let free: i64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    if free <= KEPT_PAGES {
        return Ok(false);
    }
    // The pragma yields one row per page it frees, so it must be stepped to its end.
    let mut statement = connection.prepare_cached("PRAGMA incremental_vacuum(32)")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}
