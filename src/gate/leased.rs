//! A limit that several workers share: units may be used only if the ledger that they share handed them out.

use std::collections::HashMap;

use super::budget::Terms;
use super::demand::{Bounds, Demand, Held};
use super::micros::{micros_of, scaled_up};
use super::pacing::{LONGEST_PACED, Speed, guarded_period, stretched_period};
use super::report::Report;
use super::slot_pool::{Interval, Run, SlotPool};
use crate::domain::exchange::{BudgetAsk, BudgetGrant, BudgetName, HORIZON, SLOT_LIFE, Spending};
use crate::domain::limits::{Dimension, Rate};
use crate::domain::time::Timestamp;

/// An exchange is sent so long before the slots in hand are used up or too old, in microseconds.
const LOOKAHEAD: i64 = 60_000;
/// Units used no later than this after they were due count from then, in microseconds.
const ON_TIME: i64 = 30_000;
/// A period within which an exchange may be lost and come too late to tell of units that were used late, in microseconds.
const TOLD_LATE: u64 = 2_000_000;
/// How much later than when it is sent an exchange comes to the ledger, or its answer back, in microseconds.
const WAY: i64 = 30_000;
/// Workers that may each keep a call's units at once, and leave others something.
const KEEPERS: u64 = 8;
/// A slot that is kept for interactive calls goes to others so long before it is too old, in microseconds.
const LAST_CALL: i64 = 50_000;
/// How long after a live call the slot for the next one is asked for, in microseconds: beside that call the exchange
/// would take the processors from it, and of calls that come together each would have one of its own.
const RENEWAL_PAUSE: i64 = 5_000;
/// How long what is to be told waits for company, in microseconds.
const COMPANY: i64 = 250_000;
/// The longest that a ramp stretches the interval of one unit, in microseconds.
const RAMP: u64 = 5_000_000;
/// The part of a limit that is counted and not paced which may be asked for at once.
const COUNTED_PART: u64 = 10;
/// How long after its moment a slot may be used where a call needs others too, in microseconds: those come at other times.
/// What is above [`SLOT_LIFE`] is lost to the limit in each period, so it is a small part of that.
const PAIRED_LIFE: i64 = 500_000;
const PAIRED_PART: i64 = 240;
const DAY: i64 = 86_400_000_000;

/// Why a budget lets nothing leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacking {
    /// It has slots, from a moment on.
    Until(Timestamp),
    /// It has none, until an exchange brings more.
    Slots,
}

/// When an exchange should be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// For calls that wait in batches, and to tell what is to be told.
    pub(super) batch: Option<Timestamp>,
    /// For a client that waits, or may soon.
    pub(super) urgent: Option<Timestamp>,
}

impl Due {
    /// The earlier of both kinds.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            batch: self.batch.into_iter().chain(other.batch).min(),
            urgent: self.urgent.into_iter().chain(other.urgent).min(),
        }
    }

    /// At this moment too.
    pub(super) fn and_at(self, moment: Timestamp, urgent: bool) -> Self {
        if urgent {
            self.or(Self { batch: None, urgent: Some(moment) })
        } else {
            self.or(Self { batch: Some(moment), urgent: None })
        }
    }
}

/// What a call that is not settled yet was charged: mostly of one run.
#[derive(Debug)]
struct Charge {
    first: Run,
    rest: Vec<Run>,
}

/// The part of a shared limit that is in hand here.
#[derive(Debug)]
pub(super) struct Leased {
    limit: u64,
    period: u64,
    guarded: u64,
    /// How long after its moment a slot may be used, in microseconds, and the longest that ever was.
    life: i64,
    longest_life: i64,
    weighs: bool,
    /// How it is spent where it is not paced.
    counted: Option<Spending>,
    pool: SlotPool,
    charges: HashMap<u64, Charge>,
    demand: Demand,
    report: Report,
    /// How far apart the units are that were asked for last, and how many were needed.
    asked: Interval,
    need: u64,
    /// What all workers charged in the last period, and when that was.
    used: (u64, Timestamp),
    /// How late what was granted last was due, in microseconds: the later the more others take.
    lead: i64,
    /// What a call took lately; 0: none has.
    mean: u64,
}

