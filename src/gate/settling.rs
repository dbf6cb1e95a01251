//! From what a call reserved to what it used.

use super::Gate;
use super::budget::{Budget, Meter};
use super::cost::{Accounting, Cost, Misfit, TokensUsed};
use super::grant::Grant;
use super::level::{Level, LevelId};
use super::micros::{micros_of, scaled_up};
use super::pacing::Speed;
use super::path::PathId;
use super::reason::Reason;
use super::window_sum::WindowSum;
use crate::domain::time::Timestamp;

/// Parts of a period in which interactive calls are counted: only an order hangs on it.
const INTERACTIVE_PARTS: i64 = 60;

impl Gate {
    /// Settles a call's tokens with what it used, once; doing it again changes nothing.
    ///
    /// Levels of our own, and providers that charge actuals, give back what was reserved and not used, at
    /// the moment of its charge too, and charge what was used beyond it as a debt. A provider that charges
    /// on admission keeps its whole charge; only a use above the estimate is added, since the estimate was
    /// then below what the provider's own formula must have taken. Calls that are never settled, timed
    /// out or aborted, stay charged.
    pub fn settle(&mut self, grant: &mut Grant, used: TokensUsed, now: Timestamp) {
        let now = self.move_clock(now);
        if grant.settled {
            return;
        }
        grant.settled = true;
        for index in self.levels_of(grant) {
            let level = &mut self.levels[index];
            if level.budgets.is_empty() {
                continue;
            }
            let share = level.settle(grant, used, now);
            let path = &self.paths[grant.path];
            let weight = path.app_level.map_or(1, |app| self.levels[app].weight);
            self.levels[index].shares.settle(path.app, share, weight);
            self.note_charge(index, now);
            self.offer_waiters(index, now);
        }
    }

    /// Whether a path's levels count tokens: only then is an estimate of them worth its cost.
    pub fn counts_tokens(&self, path: PathId) -> bool {
        let Some(path) = self.paths.find(path.0) else { return false };
        let mut levels = self.paths[path].levels.as_slice().iter().map(|index| &self.levels[*index]);
        levels.any(|level| level.budgets.iter().any(|budget| budget.dimension.is_settled()))
    }

    /// The limit that a call can never satisfy, if there is one: of all levels the tightest. `certain` is
    /// what it will take at least: the lower bound of its input, and the most output that it allows, which
    /// counts only where that is charged on admission.
    pub fn never_fits(&self, path: PathId, own: Option<LevelId>, certain: Cost) -> Option<Misfit> {
        let path = self.paths.find(path.0)?;
        let own = own.and_then(|own| self.levels.find(own.0));
        let levels = self.paths[path].levels;
        let all = levels.as_slice().iter().copied().chain(own);
        let misfits = all.flat_map(|index| {
            let level = &self.levels[index];
            level.budgets.iter().filter_map(|budget| {
                let (dimension, rate) = budget.rate();
                let needed = certain.certain(dimension, level.accounting);
                let name = || std::sync::Arc::clone(&level.name);
                (needed > rate.amount).then(|| Misfit {
                    level: name(),
                    dimension,
                    limit: rate.amount,
                    needed,
                })
            })
        });
        misfits.max_by(|one, other| {
            let excess = |misfit: &Misfit| misfit.needed as f64 / misfit.limit.max(1) as f64;
            excess(one).total_cmp(&excess(other))
        })
    }
}

impl Level {
    /// Tells by how much the call's share of the budget that binds changed, as virtual time.
    fn settle(&mut self, grant: &Grant, used: TokensUsed, now: Timestamp) -> i64 {
        let speed = self.speed(now);
        let mut share = 0;
        for (place, budget) in self.budgets.iter_mut().enumerate() {
            let change = budget.settle(grant, used, self.accounting, (speed, now));
            if place == self.binding.unwrap_or(0) {
                let time = i64::try_from(budget.time_of(change.unsigned_abs())).unwrap_or(i64::MAX);
                share = time * change.signum();
            }
        }
        share
    }

