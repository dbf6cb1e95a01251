//! What each app has taken of a level, as virtual time: whose turn it is where several want the same.
//!
//! Start-time fair queueing. An app's counter grows by what it takes of the level's binding budget, as a
//! time, divided by its weight; the lowest goes first. The level's own time is where the last one started
//! that left in order; whoever was away is lifted to it, and gets no credit for that. Who leaves and is back at
//! once, with its next head, was not away.

/// Virtual time of a call where only calls in flight are limited, in nanoseconds.
pub(super) const CALL: u64 = 1_000_000;

/// Passes after which an app that took nothing does not compete any more: several seconds of exchanges.
const PASSES: u8 = 50;

#[derive(Clone, Copy, Debug)]
struct Share {
    served: u64,
    /// Given back by settling; the next call costs so much less.
    credit: u64,
    /// What of `served` calls of this worker took that the others do not know of.
    taken: u64,
    /// The same in the exchange under way.
    telling: u64,
    /// Passes since it took something or came back.
    idle: u8,
}

impl Default for Share {
    fn default() -> Self {
        Self { served: 0, credit: 0, taken: 0, telling: 0, idle: PASSES }
    }
}

impl Share {
    fn take(&mut self, cost: u64) {
        self.served = self.served.saturating_add(cost);
        self.taken = self.taken.saturating_add(cost);
    }
}

/// The counters of one level, by the apps' ordinals.
#[derive(Debug, Default)]
pub(super) struct Shares {
    apps: Vec<Share>,
    time: u64,
    /// Whether counters and time are those that workers have in common.
    joined: bool,
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
        self.share(app).idle = 0;
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
        share.take(cost - covered);
        share.idle = 0;
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
            share.take(cost);
        }
    }

    /// How many apps compete. One pass of those that `PASSES` counts.
    pub(super) fn active(&mut self) -> usize {
        let mut active = 0;
        for share in &mut self.apps {
            active += usize::from(share.idle < PASSES);
            share.idle = share.idle.saturating_add(1);
        }
        active
    }

    /// What other workers are to know: each app that competes, where its counter stood and what it took since. That is
    /// under way from now on.
    pub(super) fn tell(&mut self, mut tell: impl FnMut(u32, u64, u64)) {
        for (app, share) in (0..).zip(&mut self.apps) {
            // Counted as one more pass just now.
            if share.idle <= PASSES {
                tell(app, share.served.saturating_sub(share.taken), share.taken);
                share.telling = std::mem::take(&mut share.taken);
            }
        }
    }

    /// The level's own time.
    pub(super) const fn time(&self) -> u64 {
        self.time
    }

    /// Whether counters and time are those that workers have in common.
    pub(super) const fn has_joined(&self) -> bool {
        self.joined
    }

    /// Nobody competes anywhere, or nothing was heard for long: the counters are this worker's own again. What an app
    /// took while it was alone has nobody to be weighed against.
    pub(super) fn leave(&mut self) {
        self.joined = false;
        self.forget_taken();
    }

    /// Of what was taken so far nobody has to know.
    pub(super) fn forget_taken(&mut self) {
        self.apps.iter_mut().for_each(|share| share.taken = 0);
    }

    /// What was told has arrived.
    pub(super) fn told(&mut self) {
        self.apps.iter_mut().for_each(|share| share.telling = 0);
    }

    /// Where an app's counter stands over all workers, with what this one told.
    pub(super) fn hear(&mut self, app: u32, served: u64) {
        let share = self.share(app);
        share.served = share.served.max(served.saturating_add(share.taken));
    }

    /// Where the level's time stands at the worker that is furthest. Whoever joins moves its counters there with its
    /// time: how far each worker's own ones have come says nothing.
    pub(super) fn hear_time(&mut self, time: u64) {
        if !std::mem::replace(&mut self.joined, true) {
            let (forth, back) = (time.saturating_sub(self.time), self.time.saturating_sub(time));
            for share in &mut self.apps {
                share.served = share.served.saturating_add(forth).saturating_sub(back);
                share.taken = share.taken.min(share.served);
            }
            self.time = time;
        }
        self.time = self.time.max(time);
    }

    /// Nobody heard what was told.
    pub(super) fn untold(&mut self) {
        for share in &mut self.apps {
            share.taken = share.taken.saturating_add(std::mem::take(&mut share.telling));
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
