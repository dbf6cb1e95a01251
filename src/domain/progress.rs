//! What the engine knows of a running batch beyond its row: how it moves at the moment, and why it does not.

use std::time::Duration;

use super::ids::AppKey;
use super::time::Timestamp;

/// A running batch at one moment. The default is that of a batch nobody works on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Items with a call in flight.
    pub running: u64,
    /// Items ended per second over the last while; 0 while that is unknown.
    pub items_per_second: f64,
    /// When its last item ends; `None` while that can't honestly be said.
    pub completion: Option<Completion>,
    /// Why items wait, one entry per lane and reason; empty while nothing holds them.
    pub waiting: Vec<WaitingReason>,
}

/// When a batch ends, as far as the work and the limits of the moment tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// As likely before as after.
    pub p50: Timestamp,
    /// Later only once in ten times.
    pub p90: Timestamp,
}

impl Completion {
    /// Whether it ends by `deadline`; `None` if that is open.
    pub fn on_time(self, deadline: Timestamp) -> Option<bool> {
        if self.p90 <= deadline {
            Some(true)
        } else if self.p50 > deadline {
            Some(false)
        } else {
            None
        }
    }

    /// The end of both.
    pub fn and(self, other: Self) -> Self {
        Self { p50: self.p50.max(other.p50), p90: self.p90.max(other.p90) }
    }
}

/// A batch that is only asked about: whether it would end within its window.
#[derive(Clone, Debug)]
pub struct WindowQuestion {
    /// Whose it would be.
    pub app: AppKey,
    /// Its models, and the items of each.
    pub models: Vec<(String, u64)>,
    /// −100…100, higher first.
    pub priority: i32,
    /// Most items in flight at once.
    pub max_concurrency: Option<u32>,
    /// From now to its deadline.
    pub window: Duration,
}

/// What a batch that would not end within its window could have instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WouldFit {
    /// The shortest window for all of its items; `None` if none is long enough.
    pub window: Option<Duration>,
    /// Most items, of the same models in the same parts, that fit the window asked for.
    pub items: u64,
}

/// An item without a result at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemProgress {
    /// Whether its call is in flight.
    pub running: bool,
    /// What holds it and those before it back, if anything does.
    pub waiting: Option<WaitingReason>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_within_the_range_is_open() {
        let at = Timestamp::from_seconds;
        let completion = Completion { p50: at(100), p90: at(120) };
        assert_eq!(completion.on_time(at(99)), Some(false));
        assert_eq!(completion.on_time(at(100)), None);
        assert_eq!(completion.on_time(at(120)), Some(true));
    }
}