impl Leased {
    /// Nothing in hand.
    pub(super) fn new(dimension: Dimension, rate: Rate, terms: Terms) -> Self {
        let period = micros_of(rate.period).max(1);
        let counted = (rate.period > LONGEST_PACED).then(|| spending(period, terms.day_starts));
        let mut leased = Self {
            limit: 1,
            period: period.unsigned_abs(),
            guarded: 0,
            life: 0,
            longest_life: 0,
            weighs: dimension.is_settled(),
            counted,
            pool: SlotPool::default(),
            charges: HashMap::new(),
            demand: Demand::default(),
            report: Report::default(),
            asked: Interval::default(),
            need: 0,
            used: (0, Timestamp::ZERO),
            lead: 0,
            mean: 0,
        };
        leased.set_limit(rate.amount, terms, Timestamp::ZERO);
        leased
    }

    /// Another limit over the same period.
    ///
    /// Slots that were granted for a shorter life are given back. One that gets shorter is guarded as the longer one was:
    /// both kinds lie within one period, and a pair of limits that loses one is too rare to time that.
    pub(super) fn set_limit(&mut self, limit: u64, terms: Terms, now: Timestamp) {
        let longer = if terms.paired {
            (PAIRED_LIFE - SLOT_LIFE).min(self.period.cast_signed() / PAIRED_PART)
        } else {
            0
        };
        let life = SLOT_LIFE + longer;
        if life > self.life {
            self.give_all_back(now);
        }
        (self.life, self.longest_life) = (life, self.longest_life.max(life));
        if self.limit != limit.max(1) {
            // What the ledger refused by the old limit, it may grant by this one.
            self.demand.answered(None);
        }
        self.limit = limit.max(1);
        let late = terms.jitter + self.longest_life - SLOT_LIFE;
        self.guarded = guarded_period(self.period, self.limit, self.weighs, late);
    }

    /// Days start at another time from now on, or are rolling. What was charged is the ledger's to know.
    pub(super) fn set_day_starts(&mut self, day_starts: Option<u32>) {
        let period = self.period.cast_signed();
        self.counted = self.counted.map(|_| spending(period, day_starts));
    }

    /// Whether it is spent at an even pace.
    pub(super) fn is_paced(&self) -> bool {
        self.counted.is_none()
    }

    /// Units per second at a speed, over all workers.
    pub(super) fn pace(&self, speed: Speed) -> f64 {
        let period =
            if self.is_paced() { stretched_period(self.period, self.guarded, speed) } else { self.period };
        let ramp = if self.is_paced() { speed.ramp } else { 100 };
        self.limit as f64 * 1e6 / period as f64 * f64::from(ramp) / 100.0
    }

    /// Whether an amount may leave now.
    ///
    /// While units are kept for interactive calls, others leave only if as many that are due stay, or when those kept
    /// would be too old before long.
    pub(super) fn probe(&mut self, amount: u64, interactive: bool, now: Timestamp) -> Result<(), Lacking> {
        if amount == 0 {
            return Ok(());
        }
        self.drop_old(now);
        let kept = if interactive { 0 } else { self.kept(now) };
        let (held, wanted) = (self.pool.held(), amount.saturating_add(kept));
        if held < wanted {
            self.demand.lack(wanted - held, interactive);
        }
        let first = if self.weighs && self.period < TOLD_LATE {
            self.pool.room(amount)
        } else {
            self.pool.due(0).filter(|_| held >= amount)
        };
        let first = first.ok_or(Lacking::Slots)?;
        let mut due = first;
        if kept > 0 {
            let last_call = first.saturating_add(self.life - LAST_CALL);
            let stays = if held < wanted { None } else { self.pool.due(wanted - 1) };
            due = stays.map_or(last_call, |stays| stays.min(last_call)).max(first);
        }
        if due > now.micros() { Err(Lacking::Until(Timestamp::from_micros(due))) } else { Ok(()) }
    }

