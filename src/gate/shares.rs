//! What each app has taken of a level, as virtual time: whose turn it is where several want the same.
//!
//! Start-time fair queueing. An app's counter grows by what it takes of the level's binding budget, as a
//! time, divided by its weight; the lowest goes first. The level's own time is where the last one started
//! that left in order; whoever was away is lifted to it, and gets no credit for that. Who leaves and is back at
//! once, with its next head, was not away.

/// Virtual time of a call where only calls in flight are limited, in nanoseconds.
pub(super) const CALL: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    served: u64,
    /// Given back by settling; the next call costs so much less.
    credit: u64,
}

/// The counters of one level, by the apps' ordinals.
#[derive(Debug, Default)]
pub(super) struct Shares {
    apps: Vec<Share>,
    time: u64,
}

impl Shares {
    /// An app's counter.
    pub(super) fn served(&self, app: u32) -> u64 {
        self.apps.get(app as usize).map_or(0, |share| share.served)
    }

    /// An app that was away starts where the others are.
    pub(super) fn lift(&mut self, app: u32) {
        let time = self.time;
        if time > 0 {
            let share = self.share(app);
            share.served = share.served.max(time);
        }
    }

    /// An app takes something. `in_order`: as its counter said, not before its turn.
    pub(super) fn take(&mut self, app: u32, cost: u64, in_order: bool) {
        let start = self.served(app);
        if in_order {
            self.time = self.time.max(start);
        }
        let share = self.share(app);
        let covered = cost.min(share.credit);
        share.credit -= covered;
        share.served = start.saturating_add(cost - covered);
    }

    /// An app used more than it took, or less. Counters never fall, since others are ordered by them.
    pub(super) fn settle(&mut self, app: u32, change: i64, weight: u32) {
        if change == 0 {
            return;
        }
        let cost = change.unsigned_abs() / u64::from(weight.max(1));
        let share = self.share(app);
        if change < 0 {
            share.credit = share.credit.saturating_add(cost);
        } else {
            share.served = share.served.saturating_add(cost);
        }
    }

    /// An app's ordinal is free for another one.
    pub(super) fn forget(&mut self, app: u32) {
        if let Some(share) = self.apps.get_mut(app as usize) {
            *share = Share::default();
        }
    }

    fn share(&mut self, app: u32) -> &mut Share {
        let place = app as usize;
        if place >= self.apps.len() {
            self.apps.resize(place + 1, Share::default());
        }
        &mut self.apps[place]
    }
}

/// Numbers for apps, small and reused; 0 stands for calls without an app.
#[derive(Debug, Default)]
pub(super) struct Ordinals {
    used: u32,
    free: Vec<u32>,
}

impl Ordinals {
    /// A number that no app has.
    pub(super) fn next(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used
        })
    }

    /// Its app is gone.
    pub(super) fn release(&mut self, ordinal: u32) {
        self.free.push(ordinal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_away_starts_where_the_others_are() {
        let mut shares = Shares::default();
        for _ in 0..10 {
            shares.take(1, 100, true);
        }
        shares.lift(2);
        assert_eq!((shares.served(1), shares.served(2)), (1_000, 900));
        shares.take(2, 100, true);
        assert_eq!(shares.served(2), 1_000);
    }

    #[test]
    fn what_is_given_back_makes_the_next_call_cheaper() {
        let mut shares = Shares::default();
        shares.take(1, 100, true);
        shares.settle(1, -60, 1);
        assert_eq!(shares.served(1), 100);
        shares.take(1, 100, true);
        assert_eq!(shares.served(1), 140);
        shares.settle(1, 10, 2);
        assert_eq!(shares.served(1), 145);
    }

    #[test]
    fn who_leaves_before_its_turn_moves_nobody_else() {
        let mut shares = Shares::default();
        shares.take(1, 1_000, false);
        shares.take(1, 1_000, false);
        shares.lift(2);
        assert_eq!(shares.served(2), 0);
    }
}
