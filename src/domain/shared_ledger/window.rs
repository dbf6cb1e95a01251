//! What was charged lately, in parts of time: a ring, as the rows of the ledger keep it.

use super::pace::Pace;
use crate::domain::exchange::{BudgetAsk, BudgetName, HORIZON, Spending};

/// What arrivals at a provider vary by: a slot's life and the way there. A charge counts so much longer.
pub(super) const JITTER: i64 = 300_000;
/// Parts of a paced budget's span where its sum binds: what a part is long is lost of the span.
const FINE: i64 = 500;
/// The same where the sum is only shown, and for rolling periods.
const COARSE: i64 = 64;
/// The most that one part holds, in grains.
const MOST: i64 = 2_147_483_647;
/// Grains of a limit at most: twice as many fit a part.
const GRAINS: i64 = 1_073_741_824;

/// How a budget's ring is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// How long a charge counts after its part's end.
    span: i64,
    /// How long a part is.
    width: i64,
    /// Parts in the ring.
    parts: i64,
    /// Units that one count stands for, so that small numbers hold large limits.
    grain: i64,
}

impl Layout {
    /// `None` for days: those have one count.
    pub(super) fn of(name: &BudgetName, limit: i64, spending: Spending) -> Option<Self> {
        let fine = match spending {
            Spending::Daily { .. } => return None,
            Spending::Paced { .. } if name.dimension.is_settled() => FINE,
            Spending::Paced { .. } | Spending::Rolling => COARSE,
        };
        let span = name.period_us + JITTER;
        let width = (span + fine - 1) / fine;
        // What counts of the past, what lies ahead, and the parts that both begin and end in.
        let parts = fine + (HORIZON + width - 1) / width + 2;
        Some(Self { span, width, parts, grain: 1 + limit / GRAINS })
    }

    /// Whether spending asked for so is kept like this.
    pub(super) fn is_of(self, ask: &BudgetAsk, limit: i64) -> bool {
        Self::of(&ask.name, limit, ask.spending) == Some(self)
    }

    fn part_at(self, moment: i64) -> i64 {
        moment.div_euclid(self.width)
    }

    /// The oldest part that counts.
    fn oldest(self, now: i64) -> i64 {
        (now - self.span).div_euclid(self.width)
    }

    fn expiry(self, part: i64) -> i64 {
        (part + 1) * self.width + self.span
    }
}

/// The charges of the last span. Each counts until a whole span after its part's end: never less than the truth.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) layout: Layout,
    /// The oldest part that counts; all before are forgotten.
    first: i64,
    /// In grains.
    sum: i64,
    amounts: Vec<i64>,
}

impl Window {
    pub(super) fn new(layout: Layout, now: i64) -> Self {
        let amounts = vec![0; usize::try_from(layout.parts).unwrap_or_default()];
        Self { layout, first: layout.oldest(now), sum: 0, amounts }
    }

    /// Takes the span up to now as evenly full.
    pub(super) fn fill(&mut self, units: i64, now: i64) {
        let grains = (units + self.layout.grain - 1) / self.layout.grain;
        let last = self.layout.part_at(now);
        let parts = last - self.first + 1;
        let mut before = 0;
        for part in self.first..=last {
            let until = grains * (part - self.first + 1) / parts;
            self.put(part, until - before);
            before = until;
        }
    }

    /// Forgets what does not count any more.
    pub(super) fn advance(&mut self, now: i64) {
        let oldest = self.layout.oldest(now);
        if self.first > self.layout.part_at(now) {
            // The clock was set back by more than a span: what counted then counts from now on.
            let sum = self.sum;
            *self = Self::new(self.layout, now);
            self.put(self.layout.part_at(now), sum);
        } else if oldest - self.first >= self.layout.parts {
            *self = Self::new(self.layout, now);
        } else {
            for part in self.first..oldest {
                self.sum -= std::mem::take(self.amount(part));
            }
            self.first = self.first.max(oldest);
        }
    }

    /// Charges units at one moment.
    pub(super) fn add(&mut self, at: i64, units: i64) {
        let grains = (units + self.layout.grain - 1) / self.layout.grain;
        self.put(self.layout.part_at(at), grains);
    }

    /// Charges units from a moment on, each when it is due.
    pub(super) fn spread(&mut self, at: i64, units: i64, pace: Pace) {
        let (mut part, mut done) = (self.layout.part_at(at), 0);
        while done < units {
            let is_last = part >= self.first + self.layout.parts - 1;
            let due = pace.due_before((part + 1) * self.layout.width - at);
            let until = if is_last { units } else { due.min(units) };
            self.add(part * self.layout.width, until - done);
            done = until;
            part += 1;
        }
    }

    /// Takes back what was charged between two moments, as far as it counts: from the earlier parts first, and beyond
    /// them from those before. So what is left never counts for shorter than it should.
    pub(super) fn take_back(&mut self, at: i64, until: i64, units: i64) {
        let mut left = units / self.layout.grain;
        let (from, newest) = (self.layout.part_at(at), self.first + self.layout.parts - 1);
        if from < self.first {
            return;
        }
        let onward = from..=self.layout.part_at(until).min(newest);
        for part in onward.chain((self.first..from.min(newest + 1)).rev()) {
            if left <= 0 {
                break;
            }
            let held = self.amount(part);
            let taken = left.min(*held);
            *held -= taken;
            self.sum -= taken;
            left -= taken;
        }
    }

    /// What counts, in units.
    pub(super) fn sum(&self) -> i64 {
        self.sum * self.layout.grain
    }

    /// The earliest moment from now on at which no more than `target` counts, if nothing is added.
    pub(super) fn when_at_most(&mut self, target: i64, now: i64) -> i64 {
        let (mut left, mut part, mut moment) = (self.sum, self.first, now);
        while left * self.layout.grain > target && left > 0 {
            left -= *self.amount(part);
            moment = self.layout.expiry(part);
            part += 1;
        }
        moment
    }

    /// What still counts at a moment, if nothing is added.
    pub(super) fn sum_at(&mut self, moment: i64) -> i64 {
        let (mut left, mut part) = (self.sum, self.first);
        while left > 0 && self.layout.expiry(part) <= moment {
            left -= *self.amount(part);
            part += 1;
        }
        left * self.layout.grain
    }

    fn put(&mut self, part: i64, grains: i64) {
        let part = part.clamp(self.first, self.first + self.layout.parts - 1);
        let held = self.amount(part);
        let added = grains.min(MOST - *held);
        *held += added;
        self.sum += added;
    }

    fn amount(&mut self, part: i64) -> &mut i64 {
        let place = part.rem_euclid(self.layout.parts);
        &mut self.amounts[usize::try_from(place).unwrap_or_default()]
    }
}
