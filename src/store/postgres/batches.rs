//! Batches: made, changed, cancelled, expired, deleted; each in a transaction of its own.

use super::arguments::arguments;
use super::batch_rows::{self, by_id, by_key};
use super::columns::{Columns, int, length, micros};
use super::connections::{Lane, Queries};
use super::fault::{Attempt, damaged};
use super::transaction::Transaction;
use super::views::Views;
use super::{Database, apps};
use crate::domain::app::OverQuota;
use crate::domain::batch::{BatchRecord, BatchStatus};
use crate::domain::endpoint::Endpoint;
use crate::domain::file::LineProblem;
use crate::domain::ids::{AppKey, BatchId, BatchKey};
use crate::domain::time::Timestamp;
use crate::store::state::BatchState;
use crate::store::{
    BatchChange, CancelOutcome, ChangeOutcome, CreateOutcome, DeleteOutcome, Idempotency, NewBatch, Result,
    json,
};

/// Makes a batch, or finds the one that the same request made.
pub(crate) async fn create(database: &Database, new: &NewBatch) -> Result<CreateOutcome> {
    let mut transaction = database.begin_new(Lane::Control).await?;
    // One create of an app at a time: two equal ones must find each other, and its quotas must hold.
    let quotas = apps::lock(&transaction, new.app).await?;
    if let Some(before) = asked_before(&transaction, new.app, new.idempotency.as_ref()).await? {
        give_up_inline(&transaction, new).await?;
        transaction.commit().await?;
        return Ok(before);
    }
    if let Err(over) = check_quotas(&transaction, quotas, new).await? {
        give_up_inline(&transaction, new).await?;
        transaction.commit().await?;
        return Ok(CreateOutcome::OverQuota(over));
    }
    let key = insert(&transaction, new).await?;
    transaction.effects.rows += 1;
    move_state(&mut transaction, key, |_, _| true).await?;
    let made = read_record(&transaction, key).await?;
    transaction.commit().await?;
    Ok(CreateOutcome::Created(made))
}

/// What an equal request got, if there was one.
pub(crate) async fn asked_before(
    queries: &(impl Queries + Sync),
    app: AppKey,
    idempotency: Option<&Idempotency>,
) -> Attempt<Option<CreateOutcome>> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    match find_asked(queries, app, idempotency).await? {
        None => Ok(None),
        Some((_, false)) => Ok(Some(CreateOutcome::KeyReused)),
        Some((key, true)) => Ok(Some(CreateOutcome::Existing(read_record(queries, key).await?))),
    }
}

/// The batch that goes by that key or is equal, and whether it is what is asked for.
async fn find_asked(
    queries: &(impl Queries + Sync),
    app: AppKey,
    idempotency: &Idempotency,
) -> Attempt<Option<(BatchKey, bool)>> {
    let found = match idempotency {
        Idempotency::Key { key, fingerprint } => {
            let sql = "SELECT key, fingerprint = $3 FROM batch WHERE app = $1 AND idempotency_key = $2";
            queries.row(sql, &arguments![app.0, key.as_str(), &fingerprint[..]]).await?
        }
        Idempotency::RetriedCreate { fingerprint, since } => {
            let sql = "SELECT key, TRUE FROM batch \
                       WHERE app = $1 AND fingerprint = $2 AND created_at >= $3 AND deleted_at IS NULL \
                       ORDER BY created_at DESC LIMIT 1";
            queries.row(sql, &arguments![app.0, &fingerprint[..], since.micros()]).await?
        }
    };
    let read = |row: tokio_postgres::Row| {
        let mut columns = Columns::of(&row);
        Ok((BatchKey(columns.take()?), columns.take()?))
    };
    found.map(read).transpose()
}

/// Whether the app may have so many items more, and has room for what they bring.
async fn check_quotas(
    transaction: &Transaction,
    quotas: apps::Quotas,
    new: &NewBatch,
) -> Attempt<std::result::Result<(), OverQuota>> {
    if !new.problems.is_empty() {
        // It ends as failed and holds nothing.
        return Ok(Ok(()));
    }
    let items = quotas.check_items(transaction, new.total).await?;
    if items.is_err() { Ok(items) } else { quotas.check_bytes(transaction, 0).await }
}

/// The inline input of a request that makes no batch belongs to nobody.
async fn give_up_inline(transaction: &Transaction, new: &NewBatch) -> Attempt<()> {
    let sql = "UPDATE file SET deleted_at = $2 WHERE key = $1 AND source = 'inline' AND deleted_at IS NULL \
               AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = $1)";
    transaction.execute(sql, &arguments![new.file.0, transaction.now.micros()]).await?;
    Ok(())
}

