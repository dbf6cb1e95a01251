//! Every way in which a call is refused, in `OpenAI`'s envelope.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::domain::api_key::Scope;
use crate::store::StoreError;

/// Tells the official SDKs not to try again: they repeat every 409 and 5xx by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Longest `Retry-After` that the official SDKs wait for: after longer ones they try again at
/// once, so they are told not to.
const LONGEST_HEEDED: Duration = Duration::from_secs(60);

/// What the official SDKs prefer to `retry-after`: a refusal for rate often ends within the second.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// What kind of refusal it is: decides the status, the `type` and the `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A required field or form part is missing.
    MissingParameter,
    /// A field's value is not one of those possible.
    InvalidValue,
    /// A field is of the wrong JSON type.
    InvalidType,
    /// A field that does not exist.
    UnknownParameter,
    /// The body is not JSON.
    InvalidJson,
    /// A line of the batch can't be run.
    InvalidLine,
    /// The batch can't be done in its window.
    WindowUnreachable,
    /// No key, or none that is good.
    InvalidApiKey,
    /// The key is good for less.
    InsufficientScope,
    /// A browser's page of another origin.
    OriginRefused,
    /// No such route, file, batch or item.
    NotFound,
    /// The route exists for other methods.
    MethodNotAllowed,
    /// The body did not arrive in time.
    SlowBody,
    /// The batch's state does not allow it.
    Conflict,
    /// The batch still runs.
    BatchActive,
    /// The body is above a cap.
    TooLarge,
    /// The body's media type is not one that the route reads.
    UnsupportedMediaType,
    /// The key was used for another request.
    IdempotencyKeyReused,
    /// The app holds as much as it may.
    AppQuotaExceeded,
    /// No lane serves the model.
    ModelNotFound,
    /// The call needs more tokens at once than a limit allows.
    TokenBudgetExceeded,
    /// The gate stayed closed for requests, concurrency or memory.
    RequestsLimited,
    /// The gate stayed closed for tokens.
    TokensLimited,
    /// The model's lane is stopped until its operator acts.
    LaneStopped,
    /// The provider could not be reached or broke off.
    UpstreamUnreachable,
    /// The provider did not answer in time.
    UpstreamTimedOut,
    /// The process is ending.
    Draining,
    /// The store can't be reached.
    StoreUnavailable,
    /// The disk is full.
    StorageFull,
    /// A defect of this program.
    Internal,
}

impl Refusal {
    /// The one place that maps refusals to statuses.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::MissingParameter
            | Self::InvalidValue
            | Self::InvalidType
            | Self::UnknownParameter
            | Self::InvalidJson
            | Self::InvalidLine
            | Self::TokenBudgetExceeded
            | Self::WindowUnreachable => StatusCode::BAD_REQUEST,
            Self::InvalidApiKey => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope | Self::OriginRefused => StatusCode::FORBIDDEN,
            Self::NotFound | Self::ModelNotFound => StatusCode::NOT_FOUND,
            Self::RequestsLimited | Self::TokensLimited | Self::AppQuotaExceeded => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::UpstreamUnreachable => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::BatchActive => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Draining | Self::StoreUnavailable | Self::LaneStopped => StatusCode::SERVICE_UNAVAILABLE,
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The stable `code`; null where `OpenAI`'s is null.
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::MissingParameter => Some("missing_required_parameter"),
            Self::InvalidValue | Self::InvalidLine => Some("invalid_value"),
            Self::InvalidType => Some("invalid_type"),
            Self::UnknownParameter => Some("unknown_parameter"),
            Self::InvalidJson => Some("invalid_json"),
            Self::WindowUnreachable => Some("window_unreachable"),
            Self::InvalidApiKey => Some("invalid_api_key"),
            Self::InsufficientScope => Some("insufficient_scope"),
            Self::OriginRefused => Some("origin_refused"),
            Self::BatchActive => Some("batch_active"),
            Self::TooLarge => Some("file_too_large"),
            Self::UnsupportedMediaType => Some("unsupported_media_type"),
            Self::IdempotencyKeyReused => Some("idempotency_key_reused"),
            Self::AppQuotaExceeded => Some("app_quota_exceeded"),
            Self::ModelNotFound => Some("model_not_found"),
            Self::TokenBudgetExceeded => Some("token_budget_exceeded"),
            Self::RequestsLimited | Self::TokensLimited => Some("rate_limit_exceeded"),
            Self::LaneStopped => Some("lane_stopped"),
            Self::UpstreamUnreachable => Some("connection_error"),
            Self::UpstreamTimedOut => Some("request_timeout"),
            Self::Draining => Some("draining"),
            Self::StoreUnavailable => Some("store_unavailable"),
            Self::StorageFull => Some("storage_full"),
            Self::NotFound | Self::MethodNotAllowed | Self::SlowBody | Self::Conflict | Self::Internal => {
                None
            }
        }
    }

    /// When the same call may succeed; `None` where only another call can, or where the error itself knows
    /// better.
    const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Draining | Self::StoreUnavailable => Some(Duration::from_secs(5)),
            Self::StorageFull => Some(Duration::from_secs(30)),
            _ => None,
        }
    }

    /// Whether the same call may succeed at any time, so that the SDKs may try it again.
    const fn may_be_chance(self) -> bool {
        matches!(self, Self::Internal | Self::SlowBody | Self::UpstreamUnreachable | Self::UpstreamTimedOut)
    }

    fn kind(self) -> &'static str {
        match self {
            Self::RequestsLimited => "requests",
            Self::TokensLimited => "tokens",
            _ if self.status().is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}

