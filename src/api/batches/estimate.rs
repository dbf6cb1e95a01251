//! When a running batch will be done, as far as that can honestly be said.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Results below which a rate says nothing about the rest.
const FEWEST_RESULTS: u64 = 10;
/// How many standard deviations above the middle 90 of 100 outcomes lie.
const P90: f64 = 1.2816;
/// Estimates further away than this are not worth a number.
const FURTHEST: Duration = Duration::from_secs(3_650 * 86_400);

/// What an estimate is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Results so far.
    pub(crate) recorded: u64,
    /// Items without one.
    pub(crate) left: u64,
    /// Results per second at the present pace; 0: unknown or standing.
    pub(crate) items_per_second: f64,
}

/// When it ends at the present pace, and by when nine times out of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// As likely before as after.
    pub(crate) p50: Timestamp,
    /// Later only once in ten times, as far as the counts tell.
    pub(crate) p90: Timestamp,
}

impl Pace {
    /// `None` while there is no pace to go by.
    ///
    /// Both what was seen and what is to come are counts of events, whose relative spread is
    /// 1/√n: ten results say little about ten thousand, and the range shows it.
    pub(crate) fn estimate(self, now: Timestamp) -> Option<Estimate> {
        let known = self.items_per_second.is_finite() && self.items_per_second > 0.0;
        if self.left == 0 || self.recorded < FEWEST_RESULTS || !known {
            return None;
        }
        let seconds = self.left as f64 / self.items_per_second;
        let spread = (1.0 / self.left as f64 + 1.0 / self.recorded as f64).sqrt();
        let p50 = Duration::try_from_secs_f64(seconds).ok().filter(|time| *time < FURTHEST)?;
        let p90 = Duration::try_from_secs_f64(seconds * (1.0 + P90 * spread)).ok()?;
        Some(Estimate { p50: now + p50, p90: now + p90 })
    }
}

impl Estimate {
    /// Whether it ends by `deadline`; `None` if that is open.
    pub(crate) fn on_time(self, deadline: Timestamp) -> Option<bool> {
        if self.p90 <= deadline {
            Some(true)
        } else if self.p50 > deadline {
            Some(false)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    fn estimate(recorded: u64, left: u64, items_per_second: f64) -> Option<Estimate> {
        Pace { recorded, left, items_per_second }.estimate(NOW)
    }

    #[test]
    fn a_steady_pace_gives_the_rest_over_the_rate() {
        let estimate = estimate(10_000, 600, 10.0).unwrap();
        assert_eq!(estimate.p50, NOW + Duration::from_secs(60));
        assert_eq!(estimate.on_time(NOW + Duration::from_secs(59)), Some(false));
        assert_eq!(estimate.on_time(NOW + Duration::from_secs(61)), None);
        assert_eq!(estimate.on_time(NOW + Duration::from_secs(70)), Some(true));
    }

    #[test]
    fn nothing_is_said_without_a_pace() {
        assert_eq!(estimate(9, 100, 1.0), None);
        assert_eq!(estimate(100, 100, 0.0), None);
        assert_eq!(estimate(100, 0, 1.0), None);
        assert_eq!(estimate(100, u64::MAX, 1e-9), None);
        assert_eq!(estimate(100, 1, f64::NAN), None);
    }

    proptest! {
        #[test]
        fn the_range_is_ordered_and_narrows_with_what_was_seen(
            recorded in FEWEST_RESULTS..1_000_000, left in 1_u64..1_000_000, rate in 0.1_f64..1e6,
        ) {
            let (few, many) = (estimate(recorded, left, rate), estimate(recorded * 4, left, rate));
            let (few, many) = (few.unwrap(), many.unwrap());
            prop_assert!(few.p50 <= few.p90);
            prop_assert_eq!(few.p50, many.p50);
            prop_assert!(many.p90 <= few.p90);
        }
    }
}
