//! The batch's row as a value, and back.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Fault;
use super::values::{int, micros, moment, optional_moment, optional_uint, optional_word, uint, word};
use crate::domain::batch::{BatchRecord, BatchStatus, Counts, Moments, Sums, Usage};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{AppKey, BatchId, BatchKey, FileId, FileKey};
use crate::store::state::BatchState;
use crate::store::{StoreError, json};

/// The columns of [`BatchState`], in the order [`read_state`] takes them.
macro_rules! state_columns {
    () => {
        "key, id, status, total, succeeded, failed, expired, cancelled, \
         attempts, retries, output_bytes, error_bytes, \
         input_tokens, cached_tokens, output_tokens, reasoning_tokens, \
         timed_items, item_micros, min_item_micros, max_item_micros, \
         in_progress_at, finalizing_at, completed_at, failed_at, expired_at, cancelling_at, cancelled_at, \
         started_at, last_result_at, output_file_id, error_file_id, app"
    };
}

/// Selects whole batches that are not deleted; what follows adds its conditions with `AND`.
macro_rules! select_batches {
    ($conditions:literal) => {
        concat!(
            "SELECT ",
            state_columns!(),
            ", file, input_file_id, endpoint, model, completion_window, window, created_at, \
             options, metadata, errors \
             FROM batch JOIN batch_detail ON batch_detail.batch = batch.key \
             WHERE deleted_at IS NULL AND ",
            $conditions
        )
    };
}

/// Selects batches that are not deleted, for conditions made at run time: `AND …` follows.
pub(crate) const SELECT_BATCHES: &str = select_batches!("TRUE ");

/// Where the columns beyond the state begin.
const BEYOND_STATE: usize = 32;

/// The state of a batch that is not deleted.
pub(crate) fn state(connection: &Connection, key: BatchKey) -> Result<Option<BatchState>, Fault> {
    let sql = concat!("SELECT ", state_columns!(), " FROM batch WHERE key = ?1 AND deleted_at IS NULL");
    Ok(connection.prepare_cached(sql)?.query_row([key.0], read_state).optional()?)
}

/// Whether any of its items waits for a retry.
pub(crate) fn has_retries(connection: &Connection, key: BatchKey) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM retry WHERE batch = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([key.0], |row| row.get(0))?)
}

/// The batch with that key, unless deleted.
pub(crate) fn by_key(connection: &Connection, key: BatchKey) -> Result<Option<BatchRecord>, Fault> {
    let mut statement = connection.prepare_cached(select_batches!("key = ?1"))?;
    Ok(statement.query_row([key.0], read_record).optional()?)
}

/// An app's batch by its public id, unless deleted.
pub(crate) fn by_id(
    connection: &Connection,
    app: AppKey,
    id: &BatchId,
) -> Result<Option<BatchRecord>, Fault> {
    let mut statement = connection.prepare_cached(select_batches!("app = ?1 AND id = ?2"))?;
    Ok(statement.query_row(params![app.0, id.as_str()], read_record).optional()?)
}

