//! How much of a lane retries may take while first attempts wait.

/// Retries above this many delayed ones are a backlog of their own, to be worked off.
const DELAYED_RETRIES_CAP: usize = 1_000;

/// Credit is counted in quarters of a retry: a first attempt earns one, so that of five starts one
/// may be a retry.
const RETRY_COST: u32 = 4;

/// Retries that may be saved up: enough to bridge a lull, too few to displace first attempts after one.
const SAVED_RETRIES: u32 = 10;

/// What else waits on the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Whether any first attempt does.
    pub first_attempts: bool,
    /// How many retries are delayed, due or not.
    pub delayed_retries: usize,
}

/// A lane's retry budget: at most a fifth of its starts. A retry that is refused waits, it never fails.
///
/// Credit instead of a window over time, so that a lane of one call a minute keeps the same share.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetryBudget {
    credit: u32,
}

impl RetryBudget {
    /// Whether a retry may start now. A refused one can be asked about again when a first attempt has
    /// started or none waits any more.
    pub const fn allows(&self, waiting: Waiting) -> bool {
        !waiting.first_attempts || waiting.delayed_retries > DELAYED_RETRIES_CAP || self.credit >= RETRY_COST
    }

    /// A first attempt or a retry has started.
    pub fn started(&mut self, retry: bool) {
        self.credit = if retry {
            // Retries that were let through without credit leave no debt behind.
            self.credit.saturating_sub(RETRY_COST)
        } else {
            (self.credit + 1).min(RETRY_COST * SAVED_RETRIES)
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CROWDED: Waiting = Waiting { first_attempts: true, delayed_retries: 500 };

    #[test]
    fn a_fifth_of_the_starts_is_used_when_retries_always_wait() {
        let mut budget = RetryBudget::default();
        let retries = (0..10_000)
            .filter(|_| {
                let retry = budget.allows(CROWDED);
                budget.started(retry);
                retry
            })
            .count();
        assert_eq!(retries, 2_000);
    }

    #[test]
    fn nothing_is_held_back_where_it_would_help_nobody() {
        let mut budget = RetryBudget::default();
        assert!(!budget.allows(CROWDED));
        assert!(budget.allows(Waiting { first_attempts: false, ..CROWDED }));
        assert!(!budget.allows(Waiting { delayed_retries: 1_000, ..CROWDED }));
        assert!(budget.allows(Waiting { delayed_retries: 1_001, ..CROWDED }));
        for _ in 0..100 {
            budget.started(true);
        }
        for _ in 0..4 {
            assert!(!budget.allows(CROWDED));
            budget.started(false);
        }
        assert!(budget.allows(CROWDED));
    }

    proptest! {
        #[test]
        fn never_above_a_fifth_plus_what_was_saved(wanted in prop::collection::vec(any::<bool>(), 0..400), from in 0_usize..400) {
            let mut budget = RetryBudget::default();
            let starts: Vec<bool> = wanted.into_iter().map(|wanted| {
                let retry = wanted && budget.allows(CROWDED);
                budget.started(retry);
                retry
            }).collect();
            let window = &starts[from.min(starts.len())..];
            let retries = window.iter().filter(|&&retry| retry).count();
            prop_assert!(retries * 5 <= window.len() + 5 * SAVED_RETRIES as usize);
        }
    }
}