async fn insert(transaction: &Transaction, new: &NewBatch) -> Attempt<BatchKey> {
    let refused = !new.problems.is_empty();
    let status = if refused { BatchStatus::Failed } else { BatchStatus::InProgress };
    let name = match &new.idempotency {
        Some(Idempotency::Key { key, .. }) => Some(key.as_str()),
        _ => None,
    };
    let moment = |given: bool| micros(given.then_some(new.created_at));
    // The file's lock keeps a delete, and with it the erasing of its lines, until this batch can be seen.
    let sql = "WITH input AS MATERIALIZED (SELECT key, id, source FROM file \
               WHERE key = $3 AND app = $2 AND status = 'processed' AND deleted_at IS NULL AND batch IS NULL \
               FOR SHARE) \
               INSERT INTO batch (id, app, file, input_file_id, endpoint, model, completion_window, \"window\", \
               created_at, status, total, in_progress_at, failed_at, ended_at, output_expires, \
               idempotency_key, fingerprint) \
               SELECT $1, $2, key, CASE source WHEN 'inline' THEN NULL ELSE id END, $4, $5, $6, $7, \
               $8, $9, $10, $11, $12, $12, $13, $14, $15 FROM input RETURNING key";
    let row = transaction
        .row(
            sql,
            &arguments![
                new.id.as_str(),
                new.app.0,
                new.file.0,
                new.endpoint.map(Endpoint::path),
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
                &new.fingerprint[..],
            ],
        )
        .await?
        .ok_or_else(|| damaged("the input file of a new batch is not there"))?;
    let key = BatchKey(row.try_get(0)?);
    insert_detail(transaction, key, new).await?;
    Ok(key)
}

async fn insert_detail(transaction: &Transaction, key: BatchKey, new: &NewBatch) -> Attempt<()> {
    let options = json::to_text(&new.options)?;
    let (metadata, errors) = (json::labels_to_text(&new.metadata)?, json::problems_to_text(&new.problems)?);
    let sql = "INSERT INTO batch_detail (batch, options, metadata, errors) VALUES ($1, $2, $3, $4)";
    transaction.execute(sql, &arguments![key.0, options, metadata, errors]).await?;
    if new.problems.is_empty() {
        let sql = "INSERT INTO cursor (batch, model, next_segment) \
                   SELECT DISTINCT $1::bigint, model, 0 FROM unnest($2::text[]) AS model";
        transaction.execute(sql, &arguments![key.0, new.models]).await?;
    }
    Ok(())
}

/// Records a cancel by a client.
pub(crate) async fn cancel(database: &Database, app: AppKey, id: &BatchId) -> Result<CancelOutcome> {
    let mut transaction = database.begin(Lane::Control).await?;
    let Some(record) = lock_by_id(&transaction, app, id).await? else {
        return Ok(CancelOutcome::Unknown);
    };
    match record.status {
        BatchStatus::Cancelling | BatchStatus::Cancelled => Ok(CancelOutcome::Cancelling(record)),
        BatchStatus::InProgress => {
            move_state(&mut transaction, record.key, BatchState::begin_cancelling).await?;
            let record = read_record(&transaction, record.key).await?;
            transaction.commit().await?;
            Ok(CancelOutcome::Cancelling(record))
        }
        // An expiring batch ends by its deadline: its client was told `finalizing`, which ends as it began.
        _ => Ok(CancelOutcome::Ended(record)),
    }
}

