//! Limits as configured: how much, per how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A quantity per period, such as 500 requests per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// Units per period; at least 1.
    pub amount: u64,
    /// The period; at least 1 ms.
    pub period: Duration,
}

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
