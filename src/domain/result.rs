//! Results: the terminal row of each item.

use bytes::Bytes;

use super::batch::Usage;
use super::ids::BatchKey;
use super::time::Timestamp;

/// How an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemStatus {
    /// The upstream answered 2xx.
    Succeeded,
    /// It did not, for good.
    Failed,
    /// A cancel came first.
    Cancelled,
    /// The deadline came first.
    Expired,
}

impl ItemStatus {
    /// As stored, and as metrics label it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// Why an item failed without an upstream response to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Its deadline passed first.
    BatchExpired,
    /// Its batch was cancelled first.
    BatchCancelled,
    /// Another item failed and the batch stops at the first.
    FailFast,
    /// No reply in time, on every attempt.
    RequestTimeout,
    /// The upstream could not be reached, or broke off, on every attempt.
    ConnectionError,
    /// The reply was longer than is kept.
    ResponseTooLarge,
    /// The reply was not what the endpoint returns.
    InvalidResponse,
    /// The request alone is above what its limits ever admit.
    TokenBudgetExceeded,
    /// No lane serves its model.
    ModelNotFound,
    /// Its line can't be run.
    InvalidRequest,
    /// The process died each time it ran alone.
    WorkerCrash,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 11] = [
        Self::BatchExpired,
        Self::BatchCancelled,
        Self::FailFast,
        Self::RequestTimeout,
        Self::ConnectionError,
        Self::ResponseTooLarge,
        Self::InvalidResponse,
        Self::TokenBudgetExceeded,
        Self::ModelNotFound,
        Self::InvalidRequest,
        Self::WorkerCrash,
    ];

    /// The pinned `error.code`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BatchExpired => "batch_expired",
            Self::BatchCancelled => "batch_cancelled",
            Self::FailFast => "fail_fast",
            Self::RequestTimeout => "request_timeout",
            Self::ConnectionError => "connection_error",
            Self::ResponseTooLarge => "response_too_large",
            Self::InvalidResponse => "invalid_response",
            Self::TokenBudgetExceeded => "token_budget_exceeded",
            Self::ModelNotFound => "model_not_found",
            Self::InvalidRequest => "invalid_request",
            Self::WorkerCrash => "worker_crash",
        }
    }

    /// From what [`ErrorCode::as_str`] gave.
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

/// What a result shows: a response, or an error instead of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The upstream's last response. `body` is one line of valid JSON (line breaks became spaces).
    Response {
        /// HTTP status.
        status: u16,
        /// The upstream's request id; empty if it gave none.
        request_id: String,
        /// The body as one line of JSON.
        body: Bytes,
    },
    /// No response to show.
    Error {
        /// The pinned code.
        code: ErrorCode,
        /// What happened and what to do.
        message: String,
    },
}

/// A result on its way to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewResult {
    /// Its batch.
    pub batch: BatchKey,
    /// The item's line.
    pub line: u32,
    /// `None` only where the line's could not be read.
    pub custom_id: Option<String>,
    /// How the item ended.
    pub status: ItemStatus,
    /// Charged attempts.
    pub attempts: u32,
    /// First send; `None` if it was never sent.
    pub started_at: Option<Timestamp>,
    /// The end of the last attempt, or when it was ended.
    pub finished_at: Timestamp,
    /// Tokens told by the reply.
    pub usage: Usage,
    /// The response or error.
    pub payload: Payload,
}

/// A result as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResult {
    /// Its place in completion order, 1..N without gaps.
    pub position: u64,
    /// The row.
    pub result: NewResult,
}

/// An item that failed at least once and will be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRecord {
    /// Its batch.
    pub batch: BatchKey,
    /// The item's line.
    pub line: u32,
    /// Charged attempts so far.
    pub attempts: u32,
    /// Not to be sent before.
    pub not_before: Timestamp,
    /// First send of its first attempt.
    pub started_at: Timestamp,
    /// The code or status of the last failure, for operators: `http_503`, `connection_error`.
    pub last_error: String,
}
