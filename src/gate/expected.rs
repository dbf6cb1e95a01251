//! What a bucket should hold if nobody else used it.

use crate::domain::limits::Rate;
use crate::domain::time::Timestamp;

/// Readings in a row that must show the same.
const SURE: u8 = 5;
/// What is expected starts anew after this part of the period: only the last period's calls are known, and a bucket
/// that was full in between has lost some of its refill.
const RENEWED_PART: u32 = 30;

/// What a bucket held at a moment, by what its readings showed up to then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    at: Timestamp,
    held: f64,
    /// What it holds by now, every call counted once.
    now: f64,
    /// The least by which more was left than that: calls of ours arrived later than they count.
    excess: f64,
    readings: u8,
}

/// Our own calls since then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours {
    /// All that may have left by now.
    pub(super) most: u64,
    /// Those that no span before or after it counts too.
    pub(super) told_apart: u64,
}

impl Expected {
    /// What a first reading says.
    pub(super) fn new(remaining: u64, at: Timestamp) -> Self {
        let held = remaining as f64;
        Self { at, held, now: held, excess: f64::INFINITY, readings: 0 }
    }

    /// The moment that it goes on from.
    pub(super) const fn at(&self) -> Timestamp {
        self.at
    }

    /// Units that are missing beyond the most that our own calls may have taken.
    pub(super) fn missing(&mut self, remaining: u64, ours: Ours, sent_at: Timestamp, rate: Rate) -> u64 {
        let (left, limit) = (remaining as f64, rate.amount as f64);
        let refill = limit * sent_at.since(self.at).as_secs_f64() / rate.period.as_secs_f64();
        let after = |units: u64| (self.held + refill - units as f64).clamp(0.0, limit);
        let least = after(ours.most);
        self.now = after(ours.told_apart);
        self.excess = self.excess.min(left - self.now);
        self.readings = self.readings.saturating_add(1);
        (least - left).max(0.0) as u64
    }

    /// Goes on from a reading: at once where `foreign` units of another's use are sure, else once there were enough
    /// of them and no `doubt` is open. What is too little to be sure of stays expected, and adds up.
    pub(super) fn go_on(&mut self, foreign: u64, doubt: bool, sent_at: Timestamp, rate: Rate) {
        let held = if foreign > 0 {
            self.now - foreign as f64
        } else if !doubt && self.readings >= SURE && sent_at.since(self.at) >= rate.period / RENEWED_PART {
            (self.now + self.excess.max(0.0)).min(rate.amount as f64)
        } else {
            return;
        };
        *self = Self { at: sent_at, held, now: held, excess: f64::INFINITY, readings: 0 };
    }
}

/// Readings in a row that showed somebody else's use, and the least of it: calls overtake each other on their way, so
/// that a single reading may be off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unexplained {
    readings: u8,
    least: u64,
}

impl Unexplained {
    /// Takes what one reading shows; what is sure of it by now, once.
    pub(super) fn sure(&mut self, units: u64, slack: u64) -> u64 {
        if units <= slack {
            *self = Self::default();
            return 0;
        }
        self.least = if self.readings == 0 { units } else { self.least.min(units) };
        self.readings += 1;
        if self.readings < SURE { 0 } else { std::mem::take(self).least }
    }

    /// Whether the last reading showed something.
    pub(super) const fn is_open(&self) -> bool {
        self.readings > 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_reading_shows_nobody() {
        let mut unexplained = Unexplained::default();
        let shown = [90, 80, 5, 90, 70, 90, 90].map(|units| unexplained.sure(units, 10));
        assert_eq!(shown, [0; 7]);
        assert_eq!([unexplained.sure(90, 10), unexplained.sure(90, 10)], [70, 0], "told once");
    }

    #[test]
    fn little_by_little_adds_up() {
        let rate = Rate { amount: 600, period: Duration::from_secs(60) };
        let at = |second: i64| Timestamp::from_seconds(1_000 + second);
        let mut expected = Expected::new(500, at(0));
        let mut shown = 0;
        for second in 1..=40 {
            // Ten a second come back and ten are ours; another's goes every other second.
            let calls = 10 * at(second).since(expected.at()).as_secs();
            let remaining = 500 - u64::try_from(second / 2).unwrap();
            let ours = Ours { most: calls, told_apart: calls };
            shown = expected.missing(remaining, ours, at(second), rate);
            expected.go_on(0, false, at(second), rate);
        }
        assert_eq!(shown, 20);
    }
}
