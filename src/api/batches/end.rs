//! `POST /v1/batches/{batch_id}/cancel` and `DELETE /v1/batches/{batch_id}`

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use crate::domain::ids::BatchId;
use crate::store::{CancelOutcome, DeleteOutcome, Store};

use super::super::caller::Caller;
use super::super::error::{ApiError, Refusal, Result};
use super::super::files::Deleted;
use super::super::path::Path;
use super::show;
use super::view::Views;

/// Records a cancel. The body is not read: the Python SDK announces JSON and sends none.
pub(crate) async fn cancel_batch(
    State(store): State<Store>,
    State(views): State<Views>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response> {
    match store.cancel_batch(caller.app, &BatchId::new(id.as_str())).await? {
        CancelOutcome::Cancelling(batch) => Ok(show(&views, &batch)),
        CancelOutcome::Unknown => Err(ApiError::no_batch(&id)),
        CancelOutcome::Ended(batch) => {
            let why = format!("Cannot cancel a batch with status '{}'.", batch.status.public());
            Err(ApiError::new(Refusal::Conflict, why))
        }
    }
}

/// Erases an ended batch with its results and an inline input.
pub(crate) async fn delete_batch(
    State(store): State<Store>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Deleted>> {
    match store.delete_batch(caller.app, &BatchId::new(id.as_str())).await? {
        DeleteOutcome::Deleted => Ok(Json(Deleted::new(id, "batch"))),
        DeleteOutcome::Unknown => Err(ApiError::no_batch(&id)),
        DeleteOutcome::Active => {
            let why = "The batch has not ended. Cancel it and wait until it is cancelled, then delete it.";
            Err(ApiError::new(Refusal::BatchActive, why))
        }
    }
}
