//! How fast results come: an average that forgets, pure.

use crate::domain::time::Timestamp;

/// Seconds over which the average forgets.
const MEMORY: f64 = 10.0;

/// Results per second, weighted towards the last ten seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResultRate {
    pending: u64,
    per_second: f64,
    since: Option<Timestamp>,
    weight: f64,
}

impl ResultRate {
    /// Counts results; they show in the rate after the next [`ResultRate::tick`].
    pub(super) fn count(&mut self, results: u64) {
        self.pending += results;
    }

    /// Folds in what was counted since the last tick.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let Some(since) = self.since.replace(now) else {
            return;
        };
        let seconds = now.since(since).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let keep = (-seconds / MEMORY).exp();
        let seen = self.pending as f64 / seconds;
        self.pending = 0;
        // Starting from zero would show a fast batch as slow for its first ten seconds: divide by
        // the weight gathered so far instead.
        self.weight = self.weight * keep + (1.0 - keep);
        self.per_second = self.per_second * keep + seen * (1.0 - keep);
    }

    /// Results per second; 0 before the second tick.
    pub(super) fn per_second(&self) -> f64 {
        if self.weight > 0.0 { self.per_second / self.weight } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn shows_a_steady_rate_from_the_first_second_on() {
        let mut rate = ResultRate::default();
        let start = Timestamp::from_seconds(1_000);
        rate.tick(start);
        for step in 1..=8 {
            rate.count(25);
            rate.tick(start + Duration::from_millis(250 * step));
            assert!((rate.per_second() - 100.0).abs() < 1e-6, "{}", rate.per_second());
        }
    }

    #[test]
    fn forgets_a_burst() {
        let mut rate = ResultRate::default();
        let start = Timestamp::from_seconds(1_000);
        rate.tick(start);
        rate.count(1_000);
        rate.tick(start + Duration::from_secs(1));
        rate.tick(start + Duration::from_secs(120));
        assert!(rate.per_second() < 0.1);
    }
}
