//! The batch's row as a value, and back.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Row;

use super::Database;
use super::arguments::{Argument, Statement, arguments};
use super::columns::{Columns, int, micros};
use super::connections::Queries;
use super::fault::Attempt;
use super::transaction::Transaction;
use crate::domain::batch::{BatchRecord, BatchStatus, Counts, Moments, Sums, Usage};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{AppKey, BatchId, BatchKey, FileId, FileKey};
use crate::store::state::BatchState;
use crate::store::{Result, json};

/// The columns of [`BatchState`], in the order [`read_state`] takes them.
macro_rules! state_columns {
    () => {
        "key, id, app, status, total, succeeded, failed, expired, cancelled, \
         attempts, retries, output_bytes, error_bytes, \
         input_tokens, cached_tokens, output_tokens, reasoning_tokens, \
         timed_items, item_micros, min_item_micros, max_item_micros, \
         in_progress_at, finalizing_at, completed_at, failed_at, expired_at, cancelling_at, cancelled_at, \
         started_at, last_result_at, output_file_id, error_file_id"
    };
}

/// Selects whole batches that are not deleted; conditions follow with `AND`.
pub(super) const SELECT_BATCHES: &str = concat!(
    "SELECT ",
    state_columns!(),
    ", file, input_file_id, endpoint, model, completion_window, \"window\", created_at, \
     options, metadata, errors \
     FROM batch JOIN batch_detail ON batch_detail.batch = batch.key WHERE deleted_at IS NULL AND "
);

/// The states of batches that are not deleted, locked in the order of their keys, which are sorted.
///
/// While anybody holds an old snapshot no version of a row can go, and each commit adds one. `key = ...` would visit
/// them all; from the end of the index the newest one comes first, and the limit ends the search there. It is a
/// range because the order by a constant would be dropped.
pub(super) async fn lock(
    transaction: &Transaction,
    keys: Vec<i64>,
) -> Attempt<HashMap<BatchKey, BatchState>> {
    let sql = concat!(
        "SELECT ",
        state_columns!(),
        " FROM unnest($1::bigint[]) AS wanted (wanted_key) CROSS JOIN LATERAL ( \
             SELECT * FROM batch WHERE key BETWEEN wanted_key AND wanted_key AND deleted_at IS NULL \
             ORDER BY key DESC LIMIT 1 FOR UPDATE \
         ) AS found"
    );
    let rows = transaction.rows(sql, &arguments![keys]).await?;
    let states = rows.iter().map(|row| read_state(&mut Columns::of(row)));
    states.map(|state| state.map(|state| (state.key, state))).collect()
}

/// The state of one batch, locked.
pub(super) async fn lock_one(transaction: &Transaction, key: BatchKey) -> Attempt<Option<BatchState>> {
    Ok(lock(transaction, vec![key.0]).await?.remove(&key))
}

/// The batch with that key, unless deleted.
pub(crate) async fn by_key(queries: &(impl Queries + Sync), key: BatchKey) -> Attempt<Option<BatchRecord>> {
    one(queries, "key = $1", &arguments![key.0]).await
}

/// An app's batch by its public id, unless deleted.
pub(crate) async fn by_id(
    queries: &(impl Queries + Sync),
    app: AppKey,
    id: &BatchId,
) -> Attempt<Option<BatchRecord>> {
    one(queries, "app = $1 AND id = $2", &arguments![app.0, id.as_str()]).await
}

