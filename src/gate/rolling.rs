//! Periods too long to pace: counters that roll in 64 steps, or start anew at one time of the day.

use super::micros::micros_of;
use super::window_sum::WindowSum;
use crate::domain::limits::Rate;
use crate::domain::time::Timestamp;

/// Parts of a rolling period: what expires is known to 1/64 of it.
const PARTS: i64 = 64;
const DAY: i64 = 86_400_000_000;

/// What was charged in the present period.
#[derive(Debug)]
pub(super) struct LongCounter {
    limit: u64,
    period: i64,
    jitter: i64,
    count: Count,
}

#[derive(Debug)]
enum Count {
    Rolling(WindowSum),
    Daily { starts: i64, period: i64, sum: u64 },
}

impl LongCounter {
    /// Empty. `day_starts` is used where the period is a day, in seconds after midnight UTC.
    pub(super) fn new(rate: Rate, day_starts: Option<u32>, jitter: i64) -> Self {
        let period = micros_of(rate.period);
        Self { limit: rate.amount.max(1), period, jitter, count: Count::new(period, day_starts, jitter) }
    }

    /// Another limit for what was counted so far.
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit.max(1);
    }

    /// Days start at another time from now on, or are rolling: what was counted of the present one stays counted, even
    /// where that is more than the new one would hold.
    pub(super) fn set_day_starts(&mut self, day_starts: Option<u32>, now: Timestamp) {
        let held = match &self.count {
            Count::Rolling(_) => None,
            Count::Daily { starts, .. } => Some(*starts),
        };
        if held == daily(self.period, day_starts) {
            return;
        }
        match std::mem::replace(&mut self.count, Count::new(self.period, day_starts, self.jitter)) {
            Count::Rolling(window) => self.restore(&window.buckets().collect::<Vec<_>>(), now),
            Count::Daily { starts, mut period, mut sum } => {
                enter(starts, &mut period, &mut sum, now);
                self.add(sum, now);
            }
        }
    }

    /// Whether an amount fits now; else when it will.
    pub(super) fn probe(&mut self, amount: u64, now: Timestamp) -> Result<(), Timestamp> {
        let target = self.limit - amount.min(self.limit);
        let fits = match &mut self.count {
            Count::Rolling(window) => window.when_at_most(target, now),
            Count::Daily { starts, period, sum } => {
                enter(*starts, period, sum, now);
                let next = (*period + 1) * DAY + *starts;
                // A call sent just before the day ends could arrive in the next one.
                let closing = now.micros() >= next - self.jitter;
                if *sum <= target && !closing { now } else { Timestamp::from_micros(next) }
            }
        };
        if fits > now { Err(fits) } else { Ok(()) }
    }

    /// Charges an amount.
    pub(super) fn add(&mut self, amount: u64, now: Timestamp) {
        match &mut self.count {
            Count::Rolling(window) => window.add(now, amount),
            Count::Daily { starts, period, sum } => {
                enter(*starts, period, sum, now);
                *sum = sum.saturating_add(amount);
            }
        }
    }

    /// Takes back what was charged at `at` and not used.
    pub(super) fn take_back(&mut self, amount: u64, at: Timestamp) {
        match &mut self.count {
            Count::Rolling(window) => window.take_back(at, amount),
            Count::Daily { starts, period, sum } => {
                if *period == day_of(*starts, at) {
                    *sum = sum.saturating_sub(amount);
                }
            }
        }
    }

    /// What counts now.
    pub(super) fn sum(&mut self, now: Timestamp) -> u64 {
        match &mut self.count {
            Count::Rolling(window) => window.sum(now),
            Count::Daily { starts, period, sum } => {
                enter(*starts, period, sum, now);
                *sum
            }
        }
    }

    /// What to save: moments in microseconds since the epoch, with their amounts.
    pub(super) fn parts(&self) -> Vec<(i64, u64)> {
        match &self.count {
            Count::Rolling(window) => window.buckets().collect(),
            Count::Daily { starts, period, sum } => {
                vec![(period.saturating_mul(DAY).saturating_add(*starts), *sum)]
            }
        }
    }

    /// Adds what was saved; a part from the future counts from now.
    pub(super) fn restore(&mut self, parts: &[(i64, u64)], now: Timestamp) {
        for (at, amount) in parts {
            let at = Timestamp::from_micros(*at).min(now);
            match &mut self.count {
                Count::Rolling(window) => window.add(at, *amount),
                Count::Daily { starts, .. } if day_of(*starts, at) != day_of(*starts, now) => {}
                Count::Daily { .. } => self.add(*amount, now),
            }
        }
    }
}

