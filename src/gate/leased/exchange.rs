//! What the part in hand of a shared limit asks the ledger for and tells it, when, and what it does with the answer.

use super::Leased;
use crate::domain::exchange::{BudgetAsk, BudgetGrant, BudgetName, HORIZON, Spending};
use crate::domain::time::Timestamp;
use crate::gate::demand::{Bounds, Held};
use crate::gate::micros::scaled_up;
use crate::gate::pacing::Speed;
use crate::gate::slot_pool::{Interval, Run, SlotPool};

/// An exchange is sent so long before the slots in hand are used up or too old, in microseconds.
const LOOKAHEAD: i64 = 60_000;
/// How much later than when it is sent an exchange comes to the ledger, or its answer back, in microseconds.
const WAY: i64 = 30_000;
/// How long after a live call the slot for the next one is asked for, in microseconds: beside that call the exchange
/// would take the processors from it, and of calls that come together each would have one of its own.
const RENEWAL_PAUSE: i64 = 5_000;
/// How long what is to be told waits for company, in microseconds.
const COMPANY: i64 = 250_000;
/// The part of a limit that is counted and not paced which may be asked for at once.
const COUNTED_PART: u64 = 10;

/// When an exchange should be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gate) struct Due {
    /// For calls that wait in batches, and to tell what is to be told.
    pub(in crate::gate) batch: Option<Timestamp>,
    /// For a client that waits, or may soon.
    pub(in crate::gate) urgent: Option<Timestamp>,
}

impl Due {
    /// The earlier of both kinds.
    pub(in crate::gate) fn or(self, other: Self) -> Self {
        Self {
            batch: self.batch.into_iter().chain(other.batch).min(),
            urgent: self.urgent.into_iter().chain(other.urgent).min(),
        }
    }

    /// At this moment too.
    pub(in crate::gate) fn and_at(self, moment: Timestamp, urgent: bool) -> Self {
        if urgent {
            self.or(Self { batch: None, urgent: Some(moment) })
        } else {
            self.or(Self { batch: Some(moment), urgent: None })
        }
    }
}

/// Who waits for the units that the first head lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gate) enum Waits {
    /// A batch, which mostly has more.
    Batch,
    /// Clients, before others.
    Live {
        /// How many of them.
        calls: usize,
        /// Whether no batch waits behind them.
        alone: bool,
    },
}

/// What an exchange is put together from.
#[derive(Clone, Copy, Debug)]
pub(in crate::gate) struct AskTerms {
    pub(in crate::gate) speed: Speed,
    /// Whether the worker ends, so that nothing is wanted any more.
    pub(in crate::gate) draining: bool,
    /// Whether the last exchange was not answered, so that it is told again.
    pub(in crate::gate) again: bool,
    /// How far the time here is ahead of the database's, once that is known.
    pub(in crate::gate) offset: Option<i64>,
    /// Calls that the level's places and other limits let go until the next exchange, where those are scarce.
    pub(in crate::gate) room: Option<u32>,
    /// Whether calls lack units of another limit for so long that none are of use now.
    pub(in crate::gate) shut: bool,
    pub(in crate::gate) now: Timestamp,
}

impl Leased {
    /// What a first waiting head of such an amount lacks.
    ///
    /// If slots are too few for it, those go back that will be too old when what it lacks is due.
    fn lack_of(&mut self, amount: u64, interactive: bool, now: Timestamp) -> u64 {
        let kept = self.kept(now);
        let wanted = amount.saturating_add(if interactive { 0 } else { kept });
        if kept == 0 && amount > self.pool.held() {
            let old = now.micros().saturating_add(self.lead + WAY - self.life);
            let due = self.pool.held() - self.pool.later_than(old);
            self.pool.take(due, |run| self.report.give_back(run, now));
        }
        wanted.saturating_sub(self.pool.held())
    }

    /// Until when no call can leave for want of its units: the ledger has refused as many as a call takes.
    pub(in crate::gate) fn shut_until(&self) -> Option<Timestamp> {
        self.demand.refused_until().filter(|_| self.pool.held() < self.mean.max(1))
    }