    /// Gives back what a call charged and did not use.
    pub(super) fn refund(&mut self, grant: &Grant, now: Timestamp) {
        if self.budgets.is_empty() {
            return;
        }
        let speed = self.speed(now);
        for budget in self.budgets.iter_mut().filter(|budget| grant.number > budget.since) {
            let amount = budget.charged_for(grant, self.accounting);
            budget.refund(amount, (speed, now), grant);
        }
    }

    /// A call is over, settled or not: nothing of it is merely reserved any more.
    pub(super) fn unreserve(&mut self, grant: &Grant) {
        for budget in &mut self.budgets {
            budget.unreserve(grant);
        }
    }

    /// A call is over: what it still stands charged with stays charged.
    pub(super) fn forget(&mut self, number: u64) {
        self.budgets.iter_mut().filter_map(Budget::leased).for_each(|leased| leased.forget(number));
    }
}

impl Budget {
    /// Why a head that it refuses waits.
    pub(super) fn reason(&self) -> Reason {
        if self.dimension.is_settled() { Reason::Tokens } else { Reason::Rate }
    }

    /// Charges call `number`, which was just probed.
    pub(super) fn reserve(
        &mut self,
        cost: &Cost,
        accounting: Accounting,
        moment: (Speed, Timestamp),
        number: u64,
    ) {
        if self.dimension.is_settled() {
            self.reserved = self.reserved.saturating_add(cost.units(self.dimension));
        }
        self.take(self.amount(cost, accounting), moment, number);
    }

    fn unreserve(&mut self, grant: &Grant) {
        if self.dimension.is_settled() && grant.number > self.since {
            self.reserved = self.reserved.saturating_sub(grant.cost.units(self.dimension));
        }
    }

    /// What a call was charged. After a change of the limit, by the lowest that was: never too much.
    fn charged_for(&self, grant: &Grant, accounting: Accounting) -> u64 {
        if let Meter::Leased(leased) = &self.meter {
            return leased.charged(grant.number).unwrap_or(0);
        }
        let lowest = self.lower.filter(|(number, _)| grant.number <= *number);
        let limit = lowest.map_or(self.rate.amount, |(_, lowest)| lowest.min(self.rate.amount));
        grant.cost.reserved(self.dimension, accounting, limit)
    }

    /// Tells by how many units the charge changed.
    fn settle(
        &mut self,
        grant: &Grant,
        used: TokensUsed,
        accounting: Accounting,
        (speed, now): (Speed, Timestamp),
    ) -> i64 {
        if !self.dimension.is_settled() || grant.number <= self.since {
            return 0;
        }
        self.unreserve(grant);
        let reserved = self.charged_for(grant, accounting);
        let actual = used.units(self.dimension, accounting);
        if actual > reserved {
            self.charge_debt(actual - reserved, speed, now);
        } else if accounting != Accounting::Admission {
            self.settle_down(reserved - actual, (speed, now), grant);
        } else {
            return 0;
        }
        if accounting != Accounting::Admission {
            self.count_from_answer(actual.min(reserved), grant.at, now);
        }
        actual.cast_signed().saturating_sub(reserved.cast_signed())
    }

    /// An amount as a time in nanoseconds: what the limit takes to give it back.
    pub(super) fn time_of(&self, amount: u64) -> u64 {
        let nanos = u64::try_from(self.rate.period.as_nanos()).unwrap_or(u64::MAX);
        scaled_up(amount, nanos, self.rate.amount)
    }

    /// Counts what an interactive call reserves.
    pub(super) fn note_interactive(&mut self, cost: &Cost, accounting: Accounting, now: Timestamp) {
        let amount = self.amount(cost, accounting);
        let period = micros_of(self.rate.period);
        let parts = || Box::new(WindowSum::new(period, period / INTERACTIVE_PARTS));
        self.interactive.get_or_insert_with(parts).add(now, amount);
        if let Meter::Leased(leased) = &mut self.meter {
            leased.note_interactive(amount, now);
        }
    }

    /// What interactive calls reserved in the last period.
    pub(super) fn interactive(&mut self, now: Timestamp) -> u64 {
        self.interactive.as_mut().map_or(0, |sum| sum.sum(now))
    }
}
