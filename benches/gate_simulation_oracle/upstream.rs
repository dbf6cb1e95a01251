//! An upstream with a bucket of units and a number of slots, which may speak about them or not.

use std::collections::VecDeque;
use std::time::Duration;

use sluicegate::domain::limits::Rate;
use sluicegate::domain::time::Timestamp;

/// What an upstream answers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Taken,
    /// 429.
    Limited,
    /// 503.
    Overloaded,
}

/// An upstream as its operator set it up.
pub(crate) struct Upstream {
    pub(crate) rate: Rate,
    pub(crate) slots: usize,
    /// Units per second that somebody else takes.
    pub(crate) foreign: f64,
    fill: f64,
    at: Option<Timestamp>,
    running: Vec<Timestamp>,
    /// What was asked for and when, for windows at any phase.
    log: VecDeque<(Timestamp, u64)>,
    sum: u64,
    pub(crate) taken: u64,
    pub(crate) limited: u64,
    pub(crate) overloaded: u64,
    pub(crate) calls: u64,
    pub(crate) windows_over: u64,
}

impl Upstream {
    pub(crate) fn new(rate: Rate, slots: usize) -> Self {
        Self {
            rate,
            slots,
            foreign: 0.0,
            fill: rate.amount as f64,
            at: None,
            running: Vec::new(),
            log: VecDeque::new(),
            sum: 0,
            taken: 0,
            limited: 0,
            overloaded: 0,
            calls: 0,
            windows_over: 0,
        }
    }

    /// Units left in the bucket.
    pub(crate) fn remaining(&self) -> u64 {
        self.fill as u64
    }

    /// The time until the bucket is full.
    pub(crate) fn reset(&self) -> Duration {
        let missing = self.rate.amount as f64 - self.fill;
        self.rate.period.mul_f64((missing / self.rate.amount as f64).clamp(0.0, 1.0))
    }

    /// A call arrives that is taken for so many units, and counts in the end as others; if it is taken it
    /// runs until a moment.
    pub(crate) fn arrives(
        &mut self,
        (units, counts): (u64, u64),
        now: Timestamp,
        until: Timestamp,
    ) -> Answer {
        self.calls += 1;
        self.refill(now);
        self.running.retain(|ends| *ends > now);
        if self.running.len() >= self.slots {
            self.overloaded += 1;
            return Answer::Overloaded;
        }
        if self.fill < units as f64 {
            self.limited += 1;
            return Answer::Limited;
        }
        self.fill -= units as f64;
        self.running.push(until);
        self.taken += units;
        self.note(counts, now);
        Answer::Taken
    }

    /// What a call used beyond or below what it was taken for.
    pub(crate) fn corrects(&mut self, more: i64) {
        self.fill = (self.fill - more as f64).min(self.rate.amount as f64);
        self.taken = self.taken.saturating_add_signed(more);
    }

    fn refill(&mut self, now: Timestamp) {
        let gone = self.at.map_or(0.0, |at| now.since(at).as_secs_f64());
        self.at = Some(now);
        let pace = self.rate.amount as f64 / self.rate.period.as_secs_f64() - self.foreign;
        self.fill = (self.fill + gone * pace).clamp(0.0, self.rate.amount as f64);
    }

    fn note(&mut self, units: u64, now: Timestamp) {
        self.log.push_back((now, units));
        self.sum += units;
        while let Some((first, amount)) = self.log.front().copied()
            && now.since(first) >= self.rate.period
        {
            self.sum -= amount;
            self.log.pop_front();
        }
        self.windows_over += u64::from(self.sum > self.rate.amount);
    }
}
