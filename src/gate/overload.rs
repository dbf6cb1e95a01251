//! How many calls an upstream really bears, found by what it refuses for being overloaded.
//!
//! Additive increase, multiplicative decrease. A loss where the last one was is no news: it costs one, and
//! the next attempt to go beyond waits ever longer, so that a fixed number of slots is found and kept.

use crate::domain::time::Timestamp;

/// Windows of successes before going beyond where the last loss was, at first and at most.
const FIRST_HOLD: u32 = 8;
const LONGEST_HOLD: u32 = 64;

/// The concurrency that an upstream bears, once it refused any.
#[derive(Debug, Default)]
pub(super) struct Overload {
    limit: Option<u32>,
    /// Calls sent before belong to a loss that was counted.
    cut_at: Timestamp,
    last_loss: Option<u32>,
    /// Full windows of successes that the next step takes.
    hold: u32,
    successes: u32,
}

impl Overload {
    /// The most calls in flight.
    pub(super) fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// A call was refused because the upstream is overloaded, while so many were in flight.
    pub(super) fn refused(&mut self, sent_at: Timestamp, in_flight: u32, now: Timestamp) {
        if sent_at <= self.cut_at {
            return;
        }
        let limit = self.limit.unwrap_or(in_flight).max(1);
        if self.last_loss.is_some_and(|last| last.abs_diff(limit) <= 1) {
            self.hold = (self.hold * 2).clamp(FIRST_HOLD, LONGEST_HOLD);
            self.limit = Some((limit - 1).max(1));
        } else {
            self.hold = 1;
            self.limit = Some((limit * 85 / 100).max(1));
        }
        self.last_loss = Some(limit);
        self.successes = 0;
        self.cut_at = now;
    }

    /// A call was answered, while so many were in flight with it; `most`: the configured limit.
    pub(super) fn answered(&mut self, sent_at: Timestamp, in_flight: u32, most: Option<u32>) {
        let Some(limit) = self.limit else { return };
        // Calls that did not fill the window show nothing.
        if sent_at <= self.cut_at || in_flight < limit {
            return;
        }
        self.successes += 1;
        if self.successes < limit.saturating_mul(self.hold.max(1)) {
            return;
        }
        self.successes = 0;
        let limit = limit + 1;
        if self.last_loss.is_some_and(|last| limit > last + 1) {
            self.hold = 1;
        }
        self.limit = most.is_none_or(|most| limit < most).then_some(limit);
        if self.limit.is_none() {
            self.last_loss = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;

    /// An upstream with so many slots, replies after 100 ms; tells the limit at the end and what share was
    /// refused in the second half.
    fn settle(slots: u32, start: u32, calls: u32) -> (u32, f64) {
        let mut overload = Overload::default();
        let mut running: VecDeque<(Timestamp, Timestamp)> = VecDeque::new();
        let (mut refused, mut counted) = (0, 0);
        let mut now = Timestamp::from_seconds(1_000);
        for call in 0..calls {
            while running.len() as u32 >= overload.limit().unwrap_or(start) {
                let (sent, ends) = running.pop_front().unwrap();
                now = now.max(ends);
                overload.answered(sent, running.len() as u32 + 1, Some(start));
            }
            now = now + Duration::from_micros(100);
            let late = u32::from(call > calls / 2);
            counted += late;
            if running.len() as u32 >= slots {
                refused += late;
                overload.refused(now, running.len() as u32 + 1, now);
            } else {
                running.push_back((now, now + Duration::from_millis(100)));
            }
        }
        (overload.limit().unwrap_or(start), f64::from(refused) / f64::from(counted))
    }

    #[test]
    fn eight_slots_are_found_and_kept() {
        let (limit, refused) = settle(8, 64, 40_000);
        assert!((7..=9).contains(&limit), "{limit}");
        assert!(refused <= 0.0025, "{refused}");
    }

    #[test]
    fn one_round_trip_is_one_loss() {
        let mut overload = Overload::default();
        let now = Timestamp::from_seconds(10);
        for _ in 0..50 {
            overload.refused(now, 64, now + Duration::from_millis(100));
        }
        assert_eq!(overload.limit(), Some(54));
    }

    #[test]
    fn more_slots_are_used_again() {
        let mut overload = Overload::default();
        let mut now = Timestamp::from_seconds(10);
        for _ in 0..20 {
            now = now + Duration::from_secs(1);
            overload.refused(now, 64, now);
        }
        assert!(overload.limit().unwrap() <= 4);
        for _ in 0..10_000 {
            now = now + Duration::from_millis(1);
            overload.answered(now, 64, Some(64));
        }
        assert_eq!(overload.limit(), None);
    }
}
