//! How many slots a budget asks for.
//!
//! It learns from what became of those that it had: twice as many where a head found none, hardly more than were used
//! where some were left over.

use std::time::Duration;

use super::burst::Burst;
use crate::domain::time::Timestamp;

/// How long after an interactive call a slot is kept in hand for the next one, and how long after a batch's call there is
/// taken to be another one.
const KEPT: Duration = Duration::from_secs(10);
/// The weight of the last interactive call in the mean, as a part.
const LAST_PART: f64 = 0.25;

/// Units in hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// All of them.
    pub(super) all: u64,
    /// Those that are not due yet.
    pub(super) later: u64,
    /// Those that can be kept for a while.
    pub(super) fresh: u64,
}

/// How much of what is wanted makes sense.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Units that can be used before the next exchange.
    pub(super) most: u64,
    /// Units to keep for interactive calls.
    pub(super) kept: u64,
    /// More than that would be others' loss, unless it is needed.
    pub(super) enough: u64,
    /// More than that would be left over, where calls lack places or units of another limit: what is left over then says
    /// nothing of how many would be used.
    pub(super) fits: Option<u64>,
    /// Whether others lack what is left over here. Where nobody does it costs nothing, and too few do: a call that lacks
    /// units here lets those that it has of another limit grow too old.
    pub(super) contended: bool,
}

/// What one budget wants.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Units that are worth having in hand for the next stretch.
    target: u64,
    /// Units used, and left over, since the last exchange.
    used: u64,
    wasted: u64,
    /// Units that interactive calls took since, and when the first of those came.
    live: u64,
    live_since: Timestamp,
    /// The units that refused heads lacked since, and whether a client waits for one of them.
    lack: u64,
    urgent: bool,
    /// Whether a head lacked what was asked for last.
    lacked: bool,
    /// Before this moment asking is in vain.
    not_before: Option<Timestamp>,
    /// Until when units are kept in hand for interactive calls, how many one of those takes, how many of them come at
    /// about the same time, and how many units are kept for these at most.
    kept_until: Timestamp,
    weight: f64,
    burst: Burst,
    most_kept: u64,
    /// Until when batches here count as those that use what is kept in vain.
    batches_until: Timestamp,
}

impl Demand {
    /// A head was refused that lacked so many units.
    pub(super) fn lack(&mut self, units: u64, urgent: bool) {
        self.lack = self.lack.max(units);
        self.urgent |= urgent;
    }

    /// Units were used.
    pub(super) fn use_up(&mut self, units: u64) {
        self.used = self.used.saturating_add(units);
    }

    /// Units that were used were not, after all.
    pub(super) fn unuse(&mut self, units: u64) {
        self.used = self.used.saturating_sub(units);
    }

    /// Units used since the last exchange.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Units were left over.
    pub(super) fn waste(&mut self, units: u64) {
        self.wasted = self.wasted.saturating_add(units);
    }

    /// An interactive call takes so many units. `most`: how many a worker keeps of what others want too.
    pub(super) fn note_interactive(&mut self, units: u64, most: u64, now: Timestamp) {
        if self.live == 0 {
            self.live_since = now;
        }
        self.live = self.live.saturating_add(units);
        let units = units as f64;
        self.burst.note(now);
        self.most_kept = most;
        self.weight = if self.weight > 0.0 { self.weight + (units - self.weight) * LAST_PART } else { units };
        self.kept_until = now + KEPT;
    }

    /// Units that are kept in hand. Where others lack them (`contended`), only if batches here use what no call comes
    /// for; and of units that weigh, no more than a worker may keep, though no call can be made of so few.
    ///
    /// A slot that is kept lasts a quarter of a second: for one call a second at each of three workers, which could wait for
    /// the next slot as long, a limit of 10 a second would lose a half of what it is.
    pub(super) fn kept(&self, contended: bool, weighs: bool, now: Timestamp) -> u64 {
        let weight = self.weight.ceil() as u64;
        let is_lost = now >= self.batches_until || weighs && weight > self.most_kept;
        if now >= self.kept_until || contended && is_lost {
            return 0;
        }
        let together = (self.weight * self.burst.usual()).ceil() as u64;
        together.min(self.most_kept).max(weight)
    }

    /// When the first interactive call since the last exchange came.
    pub(super) fn live_since(&self) -> Timestamp {
        self.live_since
    }

    /// Whether calls use it.
    pub(super) fn is_active(&self) -> bool {
        self.used > 0 || self.lack > 0
    }