/// Every batch that takes results.
pub(crate) fn active(connection: &Connection) -> Result<Vec<BatchRecord>, Fault> {
    let mut statement = connection.prepare_cached(select_batches!("ended_at IS NULL ORDER BY key"))?;
    let rows = statement.query_map([], read_record)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Writes the state back.
pub(crate) fn save(connection: &Connection, state: &BatchState) -> Result<(), Fault> {
    let BatchState { counts, sums, moments, .. } = state;
    connection
        .prepare_cached(
            "UPDATE batch SET status = ?2, succeeded = ?3, failed = ?4, expired = ?5, cancelled = ?6, \
             attempts = ?7, retries = ?8, output_bytes = ?9, error_bytes = ?10, \
             input_tokens = ?11, cached_tokens = ?12, output_tokens = ?13, reasoning_tokens = ?14, \
             timed_items = ?15, item_micros = ?16, min_item_micros = ?17, max_item_micros = ?18, \
             in_progress_at = ?19, finalizing_at = ?20, completed_at = ?21, failed_at = ?22, \
             expired_at = ?23, cancelling_at = ?24, cancelled_at = ?25, started_at = ?26, \
             last_result_at = ?27, output_file_id = ?28, error_file_id = ?29, ended_at = ?30 \
             WHERE key = ?1",
        )?
        .execute(params![
            state.key.0,
            state.status.as_str(),
            int(counts.succeeded),
            int(counts.failed),
            int(counts.expired),
            int(counts.cancelled),
            int(sums.attempts),
            int(sums.retries),
            int(sums.output_bytes),
            int(sums.error_bytes),
            int(sums.usage.input_tokens),
            int(sums.usage.cached_tokens),
            int(sums.usage.output_tokens),
            int(sums.usage.reasoning_tokens),
            int(sums.timed_items),
            int(sums.item_micros),
            sums.min_item_micros.map(int),
            sums.max_item_micros.map(int),
            micros(moments.in_progress_at),
            micros(moments.finalizing_at),
            micros(moments.completed_at),
            micros(moments.failed_at),
            micros(moments.expired_at),
            micros(moments.cancelling_at),
            micros(moments.cancelled_at),
            micros(moments.started_at),
            micros(moments.last_result_at),
            state.output_file_id.as_ref().map(FileId::as_str),
            state.error_file_id.as_ref().map(FileId::as_str),
            micros(state.ended_at()),
        ])?;
    Ok(())
}

/// Reads [`state_columns`].
fn read_state(row: &Row<'_>) -> rusqlite::Result<BatchState> {
    let file_id = |column| -> rusqlite::Result<Option<FileId>> {
        Ok(row.get::<_, Option<String>>(column)?.map(FileId::new))
    };
    Ok(BatchState {
        key: BatchKey(row.get(0)?),
        id: BatchId::new(row.get::<_, String>(1)?),
        status: word(row, 2, BatchStatus::from_stored)?,
        counts: Counts {
            total: uint(row, 3)?,
            succeeded: uint(row, 4)?,
            failed: uint(row, 5)?,
            expired: uint(row, 6)?,
            cancelled: uint(row, 7)?,
        },
        sums: read_sums(row)?,
        moments: read_moments(row)?,
        output_file_id: file_id(29)?,
        error_file_id: file_id(30)?,
        app: AppKey(row.get(31)?),
    })
}

fn read_sums(row: &Row<'_>) -> rusqlite::Result<Sums> {
    Ok(Sums {
        attempts: uint(row, 8)?,
        retries: uint(row, 9)?,
        output_bytes: uint(row, 10)?,
        error_bytes: uint(row, 11)?,
        usage: Usage {
            input_tokens: uint(row, 12)?,
            cached_tokens: uint(row, 13)?,
            output_tokens: uint(row, 14)?,
            reasoning_tokens: uint(row, 15)?,
        },
        timed_items: uint(row, 16)?,
        item_micros: uint(row, 17)?,
        min_item_micros: optional_uint(row, 18)?,
        max_item_micros: optional_uint(row, 19)?,
    })
}

fn read_moments(row: &Row<'_>) -> rusqlite::Result<Moments> {
    Ok(Moments {
        in_progress_at: optional_moment(row, 20)?,
        finalizing_at: optional_moment(row, 21)?,
        completed_at: optional_moment(row, 22)?,
        failed_at: optional_moment(row, 23)?,
        expired_at: optional_moment(row, 24)?,
        cancelling_at: optional_moment(row, 25)?,
        cancelled_at: optional_moment(row, 26)?,
        started_at: optional_moment(row, 27)?,
        last_result_at: optional_moment(row, 28)?,
    })
}

/// Reads what [`select_batches`] selects.
pub(crate) fn read_record(row: &Row<'_>) -> rusqlite::Result<BatchRecord> {
    let state = read_state(row)?;
    let at = |offset| BEYOND_STATE + offset;
    let text = |offset| -> rusqlite::Result<&str> { Ok(row.get_ref(at(offset))?.as_str()?) };
    let json = |error: StoreError| super::values::unreadable(BEYOND_STATE, error.to_string());
    let created_at = moment(row, at(6))?;
    let window = Duration::from_micros(uint(row, at(5))?);
    Ok(BatchRecord {
        key: state.key,
        id: state.id,
        app: state.app,
        file: FileKey(row.get(at(0))?),
        input_file_id: row.get::<_, Option<String>>(at(1))?.map(FileId::new),
        endpoint: optional_word(row, at(2), Endpoint::from_path)?,
        model: row.get(at(3))?,
        completion_window: row.get(at(4))?,
        window,
        created_at,
        deadline: created_at + window,
        status: state.status,
        counts: state.counts,
        sums: state.sums,
        moments: state.moments,
        options: json::from_text(text(7)?).map_err(json)?,
        metadata: json::from_text(text(8)?).map_err(json)?,
        errors: json::problems_from_text(text(9)?).map_err(json)?,
        output_file_id: state.output_file_id,
        error_file_id: state.error_file_id,
    })
}
