//! A limit per short period, spent at an even pace.

use std::time::Duration;

use super::answer_times::AnswerTimes;
use super::arrival::Arrival;
use super::budget::Terms;
use super::micros::{micros_of, scaled_up};
use super::rate_factor::WHOLE;
use super::window_sum::WindowSum;
use crate::domain::limits::{Dimension, Rate};
use crate::domain::time::Timestamp;

/// The longest period that is paced; longer ones are counted.
pub(super) const LONGEST_PACED: Duration = Duration::from_secs(120);
/// Parts of a period that its sum tells apart.
const PARTS: i64 = 1_000;
/// The buckets of the sum that are saved as one part, where they are: some 60 parts a period.
const SAVED_BUCKETS: i64 = 16;
/// How long a ramp lasts, in microseconds.
const RAMP: u64 = 5_000_000;
const LEAST_TOLERANCE: u64 = 2_000;
const MOST_TOLERANCE: u64 = 25_000;
/// The tolerance wanted, in intervals between calls.
const TOLERATED_INTERVALS: u64 = 5;
/// The tolerance of tokens, as a part of the period.
const TOLERATED_PART: u64 = 400;
/// The most that one call's wait for the sum is made up for, as a part of the period.
const CAUGHT_UP_PART: u64 = 10;
/// The most by which a charge is counted later than its call left, as a part of the period: it costs that much of the
/// limit.
const SHIFTED_PART: u64 = 150;
/// 99.5 %: the factor that intervals are worked out with before any refusal.
const START_FACTOR: u64 = 9_950;

/// How fast a level goes, below its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speed {
    /// α in ten-thousandths.
    pub(super) factor: u16,
    /// The share of it after a closure, in percent; 100 outside of a ramp.
    pub(super) ramp: u8,
}

impl Speed {
    /// The same outside of a ramp: what a charge costs for good.
    pub(super) fn without_ramp(self) -> Self {
        Self { ramp: 100, ..self }
    }
}

/// GCRA for the pace and the sum of the last period for the limit.
///
/// The pace alone holds the limit for calls of one unit; the sum bounds a configured burst, calls of
/// many units, and what may follow a restart.
#[derive(Debug)]
pub(super) struct Paced {
    limit: u64,
    period: u64,
    /// Period, tolerance and jitter: a limit's worth of calls never arrives within less than a period.
    guarded: u64,
    arrival: Arrival,
    sum: WindowSum,
    jitter: i64,
    bursts: bool,
    /// Whether its calls weigh differently and are settled later: tokens.
    weighs: bool,
    /// Pace given back by settling when it was behind the present already, in microseconds.
    credit: u64,
    /// How long answers take at least.
    answers: AnswerTimes,
    /// Since when only the sum keeps a call back.
    held_since: Option<Timestamp>,
}

impl Paced {
    /// Idle and empty.
    pub(super) fn new(dimension: Dimension, rate: Rate, terms: Terms) -> Self {
        let period = micros_of(rate.period).max(1);
        let jitter = terms.jitter;
        let sum = WindowSum::new(period.saturating_add(jitter), period / PARTS);
        let mut paced = Self {
            limit: 1,
            period: period.unsigned_abs(),
            guarded: 0,
            arrival: Arrival::new(0),
            sum,
            jitter,
            bursts: false,
            weighs: dimension.is_settled(),
            credit: 0,
            answers: AnswerTimes::default(),
            held_since: None,
        };
        paced.set_limit(rate.amount, terms.burst);
        paced
    }

    /// An empty sum of a period, in the same parts as the budget's own.
    pub(super) fn window(period: Duration) -> WindowSum {
        let period = micros_of(period).max(1);
        WindowSum::new(period, period / PARTS)
    }

    /// Another limit or burst over the same period: what was taken stays taken.
    pub(super) fn set_limit(&mut self, limit: u64, burst: Option<u32>) {
        self.limit = limit.max(1);
        let interval = interval(self.period, self.limit);
        let tolerance = tolerance(self.period, self.limit, self.weighs);
        self.guarded = self.period + tolerance + self.jitter.unsigned_abs();
        // With a burst the interval stays as it is: widening it by the burst would cost its share for
        // ever, while the sum holds the limit anyway.
        let allowed = burst
            .filter(|_| !self.weighs)
            .map_or(tolerance, |burst| u64::from(burst.saturating_sub(1)) * interval);
        self.bursts = allowed > tolerance;
        self.arrival.set_tolerance(allowed);
    }

