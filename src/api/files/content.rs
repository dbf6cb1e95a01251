//! `GET /v1/files/{file_id}/content`

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};

use crate::domain::file::{FileRecord, FileSource};
use crate::domain::ids::{BatchKey, FileId};
use crate::store::{ResultFilter, ResultOrder, ResultQuery, Store};

use super::super::caller::Caller;
use super::super::error::{ApiError, Result};
use super::super::input::exact_bytes;
use super::super::path::Path;
use super::super::result_lines::{PAGE_BYTES, ResultLines};

/// Gives an upload back byte for byte, or a batch's results in input order.
///
/// The length is known without reading: from the upload, or from the lengths that each result's row
/// carries. So a download that breaks off is noticed by its client.
pub(crate) async fn get_file_content(
    State(store): State<Store>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response> {
    let file = store.file(caller.app, &FileId::new(id.as_str())).await?;
    let file = file.ok_or_else(|| ApiError::no_file(&id))?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, file.bytes.to_string()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", header_safe(&file.filename))),
    ];
    let body = match file.source {
        FileSource::Upload | FileSource::Inline => exact_bytes(store, file.key),
        FileSource::Output(batch) => lines_of(store, &file, batch, ResultFilter::Succeeded).await?,
        FileSource::Errors(batch) => lines_of(store, &file, batch, ResultFilter::NotSucceeded).await?,
    };
    Ok((headers, body).into_response())
}

async fn lines_of(store: Store, file: &FileRecord, batch: BatchKey, filter: ResultFilter) -> Result<Body> {
    let record = store.batch_by_key(batch).await?;
    let record = record.ok_or_else(|| ApiError::no_file(file.id.as_str()))?;
    let query = ResultQuery {
        batch,
        order: ResultOrder::Input,
        after: 0,
        limit: usize::MAX,
        filter,
        max_bytes: PAGE_BYTES,
    };
    Ok(ResultLines { store, batch: record.id, query, until: u64::MAX, extras: false }.into_body())
}

/// Only what can stand in a quoted header value.
fn header_safe(name: &str) -> String {
    let safe = |char: char| if matches!(char, ' '..='~') && !matches!(char, '"' | '\\') { char } else { '_' };
    name.chars().take(255).map(safe).collect()
}