    /// Charges what was just probed to call `number`.
    ///
    /// Units that weigh may be used before they are due, with the first of their call. So those that are used late must
    /// not count as if they had not been: the ledger allows for one of both. Within a short period it may hear of that too
    /// late, so that there calls wait until there is room for all that they take.
    pub(super) fn take(&mut self, amount: u64, number: u64, now: Timestamp) {
        let mut charge: Option<Charge> = None;
        let Self { pool, report, weighs, counted, .. } = self;
        let on_time = (*weighs && counted.is_none()).then(|| now.micros().saturating_sub(ON_TIME));
        let mut add = |run: Run| match &mut charge {
            None => charge = Some(Charge { first: run, rest: Vec::new() }),
            Some(charge) => charge.rest.push(run),
        };
        pool.take(amount, |mut run| {
            if let Some(late) = on_time.and_then(|on_time| run.split_late(on_time)) {
                report.move_on(late.slots(), now);
                add(late);
            }
            if run.units() > 0 {
                add(run);
            }
        });
        self.demand.use_up(amount);
        self.mean = if self.mean == 0 { amount } else { (self.mean * 7).saturating_add(amount).div_ceil(8) };
        if let Some(charge) = charge {
            self.charges.insert(number, charge);
        }
    }

    /// What an interactive call takes. As much is kept for the next one, or for as many as come together, but where
    /// others take what there is and calls are heavy: a few workers that each keep one's units would have all that can
    /// be granted, and use none of it.
    pub(super) fn note_interactive(&mut self, amount: u64, now: Timestamp) {
        if amount == 0 {
            return;
        }
        let within_horizon = scaled_up(self.limit, HORIZON.unsigned_abs(), self.period);
        self.demand.note_interactive(amount, within_horizon / KEEPERS, now);
    }

    /// A call was never sent: its units may be used by others.
    pub(super) fn refund(&mut self, number: u64, now: Timestamp) {
        let Some(charge) = self.charges.remove(&number) else { return };
        for run in std::iter::once(charge.first).chain(charge.rest) {
            self.demand.unuse(run.units());
            self.pool.add(run);
        }
        self.drop_old(now);
    }

    /// What a call was charged that is not settled yet.
    pub(super) fn charged(&self, number: u64) -> Option<u64> {
        let charge = self.charges.get(&number)?;
        Some(charge.rest.iter().fold(charge.first.units(), |sum, run| sum.saturating_add(run.units())))
    }

    /// A call used less than it was charged: so much of its last units.
    pub(super) fn settle_down(&mut self, amount: u64, number: u64, now: Timestamp) {
        let Some(charge) = self.charges.remove(&number) else { return };
        let mut left = amount;
        for run in charge.rest.iter().rev().chain(std::iter::once(&charge.first)) {
            let units = left.min(run.units());
            if units > 0 {
                self.report.settle_down(run.slots().at_us, units, now);
                left -= units;
            }
        }
    }

    /// Units were used that no slot stands for.
    pub(super) fn charge_debt(&mut self, amount: u64, now: Timestamp) {
        self.report.charge(amount, now);
    }

    /// A call is over: what it was charged stays charged.
    pub(super) fn forget(&mut self, number: u64) {
        self.charges.remove(&number);
    }

    /// What all workers charged in the last period, as far as it is known.
    pub(super) fn used(&self, now: Timestamp) -> u64 {
        let (used, at) = self.used;
        let age = u64::try_from(now.since(at).as_micros()).unwrap_or(u64::MAX).min(self.period);
        // What was charged lapses, evenly for all that is known.
        used.saturating_sub(scaled_up(used, age, self.period))
    }

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
    pub(super) fn shut_until(&self) -> Option<Timestamp> {
        self.demand.refused_until().filter(|_| self.pool.held() < self.mean.max(1))
    }

    /// Calls lack units of another limit that the ledger has refused until a moment: what will be too old when those are
    /// due goes back at once, but for what is kept for clients.
    ///
    /// Held until it is too old, it would be what another worker's call lacks, while that worker holds what calls here
    /// lack: where slots are further apart than they live, no call would ever have all that it needs.
    pub(super) fn give_back_in_vain(&mut self, until: Timestamp, now: Timestamp) {
        if self.kept(now) > 0 {
            return;
        }
        let old = until.micros().saturating_add(HORIZON - self.life);
        let due = self.pool.held() - self.pool.later_than(old);
        self.pool.take(due, |run| self.report.give_back(run, now));
    }