    /// What an amount costs in microseconds of pace.
    pub(super) fn cost(&self, amount: u64, speed: Speed) -> u64 {
        let cost = scaled_up(amount, self.stretched(speed), self.limit);
        // A call costs no more than the whole ramp, or one sent at its foot would outlast it by far.
        scaled_up(cost, 100, u64::from(speed.ramp.max(1))).min(cost.saturating_add(RAMP))
    }

    /// Units per second at a speed.
    pub(super) fn pace(&self, speed: Speed) -> f64 {
        let whole = self.limit as f64 * 1e6 / self.stretched(speed) as f64;
        whole * f64::from(speed.ramp) / 100.0
    }

    /// Whether an amount may leave now; else the earliest moment for it.
    pub(super) fn probe(&mut self, amount: u64, now: Timestamp) -> Result<(), Timestamp> {
        let due = self.arrival.probe(now).err();
        let target = self.limit - amount.min(self.limit);
        // Only a sum that is too high is worth the walk through its buckets.
        let fits = if self.sum.sum(now) > target { self.sum.when_at_most(target, now) } else { now };
        let paced = due.unwrap_or(now);
        if self.weighs && fits > paced {
            self.held_since = Some(self.held_since.map_or(paced, |since| since.min(paced)));
        }
        match due.map_or(fits, |due| due.max(fits)) {
            later if later > now => Err(later),
            _ => Ok(()),
        }
    }

    /// Charges what was just probed.
    pub(super) fn take(&mut self, amount: u64, cost: u64, now: Timestamp) {
        let behind = self.behind(now);
        if let Some(since) = self.held_since.take() {
            // Waiting for the sum is no reason to go slower afterwards: the sum is the limit.
            let held = u64::try_from(now.micros().saturating_sub(since.micros())).unwrap_or(0);
            self.credit = self.credit.saturating_add(held.min(self.period / CAUGHT_UP_PART));
        }
        self.arrival.take(cost);
        if self.credit > 0 && behind <= self.period {
            self.arrival.refund(self.credit.min(behind));
        }
        // A light call does not use it up.
        self.credit = self.credit.min(self.behind(now));
        self.sum.add(now, amount);
    }

    /// Gives back what a call of `at` reserved and did not use. The pace may make up for it: with
    /// replies that come late the room would be lost otherwise. The sum holds the limit.
    pub(super) fn settle_down(&mut self, amount: u64, cost: u64, at: Timestamp, now: Timestamp) {
        let before = self.behind(now);
        self.refund(amount, cost, at);
        let after = self.behind(now);
        self.credit = self.credit.saturating_add(after - before.min(after));
    }

    /// A call of `at` was answered now, and its provider counts what it used from now on: so does the sum, but for the
    /// time that every call takes.
    pub(super) fn count_from_answer(&mut self, amount: u64, at: Timestamp, now: Timestamp) {
        let shift = self.answers.shift(now.since(at), now).min(self.period / SHIFTED_PART);
        self.sum.postpone(at, at + Duration::from_micros(shift), amount);
    }

    /// Charges what was used already, whatever the pace.
    pub(super) fn charge_debt(&mut self, amount: u64, cost: u64, now: Timestamp) {
        let covered = cost.min(self.credit);
        self.credit -= covered;
        self.arrival.charge(covered, self.arrival.time());
        if cost > covered {
            self.arrival.charge(cost - covered, now);
        }
        self.sum.add(now, amount);
    }

    fn behind(&self, now: Timestamp) -> u64 {
        u64::try_from(now.micros().saturating_sub(self.arrival.time().micros())).unwrap_or(0)
    }

    /// Gives back a charge of `at` that was not used.
    pub(super) fn refund(&mut self, amount: u64, cost: u64, at: Timestamp) {
        self.arrival.refund(cost);
        self.sum.take_back(at, amount);
    }

    /// The theoretical arrival time.
    pub(super) fn arrival(&self) -> Timestamp {
        self.arrival.time()
    }

    /// What counts of the last period.
    pub(super) fn sum(&mut self, now: Timestamp) -> u64 {
        self.sum.sum(now)
    }

