//! Every route, and the layers around them.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Extension, Router};
use http::{HeaderValue, Method, Uri, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use crate::domain::api_key::Scope;

use super::error::{ApiError, Refusal};
use super::interactive::pass_through;
use super::layers::{Access, Visitors};
use super::state::{Api, ApiSettings};
use super::{admin, batches, budget, files, layers, ops, page};

/// What is served at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Everything: there is one address.
    Whole,
    /// What clients use, where there is another address for operators.
    Clients,
    /// What operators use.
    Operators,
}

/// Who may call a route, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Everyone, at any address.
    Open,
    /// Everyone, where clients are.
    OpenToClients,
    /// Everyone, where operators are.
    OpenToOperators,
    /// Callers with this scope.
    Scope(Scope),
}

impl Door {
    fn is_at(self, surface: Surface) -> bool {
        match (surface, self) {
            (Surface::Whole, _) | (_, Self::Open) => true,
            (Surface::Operators, door) => matches!(door, Self::OpenToOperators | Self::Scope(Scope::Admin)),
            (Surface::Clients, door) => {
                matches!(door, Self::OpenToClients | Self::Scope(Scope::Read | Scope::App))
            }
        }
    }
}

/// One route of the table.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) door: Door,
    answer: MethodRouter<Api>,
}

impl Route {
    /// Whose route it is, where its method does not tell.
    fn for_callers(self, door: Door) -> Self {
        Self { door, ..self }
    }
}

fn get<H, T>(path: &'static str, handler: H) -> Route
where
    H: Handler<T, Api>,
    T: 'static,
{
    let door = Door::Scope(Scope::Read);
    Route { method: Method::GET, path, door, answer: on(MethodFilter::GET, handler) }
}

fn post<H, T>(path: &'static str, handler: H) -> Route
where
    H: Handler<T, Api>,
    T: 'static,
{
    let door = Door::Scope(Scope::App);
    Route { method: Method::POST, path, door, answer: on(MethodFilter::POST, handler) }
}

fn delete<H, T>(path: &'static str, handler: H) -> Route
where
    H: Handler<T, Api>,
    T: 'static,
{
    let door = Door::Scope(Scope::App);
    Route { method: Method::DELETE, path, door, answer: on(MethodFilter::DELETE, handler) }
}

fn put<H, T>(path: &'static str, handler: H) -> Route
where
    H: Handler<T, Api>,
    T: 'static,
{
    let door = Door::Scope(Scope::App);
    Route { method: Method::PUT, path, door, answer: on(MethodFilter::PUT, handler) }
}

/// The table of routes: the routers and the check against `openapi.yaml` are all made from it. A route that says
/// nothing else reads with the scope `read` and does anything else with `app`.
pub(crate) fn table() -> Vec<Route> {
    let admin = Door::Scope(Scope::Admin);
    vec![
        get("/", ops::show_root).for_callers(Door::Open),
        get("/page/{version}/{asset}", page::show_page_asset).for_callers(Door::OpenToClients),
        get("/livez", ops::livez).for_callers(Door::Open),
        get("/readyz", ops::readyz).for_callers(Door::Open),
        get("/metrics", ops::show_metrics).for_callers(Door::OpenToOperators),
        get("/openapi.yaml", ops::show_openapi).for_callers(Door::Open),
        get("/admin/v1/keys", admin::list_keys).for_callers(admin),
        post("/admin/v1/keys", admin::create_key).for_callers(admin),
        delete("/admin/v1/keys/{key_id}", admin::revoke_key).for_callers(admin),
        get("/admin/v1/apps", admin::list_apps).for_callers(admin),
        put("/admin/v1/apps/{name}", admin::put_app).for_callers(admin),
        post("/admin/v1/lanes/pause", admin::pause_lane).for_callers(admin),
        post("/admin/v1/lanes/resume", admin::resume_lane).for_callers(admin),
        post("/admin/v1/reload", admin::reload_configuration).for_callers(admin),
        get("/admin/v1/workers", admin::list_workers).for_callers(admin),
        post("/admin/v1/backup", admin::create_backup).for_callers(admin),
        get("/v1/models", ops::list_models),
        // Names like `maker/model` come with their slash encoded, and without.
        get("/v1/models/{*model}", ops::get_model),
        get("/v1/budget", budget::show_budget),
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
        post("/v1/chat/completions", pass_through),
        post("/v1/responses", pass_through),
        post("/v1/embeddings", pass_through),
        post("/v1/completions", pass_through),
        post("/v1/moderations", pass_through),
        post("/v1/messages", pass_through),
    ]
}

/// What one address serves, as one router.
pub fn routes(api: &Api, surface: Surface) -> Router {
    let mut router = Router::new();
    for Route { method, path, door, answer } in table().into_iter().filter(|route| route.door.is_at(surface))
    {
        api.metrics.declare(method.as_str(), path);
        let packs = api.settings.compress && method == Method::GET;
        let answer = if packs { answer.layer(layers::pack()) } else { answer };
        router = router.route(
            path,
            match door {
                Door::Open | Door::OpenToClients | Door::OpenToOperators => answer,
                Door::Scope(scope) => {
                    let access = Access { keyring: api.keyring.clone(), scope };
                    answer.route_layer(from_fn_with_state(access, layers::require_scope))
                }
            },
        );
    }
    let visitors = Visitors { settings: Arc::clone(&api.settings), keyring: api.keyring.clone() };
    // Calls go through the layers from the last one added to the first: see `layers`.
    let router = router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(Extension(surface))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(layers::refuse_packed_bodies))
        .layer(from_fn(layers::read_refused_bodies))
        .layer(from_fn_with_state(visitors, layers::refuse_foreign_pages))
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
    // `*` would let every header through but the one that carries the key.
    let allowed = AllowHeaders::mirror_request();
    let cors = CorsLayer::new().allow_origin(origins).allow_headers(allowed).expose_headers(Any);
    let cors = cors.allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE]);
    let asked = [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_HEADERS];
    Some(cors.max_age(Duration::from_secs(600)).vary(asked))
}

async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let hint = base_url_hint(&path);
    ApiError::new(Refusal::NotFound, format!("Invalid URL ({method} {path}){hint}"))
}

/// What to mend where only the client's base URL is wrong: some clients add `/v1` to it, others want it there.
fn base_url_hint(path: &str) -> &'static str {
    let is_below_v1 = |path: &str| FIRST_NAMES.contains(path.split('/').next().unwrap_or_default());
    if path.strip_prefix("/v1/v1/").is_some_and(is_below_v1) {
        ". The client adds /v1 by itself: leave it out of its base URL."
    } else if path.strip_prefix('/').is_some_and(is_below_v1) {
        ". The API is below /v1: the client's base URL must end in it."
    } else {
        ""
    }
}

/// The first names of the paths below `/v1`.
static FIRST_NAMES: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    let paths = table().into_iter().filter_map(|route| route.path.strip_prefix("/v1/"));
    paths.filter_map(|path| path.split('/').next()).collect()
});

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(Refusal::MethodNotAllowed, format!("Method {method} is not allowed for {path}."))
}
