//! `OpenAI`'s Files.

mod content;
mod form;
mod multipart;
mod upload;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::domain::file::{FileRecord, FileSource};
use crate::domain::ids::FileId;
use crate::store::{FileQuery, Store};

use super::caller::Caller;
use super::error::{ApiError, Result};
use super::list::List;
use super::path::Path;
use super::query::Query;

pub(super) use content::get_file_content;
pub(super) use upload::create_file;

/// Most entries of one page, and how many come unasked: `OpenAI`'s numbers.
const MOST_LISTED: usize = 10_000;

/// `OpenAI`'s file object.
#[derive(Debug, Serialize)]
pub(crate) struct FileView {
    id: String,
    object: &'static str,
    bytes: u64,
    created_at: i64,
    expires_at: Option<i64>,
    filename: String,
    purpose: &'static str,
    status: &'static str,
    status_details: Option<String>,
}

impl From<FileRecord> for FileView {
    fn from(file: FileRecord) -> Self {
        let FileRecord { key: _, id, source, filename, bytes, items: _, created_at, expires_at } = file;
        Self {
            id: id.to_string(),
            object: "file",
            bytes,
            created_at: created_at.seconds(),
            expires_at: expires_at.map(|moment| moment.seconds()),
            filename,
            purpose: match source {
                FileSource::Upload | FileSource::Inline => "batch",
                FileSource::Output(_) | FileSource::Errors(_) => "batch_output",
            },
            // There is nothing to wait for: SDK helpers poll until they read this.
            status: "processed",
            status_details: None,
        }
    }
}

/// `GET /v1/files`
pub(crate) async fn list_files(
    State(store): State<Store>,
    caller: Caller,
    query: Query,
) -> Result<Json<List<FileView>>> {
    let page = store
        .files(FileQuery {
            app: caller.app,
            after: query.text("after")?.map(FileId::new),
            limit: query.number("limit", 1..=MOST_LISTED)?.unwrap_or(MOST_LISTED),
            descending: query.choice("order", &[("desc", true), ("asc", false)])?.unwrap_or(true),
            purpose: query.text("purpose")?.map(str::to_owned),
        })
        .await?;
    let data = page.data.into_iter().map(FileView::from).collect();
    Ok(Json(List::new(data, page.has_more, |file: &FileView| &file.id)))
}

/// `GET /v1/files/{file_id}`
pub(crate) async fn get_file(
    State(store): State<Store>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FileView>> {
    let file = store.file(caller.app, &FileId::new(id.as_str())).await?;
    Ok(Json(file.ok_or_else(|| ApiError::no_file(&id))?.into()))
}

/// What a delete answers.
#[derive(Debug, Serialize)]
pub(crate) struct Deleted {
    id: String,
    object: &'static str,
    deleted: bool,
}

impl Deleted {
    /// The thing of kind `object` is gone.
    pub(crate) fn new(id: String, object: &'static str) -> Self {
        Self { id, object, deleted: true }
    }
}

/// `DELETE /v1/files/{file_id}`
pub(crate) async fn delete_file(
    State(store): State<Store>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Deleted>> {
    match store.delete_file(caller.app, &FileId::new(id.as_str())).await? {
        true => Ok(Json(Deleted::new(id, "file"))),
        false => Err(ApiError::no_file(&id)),
    }
}