    /// Calls lack units of another limit that the ledger has refused until a moment: what will be too old when those are
    /// due goes back at once, but for what is kept for clients.
    ///
    /// Held until it is too old, it would be what another worker's call lacks, while that worker holds what calls here
    /// lack: where slots are further apart than they live, no call would ever have all that it needs.
    pub(in crate::gate) fn give_back_in_vain(&mut self, until: Timestamp, now: Timestamp) {
        if self.kept(now) > 0 {
            return;
        }
        let old = until.micros().saturating_add(HORIZON - self.life);
        let due = self.pool.held() - self.pool.later_than(old);
        self.pool.take(due, |run| self.report.give_back(run, now));
    }

    /// When an exchange should be sent for it; `shut`: until when calls lack units of another limit.
    pub(in crate::gate) fn due(&self, shut: Timestamp, now: Timestamp) -> Due {
        let after = |moment: i64, micros: i64| Timestamp::from_micros(moment.saturating_add(micros));
        let sensible = |moment: Timestamp| moment.max(self.demand.not_before()).max(shut).max(now);
        let (mut due, end) = (Due::default(), self.pool.end());
        if let Some(urgent) = self.demand.is_dry() {
            // What is in hand is of use while it is not too old: an exchange brings the more the later it is.
            let latest = self.life - LOOKAHEAD - WAY - self.lead;
            let first = self.pool.due(0).filter(|_| !urgent).map(|first| after(first, latest));
            let rest = first.zip(end).map(|(first, end)| first.min(after(end, -LOOKAHEAD)));
            due = due.and_at(sensible(rest.unwrap_or(now)), urgent);
        } else if self.demand.is_active() {
            due = due.and_at(sensible(end.map_or(now, |end| after(end, -LOOKAHEAD))), false);
        }
        let kept = self.kept(now);
        if kept > self.pool.held() {
            due = due.and_at(sensible(after(self.demand.live_since().micros(), RENEWAL_PAUSE)), true);
        } else if let Some(end) = end {
            if kept > 0 {
                due = due.and_at(sensible(after(end, self.renewed_after())), true);
            }
            due = due.and_at(after(end, self.life + COMPANY), false);
        }
        if let Some(since) = self.report.since() {
            due = due.and_at(after(since.micros(), COMPANY), false);
        }
        due
    }

    /// Whether anything is in hand or to be told.
    pub(in crate::gate) fn has_to_return(&self) -> bool {
        self.pool.held() > 0 || self.report.since().is_some()
    }

    /// What to ask for and to tell; `None` if that is nothing. `first`: what the first waiting head takes.
    pub(in crate::gate) fn ask(
        &mut self,
        name: BudgetName,
        first: Option<(u64, Waits)>,
        terms: AskTerms,
    ) -> Option<BudgetAsk> {
        let AskTerms { speed, draining, again, offset, room, shut, now } = terms;
        self.drop_old(now);
        if draining {
            self.give_all_back(now);
            self.demand.start_over();
        }
        // A batch's call that lacks something else has no use for units.
        let first = first.filter(|(_, waits)| room != Some(0) || *waits != Waits::Batch);
        let lack = first.map_or(0, |(amount, waits)| self.lack_of(amount, waits != Waits::Batch, now));
        // What clients wait for beyond what is in hand, where nobody else does.
        let awaited = match first {
            Some((amount, Waits::Live { calls, alone: true })) => {
                Some(amount.saturating_mul(calls as u64).saturating_sub(self.pool.held()))
            }
            None if self.demand.is_live() => Some(0),
            _ => None,
        };
        let spending = self.spending(speed);
        let most = self.most(spending).min(self.limit);
        let later = |moment: i64| self.pool.later_than(moment);
        let held = Held {
            all: self.pool.held(),
            later: later(now.micros()),
            fresh: later(now.micros().saturating_sub(self.renewed_after())),
        };
        // Others want the rest of a grant, and would get it back too old where not all of it suits a call. Where calls
        // are alike, one at a time would have what there is, and the others a call each.
        let enough = if self.weighs && self.is_crowded() && lack > most / 32 { Some(0) } else { awaited };
        let contended = self.is_contended(now);
        let enough = enough.filter(|_| contended).unwrap_or(u64::MAX);
        // What would be left over here is of use to others.
        let fits = room.map(|room| self.mean.saturating_mul(room.into()).saturating_sub(held.all));
        let bounds = Bounds { most, kept: self.kept(now), enough, fits, contended };
        // Of what was refused, calls that settled may have made room meanwhile.
        let may_have_room = self.counted.is_some() || self.report.has_settled();
        let in_vain = shut && !(may_have_room && self.demand.refused_until().is_some());
        let (need, want) = if draining || in_vain {
            (0, 0)
        } else {
            self.demand.ask(lack.min(self.limit), held, bounds, now)
        };
        let (unused, settled) = self.report.tell(again, offset, now);
        if want == 0 && unused.is_empty() && settled.is_empty() {
            return None;
        }
        self.asked = match spending {
            Spending::Paced { stretched_us } => Interval { micros: stretched_us, units: self.limit },
            Spending::Rolling | Spending::Daily { .. } => Interval::default(),
        };
        self.need = need;
        Some(BudgetAsk { name, limit: self.limit, spending, need, want, unused, settled })
    }

