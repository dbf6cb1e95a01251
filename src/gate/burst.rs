//! How many interactive calls come together.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// What comes within this of each other comes together: it takes about so long to have the next slot.
const TOGETHER: Duration = Duration::from_millis(250);
/// How fast larger groups are forgotten: by so much of the difference with each smaller one.
const LAST_PART: f64 = 0.1;

/// How many calls come together: at once as many as the largest group, and fewer again with the smaller ones after it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Burst {
    began: Timestamp,
    calls: f64,
    usual: f64,
}

impl Burst {
    /// A call came.
    pub(super) fn note(&mut self, now: Timestamp) {
        if now.since(self.began) > TOGETHER {
            self.usual += (self.calls - self.usual) * LAST_PART;
            (self.began, self.calls) = (now, 0.0);
        }
        self.calls += 1.0;
        self.usual = self.usual.max(self.calls);
    }

    /// Calls in a group, at least one.
    pub(super) fn usual(&self) -> f64 {
        self.usual.max(1.0).round()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_group_counts_at_once_and_is_forgotten() {
        let mut burst = Burst::default();
        let (mut now, second) = (Timestamp::from_seconds(1_000), Duration::from_secs(1));
        burst.note(now);
        assert_eq!(burst.usual(), 1.0);
        now = now + second;
        (0..4).for_each(|_| burst.note(now));
        assert_eq!(burst.usual(), 4.0);
        for _ in 0..30 {
            now = now + second;
            burst.note(now);
        }
        assert_eq!(burst.usual(), 1.0);
    }
}
