//! Batches on the writer: made, changed, cancelled, expired, deleted.

use rusqlite::{Connection, OptionalExtension, params};

use super::apps;
use super::batch_rows;
use super::fault::{Fault, damaged};
use super::values::{int, length, micros};
use super::views;
use super::writing::Writing;
use crate::domain::app::OverQuota;
use crate::domain::batch::{BatchRecord, BatchStatus};
use crate::domain::file::LineProblem;
use crate::domain::ids::{AppKey, BatchId, BatchKey};
use crate::store::json;
use crate::store::state::BatchState;
use crate::store::{
    BatchChange, CancelOutcome, ChangeOutcome, CreateOutcome, DeleteOutcome, Idempotency, NewBatch,
};

/// Makes a batch, or finds the one that the same request made.
pub(crate) fn create(writing: &mut Writing<'_>, new: &NewBatch) -> Result<CreateOutcome, Fault> {
    if let Some(before) = asked_before(writing.connection, new.app, new.idempotency.as_ref())? {
        give_up_inline(writing, new)?;
        return Ok(before);
    }
    if let Err(over) = check_quotas(writing.connection, new)? {
        give_up_inline(writing, new)?;
        return Ok(CreateOutcome::OverQuota(over));
    }
    let key = insert(writing, new)?;
    let state = read_state(writing.connection, key)?;
    move_state(writing, state, |_, _| true)?;
    Ok(CreateOutcome::Created(read_record(writing.connection, key)?))
}