    /// What was charged after one moment and up to another.
    pub(super) fn sum_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        self.sum.sum_between(after, until)
    }

    /// What was charged after one moment and up to another, so that spans that follow each other share nothing.
    pub(super) fn sum_ended_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        self.sum.sum_ended_between(after, until)
    }

    /// A bucket said at `at` that so much of it was missing: that counts instead of what was charged before.
    pub(super) fn adopt_missing(&mut self, missing: u64, at: Timestamp) {
        self.sum.replace_until(at, missing.min(self.limit));
    }

    /// Starts with the calls that left before there was a limit, and what is missing of it beyond them: as evenly used
    /// by others. Tells how much that is.
    pub(super) fn adopt_calls(&mut self, calls: &WindowSum, missing: u64, now: Timestamp) -> u64 {
        self.arrival.restore(now);
        let mut ours = 0;
        for (end, amount) in calls.buckets() {
            self.sum.add(Timestamp::from_micros(end).min(now), amount);
            ours += amount;
        }
        let foreign = missing.min(self.limit).saturating_sub(ours);
        self.sum.assume(now, foreign);
        foreign
    }

    /// Whether more than the pace's tolerance may leave at once.
    pub(super) fn is_uneven(&self) -> bool {
        self.bursts || self.weighs
    }

    /// What to save of the last period: nothing where calls leave evenly, for then a restart may take
    /// the period as evenly full.
    pub(super) fn parts(&self) -> Vec<(i64, u64)> {
        let mut parts: Vec<(i64, u64)> = Vec::new();
        if !self.is_uneven() {
            return parts;
        }
        // Of whole buckets, and an end that is one already stays: else every restart would keep what the last one
        // kept a part longer.
        let width = self.sum.width().saturating_mul(SAVED_BUCKETS);
        for (end, amount) in self.sum.buckets() {
            let end = end.saturating_sub(1).div_euclid(width).saturating_add(1).saturating_mul(width);
            match parts.last_mut() {
                Some((last, held)) if *last == end => *held = held.saturating_add(amount),
                _ => parts.push((end, amount)),
            }
        }
        parts
    }

    /// Resumes after a restart at `at`: `parts` were saved, `unsaved` units may have left since.
    pub(super) fn resume(&mut self, arrival: Timestamp, parts: &[(i64, u64)], unsaved: u64, at: Timestamp) {
        self.arrival.restore(arrival);
        if !self.is_uneven() {
            self.sum.assume(at, self.limit);
            return;
        }
        for (end, amount) in parts {
            self.sum.add(Timestamp::from_micros(*end).min(at), *amount);
        }
        self.sum.add(at, unsaved);
    }

    /// Goes on as if the last period were evenly full.
    pub(super) fn assume_full(&mut self, now: Timestamp) {
        self.arrival.restore(now);
        self.sum.assume(now, self.limit);
    }

    /// The period over which a limit's worth of calls is spread, before any ramp.
    fn stretched(&self, speed: Speed) -> u64 {
        stretched_period(self.period, self.guarded, speed)
    }
}

/// The time between calls of one unit, before any refusal.
fn interval(period: u64, limit: u64) -> u64 {
    scaled_up(period, WHOLE, limit.saturating_mul(START_FACTOR))
}

/// How much earlier than due a call may leave, in microseconds.
fn tolerance(period: u64, limit: u64, weighs: bool) -> u64 {
    // Nobody knows how far apart calls of many units each are: the period tells what it may cost.
    let wanted = if weighs { period / TOLERATED_PART } else { TOLERATED_INTERVALS * interval(period, limit) };
    wanted.clamp(LEAST_TOLERANCE, MOST_TOLERANCE)
}

/// A period, lengthened by what calls may be early and late.
pub(super) fn guarded_period(period: u64, limit: u64, weighs: bool, jitter: i64) -> u64 {
    period.saturating_add(tolerance(period, limit, weighs)).saturating_add(jitter.unsigned_abs())
}

/// The period over which a limit's worth of calls is spread at a speed, before any ramp.
pub(super) fn stretched_period(period: u64, guarded: u64, speed: Speed) -> u64 {
    scaled_up(period, WHOLE, u64::from(speed.factor)).max(guarded)
}
