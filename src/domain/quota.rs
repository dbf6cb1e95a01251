//! What a provider says of its limits beside an answer.

use std::time::Duration;

use super::limits::Dimension;

/// One dimension of a provider's limits as a reply's headers give it. Nothing in it is to be believed unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaReading {
    /// What is counted.
    pub dimension: Dimension,
    /// Units per period.
    pub limit: Option<u64>,
    /// Units left of it.
    pub remaining: Option<u64>,
    /// Until nothing of it is used any more.
    pub reset: Option<Duration>,
    /// The period, where it can be told; most providers count per minute.
    pub period: Option<Duration>,
}
