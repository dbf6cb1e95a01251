//! Clients' own calls, passed through to a provider within the same budget as batches.
//!
//! A body is read whole, since its model decides where it goes, and sent as it came; the reply is
//! passed on piece by piece as the client takes it.

mod headers;
mod reply;
mod room;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::domain::endpoint::Endpoint;
use crate::domain::interactive::{Call, Interactive, Refusal as CallRefusal, Refused, Reply};
use crate::domain::model_field::{ModelFault, model_of};
use crate::domain::quantity::parse_duration;
use crate::store::StoreError;

use self::reply::PassedReply;
pub(super) use self::room::Rooms;
use super::caller::Caller;
use super::error::{ApiError, Refusal, Result};
use super::layers::ERROR_SOURCE;
use super::server::Cut;
use super::state::{Api, draining};

const PROVIDER: HeaderName = HeaderName::from_static("sluicegate-provider");
const WAITED: HeaderName = HeaderName::from_static("sluicegate-waited-ms");
const MAX_WAIT: HeaderName = HeaderName::from_static("sluicegate-max-wait");

/// What passes calls through.
#[derive(Clone)]
pub(super) struct PassThrough {
    /// Who makes the calls; `None`: the configuration says that none are passed through.
    pub(super) calls: Option<Arc<dyn Interactive>>,
    /// The longest wait in the gate.
    pub(super) max_wait: Duration,
    /// Where bodies are read.
    pub(super) rooms: Rooms,
}

impl std::fmt::Debug for PassThrough {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PassThrough").field("max_wait", &self.max_wait).finish_non_exhaustive()
    }
}

/// `POST /v1/chat/completions` and the other endpoints of [`Endpoint`]: one call, passed through.
pub(crate) async fn pass_through(State(api): State<Api>, caller: Caller, request: Request) -> Response {
    match passed(&api, caller, request).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = error.into_response();
            response.headers_mut().entry(ERROR_SOURCE).or_insert(HeaderValue::from_static("gate"));
            response
        }
    }
}

async fn passed(api: &Api, caller: Caller, request: Request) -> Result<Response> {
    api.refuse_while_draining()?;
    let path = request.uri().path();
    let (Some(calls), Some(endpoint)) = (&api.interactive.calls, Endpoint::from_path(path)) else {
        let why = "Calls are not passed through here: interactive.passthrough is off.";
        return Err(ApiError::new(Refusal::NotFound, why));
    };
    let max_wait = max_wait(request.headers(), api.interactive.max_wait)?;
    let cut = request.extensions().get::<Cut>().cloned();
    let (head, body) = request.into_parts();
    let (body, room) = tokio::select! {
        biased;
        read = api.interactive.rooms.read(caller.app, body, max_wait) => read?,
        // It would be refused once it is read.
        () = api.shutdown.begun() => return Err(draining()),
    };
    // No model is named so, and the lane of it would be nobody's.
    let model = model_of(&body).map_err(unreadable)?.filter(|model| !model.is_empty());
    if model.is_none() && !endpoint.model_is_optional() {
        return Err(ApiError::missing("model"));
    }
    let model = model.unwrap_or_default();
    let call = Call {
        app: caller.app,
        endpoint,
        model: model.clone(),
        body,
        headers: headers::for_upstream(&head.headers),
        query: head.uri.query().map(str::to_owned),
        max_wait,
        room: Some(room),
    };
    match calls.call(call).await {
        Ok(reply) => Ok(response_of(reply, cut)),
        Err(refused) => {
            let error = held_by_store(api, &refused.refusal);
            let error = error.unwrap_or_else(|| error_of(&refused, &model));
            Ok(refusal_of(&refused, error))
        }
    }
}

/// What held the call back if it is the store, which stops every lane: no limit that comes free would help.
fn held_by_store(api: &Api, refusal: &CallRefusal) -> Option<ApiError> {
    let CallRefusal::Waited { reason, .. } = refusal else { return None };
    // Where it is well by what it knows, results still may not get recorded: somebody holds a lock on their rows.
    let stuck = || (*reason == "disk").then(|| StoreError::Unavailable("results wait for it".to_owned()));
    api.store.health().refusal().or_else(stuck).map(ApiError::from)
}