async fn one(
    queries: &(impl Queries + Sync),
    condition: &str,
    arguments: &[Argument<'_>],
) -> Attempt<Option<BatchRecord>> {
    let row = queries.row(&format!("{SELECT_BATCHES}{condition}"), arguments).await?;
    row.as_ref().map(read_record).transpose()
}

/// Every batch that takes results.
pub(crate) async fn active(database: &Database) -> Result<Vec<BatchRecord>> {
    let sql = format!("{SELECT_BATCHES}ended_at IS NULL ORDER BY key");
    let rows = database.rows(&sql, &[]).await?;
    Ok(rows.iter().map(read_record).collect::<Attempt<_>>()?)
}

/// The statement that writes states back: of rows that this transaction has locked, so that they stay in their place.
pub(super) fn saving(states: &[&BatchState]) -> Statement {
    let ints =
        |of: fn(&BatchState) -> u64| -> Vec<i64> { states.iter().map(|state| int(of(state))).collect() };
    let optional = |of: fn(&BatchState) -> Option<i64>| -> Vec<Option<i64>> {
        states.iter().map(|state| of(state)).collect()
    };
    let files = |of: fn(&BatchState) -> Option<&FileId>| -> Vec<Option<String>> {
        states.iter().map(|state| of(state).map(|id| id.as_str().to_owned())).collect()
    };
    Statement::new(SAVE)
        .with(states.iter().map(|state| state.key.0).collect::<Vec<i64>>())
        .with(states.iter().map(|state| state.status.as_str()).collect::<Vec<&'static str>>())
        .with(ints(|state| state.counts.succeeded))
        .with(ints(|state| state.counts.failed))
        .with(ints(|state| state.counts.expired))
        .with(ints(|state| state.counts.cancelled))
        .with(ints(|state| state.sums.attempts))
        .with(ints(|state| state.sums.retries))
        .with(ints(|state| state.sums.output_bytes))
        .with(ints(|state| state.sums.error_bytes))
        .with(ints(|state| state.sums.usage.input_tokens))
        .with(ints(|state| state.sums.usage.cached_tokens))
        .with(ints(|state| state.sums.usage.output_tokens))
        .with(ints(|state| state.sums.usage.reasoning_tokens))
        .with(ints(|state| state.sums.timed_items))
        .with(ints(|state| state.sums.item_micros))
        .with(optional(|state| state.sums.min_item_micros.map(int)))
        .with(optional(|state| state.sums.max_item_micros.map(int)))
        .with(optional(|state| micros(state.moments.in_progress_at)))
        .with(optional(|state| micros(state.moments.finalizing_at)))
        .with(optional(|state| micros(state.moments.completed_at)))
        .with(optional(|state| micros(state.moments.failed_at)))
        .with(optional(|state| micros(state.moments.expired_at)))
        .with(optional(|state| micros(state.moments.cancelling_at)))
        .with(optional(|state| micros(state.moments.cancelled_at)))
        .with(optional(|state| micros(state.moments.started_at)))
        .with(optional(|state| micros(state.moments.last_result_at)))
        .with(optional(|state| micros(state.ended_at())))
        .with(files(|state| state.output_file_id.as_ref()))
        .with(files(|state| state.error_file_id.as_ref()))
}

const SAVE: &str = "UPDATE batch SET status = moved.status, succeeded = moved.succeeded, failed = moved.failed, \
     expired = moved.expired, cancelled = moved.cancelled, attempts = moved.attempts, retries = moved.retries, \
     output_bytes = moved.output_bytes, error_bytes = moved.error_bytes, input_tokens = moved.input_tokens, \
     cached_tokens = moved.cached_tokens, output_tokens = moved.output_tokens, \
     reasoning_tokens = moved.reasoning_tokens, timed_items = moved.timed_items, item_micros = moved.item_micros, \
     min_item_micros = moved.min_item_micros, max_item_micros = moved.max_item_micros, \
     in_progress_at = moved.in_progress_at, finalizing_at = moved.finalizing_at, completed_at = moved.completed_at, \
     failed_at = moved.failed_at, expired_at = moved.expired_at, cancelling_at = moved.cancelling_at, \
     cancelled_at = moved.cancelled_at, started_at = moved.started_at, last_result_at = moved.last_result_at, \
     ended_at = moved.ended_at, output_file_id = moved.output_file_id, error_file_id = moved.error_file_id \
     FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
     $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], \
     $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], \
     $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[], \
     $29::text[], $30::text[]) AS moved (key, status, succeeded, failed, expired, cancelled, attempts, retries, \
     output_bytes, error_bytes, input_tokens, cached_tokens, output_tokens, reasoning_tokens, timed_items, \
     item_micros, min_item_micros, max_item_micros, in_progress_at, finalizing_at, completed_at, failed_at, \
     expired_at, cancelling_at, cancelled_at, started_at, last_result_at, ended_at, output_file_id, error_file_id) \
     CROSS JOIN LATERAL ( \
         SELECT ctid AS place FROM batch AS locked WHERE locked.key BETWEEN moved.key AND moved.key \
         ORDER BY locked.key DESC LIMIT 1 \
     ) AS newest WHERE batch.ctid = newest.place";

