//! One replenishing quantity of a level: its limit, what was charged, and how much of that is durable.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cost::{Accounting, Cost};
use super::grant::Grant;
use super::leased::{Lacking, Leased};
use super::level::Change;
use super::micros::{micros_of, scaled_up};
use super::pacing::{LONGEST_PACED, Paced, Speed};
use super::rolling::LongCounter;
use super::window_sum::WindowSum;
use crate::domain::limits::{Dimension, Rate};
use crate::domain::time::Timestamp;

/// How much of its pace a level may charge beyond its last durable save, in microseconds; also how far
/// beyond the present a restart resumes.
pub(super) const UNSAVED: u64 = 500_000;
/// The part of a long period's budget that is saved ahead for heads too heavy to go unsaved.
const AHEAD: u64 = 1_000;

/// How a budget's quantities become moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Calls that may leave at once, where configured.
    pub(super) burst: Option<u32>,
    /// Seconds after midnight UTC at which days start, where configured.
    pub(super) day_starts: Option<u32>,
    /// How much the way to the provider varies, in microseconds.
    pub(super) jitter: i64,
    /// Whether several workers share it.
    pub(super) shared: bool,
    /// Whether calls need units of another dimension of its level too.
    pub(super) paired: bool,
}

/// Why a budget lets nothing leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// Until a moment.
    Until(Timestamp),
    /// Until what was charged, or is about to be, is durable.
    Unsaved,
    /// Until the ledger that workers share hands out more.
    Unleased,
}

impl From<Lacking> for Short {
    fn from(lacking: Lacking) -> Self {
        match lacking {
            Lacking::Until(moment) => Self::Until(moment),
            Lacking::Slots => Self::Unleased,
        }
    }
}

/// On whose behalf, and by which law, a budget is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct By {
    /// What is not durable may not grow beyond its bound.
    pub(super) ledger: bool,
    /// A client waits.
    pub(super) interactive: bool,
}

/// A budget as it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetState {
    /// What it counts.
    pub dimension: Dimension,
    /// Its period in microseconds; with the dimension, its name within the level.
    pub period_us: i64,
    /// The theoretical arrival time of a paced budget, in microseconds since the epoch.
    pub arrival_us: Option<i64>,
    /// The parts of a budget that is counted or uneven: when, in microseconds since the epoch, and how much.
    pub parts: Vec<(i64, u64)>,
    /// Units that may have been charged since, and their cost in microseconds of pace: a head too heavy to
    /// go unsaved waited for them to be here.
    #[serde(default)]
    pub ahead: (u64, u64),
}

#[derive(Debug)]
pub(super) enum Meter {
    Paced(Paced),
    Counted(LongCounter),
    Leased(Box<Leased>),
}

/// A limit per period and its use.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) dimension: Dimension,
    pub(super) rate: Rate,
    pub(super) meter: Meter,
    /// Whether the limit comes from what the provider said.
    pub(super) learned: bool,
    /// Units of calls that are not settled yet, as they were asked for.
    pub(super) reserved: u64,
    /// The number of the last call before it existed: those charged nothing here.
    pub(super) since: u64,
    /// The number of the last call before its limit was changed, and the lowest limit until then.
    pub(super) lower: Option<(u64, u64)>,
    /// What interactive calls reserved in the last period, once there was one.
    pub(super) interactive: Option<Box<WindowSum>>,
    /// Charged since the start, in microseconds of pace, or in units where counted.
    charged: u64,
    /// How much of `charged` the last snapshot had.
    in_snapshot: u64,
    durable: u64,
    /// Units saved ahead of their charge, for a head too heavy to go unsaved, and what they cost.
    ahead: u64,
    ahead_cost: u64,
    /// Whether that grew since the last snapshot.
    asks: bool,
}

impl Budget {
    /// Idle and empty.
    pub(super) fn new(dimension: Dimension, rate: Rate, terms: Terms) -> Self {
        let meter = if terms.shared {
            Meter::Leased(Box::new(Leased::new(dimension, rate, terms)))
        } else if rate.period <= LONGEST_PACED {
            Meter::Paced(Paced::new(dimension, rate, terms))
        } else {
            Meter::Counted(LongCounter::new(rate, terms.day_starts, terms.jitter))
        };
        Self {
            dimension,
            rate,
            meter,
            learned: false,
            reserved: 0,
            since: 0,
            lower: None,
            interactive: None,
            charged: 0,
            in_snapshot: 0,
            durable: 0,
            ahead: 0,
            ahead_cost: 0,
            asks: false,
        }
    }

