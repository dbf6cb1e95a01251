//! One replenishing quantity of a level: its limit, what was charged, and how much of that is durable.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::micros::{micros_of, scaled_up};
use super::pacing::{LONGEST_PACED, Paced, Speed};
use super::rolling::LongCounter;
use crate::domain::limits::Rate;
use crate::domain::time::Timestamp;

/// How much of its pace a level may charge beyond its last durable save, in microseconds; also how far
/// beyond the present a restart resumes.
const UNSAVED: u64 = 500_000;

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Calls.
    Requests,
}

/// How a budget's quantities become moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Calls that may leave at once, where configured.
    pub(super) burst: Option<u32>,
    /// Seconds after midnight UTC at which days start, where configured.
    pub(super) day_starts: Option<u32>,
    /// How much the way to the provider varies, in microseconds.
    pub(super) jitter: i64,
}

/// Why a budget lets nothing leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// Until a moment.
    Until(Timestamp),
    /// Until what was charged is durable.
    Unsaved,
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
    /// The parts of a budget that is counted or may burst: when, in microseconds since the epoch, and how much.
    pub parts: Vec<(i64, u64)>,
}

#[derive(Debug)]
enum Meter {
    Paced(Paced),
    Counted(LongCounter),
}

/// A limit per period and its use.
#[derive(Debug)]
pub(super) struct Budget {
    dimension: Dimension,
    rate: Rate,
    meter: Meter,
    /// Charged since the start, in microseconds of pace, or in units where counted.
    charged: u64,
    /// How much of `charged` the last snapshot had.
    in_snapshot: u64,
    durable: u64,
}

impl Budget {
    /// Idle and empty.
    pub(super) fn new(dimension: Dimension, rate: Rate, terms: Terms) -> Self {
        let meter = if rate.period <= LONGEST_PACED {
            Meter::Paced(Paced::new(rate, terms.burst, terms.jitter))
        } else {
            Meter::Counted(LongCounter::new(rate, terms.day_starts, terms.jitter))
        };
        Self { dimension, rate, meter, charged: 0, in_snapshot: 0, durable: 0 }
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
        matches!(self.meter, Meter::Paced(_))
    }

    /// Another amount for the same period: what was charged stays charged.
    pub(super) fn set_amount(&mut self, amount: u64, burst: Option<u32>) {
        self.rate.amount = amount;
        match &mut self.meter {
            Meter::Paced(paced) => paced.set_limit(amount, burst),
            Meter::Counted(counter) => counter.set_limit(amount),
        }
    }

    /// Whether an amount may leave now. `ledger`: what is not durable may not grow beyond its bound.
    pub(super) fn probe(
        &mut self,
        amount: u64,
        speed: Speed,
        now: Timestamp,
        ledger: bool,
    ) -> Result<(), Short> {
        match &mut self.meter {
            Meter::Paced(paced) => paced.probe(amount, now),
            Meter::Counted(counter) => counter.probe(amount, now),
        }
        .map_err(Short::Until)?;
        let unsaved = self.charged - self.durable;
        if ledger && unsaved > 0 && unsaved + self.cost(amount, speed) > self.bound(speed) {
            return Err(Short::Unsaved);
        }
        Ok(())
    }

    /// Charges what was just probed.
    pub(super) fn take(&mut self, amount: u64, speed: Speed, now: Timestamp) {
        let cost = self.cost(amount, speed);
        match &mut self.meter {
            Meter::Paced(paced) => paced.take(amount, cost, now),
            Meter::Counted(counter) => counter.add(amount, now),
        }
        self.charged = self.charged.saturating_add(cost);
    }

    /// Gives back a charge of `at` that was not used. What is durable stays as it is: too much, never too little.
    pub(super) fn refund(&mut self, amount: u64, speed: Speed, at: Timestamp) {
        let cost = self.cost(amount, speed);
        match &mut self.meter {
            Meter::Paced(paced) => paced.refund(amount, cost, at),
            Meter::Counted(counter) => counter.take_back(amount, at),
        }
    }

    /// Whether so much is in no snapshot that one should be taken at once.
    pub(super) fn wants_snapshot(&self, speed: Speed) -> bool {
        2 * (self.charged - self.in_snapshot) > self.bound(speed)
    }

    /// What to save, and the mark to confirm it with.
    pub(super) fn snapshot(&mut self) -> (BudgetState, u64) {
        self.in_snapshot = self.charged;
        let (arrival, parts) = match &self.meter {
            Meter::Paced(paced) => (Some(paced.arrival().micros()), paced.parts()),
            Meter::Counted(counter) => (None, counter.parts()),
        };
        let state = BudgetState {
            dimension: self.dimension,
            period_us: micros_of(self.rate.period),
            arrival_us: arrival,
            parts,
        };
        (state, self.charged)
    }

    /// What was charged up to a mark is durable.
    pub(super) fn saved(&mut self, mark: u64) {
        self.durable = self.durable.max(mark.min(self.charged));
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
        match &mut self.meter {
            Meter::Paced(paced) => {
                let latest = at.micros().saturating_add(period.saturating_mul(2));
                let arrival = saved.and_then(|state| state.arrival_us).unwrap_or(0).min(latest);
                let resumed = arrival.max(at.micros()).saturating_add(UNSAVED.cast_signed());
                let parts = saved.map_or(&[][..], |state| &state.parts);
                paced.resume(Timestamp::from_micros(resumed), parts, unsaved_units(self.rate), at);
                self.charged += if paced.bursts() { UNSAVED } else { 0 };
            }
            Meter::Counted(counter) => {
                counter.restore(saved.map_or(&[][..], |state| &state.parts), at);
                counter.add(unsaved_units(self.rate), at);
                self.charged += unsaved_units(self.rate);
            }
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

    /// Whether a saved budget is this one.
    pub(super) fn is_of(&self, state: &BudgetState) -> bool {
        state.dimension == self.dimension && state.period_us == micros_of(self.rate.period)
    }

    /// Units per second that it lets pass.
    pub(super) fn pace(&self, speed: Speed) -> f64 {
        match &self.meter {
            Meter::Paced(paced) => paced.pace(speed),
            Meter::Counted(_) => self.rate.amount as f64 / self.rate.period.as_secs_f64(),
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
        }
    }

    fn cost(&self, amount: u64, speed: Speed) -> u64 {
        match &self.meter {
            Meter::Paced(paced) => paced.cost(amount, speed),
            Meter::Counted(_) => amount,
        }
    }

    /// How much may be charged and not durable: 500 ms of pace, and always one unit, or a level slower
    /// than two calls a second could not start.
    fn bound(&self, speed: Speed) -> u64 {
        match &self.meter {
            Meter::Paced(paced) => paced.cost(1, speed).max(UNSAVED),
            Meter::Counted(_) => unsaved_units(self.rate),
        }
    }
}

fn unsaved_units(rate: Rate) -> u64 {
    scaled_up(rate.amount, UNSAVED, micros_of(rate.period).unsigned_abs()).max(1)
}
