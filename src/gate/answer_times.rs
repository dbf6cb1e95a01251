//! By how much a call's answer took longer than the fastest ones do.

use std::time::Duration;

use super::micros::micros_of;
use crate::domain::time::Timestamp;

/// The fastest answer of this long ago is forgotten.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The fastest answers of the present minute and of the one before.
#[derive(Debug, Default)]
pub(super) struct AnswerTimes {
    until: Timestamp,
    present: Option<u64>,
    before: Option<u64>,
}

impl AnswerTimes {
    /// An answer took so long; the microseconds beyond the fastest.
    pub(super) fn shift(&mut self, took: Duration, now: Timestamp) -> u64 {
        let took = micros_of(took).unsigned_abs();
        if now >= self.until {
            self.before = if now.since(self.until) < REMEMBERED { self.present } else { None };
            (self.present, self.until) = (None, now + REMEMBERED);
        }
        let fastest = self.present.map_or(took, |fastest| fastest.min(took));
        self.present = Some(fastest);
        took - self.before.map_or(fastest, |before| before.min(fastest)).min(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_beyond_the_fastest_counts() {
        let mut times = AnswerTimes::default();
        let mut shift = |took, second: i64| {
            times.shift(Duration::from_millis(took), Timestamp::from_seconds(1_000 + second)) / 1_000
        };
        assert_eq!([shift(300, 0), shift(100, 1), shift(300, 2), shift(50, 3)], [0, 0, 200, 0]);
        assert_eq!([shift(300, 61), shift(300, 119)], [250, 250]);
        assert_eq!([shift(300, 122), shift(200, 123)], [0, 0], "two minutes later the fastest is forgotten");
    }
}