impl Count {
    fn new(period: i64, day_starts: Option<u32>, jitter: i64) -> Self {
        match daily(period, day_starts) {
            Some(starts) => Self::Daily { starts, period: i64::MIN, sum: 0 },
            None => Self::Rolling(WindowSum::new(period.saturating_add(jitter), period / PARTS)),
        }
    }
}

/// When periods start, in microseconds after midnight, where they are days and it is said.
fn daily(period: i64, day_starts: Option<u32>) -> Option<i64> {
    day_starts.filter(|_| period == DAY).map(|seconds| i64::from(seconds) * 1_000_000)
}

fn day_of(starts: i64, at: Timestamp) -> i64 {
    (at.micros() - starts).div_euclid(DAY)
}

fn enter(starts: i64, period: &mut i64, sum: &mut u64, now: Timestamp) {
    let today = day_of(starts, now);
    if *period != today {
        *period = today;
        *sum = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_rolling_hour_uses_its_limit_and_no_more() {
        let mut counter = LongCounter::new(Rate { amount: 100, period: HOUR }, None, 20_000);
        let mut now = Timestamp::from_seconds(1_000_000);
        let mut sent = Vec::new();
        let end = now + HOUR * 10;
        while now < end {
            match counter.probe(1, now) {
                Ok(()) => {
                    counter.add(1, now);
                    sent.push(now);
                }
                Err(later) => now = later,
            }
        }
        for window in sent.windows(101) {
            assert!(window[100].since(window[0]) > HOUR, "101 within one hour");
        }
        assert!(sent.len() >= 980, "{} of 1,000 used", sent.len());
    }

    #[test]
    fn a_day_starts_where_it_is_said_to() {
        let rate = Rate { amount: 2, period: HOUR * 24 };
        let mut counter = LongCounter::new(rate, Some(7 * 3_600), 20_000);
        let evening = Timestamp::from_seconds(20 * 3_600);
        counter.add(2, evening);
        let next = Timestamp::from_seconds((24 + 7) * 3_600);
        assert_eq!(counter.probe(1, evening), Err(next));
        assert_eq!(counter.probe(1, next - Duration::from_millis(10)), Err(next));
        assert_eq!(counter.probe(1, next), Ok(()));
    }

    #[test]
    fn another_start_of_the_day_forgets_nothing() {
        let rate = Rate { amount: 10, period: HOUR * 24 };
        let mut counter = LongCounter::new(rate, None, 0);
        let noon = Timestamp::from_seconds(12 * 3_600);
        counter.add(3, noon);
        let later = noon + HOUR * 3;
        for day_starts in [None, Some(7 * 3_600), Some(7 * 3_600), Some(13 * 3_600), None] {
            counter.set_day_starts(day_starts, later);
            assert_eq!(counter.sum(later), 3, "{day_starts:?}");
        }
        // Rolling again, since the last change: it counts for a whole day from then.
        assert_eq!(counter.sum(later + HOUR * 23), 3);
        assert_eq!(counter.sum(later + HOUR * 25), 0);
    }

    #[test]
    fn what_was_saved_counts_until_it_would_have() {
        let rate = Rate { amount: 10, period: HOUR };
        let mut before = LongCounter::new(rate, None, 0);
        let start = Timestamp::from_seconds(1_000_000);
        before.add(10, start);
        let mut after = LongCounter::new(rate, None, 0);
        let later = start + HOUR / 2;
        after.restore(&before.parts(), later);
        assert_eq!(after.sum(later), 10);
        assert_eq!(after.probe(1, later), before.probe(1, later));
    }
}
