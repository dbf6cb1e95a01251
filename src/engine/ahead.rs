//! Who may hold the bytes of segments before their items start: pure.
//!
//! A lane whose pace is not known in items, such as one limited in tokens, has thousands of items worth having ready;
//! with large bodies those of the first would leave the others no room at all.

use std::collections::HashMap;

use crate::domain::ids::AppKey;

use super::item::RouteId;

/// One app's items for one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    /// `None`: for a model that no lane serves.
    pub(super) route: Option<RouteId>,
    pub(super) app: AppKey,
}

/// Bytes held ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    limit: u64,
    held: u64,
    holders: HashMap<Holder, u64>,
}

impl Ahead {
    /// Nothing is held; one holder alone may hold up to the limit, in bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, held: 0, holders: HashMap::new() }
    }

    /// Bytes that one holder alone may hold.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether a holder may hold so many bytes more: up to an even share of the limit, even where others came first
    /// and hold more than theirs. All hold at most twice the limit, and the last half of the limit is for those that
    /// hold nothing yet.
    pub(super) fn has_room(&self, holder: Holder, bytes: u64) -> bool {
        let own = self.holders.get(&holder).copied().unwrap_or(0);
        if own == 0 {
            return self.held == 0 || self.held + bytes <= self.limit * 2;
        }
        let share = self.limit / self.holders.len() as u64;
        own + bytes <= share && self.held + bytes <= self.limit / 2 * 3
    }

    /// A holder takes so many bytes.
    pub(super) fn take(&mut self, holder: Holder, bytes: u64) {
        self.held += bytes;
        *self.holders.entry(holder).or_default() += bytes;
    }

    /// A holder gives back bytes that it took.
    pub(super) fn give_back(&mut self, holder: Holder, bytes: u64) {
        let Some(own) = self.holders.get_mut(&holder) else { return };
        self.held = self.held.saturating_sub(bytes);
        *own = own.saturating_sub(bytes);
        if *own == 0 {
            self.holders.remove(&holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 16_000;

    fn holder(app: i64) -> Holder {
        Holder { route: Some(RouteId(0)), app: AppKey(app) }
    }

    /// Takes as much as there is room for, in pieces.
    fn fill(ahead: &mut Ahead, app: i64) -> u64 {
        let mut pieces = 0;
        while ahead.has_room(holder(app), 250) {
            ahead.take(holder(app), 250);
            pieces += 250;
        }
        pieces
    }

    #[test]
    fn one_alone_has_all_of_it_and_others_get_in_all_the_same() {
        let mut ahead = Ahead::new(LIMIT);
        assert_eq!(fill(&mut ahead, 0), LIMIT);
        assert!((1..20).all(|app| fill(&mut ahead, app) >= 250));
        // The first gives back more than its share before it gets any more.
        for _ in 0..60 {
            ahead.give_back(holder(0), 250);
            assert!(!ahead.has_room(holder(0), 250));
        }
    }

    #[test]
    fn what_is_larger_than_the_limit_passes_alone() {
        let mut ahead = Ahead::new(LIMIT);
        assert!(ahead.has_room(holder(0), 3 * LIMIT));
        ahead.take(holder(0), 3 * LIMIT);
        assert!(!ahead.has_room(holder(1), 1));
        ahead.give_back(holder(0), 3 * LIMIT);
        assert!(ahead.has_room(holder(1), 3 * LIMIT));
    }

    proptest! {
        /// Whoever asks, all together stay below twice the limit, and those who keep giving back all get something.
        #[test]
        fn nobody_starves_and_nothing_overflows(
            asks in prop::collection::vec((0..25_i64, 1..300_u64), 1..2_000),
        ) {
            let mut ahead = Ahead::new(LIMIT);
            let mut held: Vec<(i64, u64)> = Vec::new();
            for (app, bytes) in asks {
                if ahead.has_room(holder(app), bytes) {
                    ahead.take(holder(app), bytes);
                    held.push((app, bytes));
                } else {
                    prop_assert!(held.iter().any(|(other, _)| *other == app), "{} holds nothing", app);
                }
                prop_assert!(held.iter().map(|(_, bytes)| bytes).sum::<u64>() <= LIMIT * 2);
                prop_assert_eq!(ahead.held, held.iter().map(|(_, bytes)| bytes).sum::<u64>());
            }
            for (app, bytes) in held {
                ahead.give_back(holder(app), bytes);
            }
            prop_assert!(ahead.holders.is_empty() && ahead.held == 0);
        }
    }
}
