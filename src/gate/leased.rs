//! A limit that several workers share: units may be used only if the ledger that they share handed them out.

mod exchange;

use std::collections::HashMap;

pub(super) use self::exchange::{AskTerms, Due, Waits};
use super::budget::Terms;
use super::demand::Demand;
use super::micros::{micros_of, scaled_up};
use super::pacing::{LONGEST_PACED, Speed, guarded_period, stretched_period};
use super::report::Report;
use super::slot_pool::{Interval, Run, SlotPool};
use crate::domain::exchange::{HORIZON, SLOT_LIFE, Spending};
use crate::domain::limits::{Dimension, Rate};
use crate::domain::time::Timestamp;

/// Units used no later than this after they were due count from then, in microseconds.
const ON_TIME: i64 = 30_000;
/// In periods shorter than this an exchange that is lost, and waited for, may tell too late of units that were used late;
/// in microseconds.
const TOLD_LATE: u64 = 5_000_000;
/// Workers that may each keep a call's units at once, and leave others something.
const KEEPERS: u64 = 8;
/// A slot that is kept for interactive calls goes to others so long before it is too old, in microseconds.
const LAST_CALL: i64 = 50_000;
/// The longest that a ramp stretches the interval of one unit, in microseconds.
const RAMP: u64 = 5_000_000;
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
            let oldest = self.pool.due(0).unwrap_or(first);
            let last_call = oldest.saturating_add(self.life - LAST_CALL);
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
}

/// How a long period is spent.
fn spending(period: i64, day_starts: Option<u32>) -> Spending {
    match day_starts {
        Some(starts) if period == DAY => Spending::Daily { starts },
        _ => Spending::Rolling,
    }
}
