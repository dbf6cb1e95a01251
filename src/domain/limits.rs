//! Limits as configured: how much, per how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Calls.
    Requests,
    /// Tokens, input and output together.
    Tokens,
    /// Input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
}

impl Dimension {
    /// Every dimension.
    pub const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::InputTokens, Self::OutputTokens];

    /// Its place in [`Dimension::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
        }
    }

    /// Whether an estimate of it is reserved, and settled when the call is over.
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Requests)
    }
}

/// A quantity per period, such as 500 requests per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// Units per period; at least 1.
    pub amount: u64,
    /// The period; at least 1 ms.
    pub period: Duration,
}

/// Calls in flight in one process, where nobody says how many there may be in the whole service.
pub const PROCESS_CONCURRENCY: u32 = 1_024;

/// The limits of one level. An empty list or `None` means: not limited here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Calls in flight at once.
    pub max_concurrent: Option<u32>,
    /// Requests per period; all of them hold at once.
    pub requests: Vec<Rate>,
    /// Tokens per period, input and output together.
    pub tokens: Vec<Rate>,
    /// Input tokens per period.
    pub input_tokens: Vec<Rate>,
    /// Output tokens per period.
    pub output_tokens: Vec<Rate>,
    /// Requests that may leave at once; replaces the pacing tolerance.
    pub burst: Option<u32>,
    /// Whether limits may be learned from what the provider says; `None`: where nothing is configured.
    pub learn: Option<bool>,
    /// Seconds after midnight UTC at which periods of a day start; `None`: rolling.
    pub day_starts: Option<u32>,
}
