//! `GET /v1/batches/{batch_id}/items/{custom_id}`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::batch::BatchRecord;
use crate::domain::file::ItemKey;
use crate::domain::output_line::append_line;
use crate::domain::progress::{ItemProgress, WaitingReason};
use crate::domain::result::{RetryRecord, StoredResult};
use crate::domain::time::Timestamp;
use crate::ingest::hash_custom_id;
use crate::store::Store;

use super::super::caller::Caller;
use super::super::error::{ApiError, Refusal, Result};
use super::super::input::open_segment;
use super::super::path::Path;
use super::super::result_lines::extras;
use super::super::state::{Board, ItemPlace};
use super::find;

/// One item of a batch.
#[derive(Debug, Serialize)]
struct ItemView<'a> {
    object: &'static str,
    custom_id: &'a str,
    line: u32,
    state: &'static str,
    attempts: u32,
    result: Option<Box<RawValue>>,
    waiting: Option<WaitView>,
}

/// What an item waits for: its retry, or what holds back those before it too.
#[derive(Debug, Serialize)]
struct WaitView {
    reason: &'static str,
    lane: Option<String>,
    until: Option<f64>,
    last_error: Option<String>,
}

/// Shows how far one item is, and its result once it has one.
pub(crate) async fn get_item(
    State(store): State<Store>,
    State(board): State<Board>,
    caller: Caller,
    Path((id, custom_id)): Path<(String, String)>,
) -> Result<Response> {
    let batch = find(&store, caller, &id).await?;
    let Some(key) = find_key(&store, &batch, &custom_id).await? else {
        let shown: String = custom_id.chars().take(200).collect();
        let why = format!("The batch has no item with the custom_id '{shown}'.");
        return Err(ApiError::new(Refusal::NotFound, why).param("custom_id"));
    };
    let line = key.line;
    let result = store.result(batch.key, line).await?;
    let retry = match &result {
        Some(_) => None,
        None => store.retry(batch.key, line).await?,
    };
    let progress = match &result {
        None if !batch.status.is_terminal() => {
            (board.item)(ItemPlace { batch: batch.key, segment: key.segment, line }).await
        }
        _ => ItemProgress::default(),
    };
    let attempts = result.as_ref().map(|row| row.result.attempts);
    let item = ItemView {
        object: "sluicegate.item",
        custom_id: &custom_id,
        line,
        state: state(&batch, result.as_ref(), &progress),
        attempts: attempts.unwrap_or_else(|| retry.as_ref().map_or(0, |retry| retry.attempts)),
        result: result.map(|row| output_line(&batch, &row)).transpose()?,
        // Of a retry that runs already nothing is waited for.
        waiting: match retry.filter(|_| !progress.running) {
            Some(retry) => Some(WaitView::from(retry)),
            None => progress.waiting.map(WaitView::from),
        },
    };
    Ok(Json(item).into_response())
}

/// The first line with that id: of duplicates, the one that runs.
async fn find_key(store: &Store, batch: &BatchRecord, custom_id: &str) -> Result<Option<ItemKey>> {
    let found = match store.file_salt(batch.file).await? {
        Some(known) => look_up(store, batch, known.salt, custom_id).await,
        None => Ok(None),
    };
    // Erased for its app or by retention, before it was looked at or meanwhile. Results have the custom ids too, but no
    // index by them: a stranger could have a million rows read for each call.
    if !matches!(found, Ok(Some(_)))
        && store.file_salt(batch.file).await?.is_none_or(|known| known.is_deleted)
    {
        let why = "The batch's input file was deleted, and items can't be looked up without it. \
                   Read the batch's results instead.";
        return Err(ApiError::new(Refusal::NotFound, why.to_owned()).param("custom_id"));
    }
    found
}

async fn look_up(store: &Store, batch: &BatchRecord, salt: u64, custom_id: &str) -> Result<Option<ItemKey>> {
    let hash = hash_custom_id(salt, custom_id);
    for key in store.find_keys(batch.file, hash).await? {
        let segment = open_segment(store, batch.file, key.segment).await?;
        let entry = segment.entry_of(key.line);
        // Equal hashes need not be equal ids.
        if entry.and_then(|entry| segment.custom_id(entry)) == Some(custom_id) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn state(batch: &BatchRecord, result: Option<&StoredResult>, progress: &ItemProgress) -> &'static str {
    match result {
        Some(row) => row.result.status.as_str(),
        // Only a batch that was refused ends without a result for each item.
        None if batch.status.is_terminal() => "not_run",
        None if progress.running => "running",
        None => "pending",
    }
}

/// The line as `…/results` shows it.
fn output_line(batch: &BatchRecord, row: &StoredResult) -> Result<Box<RawValue>> {
    let mut line = Vec::new();
    append_line(&mut line, &batch.id, &row.result, Some(extras(row)));
    let text = String::from_utf8(line).map_err(|error| ApiError::internal(error.to_string()))?;
    RawValue::from_string(text).map_err(|error| ApiError::internal(error.to_string()))
}

impl From<WaitingReason> for WaitView {
    fn from(waiting: WaitingReason) -> Self {
        let WaitingReason { lane, reason, since: _, until } = waiting;
        Self { reason, lane, until: until.map(Timestamp::seconds_f64), last_error: None }
    }
}

impl From<RetryRecord> for WaitView {
    fn from(retry: RetryRecord) -> Self {
        let RetryRecord { batch: _, line: _, attempts: _, not_before, started_at: _, last_error } = retry;
        let until = Some(not_before.seconds_f64());
        Self { reason: "retry", lane: None, until, last_error: Some(last_error) }
    }
}
