//! Every way in which a call is refused, in `OpenAI`'s envelope.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::store::StoreError;

/// Tells the official SDKs not to try again: they repeat every 409 and 5xx by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

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
    #[expect(dead_code, reason = "pinned; used once the pace of the lanes is asked at submit")]
    WindowUnreachable,
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
            | Self::WindowUnreachable => StatusCode::BAD_REQUEST,
            Self::OriginRefused => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::BatchActive => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Draining | Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::OriginRefused => Some("origin_refused"),
            Self::BatchActive => Some("batch_active"),
            Self::TooLarge => Some("file_too_large"),
            Self::UnsupportedMediaType => Some("unsupported_media_type"),
            Self::IdempotencyKeyReused => Some("idempotency_key_reused"),
            Self::Draining => Some("draining"),
            Self::StoreUnavailable => Some("store_unavailable"),
            Self::StorageFull => Some("storage_full"),
            Self::NotFound | Self::MethodNotAllowed | Self::SlowBody | Self::Conflict | Self::Internal => {
                None
            }
        }
    }

    /// Seconds after which the same call may succeed; `None` where only another call can.
    ///
    /// At least 1 and at most 60: the SDKs ignore longer ones or repeat at once.
    const fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::Draining | Self::StoreUnavailable => Some("5"),
            Self::StorageFull => Some("30"),
            _ => None,
        }
    }

    fn kind(self) -> &'static str {
        if self.status().is_server_error() { "server_error" } else { "invalid_request_error" }
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
}

/// Result of a handler or a step of one.
pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// What a 5xx was caused by, for the log alone: rides the response's extensions to the edge.
#[derive(Clone, Debug)]
pub(crate) struct Cause(pub(crate) String);

impl ApiError {
    /// A refusal with what the client should read.
    pub(crate) fn new(refusal: Refusal, message: impl Into<String>) -> Self {
        Self { refusal, message: message.into(), param: None, cause: None, code: None }
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

    /// 404 for a file.
    pub(crate) fn no_file(id: &str) -> Self {
        Self::new(Refusal::NotFound, format!("No such File object: {id}")).param("id")
    }

    /// 404 for a batch.
    pub(crate) fn no_batch(id: &str) -> Self {
        Self::new(Refusal::NotFound, format!("No batch found with id '{id}'."))
    }

    /// The refusal's kind.
    #[cfg(test)]
    pub(crate) fn refusal(&self) -> Refusal {
        self.refusal
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let mut refused = match &error {
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
        if let Some(seconds) = self.refusal.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        } else if self.refusal != Refusal::Internal && self.refusal != Refusal::SlowBody {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}
