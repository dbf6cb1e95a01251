//! How long an item waits before it is tried again.

use std::time::Duration;

/// Exponential backoff with full jitter: uniform between nothing and a limit that doubles. Spreading
/// over the whole range empties a crowd of failed items faster than a fixed part plus a little noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The limit after the first failure.
    pub min: Duration,
    /// The highest limit.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after `attempts` charged attempts, at the place in its range that `random` says.
    pub fn delay(&self, attempts: u32, random: u64) -> Duration {
        // 63 doublings of a nanosecond are 292 years: further ones change nothing.
        let doublings = attempts.saturating_sub(1).min(63);
        let limit = self.min.as_nanos().saturating_mul(1 << doublings).min(self.max.as_nanos());
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let place = (u128::from(limit) * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(place).unwrap_or(limit))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_range_doubles_up_to_the_maximum() {
        let backoff = Backoff::default();
        for (attempts, seconds) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60), (u32::MAX, 60)]
        {
            let longest = backoff.delay(attempts, u64::MAX);
            assert!(
                Duration::from_secs(seconds) - longest <= Duration::from_nanos(1),
                "{attempts}: {longest:?}"
            );
            assert_eq!(backoff.delay(attempts, 0), Duration::ZERO);
            let middle = backoff.delay(attempts, u64::MAX / 2).as_secs_f64();
            assert!((middle - seconds as f64 / 2.0).abs() < 1e-6, "{attempts}: {middle}");
        }
    }

    proptest! {
        #[test]
        fn never_above_the_maximum(min in 0_u64.., max in 0_u64.., attempts: u32, random: u64) {
            let backoff = Backoff { min: Duration::from_nanos(min), max: Duration::from_nanos(max) };
            prop_assert!(backoff.delay(attempts, random) <= backoff.max);
        }
    }
}