/// Begins to cancel for fail-fast, with what it stops at as the first error.
pub(crate) async fn fail_fast(database: &Database, key: BatchKey, error: LineProblem) -> Result<bool> {
    let mut transaction = database.begin(Lane::Control).await?;
    if !move_state(&mut transaction, key, BatchState::begin_cancelling).await? {
        return Ok(false);
    }
    let errors = json::problems_to_text(&[error])?;
    let sql = "UPDATE batch_detail SET errors = $2 WHERE batch = $1";
    transaction.execute(sql, &arguments![key.0, errors]).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Begins to expire.
pub(crate) async fn expire(database: &Database, key: BatchKey) -> Result<bool> {
    let mut transaction = database.begin(Lane::Control).await?;
    let begins = move_state(&mut transaction, key, BatchState::begin_expiring).await?;
    if begins {
        transaction.commit().await?;
    }
    Ok(begins)
}

/// Applies a move, and ends the batch in the same transaction if nothing is left to write.
async fn move_state(
    transaction: &mut Transaction,
    key: BatchKey,
    change: impl FnOnce(&mut BatchState, Timestamp) -> bool,
) -> Attempt<bool> {
    let Some(mut state) = batch_rows::lock_one(transaction, key).await? else { return Ok(false) };
    if !change(&mut state, transaction.now) {
        return Ok(false);
    }
    let mut views = Views::default();
    if state.end_if_done(transaction.now) {
        views.leave_behind(&mut state, transaction.now);
    }
    let mut statements = vec![batch_rows::saving(&[&state])];
    statements.extend(views.statements());
    transaction.run(&statements).await?;
    transaction.effects.work = true;
    transaction.effects.progress = true;
    transaction.effects.rows += 1;
    Ok(true)
}

/// Changes a batch that is in progress.
pub(crate) async fn change(
    database: &Database,
    app: AppKey,
    id: &BatchId,
    change: BatchChange,
) -> Result<Option<ChangeOutcome>> {
    let mut transaction = database.begin(Lane::Control).await?;
    let Some(mut record) = lock_by_id(&transaction, app, id).await? else { return Ok(None) };
    if record.status != BatchStatus::InProgress {
        return Ok(Some(ChangeOutcome::Refused(record.status)));
    }
    let options = &mut record.options;
    options.priority = change.priority.unwrap_or(options.priority);
    options.max_concurrency = change.max_concurrency.unwrap_or(options.max_concurrency);
    options.paused = change.paused.unwrap_or(options.paused);
    record.metadata = change.metadata.unwrap_or(record.metadata);
    let (options, metadata) = (json::to_text(&record.options)?, json::labels_to_text(&record.metadata)?);
    let sql = "UPDATE batch_detail SET options = $2, metadata = $3 WHERE batch = $1";
    transaction.execute(sql, &arguments![record.key.0, options, metadata]).await?;
    if let Some((text, window)) = change.window {
        let sql = "UPDATE batch SET completion_window = $2, \"window\" = $3 WHERE key = $1";
        transaction.execute(sql, &arguments![record.key.0, text, length(window)]).await?;
    }
    transaction.effects.work = true;
    transaction.effects.progress = true;
    transaction.effects.rows += 1;
    let changed = read_record(&transaction, record.key).await?;
    transaction.commit().await?;
    Ok(Some(ChangeOutcome::Changed(Box::new(changed))))
}

/// Hides an ended batch.
pub(crate) async fn delete(database: &Database, app: AppKey, id: &BatchId) -> Result<DeleteOutcome> {
    let mut transaction = database.begin(Lane::Control).await?;
    let Some(record) = lock_by_id(&transaction, app, id).await? else {
        return Ok(DeleteOutcome::Unknown);
    };
    if !record.status.is_terminal() {
        return Ok(DeleteOutcome::Active);
    }
    hide(&mut transaction, record.key).await?;
    transaction.commit().await?;
    Ok(DeleteOutcome::Deleted)
}

/// Marks a batch, its files and an inline input as deleted, and frees its idempotency key.
pub(super) async fn hide(transaction: &mut Transaction, key: BatchKey) -> Attempt<()> {
    let now = transaction.now.micros();
    for sql in [
        "UPDATE batch SET deleted_at = $2, idempotency_key = NULL WHERE key = $1",
        "UPDATE file SET deleted_at = $2 WHERE batch = $1 AND deleted_at IS NULL",
        "UPDATE file SET deleted_at = $2 WHERE source = 'inline' AND deleted_at IS NULL \
         AND key = (SELECT file FROM batch WHERE batch.key = $1) \
         AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = file.key AND batch.deleted_at IS NULL)",
    ] {
        transaction.execute(sql, &arguments![key.0, now]).await?;
    }
    transaction.effects.rows += 1;
    Ok(())
}

/// An app's batch, locked: what is decided by its state holds until the commit.
async fn lock_by_id(transaction: &Transaction, app: AppKey, id: &BatchId) -> Attempt<Option<BatchRecord>> {
    let sql = "SELECT 1 FROM batch WHERE app = $1 AND id = $2 AND deleted_at IS NULL FOR UPDATE";
    if transaction.row(sql, &arguments![app.0, id.as_str()]).await?.is_none() {
        return Ok(None);
    }
    by_id(transaction, app, id).await
}

async fn read_record(queries: &(impl Queries + Sync), key: BatchKey) -> Attempt<BatchRecord> {
    by_key(queries, key).await?.ok_or_else(|| damaged("a batch's detail row is gone"))
}
