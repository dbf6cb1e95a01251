//! `OpenAI`'s Batches, and what goes beyond them.

mod change;
mod checks;
mod create;
mod draft;
mod end;
mod events;
mod items;
mod list;
mod options;
mod query_options;
mod reach;
mod results;
mod retry;
mod retry_lines;
mod view;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::HeaderName;

use crate::domain::batch::BatchRecord;
use crate::domain::ids::BatchId;
use crate::store::Store;

use super::caller::Caller;
use super::error::{ApiError, Result};

pub(super) use change::update_batch;
pub(super) use create::create_batch;
pub(super) use end::{cancel_batch, delete_batch};
pub(super) use events::stream_events;
pub(super) use items::get_item;
pub(super) use list::{get_batch, list_batches};
pub(super) use results::list_results;
pub(super) use retry::retry_batch;

use view::Views;

/// Keeps proxies from collecting what comes while it is made.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// The caller's batch of that id.
///
/// # Errors
/// 404 if there is none or it is another app's.
async fn find(store: &Store, caller: Caller, id: &str) -> Result<BatchRecord> {
    store.batch(caller.app, &BatchId::new(id)).await?.ok_or_else(|| ApiError::no_batch(id))
}

/// A batch as an answer.
fn show(views: &Views, batch: &BatchRecord) -> Response {
    Json(views.view(batch)).into_response()
}