    /// What it counts, and how much per how long.
    pub(super) fn rate(&self) -> (Dimension, Rate) {
        (self.dimension, self.rate)
    }

    /// Whether it counts this over such a period.
    pub(super) fn has_period(&self, dimension: Dimension, period: Duration) -> bool {
        self.dimension == dimension && self.rate.period == period
    }

    /// Whether it is paced; else it is counted.
    pub(super) fn is_paced(&self) -> bool {
        match &self.meter {
            Meter::Paced(_) => true,
            Meter::Counted(_) => false,
            Meter::Leased(leased) => leased.is_paced(),
        }
    }

    /// Whether several workers share it.
    pub(super) fn is_leased(&self) -> bool {
        matches!(self.meter, Meter::Leased(_))
    }

    /// The same, to look at.
    pub(super) fn as_leased(&self) -> Option<&Leased> {
        match &self.meter {
            Meter::Leased(leased) => Some(leased),
            Meter::Paced(_) | Meter::Counted(_) => None,
        }
    }

    /// Calls that it lets go until the next exchange, as in [`Leased::room`].
    pub(super) fn room(&self, now: Timestamp) -> Option<u32> {
        self.as_leased()?.room(now)
    }

    /// What several workers share of it.
    pub(super) fn leased(&mut self) -> Option<&mut Leased> {
        match &mut self.meter {
            Meter::Leased(leased) => Some(leased),
            Meter::Paced(_) | Meter::Counted(_) => None,
        }
    }

    /// Another amount for the same period: what was charged up to the change stays charged.
    pub(super) fn set_amount(&mut self, amount: u64, terms: Terms, change: Change) {
        if amount != self.rate.amount {
            let lowest = self.lower.map_or(self.rate.amount, |(_, lowest)| lowest.min(self.rate.amount));
            self.lower = Some((change.number, lowest));
        }
        self.rate.amount = amount;
        match &mut self.meter {
            Meter::Paced(paced) => paced.set_limit(amount, terms.burst),
            Meter::Counted(counter) => {
                counter.set_limit(amount);
                counter.set_day_starts(terms.day_starts, change.now);
            }
            Meter::Leased(leased) => {
                leased.set_limit(amount, terms, change.now);
                leased.set_day_starts(terms.day_starts);
            }
        }
    }

    /// Whether what it charged is known to nobody else and lasts: should its limit be taken away and come back, a day's
    /// budget must not be new.
    pub(super) fn outlasts_its_limit(&self) -> bool {
        matches!(self.meter, Meter::Counted(_))
    }

    /// Its limit was taken away and is back: calls until now are settled nowhere, since some charged nothing here.
    pub(super) fn come_back(&mut self, change: Change) {
        self.reserved = 0;
        self.since = change.number;
    }

    /// What a call takes here.
    pub(super) fn amount(&self, cost: &Cost, accounting: Accounting) -> u64 {
        cost.reserved(self.dimension, accounting, self.rate.amount)
    }

    /// Whether an amount may leave now.
    pub(super) fn probe(
        &mut self,
        amount: u64,
        (speed, now): (Speed, Timestamp),
        by: By,
    ) -> Result<(), Short> {
        if amount == 0 {
            return Ok(());
        }
        let unsaved = by.ledger && self.outruns(amount, speed);
        match &mut self.meter {
            Meter::Paced(paced) => paced.probe(amount, now).map_err(Short::Until)?,
            Meter::Counted(counter) => counter.probe(amount, now).map_err(Short::Until)?,
            Meter::Leased(leased) => leased.probe(amount, by.interactive, now)?,
        }
        if unsaved { Err(Short::Unsaved) } else { Ok(()) }
    }

    /// Whether charging an amount would take what is not durable above its bound. One that does so by
    /// itself asks for a snapshot that has it already, while it still waits for its time.
    fn outruns(&mut self, amount: u64, speed: Speed) -> bool {
        let (cost, bound) = (self.cost(amount, speed), self.bound(speed));
        if self.charged.saturating_add(cost) <= self.durable.saturating_add(bound) {
            return false;
        }
        if cost > bound && self.ahead_cost < cost {
            // Most heads are heavy for a budget of a day: one save for many of them.
            let share = if self.is_paced() { 0 } else { self.rate.amount / AHEAD };
            self.ahead = amount.max(share);
            self.ahead_cost = self.cost(self.ahead, speed);
            self.asks = true;
        }
        true
    }