/// A refused call.
///
/// A value until the edge: whoever makes one logs nothing, the outermost layer logs a 5xx once.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    refusal: Refusal,
    message: String,
    param: Option<String>,
    cause: Option<String>,
    code: Option<String>,
    retry_after: Option<Duration>,
}

/// Result of a handler or a step of one.
pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// What a 5xx was caused by, for the log alone: rides the response's extensions to the edge.
#[derive(Clone, Debug)]
pub(crate) struct Cause(pub(crate) String);

impl ApiError {
    /// A refusal with what the client should read.
    pub(crate) fn new(refusal: Refusal, message: impl Into<String>) -> Self {
        let retry_after = refusal.retry_after();
        Self { refusal, message: message.into(), param: None, cause: None, code: None, retry_after }
    }

    /// Names the field it concerns.
    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Names the field it concerns, if it is the input's fault and nobody has named it.
    pub(crate) fn or_param(mut self, param: &str) -> Self {
        if self.param.is_none() && matches!(self.refusal, Refusal::InvalidValue | Refusal::TooLarge) {
            self.param = Some(param.to_owned());
        }
        self
    }

    /// Another `code` than its refusal's: that of a line's problem.
    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// When the same call may succeed, at the earliest.
    pub(crate) const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A defect of this program; `cause` goes to the log, never to the client.
    pub(crate) fn internal(cause: impl Into<String>) -> Self {
        let mut error = Self::new(Refusal::Internal, "The server had an error while processing the request.");
        error.cause = Some(cause.into());
        error
    }

    /// 400: the field is not there.
    pub(crate) fn missing(param: &str) -> Self {
        Self::new(Refusal::MissingParameter, format!("Missing required parameter: '{param}'.")).param(param)
    }

    /// 400: the field's value can't be used; `why` is a whole sentence.
    pub(crate) fn invalid(param: &str, why: impl Into<String>) -> Self {
        Self::new(Refusal::InvalidValue, why).param(param)
    }

    /// 401, with one text for every reason: it must not tell keys that were once good from those that never were.
    pub(crate) fn no_key() -> Self {
        let why = "Incorrect or missing API key. Send a key of this service as 'Authorization: Bearer …' or \
                   'x-api-key'.";
        Self::new(Refusal::InvalidApiKey, why)
    }

    /// 403: the caller may do less than the route asks.
    pub(crate) fn insufficient_scope(has: Scope, needed: Scope) -> Self {
        let why = format!(
            "This call needs a key with the scope '{}'; the caller has '{}'.",
            needed.as_str(),
            has.as_str()
        );
        Self::new(Refusal::InsufficientScope, why)
    }

    /// 404 for a file.
    pub(crate) fn no_file(id: &str) -> Self {
        Self::new(Refusal::NotFound, format!("No such File object: {id}")).param("id")
    }

    /// 404 for a batch.
    pub(crate) fn no_batch(id: &str) -> Self {
        Self::new(Refusal::NotFound, format!("No batch found with id '{id}'."))
    }

    /// 404 for a model that no lane serves.
    pub(crate) fn no_model(model: &str) -> Self {
        let why = format!("The model '{model}' does not exist here: no lane serves it.");
        Self::new(Refusal::ModelNotFound, why).param("model")
    }

    /// The refusal's kind.
    pub(crate) fn refusal(&self) -> Refusal {
        self.refusal
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let mut refused = match &error {
            StoreError::OverQuota(over) => return (*over).into(),
            StoreError::Full => Self::new(
                Refusal::StorageFull,
                "The server's disk is full. Nothing was stored; try again when space has been made.",
            ),
            StoreError::Unavailable(_) | StoreError::Closed => Self::new(
                Refusal::StoreUnavailable,
                "The server's store is not available at the moment. Try again in a few seconds.",
            ),
            _ => Self::internal(""),
        };
        refused.cause = Some(error.to_string());
        refused
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Body {
            message: &self.message,
            r#type: self.refusal.kind(),
            param: self.param.as_deref(),
            code: self.code.as_deref().or_else(|| self.refusal.code()),
        };
        let status = self.refusal.status();
        let mut response = (status, Json(Envelope { error: body })).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            // Rounded up, and never 0: some SDKs take that as at once, others as nothing said.
            let seconds = after.as_micros().div_ceil(1_000_000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            if matches!(self.refusal, Refusal::RequestsLimited | Refusal::TokensLimited) {
                let millis = u64::try_from(after.as_micros().div_ceil(1_000).max(1)).unwrap_or(u64::MAX);
                headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
            }
        }
        if !self.refusal.may_be_chance()
            && (self.refusal == Refusal::LaneStopped
                || self.retry_after.is_none_or(|after| after > LONGEST_HEEDED))
        {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if self.refusal == Refusal::InvalidApiKey {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}
