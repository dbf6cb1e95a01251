//! How a provider counts, as what it says of its limits shows it.
//!
//! A bucket refills evenly, and its reset is the time until it is full: it follows from what is missing. A
//! window's reset is its end, or as long as it is: it follows from the clock. Both agree now and then, a fixed
//! window's in its middle and a sliding one's while it is full, so that a contradiction says more than an agreement.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Readings of one kind before that kind is believed.
const SURE: u8 = 5;
/// What a reset may be off by, in parts of the period: some providers round to whole seconds.
const ROUNDING_PARTS: u32 = 20;
/// With more than this missing, a full window's reset looks like a bucket's.
const AMBIGUOUS: f64 = 0.9;

/// What is known of a provider's way of counting.
#[derive(Debug, Default)]
pub(super) struct Counting {
    like_a_bucket: u8,
    like_a_window: u8,
    /// The last reading that no bucket gives.
    contradicted: Option<Timestamp>,
}

impl Counting {
    /// Takes a reading of a call of `at`: which share of the limit is missing, and when nothing of it will be.
    pub(super) fn read(&mut self, missing: f64, reset: Duration, period: Duration, at: Timestamp) {
        let refill = period.mul_f64(missing.clamp(0.0, 1.0));
        if refill.abs_diff(reset) > period / ROUNDING_PARTS {
            self.like_a_bucket = 0;
            self.like_a_window = self.like_a_window.saturating_add(1);
            self.contradicted = Some(at);
        } else if missing < AMBIGUOUS && self.contradicted.is_none_or(|last| at.since(last) > period) {
            self.like_a_bucket = self.like_a_bucket.saturating_add(1);
            if self.like_a_bucket >= SURE {
                self.like_a_window = 0;
            }
        }
    }

    /// Whether it refills evenly.
    pub(super) const fn is_bucket(&self) -> bool {
        self.like_a_bucket >= SURE
    }

    /// Whether it counts what lies within a window.
    pub(super) const fn is_window(&self) -> bool {
        self.like_a_window >= SURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    /// Ten readings a second over three periods of an even use; `told`: the share that is missing and the reset.
    fn after(told: impl Fn(f64) -> (f64, f64)) -> Counting {
        let mut counting = Counting::default();
        for reading in 0..1_800_u32 {
            let second = f64::from(reading) / 10.0;
            let (missing, reset) = told(second);
            let at = Timestamp::from_seconds(1_000) + Duration::from_secs_f64(second);
            counting.read(missing, Duration::from_secs_f64(reset), PERIOD, at);
            assert!(!(counting.is_bucket() && counting.is_window()));
        }
        counting
    }

    #[test]
    fn a_bucket_is_told_from_a_window() {
        for missing in [0.0, 0.02, 0.5, 0.85] {
            assert!(after(|_| (missing, missing * 60.0)).is_bucket(), "{missing}");
            assert!(after(|_| (missing, (missing * 60.0).ceil())).is_bucket(), "{missing} in whole seconds");
        }
        for pace in [0.3, 0.995, 1.0] {
            let fixed = |second: f64| (second % 60.0 / 60.0 * pace, 60.0 - second % 60.0);
            assert!(after(fixed).is_window(), "fixed, used to {pace}");
            let sliding = |second: f64| ((second / 60.0).min(1.0) * pace, 60.0);
            assert!(after(sliding).is_window(), "sliding, used to {pace}");
        }
    }

    #[test]
    fn what_looks_like_both_shows_nothing() {
        let full = after(|_| (0.995, 60.0));
        assert!(!full.is_bucket() && !full.is_window());
    }
}