    /// Charges what was just probed to call `number`.
    pub(super) fn take(&mut self, amount: u64, (speed, now): (Speed, Timestamp), number: u64) {
        if amount == 0 {
            return;
        }
        let cost = self.cost(amount, speed);
        match &mut self.meter {
            Meter::Paced(paced) => paced.take(amount, cost, now),
            Meter::Counted(counter) => counter.add(amount, now),
            Meter::Leased(leased) => return leased.take(amount, number, now),
        }
        self.note_charged(amount, cost);
    }

    /// Gives back a call's charge that was not used. What is durable stays as it is: too much, never too little.
    pub(super) fn refund(&mut self, amount: u64, (speed, now): (Speed, Timestamp), grant: &Grant) {
        let cost = self.cost(amount, speed.without_ramp());
        match &mut self.meter {
            Meter::Paced(paced) => paced.refund(amount, cost, grant.at),
            Meter::Counted(counter) => counter.take_back(amount, grant.at),
            Meter::Leased(leased) => leased.refund(grant.number, now),
        }
    }

    /// Gives back what a call reserved and did not use; others may use it at once, late or not.
    pub(super) fn settle_down(&mut self, amount: u64, (speed, now): (Speed, Timestamp), grant: &Grant) {
        let cost = self.cost(amount, speed.without_ramp());
        match &mut self.meter {
            Meter::Paced(paced) => paced.settle_down(amount, cost, grant.at, now),
            Meter::Counted(counter) => counter.take_back(amount, grant.at),
            Meter::Leased(leased) => leased.settle_down(amount, grant.number, now),
        }
    }

    /// Counts what a call of `at` used from when its provider does: it charges what was used as it answers, now.
    pub(super) fn count_from_answer(&mut self, amount: u64, at: Timestamp, now: Timestamp) {
        if let Meter::Paced(paced) = &mut self.meter {
            paced.count_from_answer(amount, at, now);
        }
    }

    /// Charges what has been used already, whatever the pace: a debt.
    pub(super) fn charge_debt(&mut self, amount: u64, speed: Speed, now: Timestamp) {
        let cost = self.cost(amount, speed.without_ramp());
        match &mut self.meter {
            Meter::Paced(paced) => paced.charge_debt(amount, cost, now),
            Meter::Counted(counter) => counter.add(amount, now),
            Meter::Leased(leased) => return leased.charge_debt(amount, now),
        }
        self.note_charged(amount, cost);
    }

    fn note_charged(&mut self, amount: u64, cost: u64) {
        self.charged = self.charged.saturating_add(cost);
        self.ahead = self.ahead.saturating_sub(amount);
        self.ahead_cost = self.ahead_cost.saturating_sub(cost);
    }

    /// Whether so much is in no snapshot that one should be taken at once.
    pub(super) fn wants_snapshot(&self, speed: Speed) -> bool {
        self.bound(speed) < 2 * self.charged.saturating_sub(self.in_snapshot)
    }

    /// Whether a head needs a snapshot that has its charge already; tells it once.
    pub(super) fn take_asks(&mut self) -> bool {
        std::mem::take(&mut self.asks)
    }

    /// What to save, and the mark to confirm it with.
    pub(super) fn snapshot(&mut self) -> (BudgetState, u64) {
        let mark = self.charged.saturating_add(self.ahead_cost);
        self.in_snapshot = mark;
        self.asks = false;
        let (arrival_us, parts) = match &self.meter {
            Meter::Paced(paced) => (Some(paced.arrival().micros()), paced.parts()),
            Meter::Counted(counter) => (None, counter.parts()),
            Meter::Leased(_) => (None, Vec::new()),
        };
        let (dimension, period_us) = (self.dimension, micros_of(self.rate.period));
        let ahead = (self.ahead, self.ahead_cost);
        (BudgetState { dimension, period_us, arrival_us, parts, ahead }, mark)
    }

    /// What was charged up to a mark is durable.
    pub(super) fn saved(&mut self, mark: u64) {
        // Marks never fall: what is ahead shrinks only by what is charged.
        self.durable = self.durable.max(mark);
    }

    /// A snapshot was lost: what it had counts as news again.
    pub(super) fn save_failed(&mut self) {
        self.in_snapshot = self.durable;
    }