/// Reads [`state_columns`].
fn read_state(columns: &mut Columns<'_>) -> Attempt<BatchState> {
    Ok(BatchState {
        key: BatchKey(columns.take()?),
        id: BatchId::new(columns.take::<String>()?),
        app: AppKey(columns.take()?),
        status: columns.word(BatchStatus::from_stored)?,
        counts: Counts {
            total: columns.uint()?,
            succeeded: columns.uint()?,
            failed: columns.uint()?,
            expired: columns.uint()?,
            cancelled: columns.uint()?,
        },
        sums: read_sums(columns)?,
        moments: read_moments(columns)?,
        output_file_id: columns.take::<Option<String>>()?.map(FileId::new),
        error_file_id: columns.take::<Option<String>>()?.map(FileId::new),
    })
}

fn read_sums(columns: &mut Columns<'_>) -> Attempt<Sums> {
    let (attempts, retries) = (columns.uint()?, columns.uint()?);
    let (output_bytes, error_bytes) = (columns.uint()?, columns.uint()?);
    let usage = Usage {
        input_tokens: columns.uint()?,
        cached_tokens: columns.uint()?,
        output_tokens: columns.uint()?,
        reasoning_tokens: columns.uint()?,
    };
    let (timed_items, item_micros) = (columns.uint()?, columns.uint()?);
    let (min_item_micros, max_item_micros) = (columns.optional_uint()?, columns.optional_uint()?);
    Ok(Sums {
        attempts,
        retries,
        output_bytes,
        error_bytes,
        usage,
        timed_items,
        item_micros,
        min_item_micros,
        max_item_micros,
    })
}

fn read_moments(columns: &mut Columns<'_>) -> Attempt<Moments> {
    Ok(Moments {
        in_progress_at: columns.optional_moment()?,
        finalizing_at: columns.optional_moment()?,
        completed_at: columns.optional_moment()?,
        failed_at: columns.optional_moment()?,
        expired_at: columns.optional_moment()?,
        cancelling_at: columns.optional_moment()?,
        cancelled_at: columns.optional_moment()?,
        started_at: columns.optional_moment()?,
        last_result_at: columns.optional_moment()?,
    })
}

/// Reads what [`SELECT_BATCHES`] selects.
pub(super) fn read_record(row: &Row) -> Attempt<BatchRecord> {
    let columns = &mut Columns::of(row);
    let state = read_state(columns)?;
    let (file, input_file_id) =
        (FileKey(columns.take()?), columns.take::<Option<String>>()?.map(FileId::new));
    let (endpoint, model) = (columns.optional_word(Endpoint::from_path)?, columns.take()?);
    let (completion_window, window) = (columns.take()?, Duration::from_micros(columns.uint()?));
    let created_at = columns.moment()?;
    Ok(BatchRecord {
        key: state.key,
        id: state.id,
        app: state.app,
        file,
        input_file_id,
        endpoint,
        model,
        completion_window,
        window,
        created_at,
        deadline: created_at + window,
        status: state.status,
        counts: state.counts,
        sums: state.sums,
        moments: state.moments,
        options: json::from_text(columns.take()?)?,
        metadata: json::from_text(columns.take()?)?,
        errors: json::problems_from_text(columns.take()?)?,
        output_file_id: state.output_file_id,
        error_file_id: state.error_file_id,
    })
}
