//! Batches: one run of a file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use super::file::LineProblem;
use super::ids::{AppKey, BatchId, BatchKey, FileId, FileKey};
use super::time::Timestamp;

/// `OpenAI`'s batch states, plus `Expiring`, which clients see as `finalizing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchStatus {
    /// Accepted, its lines not yet checked.
    Validating,
    /// Refused: its lines can't be run.
    Failed,
    /// Running.
    InProgress,
    /// Past its deadline; the rest is being written as expired.
    Expiring,
    /// Every item has a result.
    Completed,
    /// Ended by its deadline.
    Expired,
    /// Cancel recorded (by a client or fail-fast); the rest is being written as cancelled.
    Cancelling,
    /// Ended by a cancel.
    Cancelled,
}

impl BatchStatus {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Validating,
        Self::Failed,
        Self::InProgress,
        Self::Expiring,
        Self::Completed,
        Self::Expired,
        Self::Cancelling,
        Self::Cancelled,
    ];

    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::Expiring => "expiring",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    /// As clients see it.
    pub const fn public(self) -> &'static str {
        match self {
            Self::Expiring => "finalizing",
            other => other.as_str(),
        }
    }

    /// From what [`BatchStatus::as_str`] gave.
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing more will happen to it.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Completed | Self::Expired | Self::Cancelled)
    }

    /// Whether results may still be written to it.
    pub const fn accepts_results(self) -> bool {
        matches!(self, Self::InProgress | Self::Expiring | Self::Cancelling)
    }
}

/// What happens to the rest when an item fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The rest runs on.
    #[default]
    Continue,
    /// The batch is cancelled with `fail_fast`.
    FailFast,
}

/// What happens to lines that can't be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalid {
    /// The batch fails and nothing runs.
    #[default]
    FailBatch,
    /// Each such line is a failed item; the rest runs.
    FailItem,
}

/// A batch's options beyond `OpenAI`'s, as its client gave them; stored as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchOptions {
    /// Most items in flight at once.
    pub max_concurrency: Option<u32>,
    /// What a failed item does to the rest.
    pub on_error: OnError,
    /// What a bad line does to the batch.
    pub on_invalid: OnInvalid,
    /// Limit of one attempt, in milliseconds.
    pub request_timeout_ms: Option<u64>,
    /// Most charged attempts of an item.
    pub max_attempts: Option<u32>,
    /// Higher first, −100…100.
    pub priority: i32,
    /// Refuse at submit what can't be done in its window.
    pub require_on_time: bool,
    /// Starts nothing while set.
    pub paused: bool,
    /// A JSON object laid under every body.
    pub defaults: Option<Box<serde_json::value::RawValue>>,
    /// Lifetime of the output and error files after they are made, in seconds.
    pub output_expires_after: Option<u64>,
    /// The batch whose lines this one repeats.
    pub retry_of: Option<String>,
}

/// Rows of each kind, and how many items there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items of the batch.
    pub total: u64,
    /// Rows of succeeded items.
    pub succeeded: u64,
    /// Rows of failed items.
    pub failed: u64,
    /// Rows of items that their deadline ended.
    pub expired: u64,
    /// Rows of items that a cancel ended.
    pub cancelled: u64,
}

impl Counts {
    /// Rows written: the last position.
    pub const fn recorded(&self) -> u64 {
        self.succeeded + self.failed + self.expired + self.cancelled
    }
}

/// Tokens as the upstream's `usage` told them, in the names of `OpenAI`'s batch object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
}

impl Usage {
    /// Adds another reading.
    pub fn add(&mut self, other: &Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(other.reasoning_tokens);
    }
}

/// When a batch entered each of its states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    /// Validated, running.
    pub in_progress_at: Option<Timestamp>,
    /// Its last result written, or its deadline passed.
    pub finalizing_at: Option<Timestamp>,
    /// Completed.
    pub completed_at: Option<Timestamp>,
    /// Refused.
    pub failed_at: Option<Timestamp>,
    /// Ended by its deadline.
    pub expired_at: Option<Timestamp>,
    /// Cancel recorded.
    pub cancelling_at: Option<Timestamp>,
    /// Ended by a cancel.
    pub cancelled_at: Option<Timestamp>,
    /// The first attempt's start.
    pub started_at: Option<Timestamp>,
    /// The latest result.
    pub last_result_at: Option<Timestamp>,
}

/// Sums over a batch's results, moved by every flush.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Upstream calls of recorded items.
    pub attempts: u64,
    /// Calls beyond each item's first.
    pub retries: u64,
    /// Bytes of the output file.
    pub output_bytes: u64,
    /// Bytes of the error file.
    pub error_bytes: u64,
    /// Tokens used.
    pub usage: Usage,
    /// Items with a time (they were sent), for the mean.
    pub timed_items: u64,
    /// Their seconds from first send to result, summed, in microseconds.
    pub item_micros: u64,
    /// The quickest item, in microseconds.
    pub min_item_micros: Option<u64>,
    /// The slowest item, in microseconds.
    pub max_item_micros: Option<u64>,
}

/// A batch's row.
#[derive(Clone, Debug)]
pub struct BatchRecord {
    /// The store's key.
    pub key: BatchKey,
    /// The public id.
    pub id: BatchId,
    /// Its owner.
    pub app: AppKey,
    /// The input file's row.
    pub file: FileKey,
    /// The input file's public id; `None` for inline requests.
    pub input_file_id: Option<FileId>,
    /// The endpoint every line names; `None`: lines differ.
    pub endpoint: Option<Endpoint>,
    /// The one model; `None` when mixed.
    pub model: Option<String>,
    /// The completion window as the client wrote it.
    pub completion_window: String,
    /// Its length.
    pub window: Duration,
    /// When it was created.
    pub created_at: Timestamp,
    /// `created_at + window`: nothing starts after it.
    pub deadline: Timestamp,
    /// Its state.
    pub status: BatchStatus,
    /// Rows of each kind.
    pub counts: Counts,
    /// Sums over its rows.
    pub sums: Sums,
    /// When it entered each state.
    pub moments: Moments,
    /// Options beyond `OpenAI`'s.
    pub options: BatchOptions,
    /// What its client labelled it with.
    pub metadata: Vec<(String, String)>,
    /// Why it failed, or what `fail_fast` stopped at.
    pub errors: Vec<LineProblem>,
    /// Once terminal, if any item succeeded.
    pub output_file_id: Option<FileId>,
    /// Once terminal, if any item did not.
    pub error_file_id: Option<FileId>,
}
