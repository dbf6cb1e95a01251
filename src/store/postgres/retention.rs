//! Erasing, a little at a time, in transactions of their own: none holds its locks for long.
//!
//! The room goes to what comes next; the server's own cleaning makes it free.

use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::arguments::{Argument, arguments};
use super::batches;
use super::columns::Columns;
use super::connections::{Lane, Queries};
use super::fault::Attempt;
use super::result_rows::pair;
use super::server::Server;
use super::transaction::Transaction;
use super::{Database, unfinished_copy, workers};
use crate::config::Secret;
use crate::domain::ids::BatchKey;
use crate::domain::time::Timestamp;
use crate::store::retention::Horizon;
use crate::store::{DueOfApp, Result, Swept};

/// Time that one command erases.
const COMMAND_TIME: Duration = Duration::from_millis(20);
/// Small rows erased by one statement.
const ROWS: i64 = 500;
/// Things hidden by one command.
const HIDDEN: i64 = 16;

/// Longest that anybody writes one file. What is older and was not completed is nobody's: the worker that wrote it is
/// forgotten, or never was one.
const LONGEST_UPLOAD: Duration = Duration::from_hours(24);

/// What is due, as its statement selects it.
pub(in crate::store) async fn due(url: &Secret, schema: &str, sql: &str) -> Result<Vec<DueOfApp>> {
    let mut server = Server::of(url.expose())?;
    server.check().await?;
    unfinished_copy::refuse(&server, schema).await?;
    let alone = server.connect().await?;
    let read = async {
        let begin = format!("BEGIN READ ONLY; SET LOCAL search_path = \"{schema}\"");
        alone.client.batch_execute(&begin).await?;
        let rows = alone.client.query_typed(sql, &[]).await?;
        rows.iter().map(read_due).collect::<Attempt<Vec<_>>>()
    };
    Ok(read.await?)
}

fn read_due(row: &Row) -> Attempt<DueOfApp> {
    let mut columns = Columns::of(row);
    Ok(DueOfApp {
        app: columns.take()?,
        batches: columns.uint()?,
        results: columns.uint()?,
        result_bytes: columns.uint()?,
        files: columns.uint()?,
        file_bytes: columns.uint()?,
    })
}

/// Begins a command if no other worker erases at this moment.
async fn begin_alone(database: &Database) -> Attempt<Option<Transaction>> {
    let transaction = database.begin(Lane::Bulk).await?;
    let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended('sluicegate sweeps ' || $1, 0))";
    let row = transaction.row(sql, &arguments![database.connections.schema]).await?;
    let is_alone = row.map_or(Ok(false), |row| Columns::of(&row).take())?;
    Ok(is_alone.then_some(transaction))
}

/// One command's worth: hides what is too old, then erases what is hidden. One worker at a time does so.
pub(crate) async fn sweep(database: &Database, horizon: Horizon) -> Result<Swept> {
    let began = Instant::now();
    if !has_work(database, horizon).await? {
        return Ok(Swept::default());
    }
    // Apart: files of a batch are locked after it, so none may be held when one is asked for.
    let mut swept = Swept { rows: hide_files(database, horizon).await?, more: false };
    swept.rows += hide_batches(database, horizon).await?;
    let Some(mut transaction) = begin_alone(database).await? else { return Ok(Swept::default()) };
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

/// Whether there is anything to do: one statement, as every worker asks all the time.
async fn has_work(database: &Database, horizon: Horizon) -> Attempt<bool> {
    let connections = &database.connections;
    let now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let (upload, gone) = (LONGEST_UPLOAD.as_micros(), workers::REMEMBERED.as_micros());
    let any = [
        "file WHERE expires_at <= $1 AND deleted_at IS NULL AND status = 'processed'".to_owned(),
        "file WHERE created_at <= $2 AND source = 'upload' AND status = 'processed' AND deleted_at IS NULL"
            .to_owned(),
        format!("file WHERE created_at <= {now} - {upload} AND status = 'uploading' AND deleted_at IS NULL"),
        "batch WHERE ended_at <= $3 AND deleted_at IS NULL".to_owned(),
        "batch WHERE deleted_at IS NOT NULL".to_owned(),
        "file WHERE deleted_at IS NOT NULL".to_owned(),
        format!("worker WHERE coalesce(ended_at, taken_at) < {now} - {gone}"),
    ];
    let any = any.map(|rows| format!("EXISTS (SELECT 1 FROM \"{}\".{rows})", connections.schema));
    let (files, results) = (horizon.files.map(Timestamp::micros), horizon.results.map(Timestamp::micros));
    let sql = format!("SELECT {}", any.join(" OR "));
    let rows = connections.read_plain(&sql, &arguments![horizon.now.micros(), files, results]).await?;
    rows.first().map_or(Ok(false), |row| Columns::of(row).take())
}

async fn hide_files(database: &Database, horizon: Horizon) -> Attempt<u64> {
    let Some(transaction) = begin_alone(database).await? else { return Ok(0) };
    workers::forget_gone(&transaction).await?;
    let now = transaction.now.micros();
    let sql = "UPDATE file SET deleted_at = $1 WHERE key IN (SELECT key FROM file \
               WHERE expires_at <= $2 AND deleted_at IS NULL AND status = 'processed' LIMIT $3)";
    let mut hidden = transaction.execute(sql, &arguments![now, horizon.now.micros(), HIDDEN]).await?;
    let sql = "UPDATE file SET deleted_at = $1 WHERE key IN (SELECT key FROM file \
               WHERE created_at <= $2 AND status = 'uploading' AND deleted_at IS NULL \
               AND NOT EXISTS (SELECT 1 FROM worker WHERE worker.key = file.worker AND ended_at IS NULL \
                               AND taken_at IS NULL) LIMIT $3)";
    let written_before = (transaction.now - LONGEST_UPLOAD).micros();
    hidden += transaction.execute(sql, &arguments![now, written_before, HIDDEN]).await?;
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
    let Some(mut transaction) = begin_alone(database).await? else { return Ok(0) };
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