    /// Resumes after a restart at `at`, from what was saved, if anything was.
    ///
    /// Where every charge counts by itself, what may have been charged and not saved is charged again, and
    /// is not durable either: or one that dies early again and again would forget a little each time.
    pub(super) fn resume(&mut self, saved: Option<&BudgetState>, at: Timestamp) {
        let period = micros_of(self.rate.period);
        // When it was charged is not known, so it counts from now, as if it had been just before.
        let (ahead, ahead_cost) = saved.map_or((0, 0), |state| state.ahead);
        let unsaved = unsaved_units(self.rate).saturating_add(ahead.min(self.rate.amount));
        let wait = UNSAVED.saturating_add(ahead_cost.min(period.unsigned_abs())).cast_signed();
        match &mut self.meter {
            Meter::Paced(paced) => {
                let latest = at.micros().saturating_add(period.saturating_mul(2));
                let arrival = saved.and_then(|state| state.arrival_us).unwrap_or(0).min(latest);
                let resumed = arrival.max(at.micros()).saturating_add(wait);
                let parts = saved.map_or(&[][..], |state| &state.parts);
                paced.resume(Timestamp::from_micros(resumed), parts, unsaved, at);
                self.charged += if paced.is_uneven() { wait.unsigned_abs() } else { 0 };
            }
            Meter::Counted(counter) => {
                counter.restore(saved.map_or(&[][..], |state| &state.parts), at);
                counter.add(unsaved, at);
                self.charged += unsaved;
            }
            // The ledger that workers share knows.
            Meter::Leased(_) => {}
        }
    }

    /// Whether anything charged is in no snapshot.
    pub(super) fn has_news(&self) -> bool {
        self.charged > self.in_snapshot
    }

    /// Starts on a level that ran without this limit: its last period is not known.
    pub(super) fn start_unknown(&mut self, now: Timestamp) {
        if let Meter::Paced(paced) = &mut self.meter {
            paced.assume_full(now);
        }
    }

    /// A bucket said, to a call of `at`, how much of it was missing.
    pub(super) fn adopt_missing(&mut self, missing: u64, at: Timestamp) {
        if let Meter::Paced(paced) = &mut self.meter {
            paced.adopt_missing(missing, at);
        }
    }

    /// Starts with the calls that left before there was a limit; tells what is missing of it beyond them.
    pub(super) fn adopt_calls(&mut self, calls: &WindowSum, missing: u64, now: Timestamp) -> u64 {
        match &mut self.meter {
            Meter::Paced(paced) => paced.adopt_calls(calls, missing, now),
            Meter::Counted(_) | Meter::Leased(_) => 0,
        }
    }

    /// Whether a saved budget is this one.
    pub(super) fn is_of(&self, state: &BudgetState) -> bool {
        state.dimension == self.dimension && state.period_us == micros_of(self.rate.period)
    }

    /// Units per second that it lets pass.
    pub(super) fn pace(&self, speed: Speed) -> f64 {
        match &self.meter {
            Meter::Paced(paced) => paced.pace(speed),
            Meter::Counted(_) => self.rate.amount as f64 / self.rate.period.as_secs_f64(),
            Meter::Leased(leased) => leased.pace(speed),
        }
    }

    /// What counts now, and how far a paced one is in debt, in units.
    pub(super) fn used(&mut self, speed: Speed, now: Timestamp) -> (u64, u64) {
        match &mut self.meter {
            Meter::Paced(paced) => {
                let ahead = paced.arrival().since(now).as_secs_f64();
                (paced.sum(now), (ahead * paced.pace(speed)) as u64)
            }
            Meter::Counted(counter) => (counter.sum(now), 0),
            Meter::Leased(leased) => (leased.used(now), 0),
        }
    }

    fn cost(&self, amount: u64, speed: Speed) -> u64 {
        match &self.meter {
            Meter::Paced(paced) => paced.cost(amount, speed),
            Meter::Counted(_) | Meter::Leased(_) => amount,
        }
    }

    /// How much may be charged and not durable: 500 ms of pace, and always one unit, or a level slower
    /// than two calls a second could not start.
    fn bound(&self, speed: Speed) -> u64 {
        match &self.meter {
            Meter::Paced(paced) => paced.cost(1, speed).max(UNSAVED),
            Meter::Counted(_) | Meter::Leased(_) => unsaved_units(self.rate),
        }
    }
}

fn unsaved_units(rate: Rate) -> u64 {
    scaled_up(rate.amount, UNSAVED, micros_of(rate.period).unsigned_abs()).max(1)
}
