//! What operators, probes and scrapers ask.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::domain::model_field::check_name;
use crate::shutdown::Shutdown;
use crate::store::Store;

use super::error::{ApiError, Refusal, Result};
use super::page;
use super::path::Path;
use super::routes::Surface;
use super::state::{ApiSettings, Board, ModelEntry};

const OPENAPI: &str = include_str!("../../openapi.yaml");

/// `GET /`: the page for browsers, where batches are; else what this is and where to go on.
pub(crate) async fn show_root(
    State(settings): State<Arc<ApiSettings>>,
    Extension(surface): Extension<Surface>,
    headers: HeaderMap,
) -> Response {
    if surface != Surface::Operators && page::is_wanted(&headers) {
        return page::index(&headers, surface == Surface::Whole);
    }
    let base = settings.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
    let text = format!(
        "Sluicegate {}: batches of LLM requests within one budget.\n\n\
         API      {base}/v1  (OpenAI's Files and Batches; described in {base}/openapi.yaml)\n\
         metrics  {base}/metrics\n\
         health   {base}/livez  {base}/readyz\n",
        settings.version
    );
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (VARY, "accept")], text).into_response()
}

/// `GET /livez`: the process answers.
pub(crate) async fn livez() -> Json<Health> {
    Json(Health { status: "ok", reasons: Vec::new() })
}

/// What the probes answer.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    status: &'static str,
    reasons: Vec<&'static str>,
}

/// `GET /readyz`: whether new work can be taken, and why not.
pub(crate) async fn readyz(State(store): State<Store>, State(shutdown): State<Shutdown>) -> Response {
    let mut reasons = Vec::new();
    if shutdown.has_begun() {
        reasons.push("draining");
    }
    let health = store.health();
    if health.disk_full {
        reasons.push("disk_full");
    }
    // Any read tells whether the database answers; whether it takes writes, only the store's own writes do.
    let is_cut_off = health.is_away || health.is_unheard;
    if is_cut_off || store.batch_by_key(crate::domain::ids::BatchKey(0)).await.is_err() {
        reasons.push("store_unavailable");
    }
    if reasons.is_empty() {
        return Json(Health { status: "ok", reasons }).into_response();
    }
    let body = Json(Health { status: "unavailable", reasons });
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], body).into_response()
}

/// `GET /metrics`, in Prometheus's text format.
pub(crate) async fn show_metrics(State(board): State<Board>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (board.metrics_text)()).into_response()
}

/// `GET /openapi.yaml`.
pub(crate) async fn show_openapi() -> Response {
    ([(CONTENT_TYPE, "application/yaml")], OPENAPI).into_response()
}

/// `OpenAI`'s list of models.
#[derive(Debug, Serialize)]
pub(crate) struct ModelList {
    object: &'static str,
    data: Vec<ModelView>,
}

/// `OpenAI`'s model.
#[derive(Debug, Serialize)]
pub(crate) struct ModelView {
    id: String,
    object: &'static str,
    /// Nobody knows here when a model was made; the SDKs want a number.
    created: i64,
    owned_by: String,
}

impl ModelView {
    fn of(model: ModelEntry) -> Self {
        Self { id: model.id, object: "model", created: 0, owned_by: model.owned_by }
    }
}

/// `GET /v1/models`, from the lanes.
pub(crate) async fn list_models(State(board): State<Board>) -> Json<ModelList> {
    let models = (board.models)().into_iter();
    Json(ModelList { object: "list", data: models.map(ModelView::of).collect() })
}

/// `GET /v1/models/{model}`: any that some lane serves, also one that none names outright.
pub(crate) async fn get_model(
    State(board): State<Board>,
    Path(model): Path<String>,
) -> Result<Json<ModelView>> {
    check_name(&model).map_err(|fault| {
        ApiError::new(Refusal::ModelNotFound, format!("No model can be called so: {fault}.")).param("model")
    })?;
    let found = (board.model)(&model).ok_or_else(|| ApiError::no_model(&model))?;
    Ok(Json(ModelView::of(found)))
}
