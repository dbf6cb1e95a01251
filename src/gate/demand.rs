//! How many slots a budget asks for.
//!
//! It learns from what became of those that it had: twice as many where a head found none, hardly more than were used
//! where some were left over.

use std::time::Duration;

use super::burst::Burst;
use crate::domain::time::Timestamp;

/// How long after an interactive call a slot is kept in hand for the next one.
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

/// What one budget wants.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Units that are worth having in hand for the next stretch.
    target: u64,
    /// Units used, and left over, since the last exchange.
    used: u64,
    wasted: u64,
    /// Units that interactive calls took since.
    live: u64,
    /// The units that refused heads lacked since, and whether a client waits for one of them.
    lack: u64,
    urgent: bool,
    /// Before this moment asking is in vain.
    not_before: Option<Timestamp>,
    /// Until when units are kept in hand for interactive calls, how many one of those takes, how many of them come at
    /// about the same time, and how many units are kept for these at most.
    kept_until: Timestamp,
    weight: f64,
    burst: Burst,
    most_kept: u64,
    /// Whether batches used any before the last exchange.
    has_batches: bool,
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

    /// Units were left over.
    pub(super) fn waste(&mut self, units: u64) {
        self.wasted = self.wasted.saturating_add(units);
    }

    /// An interactive call takes so many units. `most`: how many a worker keeps of what others want too.
    pub(super) fn note_interactive(&mut self, units: u64, most: u64, now: Timestamp) {
        self.live = self.live.saturating_add(units);
        let units = units as f64;
        self.burst.note(now);
        self.most_kept = most;
        self.weight = if self.weight > 0.0 { self.weight + (units - self.weight) * LAST_PART } else { units };
        self.kept_until = now + KEPT;
    }

    /// Units that are kept in hand. Where others take what there is (`crowded`), for several calls only if batches here
    /// use what no call comes for; and of units that weigh, no more than a worker may keep, though no call can be made
    /// of so few.
    pub(super) fn kept(&self, crowded: bool, weighs: bool, now: Timestamp) -> u64 {
        let weight = self.weight.ceil() as u64;
        if now >= self.kept_until || crowded && weighs && weight > self.most_kept {
            return 0;
        }
        if crowded && !self.has_batches {
            return weight;
        }
        let together = (self.weight * self.burst.usual()).ceil() as u64;
        together.min(self.most_kept).max(weight)
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

    /// The answer to the last exchange says when asking again makes sense.
    pub(super) fn answered(&mut self, not_before: Option<Timestamp>) {
        self.not_before = not_before;
    }

    /// What to ask for: units of which fewer are of no use, and units that would be used. `lack`: of the first head
    /// that waits; `most`: units that can be used before the next exchange; `kept`: for interactive calls.
    pub(super) fn ask(&mut self, lack: u64, held: Held, most: u64, kept: u64) -> (u64, u64) {
        let active = self.is_active() || lack > 0;
        let lack = if lack > 0 { lack } else { self.lack };
        if self.wasted > self.used / 8 {
            self.target = self.target.min(self.used + self.used / 4).saturating_sub(self.wasted);
        } else if self.lack > 0 {
            self.target = self.target.saturating_mul(2).max(lack);
        }
        self.target = self.target.min(most);
        let need = lack.max(kept.saturating_sub(held.fresh));
        let target = if active { self.target.saturating_add(kept) } else { kept };
        // Those that are due already go with the head that waits.
        let in_hand = if lack > 0 { held.later } else { held.all };
        let want = target.saturating_sub(in_hand).max(need);
        // What is wanted only for what may come is of use however little it is.
        let need = need.max(want.min(1));
        self.has_batches = !self.is_live();
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