    /// Calls that it lets go until the next exchange, if that brings as many units as were used since the last one and a
    /// little more; `None`: there are more units than all use.
    pub(in crate::gate) fn room(&self, now: Timestamp) -> Option<u32> {
        let used = self.demand.used();
        let units = self.pool.held().saturating_add(used).saturating_add(used / 4);
        let calls = u32::try_from(units / self.mean.max(1)).unwrap_or(u32::MAX);
        self.is_contended(now).then(|| calls.saturating_add(1))
    }

    /// Calls that the units in hand let go.
    pub(in crate::gate) fn calls_in_hand(&self) -> u64 {
        self.pool.held() / self.mean.max(1)
    }

    /// Takes what was granted; `offset`: how far the time here is ahead of the database's.
    pub(in crate::gate) fn grant(&mut self, grant: &BudgetGrant, offset: i64, now: Timestamp) {
        let mut need = if self.weighs { self.need } else { 0 };
        for (place, slots) in grant.slots.iter().enumerate() {
            let mut run = Run::granted(*slots, offset, self.asked);
            // Slots that were handed out before come first, where all fits that is needed; what is new is for the head
            // that needs it. Where nothing is new, the last of them is taken for it: used later than it could be, if at all.
            if place + 1 < grant.slots.len() {
                run = run.early();
            } else {
                let head = run.split_head(need);
                self.pool.add(if place > 0 { head.early() } else { head });
            }
            need = need.saturating_sub(slots.units);
            self.pool.add(run);
        }
        self.used = (grant.used, now);
        if let Some(last) = grant.slots.last() {
            self.lead = last.at_us.saturating_add(offset).saturating_sub(now.micros()).clamp(0, HORIZON);
        } else if grant.not_before_us.is_some() {
            self.lead = HORIZON;
        }
        let not_before = grant.not_before_us.map(|moment| moment.saturating_add(offset));
        self.demand.answered(not_before.map(Timestamp::from_micros));
    }

    /// How many microseconds before the exchange that brought this grant another worker had one, where others take what
    /// there is: for so long slots became free. Where calls weigh differently, a grant says nothing of that.
    pub(in crate::gate) fn gap(&self, grant: &BudgetGrant) -> Option<u64> {
        let units = grant.slots.iter().map(|slots| slots.units).fold(0, u64::saturating_add);
        let gap = || scaled_up(units, self.asked.micros, self.asked.units);
        (self.is_paced() && !self.weighs && self.is_crowded()).then(gap)
    }

    /// The last exchange was answered: what it told has arrived.
    pub(in crate::gate) fn confirm(&mut self) {
        self.report.confirm();
    }

    /// Another life of the worker begins: nothing is in hand, and of the last one only debts are to be told.
    pub(in crate::gate) fn start_over(&mut self) {
        self.pool = SlotPool::default();
        self.report.start_over();
        self.demand.start_over();
    }

    /// How long after it is due the last slot in hand that is kept for interactive calls is too old to go without
    /// another one: an exchange takes its time, and where others take what there is, what it brings is due late.
    fn renewed_after(&self) -> i64 {
        if self.is_crowded() { -2 * LOOKAHEAD } else { self.life - LOOKAHEAD }
    }

    /// The units that can be used before the next exchange.
    fn most(&self, spending: Spending) -> u64 {
        match spending {
            Spending::Paced { stretched_us } => {
                // What calls give back may be used beyond the pace; the ledger knows how much that is.
                let ahead = HORIZON.unsigned_abs() * if self.weighs { 2 } else { 1 };
                scaled_up(self.limit, ahead, stretched_us)
            }
            Spending::Rolling | Spending::Daily { .. } => self.limit / COUNTED_PART,
        }
        .max(1)
    }
}
