//! Days, and what apps use on them.

use std::fmt;

use super::batch::Usage;
use super::time::Timestamp;

const SECONDS: i64 = 86_400;

/// A day in UTC, counted from 1 January 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

impl Day {
    /// The day of a moment.
    pub const fn of(moment: Timestamp) -> Self {
        Self(moment.seconds().div_euclid(SECONDS))
    }

    /// So many days before.
    #[must_use]
    pub const fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days as i64))
    }
}

impl fmt::Display for Day {
    /// As `2026-11-21`, in the Gregorian calendar: Howard Hinnant's `civil_from_days`, which counts from
    /// 1 March of year 0 so that the leap day is a year's last.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.saturating_add(719_468);
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    }
}

/// What an app used on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayUsage {
    /// Requests that ended: items that were sent at least once or failed, and interactive
    /// calls that were sent.
    pub requests: u64,
    /// Of these, the ones that failed.
    pub failures: u64,
    /// Input tokens, as the provider counted them; cached ones are among them.
    pub input_tokens: u64,
    /// Input tokens that came from the provider's cache.
    pub cached_tokens: u64,
    /// Output tokens; reasoning ones are among them.
    pub output_tokens: u64,
}

impl DayUsage {
    /// One request.
    pub const fn of(failed: bool, usage: &Usage) -> Self {
        Self {
            requests: 1,
            failures: failed as u64,
            input_tokens: usage.input_tokens,
            cached_tokens: usage.cached_tokens,
            output_tokens: usage.output_tokens,
        }
    }

    /// Adds another's.
    pub const fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "1970-01-01")]
    #[case(86_399, "1970-01-01")]
    #[case(-1, "1969-12-31")]
    #[case(951_782_400, "2000-02-29")]
    #[case(1_709_164_800, "2024-02-29")]
    #[case(1_709_251_200, "2024-03-01")]
    #[case(4_107_542_400, "2100-03-01")]
    #[case(1_795_219_200, "2026-11-21")]
    fn days(#[case] seconds: i64, #[case] shown: &str) {
        assert_eq!(Day::of(Timestamp::from_seconds(seconds)).to_string(), shown);
    }
}