    /// When an exchange should be sent for it; `shut`: until when calls lack units of another limit.
    pub(super) fn due(&self, shut: Timestamp, now: Timestamp) -> Due {
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
    pub(super) fn has_to_return(&self) -> bool {
        self.pool.held() > 0 || self.report.since().is_some()
    }

    /// What to ask for and to tell; `None` if that is nothing. `first`: what the first waiting head takes.
    pub(super) fn ask(
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
    pub(super) fn room(&self, now: Timestamp) -> Option<u32> {
        let used = self.demand.used();
        let units = self.pool.held().saturating_add(used).saturating_add(used / 4);
        let calls = u32::try_from(units / self.mean.max(1)).unwrap_or(u32::MAX);
        self.is_contended(now).then(|| calls.saturating_add(1))
    }

    /// Calls that the units in hand let go.
    pub(super) fn calls_in_hand(&self) -> u64 {
        self.pool.held() / self.mean.max(1)
    }

    /// Takes what was granted; `offset`: how far the time here is ahead of the database's.
    pub(super) fn grant(&mut self, grant: &BudgetGrant, offset: i64, now: Timestamp) {
        let mut need = if self.weighs { self.need } else { 0 };
        for (place, slots) in grant.slots.iter().enumerate() {
            let mut run = Run::granted(*slots, offset, self.asked);
            // Slots that were handed out before come first, where all fits that is needed; what is new is for the head
            // that needs it.
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
    pub(super) fn gap(&self, grant: &BudgetGrant) -> Option<u64> {
        let units = grant.slots.iter().map(|slots| slots.units).fold(0, u64::saturating_add);
        let gap = || scaled_up(units, self.asked.micros, self.asked.units);
        (self.is_paced() && !self.weighs && self.is_crowded()).then(gap)
    }

    /// The last exchange was answered: what it told has arrived.
    pub(super) fn confirm(&mut self) {
        self.report.confirm();
    }

    /// Another life of the worker begins: nothing is in hand, and of the last one only debts are to be told.
    pub(super) fn start_over(&mut self) {
        self.pool = SlotPool::default();
        self.report.start_over();
        self.demand.start_over();
    }

    /// Units that are kept in hand for interactive calls.
    fn kept(&self, now: Timestamp) -> u64 {
        self.demand.kept(self.is_contended(now), self.weighs, now)
    }

    /// Whether a slot that is kept is one that others lack.
    fn is_contended(&self, now: Timestamp) -> bool {
        self.is_crowded() || self.used(now).saturating_mul(16) >= self.limit.saturating_mul(15)
    }

    /// Whether others take what there is.
    fn is_crowded(&self) -> bool {
        self.lead > HORIZON / 2
    }

    /// How long after it is due the last slot in hand that is kept for interactive calls is too old to go without
    /// another one: an exchange takes its time, and where others take what there is, what it brings is due late.
    fn renewed_after(&self) -> i64 {
        if self.is_crowded() { -2 * LOOKAHEAD } else { self.life - LOOKAHEAD }
    }

    fn give_all_back(&mut self, now: Timestamp) {
        let all = self.pool.held();
        self.pool.take(all, |run| self.report.give_back(run, now));
    }

    fn drop_old(&mut self, now: Timestamp) {
        self.pool.expire(now.micros(), self.life, |run| {
            self.demand.waste(run.units());
            self.report.give_back(run, now);
        });
    }

    fn spending(&self, speed: Speed) -> Spending {
        self.counted.unwrap_or_else(|| {
            let stretched = stretched_period(self.period, self.guarded, speed);
            let ramped = scaled_up(stretched, 100, u64::from(speed.ramp.max(1)));
            let longest = stretched.saturating_add(RAMP.saturating_mul(self.limit));
            Spending::Paced { stretched_us: ramped.min(longest) }
        })
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

/// Who waits for the units that the first head lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
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
pub(super) struct AskTerms {
    pub(super) speed: Speed,
    /// Whether the worker ends, so that nothing is wanted any more.
    pub(super) draining: bool,
    /// Whether the last exchange was not answered, so that it is told again.
    pub(super) again: bool,
    /// How far the time here is ahead of the database's, once that is known.
    pub(super) offset: Option<i64>,
    /// Calls that the level's places and other limits let go until the next exchange, where those are scarce.
    pub(super) room: Option<u32>,
    /// Whether calls lack units of another limit for so long that none are of use now.
    pub(super) shut: bool,
    pub(super) now: Timestamp,
}

/// How a long period is spent.
fn spending(period: i64, day_starts: Option<u32>) -> Spending {
    match day_starts {
        Some(starts) if period == DAY => Spending::Daily { starts },
        _ => Spending::Rolling,
    }
}