    /// Whether only interactive calls used it since the last exchange.
    pub(super) fn is_live(&self) -> bool {
        self.used <= self.live
    }

    /// Since the last exchange a head was refused: whether a client waits for it.
    pub(super) fn is_dry(&self) -> Option<bool> {
        (self.lack > 0).then_some(self.urgent)
    }

    /// Not before when asking makes sense.
    pub(super) fn not_before(&self) -> Timestamp {
        self.not_before.unwrap_or(Timestamp::ZERO)
    }

    /// Until when the ledger has refused what was needed, if it has.
    pub(super) fn refused_until(&self) -> Option<Timestamp> {
        self.not_before.filter(|_| self.lacked)
    }

    /// The answer to the last exchange says when asking again makes sense.
    pub(super) fn answered(&mut self, not_before: Option<Timestamp>) {
        self.not_before = not_before;
    }

    /// What to ask for: units of which fewer are of no use, and units that would be used. `lack`: of the first head
    /// that waits.
    pub(super) fn ask(&mut self, lack: u64, held: Held, bounds: Bounds, now: Timestamp) -> (u64, u64) {
        let Bounds { most, kept, enough, fits, contended } = bounds;
        let active = self.is_active() || lack > 0;
        let lack = if lack > 0 { lack } else { self.lack };
        self.lacked = lack > 0;
        // Of what only live calls use, what is left over would make those of another worker wait.
        let matters = contended || self.is_live();
        if matters && fits.is_none() && self.wasted > self.used / 8 {
            self.target = self.target.min(self.used + self.used / 4).saturating_sub(self.wasted);
        } else if self.lack > 0 {
            self.target = self.target.saturating_mul(2).max(lack);
        }
        self.target = self.target.min(most);
        let need = lack.max(kept.saturating_sub(held.fresh));
        let target = if active { self.target.saturating_add(kept) } else { kept };
        // Those that are due already go with the head that waits.
        let in_hand = if lack > 0 { held.later } else { held.all };
        let want = target.saturating_sub(in_hand).min(enough).min(fits.unwrap_or(u64::MAX)).max(need);
        // What is wanted only for what may come is of use however little it is.
        let need = need.max(want.min(1));
        if !self.is_live() {
            self.batches_until = now + KEPT;
        }
        (self.used, self.wasted, self.live) = (0, 0, 0);
        (self.lack, self.urgent) = (0, false);
        (need, want)
    }

    /// Nothing is held any more.
    pub(super) fn start_over(&mut self) {
        let Self { kept_until, weight, burst, most_kept, .. } = *self;
        *self = Self { kept_until, weight, burst, most_kept, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);
    const NONE: Held = Held { all: 0, later: 0, fresh: 0 };

    fn bounds(kept: u64) -> Bounds {
        Bounds { most: 100, kept, enough: u64::MAX, fits: None, contended: false }
    }

    /// A demand that has asked for 64 units at once, of which one was used, by a client's call or by a batch's.
    fn used_one(live: bool) -> Demand {
        let mut demand = Demand::default();
        demand.lack(64, false);
        assert_eq!(demand.ask(64, NONE, bounds(0), NOW), (64, 64));
        demand.use_up(1);
        if live {
            demand.note_interactive(1, 10, NOW);
        }
        demand.waste(63);
        demand
    }

    #[test]
    fn what_live_calls_leave_over_is_not_asked_for_again_where_nobody_lacks_it() {
        assert_eq!(used_one(true).ask(0, NONE, bounds(0), NOW), (0, 0));
        // Of a batch's it costs nothing, and too few do.
        assert_eq!(used_one(false).ask(0, NONE, bounds(0), NOW), (1, 64));
    }

    #[test]
    fn where_others_lack_them_units_are_kept_only_if_batches_use_what_no_call_comes_for() {
        for live in [true, false] {
            let mut demand = used_one(live);
            demand.ask(0, NONE, bounds(0), NOW);
            demand.note_interactive(1, 10, NOW);
            demand.use_up(1);
            demand.ask(0, NONE, bounds(0), NOW + Duration::from_secs(11));
            demand.note_interactive(1, 10, NOW + Duration::from_secs(11));
            let kept = demand.kept(true, false, NOW + Duration::from_secs(12));
            assert_eq!(kept, 0, "the last batch was long ago");
            if !live {
                demand.use_up(1);
                demand.use_up(1);
                demand.ask(0, NONE, bounds(0), NOW + Duration::from_secs(12));
                assert_eq!(demand.kept(true, false, NOW + Duration::from_secs(13)), 1);
            }
        }
    }
}
