//! What a provider says of its limits beside an answer.

use std::time::Duration;

use super::limits::Dimension;

/// A reset further away is not believed.
const LONGEST_RESET: Duration = Duration::from_secs(86_400);
/// A shorter period is not believed.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);

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

impl QuotaReading {
    /// Whether it can be true.
    pub fn is_plausible(&self) -> bool {
        self.limit != Some(0)
            && self.remaining.zip(self.limit).is_none_or(|(remaining, limit)| remaining <= limit)
            && self.reset.is_none_or(|reset| reset <= LONGEST_RESET)
            && self.period.is_none_or(|period| period >= SHORTEST_PERIOD)
    }
}