/// What an equal request got, if there was one.
pub(crate) fn asked_before(
    connection: &Connection,
    app: AppKey,
    idempotency: Option<&Idempotency>,
) -> Result<Option<CreateOutcome>, Fault> {
    let found: Option<(i64, bool)> = match idempotency {
        None => None,
        Some(Idempotency::Key { key, fingerprint }) => connection
            .query_row(
                "SELECT key, fingerprint = ?3 FROM batch WHERE app = ?1 AND idempotency_key = ?2",
                params![app.0, key, fingerprint],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?,
        Some(Idempotency::RetriedCreate { fingerprint, since }) => connection
            .query_row(
                "SELECT key, TRUE FROM batch \
                 WHERE app = ?1 AND fingerprint = ?2 AND created_at >= ?3 AND deleted_at IS NULL \
                 ORDER BY created_at DESC LIMIT 1",
                params![app.0, fingerprint, since.micros()],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?,
    };
    match found {
        None => Ok(None),
        Some((_, false)) => Ok(Some(CreateOutcome::KeyReused)),
        Some((key, true)) => Ok(Some(CreateOutcome::Existing(read_record(connection, BatchKey(key))?))),
    }
}

/// Whether the app may have so many items more, and has room for what they bring.
fn check_quotas(connection: &Connection, new: &NewBatch) -> Result<Result<(), OverQuota>, Fault> {
    if !new.problems.is_empty() {
        // It ends as failed and holds nothing.
        return Ok(Ok(()));
    }
    let items = apps::check_items(connection, new.app, new.total)?;
    if items.is_err() { Ok(items) } else { apps::check_bytes(connection, new.app, 0) }
}

/// The inline input of a request that makes no batch belongs to nobody.
fn give_up_inline(writing: &mut Writing<'_>, new: &NewBatch) -> Result<(), Fault> {
    writing.connection.execute(
        "UPDATE file SET deleted_at = ?2 WHERE key = ?1 AND source = 'inline' AND deleted_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = ?1)",
        params![new.file.0, writing.now.micros()],
    )?;
    Ok(())
}

fn insert(writing: &mut Writing<'_>, new: &NewBatch) -> Result<BatchKey, Fault> {
    let connection = writing.connection;
    let refused = !new.problems.is_empty();
    let status = if refused { BatchStatus::Failed } else { BatchStatus::InProgress };
    let name = match &new.idempotency {
        Some(Idempotency::Key { key, .. }) => Some(key.as_str()),
        _ => None,
    };
    let moment = |given: bool| micros(given.then_some(new.created_at));
    let inserted = connection.execute(
        "INSERT INTO batch (id, app, file, input_file_id, endpoint, model, completion_window, window, \
         created_at, status, total, in_progress_at, failed_at, ended_at, output_expires, \
         idempotency_key, fingerprint) \
         SELECT ?1, ?2, key, CASE source WHEN 'inline' THEN NULL ELSE id END, ?4, ?5, ?6, ?7, \
         ?8, ?9, ?10, ?11, ?12, ?12, ?13, ?14, ?15 \
         FROM file WHERE key = ?3 AND app = ?2 AND status = 'processed' AND deleted_at IS NULL \
         AND batch IS NULL",
        params![
            new.id.as_str(),
            new.app.0,
            new.file.0,
            new.endpoint.map(crate::domain::endpoint::Endpoint::path),
            new.model,
            new.completion_window,
            length(new.window),
            new.created_at.micros(),
            status.as_str(),
            if refused { 0 } else { int(new.total) },
            moment(!refused),
            moment(refused),
            new.options.output_expires_after.map(int),
            name,
            new.fingerprint
        ],
    )?;
    if inserted == 0 {
        return Err(damaged("the input file of a new batch is not there"));
    }
    let key = BatchKey(connection.last_insert_rowid());
    insert_detail(connection, key, new)?;
    Ok(key)
}

fn insert_detail(connection: &Connection, key: BatchKey, new: &NewBatch) -> Result<(), Fault> {
    connection.execute(
        "INSERT INTO batch_detail (batch, options, metadata, errors) VALUES (?1, ?2, ?3, ?4)",
        params![
            key.0,
            json::to_text(&new.options)?,
            json::labels_to_text(&new.metadata)?,
            json::problems_to_text(&new.problems)?
        ],
    )?;
    if new.problems.is_empty() {
        let sql = "INSERT OR IGNORE INTO cursor (batch, model, next_segment) VALUES (?1, ?2, 0)";
        let mut cursor = connection.prepare_cached(sql)?;
        for model in &new.models {
            cursor.execute(params![key.0, model])?;
        }
    }
    Ok(())
}

/// Records a cancel by a client.
pub(crate) fn cancel(writing: &mut Writing<'_>, app: AppKey, id: &BatchId) -> Result<CancelOutcome, Fault> {
    let Some(record) = batch_rows::by_id(writing.connection, app, id)? else {
        return Ok(CancelOutcome::Unknown);
    };
    match record.status {
        BatchStatus::Cancelling | BatchStatus::Cancelled => Ok(CancelOutcome::Cancelling(record)),
        BatchStatus::InProgress => {
            let state = read_state(writing.connection, record.key)?;
            move_state(writing, state, BatchState::begin_cancelling)?;
            Ok(CancelOutcome::Cancelling(read_record(writing.connection, record.key)?))
        }
        // An expiring batch ends by its deadline: its client was told `finalizing`, which ends as it began.
        _ => Ok(CancelOutcome::Ended(record)),
    }
}

/// Begins to cancel for fail-fast, with what it stops at as the first error.
pub(crate) fn fail_fast(writing: &mut Writing<'_>, key: BatchKey, error: LineProblem) -> Result<bool, Fault> {
    let Some(state) = batch_rows::state(writing.connection, key)? else { return Ok(false) };
    if !move_state(writing, state, BatchState::begin_cancelling)? {
        return Ok(false);
    }
    let errors = json::problems_to_text(&[error])?;
    writing
        .connection
        .execute("UPDATE batch_detail SET errors = ?2 WHERE batch = ?1", params![key.0, errors])?;
    Ok(true)
}

/// Begins to expire.
pub(crate) fn expire(writing: &mut Writing<'_>, key: BatchKey) -> Result<bool, Fault> {
    let Some(state) = batch_rows::state(writing.connection, key)? else { return Ok(false) };
    move_state(writing, state, BatchState::begin_expiring)
}

/// Applies a move, and ends the batch in the same transaction if nothing is left to write.
fn move_state(
    writing: &mut Writing<'_>,
    mut state: BatchState,
    change: impl FnOnce(&mut BatchState, crate::domain::time::Timestamp) -> bool,
) -> Result<bool, Fault> {
    if !change(&mut state, writing.now) {
        return Ok(false);
    }
    if state.end_if_done(writing.now) {
        views::leave_behind(writing.connection, &mut state, writing.now)?;
    }
    batch_rows::save(writing.connection, &state)?;
    writing.batches.forget(state.key);
    writing.effects.work = true;
    writing.effects.progress = true;
    writing.effects.rows += 1;
    Ok(true)
}

/// Changes a batch that is in progress.
pub(crate) fn change(
    writing: &mut Writing<'_>,
    app: AppKey,
    id: &BatchId,
    change: BatchChange,
) -> Result<Option<ChangeOutcome>, Fault> {
    let connection = writing.connection;
    let Some(mut record) = batch_rows::by_id(connection, app, id)? else { return Ok(None) };
    if record.status != BatchStatus::InProgress {
        return Ok(Some(ChangeOutcome::Refused(record.status)));
    }
    let options = &mut record.options;
    options.priority = change.priority.unwrap_or(options.priority);
    options.max_concurrency = change.max_concurrency.unwrap_or(options.max_concurrency);
    options.paused = change.paused.unwrap_or(options.paused);
    record.metadata = change.metadata.unwrap_or(record.metadata);
    connection.execute(
        "UPDATE batch_detail SET options = ?2, metadata = ?3 WHERE batch = ?1",
        params![record.key.0, json::to_text(&record.options)?, json::labels_to_text(&record.metadata)?],
    )?;
    if let Some((text, window)) = change.window {
        connection.execute(
            "UPDATE batch SET completion_window = ?2, window = ?3 WHERE key = ?1",
            params![record.key.0, text, length(window)],
        )?;
    }
    writing.effects.work = true;
    writing.effects.progress = true;
    writing.effects.rows += 1;
    Ok(Some(ChangeOutcome::Changed(Box::new(read_record(connection, record.key)?))))
}

/// Hides an ended batch.
pub(crate) fn delete(writing: &mut Writing<'_>, app: AppKey, id: &BatchId) -> Result<DeleteOutcome, Fault> {
    let Some(record) = batch_rows::by_id(writing.connection, app, id)? else {
        return Ok(DeleteOutcome::Unknown);
    };
    if !record.status.is_terminal() {
        return Ok(DeleteOutcome::Active);
    }
    hide(writing, record.key)?;
    Ok(DeleteOutcome::Deleted)
}

/// Marks a batch, its files and an inline input as deleted, and frees its idempotency key.
pub(crate) fn hide(writing: &mut Writing<'_>, key: BatchKey) -> Result<(), Fault> {
    let now = writing.now.micros();
    for sql in [
        "UPDATE batch SET deleted_at = ?2, idempotency_key = NULL WHERE key = ?1",
        "UPDATE file SET deleted_at = ?2 WHERE batch = ?1 AND deleted_at IS NULL",
        "UPDATE file SET deleted_at = ?2 WHERE source = 'inline' AND deleted_at IS NULL \
         AND key = (SELECT file FROM batch WHERE batch.key = ?1) \
         AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = file.key AND batch.deleted_at IS NULL)",
    ] {
        writing.connection.prepare_cached(sql)?.execute(params![key.0, now])?;
    }
    writing.batches.forget(key);
    writing.effects.rows += 1;
    Ok(())
}

fn read_state(connection: &Connection, key: BatchKey) -> Result<BatchState, Fault> {
    batch_rows::state(connection, key)?.ok_or_else(|| damaged("a batch's row is gone"))
}

fn read_record(connection: &Connection, key: BatchKey) -> Result<BatchRecord, Fault> {
    batch_rows::by_key(connection, key)?.ok_or_else(|| damaged("a batch's detail row is gone"))
}
