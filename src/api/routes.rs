//! Every route, and the layers around them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{HeaderValue, Method, Uri, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use super::error::{ApiError, Refusal};
use super::state::{Api, ApiSettings};
use super::{batches, files, layers, ops};

/// One route of the table.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    answer: MethodRouter<Api>,
}

fn get<H, T>(path: &'static str, handler: H) -> Route
where
    H: Handler<T, Api>,
    T: 'static,
{
    Route { method: Method::GET, path, answer: on(MethodFilter::GET, handler) }
}

fn post<H, T>(path: &'static str, handler: H) -> Route
where
    H: Handler<T, Api>,
    T: 'static,
{
    Route { method: Method::POST, path, answer: on(MethodFilter::POST, handler) }
}

fn delete<H, T>(path: &'static str, handler: H) -> Route
where
    H: Handler<T, Api>,
    T: 'static,
{
    Route { method: Method::DELETE, path, answer: on(MethodFilter::DELETE, handler) }
}

/// The table of routes: the router and the check against `openapi.yaml` are both made from it.
pub(crate) fn table() -> Vec<Route> {
    vec![
        get("/", ops::show_root),
        get("/livez", ops::livez),
        get("/readyz", ops::readyz),
        get("/metrics", ops::show_metrics),
        get("/openapi.yaml", ops::show_openapi),
        get("/v1/models", ops::list_models),
        post("/v1/files", files::create_file),
        get("/v1/files", files::list_files),
        get("/v1/files/{file_id}", files::get_file),
        delete("/v1/files/{file_id}", files::delete_file),
        get("/v1/files/{file_id}/content", files::get_file_content),
        post("/v1/batches", batches::create_batch),
        get("/v1/batches", batches::list_batches),
        get("/v1/batches/{batch_id}", batches::get_batch),
        post("/v1/batches/{batch_id}", batches::update_batch),
        delete("/v1/batches/{batch_id}", batches::delete_batch),
        post("/v1/batches/{batch_id}/cancel", batches::cancel_batch),
        post("/v1/batches/{batch_id}/retry", batches::retry_batch),
        get("/v1/batches/{batch_id}/results", batches::list_results),
        get("/v1/batches/{batch_id}/items/{custom_id}", batches::get_item),
        get("/v1/batches/{batch_id}/events", batches::stream_events),
    ]
}

/// The whole API as one router.
pub fn routes(api: &Api) -> Router {
    let mut router = Router::new();
    for Route { method, path, answer } in table() {
        api.metrics.declare(method.as_str(), path);
        router = router.route(path, answer);
    }
    // Calls go through the layers from the last one added to the first: see `layers`.
    let router = router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(layers::read_refused_bodies))
        .layer(from_fn_with_state(Arc::clone(&api.settings), layers::refuse_foreign_pages))
        .layer(CatchPanicLayer::custom(layers::answer_panic))
        .layer(from_fn_with_state(api.metrics.clone(), layers::observe));
    match cors(&api.settings) {
        Some(cors) => router.layer(cors).with_state(api.clone()),
        None => router.with_state(api.clone()),
    }
}

/// Off unless origins are configured.
fn cors(settings: &ApiSettings) -> Option<CorsLayer> {
    if settings.cors_origins.is_empty() {
        return None;
    }
    let listed = settings.cors_origins.iter();
    let origins = if settings.cors_origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(
            listed.filter_map(|origin| HeaderValue::from_str(origin.trim_end_matches('/')).ok()),
        )
    };
    let cors = CorsLayer::new().allow_origin(origins).allow_headers(Any).expose_headers(Any);
    let cors = cors.allow_methods([Method::GET, Method::POST, Method::DELETE]);
    Some(cors.max_age(Duration::from_secs(600)).vary([header::ORIGIN]))
}

async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(Refusal::NotFound, format!("Invalid URL ({method} {path})"))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(Refusal::MethodNotAllowed, format!("Method {method} is not allowed for {path}."))
}
