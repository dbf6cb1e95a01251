//! Erasing, a little at a time, in transactions of their own: none holds its locks for long.
//!
//! The room goes to what comes next; the server's own cleaning makes it free.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Database;
use super::arguments::{Argument, arguments};
use super::batches;
use super::columns::Columns;
use super::connections::{Connections, Lane, Queries};
use super::fault::Attempt;
use super::result_rows::pair;
use super::transaction::Transaction;
use crate::domain::ids::BatchKey;
use crate::store::retention::Horizon;
use crate::store::{Result, Swept};

/// Time that one command erases.
const COMMAND_TIME: Duration = Duration::from_millis(20);
/// Small rows erased by one statement.
const ROWS: i64 = 500;
/// Things hidden by one command.
const HIDDEN: i64 = 16;

/// At open: hides what a boot before left behind half made. No upload outlives its process.
pub(super) async fn give_up_unfinished(connections: &Arc<Connections>) -> Attempt<()> {
    let transaction = connections.begin(Lane::Control).await?;
    let now = transaction.now.micros();
    for sql in [
        "UPDATE file SET deleted_at = $1 WHERE status = 'uploading' AND deleted_at IS NULL",
        "UPDATE file SET deleted_at = $1 WHERE source = 'inline' AND deleted_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = file.key AND batch.deleted_at IS NULL)",
    ] {
        transaction.execute(sql, &arguments![now]).await?;
    }
    transaction.commit().await
}

/// One command's worth: hides what is too old, then erases what is hidden.
pub(crate) async fn sweep(database: &Database, horizon: Horizon) -> Result<Swept> {
    let began = Instant::now();
    // Apart: files of a batch are locked after it, so none may be held when one is asked for.
    let mut swept = Swept { rows: hide_files(database, horizon).await?, more: false };
    swept.rows += hide_batches(database, horizon).await?;
    let mut transaction = database.begin(Lane::Bulk).await?;
    loop {
        let rows = erase_some(&transaction).await?;
        swept.rows += rows;
        transaction.effects.rows += rows;
        swept.more = rows > 0;
        if rows == 0 || began.elapsed() >= COMMAND_TIME {
            transaction.commit().await?;
            return Ok(swept);
        }
    }
}

async fn hide_files(database: &Database, horizon: Horizon) -> Attempt<u64> {
    let transaction = database.begin(Lane::Bulk).await?;
    let now = transaction.now.micros();
    let sql = "UPDATE file SET deleted_at = $1 WHERE key IN (SELECT key FROM file \
               WHERE expires_at <= $2 AND deleted_at IS NULL AND status = 'processed' LIMIT $3)";
    let mut hidden = transaction.execute(sql, &arguments![now, horizon.now.micros(), HIDDEN]).await?;
    if let Some(before) = horizon.files {
        let sql = "UPDATE file SET deleted_at = $1 WHERE key IN (SELECT key FROM file \
                   WHERE created_at <= $2 AND source = 'upload' AND status = 'processed' \
                   AND deleted_at IS NULL LIMIT $3)";
        hidden += transaction.execute(sql, &arguments![now, before.micros(), HIDDEN]).await?;
    }
    transaction.commit().await?;
    Ok(hidden)
}

async fn hide_batches(database: &Database, horizon: Horizon) -> Attempt<u64> {
    let Some(before) = horizon.results else { return Ok(0) };
    let mut transaction = database.begin(Lane::Bulk).await?;
    let sql = "SELECT key FROM batch WHERE ended_at <= $1 AND deleted_at IS NULL ORDER BY ended_at LIMIT $2";
    let old = transaction.rows(sql, &arguments![before.micros(), HIDDEN]).await?;
    let mut keys = old.iter().map(|row| Columns::of(row).take()).collect::<Attempt<Vec<i64>>>()?;
    keys.sort_unstable();
    for key in &keys {
        batches::hide(&mut transaction, BatchKey(*key)).await?;
    }
    transaction.commit().await?;
    Ok(keys.len() as u64)
}

/// Erases a few rows of the first thing that is hidden; 0 once there is none.
async fn erase_some(transaction: &Transaction) -> Attempt<u64> {
    let hidden = "SELECT key FROM batch WHERE deleted_at IS NOT NULL ORDER BY key LIMIT 1";
    if let Some(batch) = first(transaction, hidden).await? {
        return erase_batch(transaction, batch).await;
    }
    // Views have no content of their own; an input stays while a batch runs it.
    let hidden = "SELECT key FROM file WHERE deleted_at IS NOT NULL \
                  AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = file.key AND batch.ended_at IS NULL) \
                  LIMIT 1";
    match first(transaction, hidden).await? {
        Some(file) => erase_file(transaction, file).await,
        None => Ok(0),
    }
}

async fn first(transaction: &Transaction, sql: &str) -> Attempt<Option<i64>> {
    let row = transaction.row(sql, &[]).await?;
    row.map(|row| Columns::of(&row).take()).transpose()
}

/// Large rows first, few at a time; the batch's own row last, as it is what a sweep finds the rest by.
async fn erase_batch(transaction: &Transaction, batch: i64) -> Attempt<u64> {
    let (first, last) = (pair(batch, 0), pair(batch, u32::MAX.into()));
    let of_batch = &arguments![batch][..];
    let in_order: [(&str, &[Argument<'_>]); 4] = [
        (
            "DELETE FROM result_chunk WHERE batch = $1 AND (line, no) IN \
             (SELECT line, no FROM result_chunk WHERE batch = $1 LIMIT 8)",
            of_batch,
        ),
        (
            "DELETE FROM result WHERE id IN (SELECT id FROM result WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT $3)",
            &arguments![first, last, ROWS],
        ),
        ("DELETE FROM batch_detail WHERE batch = $1", of_batch),
        ("DELETE FROM batch WHERE key = $1", of_batch),
    ];
    erase_first(transaction, &in_order).await
}

async fn erase_file(transaction: &Transaction, file: i64) -> Attempt<u64> {
    let (first, last) = (pair(file, 0), pair(file, u32::MAX.into()));
    let (range, of_file) = (&arguments![first, last][..], &arguments![file][..]);
    let in_order = [
        (
            "DELETE FROM segment_chunk WHERE (segment, no) IN \
             (SELECT segment, no FROM segment_chunk WHERE segment BETWEEN $1 AND $2 LIMIT 8)",
            range,
        ),
        (
            "DELETE FROM segment WHERE id IN (SELECT id FROM segment WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT 64)",
            range,
        ),
        (
            "DELETE FROM item_key WHERE file = $1 AND (chunk, no) IN \
             (SELECT chunk, no FROM item_key WHERE file = $1 LIMIT 64)",
            of_file,
        ),
        (
            "DELETE FROM duplicate_line WHERE file = $1 AND (segment, line) IN \
             (SELECT segment, line FROM duplicate_line WHERE file = $1 LIMIT 500)",
            of_file,
        ),
        ("DELETE FROM file_summary WHERE file = $1", of_file),
        ("DELETE FROM file WHERE key = $1", of_file),
    ];
    erase_first(transaction, &in_order).await
}

/// Runs the statements up to the first that erases something.
async fn erase_first(transaction: &Transaction, in_order: &[(&str, &[Argument<'_>])]) -> Attempt<u64> {
    for (sql, arguments) in in_order {
        let rows = transaction.execute(sql, arguments).await?;
        if rows > 0 {
            return Ok(rows);
        }
    }
    Ok(0)
}
