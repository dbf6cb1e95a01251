//! A count that starts anew at one time of the day.

use super::window::JITTER;

const DAY: i64 = 86_400_000_000;

/// What was charged today.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day {
    /// Microseconds after midnight UTC.
    starts: i64,
    /// Which day since 1970.
    number: i64,
    pub(super) sum: i64,
}

impl Day {
    pub(super) fn new(starts: u32, now: i64) -> Self {
        let starts = i64::from(starts) * 1_000_000;
        Self { starts, number: (now - starts).div_euclid(DAY), sum: 0 }
    }

    /// Enters the day of `now`. A clock that was set back over midnight goes on with the later day's count.
    pub(super) fn advance(&mut self, starts: u32, now: i64) {
        let today = Self::new(starts, now);
        if today.number != self.number && today.number + 1 != self.number {
            *self = today;
        }
        self.starts = today.starts;
    }

    /// Whether a moment is of this day.
    pub(super) fn holds(self, at: i64) -> bool {
        (at - self.starts).div_euclid(DAY) == self.number
    }

    /// When the next one starts.
    pub(super) fn end(self) -> i64 {
        (self.number + 1) * DAY + self.starts
    }

    /// Whether a call sent now could arrive in the next one.
    pub(super) fn is_closing(self, now: i64) -> bool {
        now >= self.end() - JITTER
    }
}
