//! How many tokens answers have: the ninetieth percentile of the latest.

use std::collections::VecDeque;

/// Answers that are remembered.
const REMEMBERED: usize = 128;
/// Fewer say nothing yet.
const FEWEST: usize = 16;
/// The percentile is found again after so many further answers: sorting at each one would cost more than it tells.
const EVERY: usize = 8;

/// The latest answers' lengths in tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs {
    latest: VecDeque<u32>,
    since: usize,
    p90: Option<u32>,
}

impl Outputs {
    /// An answer had so many.
    pub(super) fn learn(&mut self, tokens: u64) {
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        self.latest.push_back(u32::try_from(tokens).unwrap_or(u32::MAX));
        self.since += 1;
        if self.latest.len() >= FEWEST && (self.p90.is_none() || self.since >= EVERY) {
            self.since = 0;
            let mut sorted: Vec<u32> = self.latest.iter().copied().collect();
            sorted.sort_unstable();
            self.p90 = sorted.get(sorted.len() * 9 / 10).copied();
        }
    }

    /// What nine of ten answers stay below; `None` before there were enough of them.
    pub(super) fn p90(&self) -> Option<u64> {
        self.p90.map(u64::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_answers_say_nothing() {
        let mut outputs = Outputs::default();
        for tokens in 0..15 {
            outputs.learn(tokens);
        }
        assert_eq!(outputs.p90(), None);
        outputs.learn(15);
        assert_eq!(outputs.p90(), Some(14));
    }

    proptest! {
        #[test]
        fn nine_of_ten_stay_below(lengths in prop::collection::vec(0..100_000_u64, 136..400)) {
            let mut outputs = Outputs::default();
            lengths.iter().for_each(|tokens| outputs.learn(*tokens));
            let p90 = outputs.p90().expect("enough of them");
            // Of the remembered ones, give or take those that came after the last look.
            let latest = &lengths[lengths.len() - REMEMBERED..];
            let below = latest.iter().filter(|tokens| **tokens <= p90).count();
            prop_assert!((REMEMBERED * 8 / 10..=REMEMBERED * 98 / 100).contains(&below), "{}", below);
        }
    }
}
