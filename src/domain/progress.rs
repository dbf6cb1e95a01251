//! What the engine knows of a running batch beyond its row: how it moves at the moment, and why it does not.

use super::time::Timestamp;

/// A running batch at one moment. The default is that of a batch nobody works on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Items with a call in flight.
    pub running: u64,
    /// Items ended per second over the last while; 0 while that is unknown.
    pub items_per_second: f64,
    /// Why items wait, one entry per lane and reason; empty while nothing holds them.
    pub waiting: Vec<WaitingReason>,
}

/// Something that holds items of a batch back.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingReason {
    /// The lane, `provider/model`; `None` where it is no lane's (paused, disk).
    pub lane: Option<String>,
    /// The pinned word, such as `rate`, `concurrency`, `cooldown`, `credential`, `disk`.
    pub reason: &'static str,
    /// Since when.
    pub since: Timestamp,
    /// Until when, where that is known.
    pub until: Option<Timestamp>,
}