/// How long the client lets its call wait: never longer than is configured.
fn max_wait(headers: &HeaderMap, configured: Duration) -> Result<Duration> {
    let Some(value) = headers.get(MAX_WAIT) else { return Ok(configured) };
    let wanted = value.to_str().ok().and_then(|text| parse_duration(text).ok()).ok_or_else(|| {
        let why = "Invalid value for the header 'sluicegate-max-wait': expected a duration such as \"5s\".";
        ApiError::invalid("sluicegate-max-wait", why)
    })?;
    Ok(wanted.min(configured))
}

fn unreadable(fault: ModelFault) -> ApiError {
    match fault {
        ModelFault::NotAnObject => {
            ApiError::new(Refusal::InvalidJson, "The request body is not a JSON object.")
        }
        ModelFault::NotText => {
            ApiError::new(Refusal::InvalidType, "Invalid type for 'model': expected a string.").param("model")
        }
        ModelFault::TooLong => {
            ApiError::invalid("model", "Invalid value for 'model': expected at most 256 bytes.")
        }
        ModelFault::Unprintable => {
            ApiError::invalid("model", "Invalid value for 'model': expected no control characters.")
        }
    }
}

fn response_of(reply: Reply, cut: Option<Cut>) -> Response {
    let Reply { provider, waited, status, headers, body } = reply;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = Response::new(Body::new(PassedReply::new(body, cut)));
    *response.headers_mut() = headers::for_client(headers);
    say_where(response.headers_mut(), Some(&provider), waited);
    if status.is_client_error() || status.is_server_error() {
        response.headers_mut().insert(ERROR_SOURCE, HeaderValue::from_static("upstream"));
    }
    *response.status_mut() = status;
    response
}

fn say_where(headers: &mut HeaderMap, provider: Option<&str>, waited: Duration) {
    if let Some(provider) = provider.and_then(|provider| HeaderValue::from_str(provider).ok()) {
        headers.insert(PROVIDER, provider);
    }
    headers.insert(WAITED, HeaderValue::from(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)));
}

/// A refusal, with where it was made and how long the call had waited.
fn refusal_of(refused: &Refused, error: ApiError) -> Response {
    let Refused { waited, provider, refusal } = refused;
    let from_upstream = matches!(refusal, CallRefusal::Unreachable(_) | CallRefusal::TimedOut(_));
    let mut response = error.into_response();
    say_where(response.headers_mut(), provider.as_deref(), *waited);
    if from_upstream {
        response.headers_mut().insert(ERROR_SOURCE, HeaderValue::from_static("upstream"));
    } else {
        response.headers_mut().insert(ERROR_SOURCE, HeaderValue::from_static("gate"));
    }
    response
}

fn error_of(refused: &Refused, model: &str) -> ApiError {
    match &refused.refusal {
        CallRefusal::NoLane => ApiError::no_model(model),
        CallRefusal::LaneStopped { lane, reason, retry_after } => {
            let why = format!(
                "The lane '{lane}' is stopped ({reason}): the provider refuses its key or quota, which its operator has to mend."
            );
            ApiError::new(Refusal::LaneStopped, why).retry_after(*retry_after)
        }
        CallRefusal::Waited { reason, retry_after } => {
            let why = format!(
                "The gate did not let the call through within its longest wait (held back by: {reason}). \
                 Please try again in {:.1}s.",
                (retry_after.as_secs_f64() * 10.0).ceil() / 10.0
            );
            let tokens = *reason == "tokens";
            let refusal = if tokens { Refusal::TokensLimited } else { Refusal::RequestsLimited };
            ApiError::new(refusal, why).retry_after(*retry_after)
        }
        CallRefusal::NeverFits { detail } => ApiError::new(Refusal::TokenBudgetExceeded, detail.clone()),
        CallRefusal::Draining if refused.provider.is_some() => {
            let why = "The server is shutting down, and the provider has not answered in time. Try again in a few seconds.";
            ApiError::new(Refusal::Draining, why)
        }
        CallRefusal::Draining => draining(),
        CallRefusal::Unreachable(detail) => {
            ApiError::new(Refusal::UpstreamUnreachable, format!("No answer: {detail}."))
        }
        CallRefusal::TimedOut(detail) => {
            ApiError::new(Refusal::UpstreamTimedOut, format!("No answer in time: {detail}."))
        }
    }
}
