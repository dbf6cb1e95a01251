//! One limit of one level at one moment, as operators and clients see it.

use std::time::Duration;

use super::time::Timestamp;

/// What a limit counts beside the dimensions of a budget: calls in flight.
pub const CONCURRENCY: &str = "concurrency";

/// A limit and its use.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitStatus {
    /// The kind of level: `service`, `provider`, `lane` or `app`.
    pub level: &'static str,
    /// Its name; a lane's is `provider/model`.
    pub name: String,
    /// The provider of a lane, or the provider itself.
    pub provider: Option<String>,
    /// The model slot of a lane.
    pub model: Option<String>,
    /// What is counted: `requests`, `tokens`, `input_tokens`, `output_tokens`, or [`CONCURRENCY`].
    pub dimension: &'static str,
    /// Units per period, or calls at once; `None`: not limited here.
    pub limit: Option<u64>,
    /// The period; `None` where nothing is replenished.
    pub period: Option<Duration>,
    /// Whether the provider told it, rather than the configuration.
    pub learned: bool,
    /// Units that count at present: those of the last period, or calls in flight.
    pub used: u64,
    /// Of these, what is reserved for calls that have not told what they used.
    pub reserved: u64,
    /// Units that the pace still has to pay off.
    pub debt: u64,
    /// The share of the limit that the pace goes by, up to 0.995.
    pub rate_factor: f64,
    /// Calls in flight at the level.
    pub in_flight: u32,
    /// Until when the level is closed, where a time is known.
    pub closed_until: Option<Timestamp>,
    /// `open`, `cooldown`, `breaker`, `stopped` or `paused`.
    pub state: &'static str,
    /// Heads that wait at the level.
    pub waiting: u64,
}
