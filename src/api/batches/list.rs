//! `GET /v1/batches` and `GET /v1/batches/{batch_id}`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::domain::batch::BatchStatus;
use crate::domain::ids::BatchId;
use crate::store::{BatchQuery, Store};

use super::super::caller::Caller;
use super::super::error::Result;
use super::super::list::List;
use super::super::path::Path;
use super::super::query::{Query, not_one_of};
use super::view::{BatchView, Views};
use super::{find, show};

/// Most entries of one page, and how many come unasked: `OpenAI`'s numbers.
const MOST_LISTED: usize = 100;
const LISTED: usize = 20;

/// The caller's batches, newest first.
pub(crate) async fn list_batches(
    State(store): State<Store>,
    State(views): State<Views>,
    caller: Caller,
    query: Query,
) -> Result<Response> {
    let page = store
        .batches(BatchQuery {
            app: caller.app,
            after: query.text("after")?.map(BatchId::new),
            limit: query.number("limit", 1..=MOST_LISTED)?.unwrap_or(LISTED),
            status: query.text("status")?.map(status).transpose()?,
            metadata: query.object("metadata")?,
        })
        .await?;
    let data = page.data.iter().map(|batch| views.view(batch)).collect();
    Ok(Json(List::new(data, page.has_more, |batch: &BatchView<'_>| batch.id)).into_response())
}

/// One batch.
pub(crate) async fn get_batch(
    State(store): State<Store>,
    State(views): State<Views>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response> {
    Ok(show(&views, &find(&store, caller, &id).await?))
}

/// A state by the name that clients see.
fn status(name: &str) -> Result<BatchStatus> {
    let found = BatchStatus::ALL.into_iter().find(|status| status.public() == name);
    found.ok_or_else(|| not_one_of("status", name, BatchStatus::ALL.iter().map(|status| status.public())))
}
