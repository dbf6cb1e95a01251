//! The share of a limit that is used: lowered by refusals, given back by clean minutes.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Units of a factor: 10,000 are the whole limit.
pub(super) const WHOLE: u64 = 10_000;
const START: u16 = 9_950;
const FLOOR: u16 = 9_000;
const GIVE_BACK: u16 = 5;
const CLEAN: Duration = Duration::from_secs(120);

/// α of the pacing law, between 0.90 and 0.995, in ten-thousandths.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateFactor {
    value: u16,
    gives_back_at: Timestamp,
}

impl Default for RateFactor {
    fn default() -> Self {
        Self { value: START, gives_back_at: Timestamp::ZERO }
    }
}

impl RateFactor {
    /// Resumed after a restart, whatever was saved brought into its range.
    pub(super) fn restored(value: u16, now: Timestamp) -> Self {
        Self { value: value.clamp(FLOOR, START), gives_back_at: now + CLEAN }
    }

    /// The factor in ten-thousandths, with what the clean time up to now has given back.
    pub(super) fn value(&mut self, now: Timestamp) -> u16 {
        while self.value < START && now >= self.gives_back_at {
            self.value = (self.value + GIVE_BACK).min(START);
            self.gives_back_at = self.gives_back_at + CLEAN;
        }
        self.value
    }

    /// Lowers the factor; giving back starts anew.
    pub(super) fn lose(&mut self, loss: u16, now: Timestamp) {
        self.value = self.value(now).saturating_sub(loss).max(FLOOR);
        self.gives_back_at = now + CLEAN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clean_minutes_give_a_step_back() {
        let now = Timestamp::from_seconds(1_000);
        let mut factor = RateFactor::default();
        factor.lose(50, now);
        assert_eq!(factor.value(now + Duration::from_secs(119)), 9_900);
        assert_eq!(factor.value(now + Duration::from_secs(120)), 9_905);
        assert_eq!(factor.value(now + Duration::from_secs(361)), 9_915);
        assert_eq!(factor.value(now + Duration::from_secs(86_400)), 9_950);
    }

    #[test]
    fn refusals_stop_at_the_floor() {
        let mut factor = RateFactor::default();
        for second in 0..100 {
            factor.lose(50, Timestamp::from_seconds(second));
        }
        assert_eq!(factor.value(Timestamp::from_seconds(100)), 9_000);
    }
}
