//! What a run came to.

use std::fmt;
use std::time::Duration;

use sluicegate::domain::time::Timestamp;

use super::database::Units;
use super::oracle::{Findings, judge};
use super::plan::{Counted, Plan};

/// What one worker got while it was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    /// Since when it waits for its next call, if it has a backlog.
    waits_since: Option<Timestamp>,
    /// The longest wait of a call for its turn.
    longest: Duration,
    units: u64,
    had_backlog: bool,
}

impl Share {
    /// It has a backlog from now on, or none any more.
    pub(crate) fn turn(&mut self, has_backlog: bool, now: Timestamp) {
        self.waited(now);
        self.waits_since = has_backlog.then_some(now);
        self.had_backlog |= has_backlog;
    }

    /// A call left, or its wait is over for another reason.
    pub(crate) fn waited(&mut self, now: Timestamp) {
        if let Some(since) = self.waits_since {
            self.longest = self.longest.max(now.since(since));
            self.waits_since = Some(now);
        }
    }

    /// It sent so much.
    pub(crate) fn sent(&mut self, units: u64, now: Timestamp) {
        self.waited(now);
        self.units += units;
    }

    /// Forgets what was before.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        let waits_since = self.waits_since.map(|_| now);
        *self = Self { waits_since, had_backlog: waits_since.is_some(), ..Self::default() };
    }
}

/// What is counted between the beginning of the measured time and its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) exchanges: u64,
    pub(crate) units: Units,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    plan: Plan,
    findings: Findings,
    used: f64,
    exchanges: f64,
    most_exchanges: f64,
    longest: f64,
    /// Of all workers with a backlog, the part that sent nothing.
    without: f64,
    /// The least and the most that a worker sent, as a part of the mean.
    least: f64,
    most: f64,
    lapsed: f64,
    /// Exchanges that were waited for in vain.
    given_up: u64,
    row_wait: f64,
}

impl Outcome {
    /// What the columns are.
    pub(crate) const HEADER: &str = "limit        workers active    used   peak fixed/sliding/bucket  exch/s each-most  \
                                     longest-s (turn-s) without least  most lapsed given-up row-ms   took";

    /// Takes a run together: what arrived at the provider, what each worker got with its exchanges per second, and
    /// what the database counted.
    pub(crate) fn new(
        plan: Plan,
        arrivals: &mut [(Timestamp, u64)],
        shares: &[Share],
        counts: Counts,
    ) -> Self {
        arrivals.sort_unstable();
        let (from, end) = plan.course.measured();
        let seconds = end.since(from).as_secs_f64();
        let sharers: Vec<_> = shares.iter().filter(|share| share.had_backlog).collect();
        let all = shares.iter().map(|share| share.units).sum::<u64>();
        let mean = (all.max(1) as f64) / sharers.len().max(1) as f64;
        let part = |units: Option<u64>| units.unwrap_or(0) as f64 / mean;
        let longest = sharers.iter().map(|share| share.longest).max().unwrap_or_default();
        let without = sharers.iter().filter(|share| share.units == 0).count();
        let Units { granted, returned } = counts.units;
        Self {
            plan,
            findings: judge(arrivals, plan.rate()),
            used: all as f64 * 60.0 / (plan.limit as f64 * seconds),
            exchanges: counts.exchanges as f64 / seconds,
            most_exchanges: 0.0,
            longest: longest.as_secs_f64(),
            without: without as f64 / sharers.len().max(1) as f64,
            least: part(sharers.iter().map(|share| share.units).min()),
            most: part(sharers.iter().map(|share| share.units).max()),
            lapsed: granted.saturating_sub(all + returned) as f64 / granted.max(1) as f64,
            given_up: 0,
            row_wait: 0.0,
        }
    }

    /// With the most exchanges that one worker sent, those that were waited for in vain, and the longest wait for the
    /// lane's row.
    pub(crate) fn with(mut self, most_exchanges: u64, given_up: u64, row_wait: Duration) -> Self {
        let (from, end) = self.plan.course.measured();
        self.most_exchanges = most_exchanges as f64 / end.since(from).as_secs_f64();
        self.given_up = given_up;
        self.row_wait = row_wait.as_secs_f64() * 1e3;
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, findings, .. } = self;
        let unit = if plan.counted == Counted::Requests { "r" } else { "t" };
        let over = format!("{}/{}/{}", findings.fixed, findings.sliding, findings.bucket);
        let limit = format!("{} {unit}", plan.limit);
        write!(formatter, "{limit:<12} {:>7} {:>6} {:>7.4} ", plan.workers, plan.active, self.used)?;
        write!(formatter, "{:>6.4} {over:>20} ", findings.peak)?;
        write!(formatter, "{:>7.1} {:>9.2}  ", self.exchanges, self.most_exchanges)?;
        write!(formatter, "{:>9.2} {:>8.2} {:>7.3} ", self.longest, plan.fair_wait(), self.without)?;
        write!(formatter, "{:>5.2} {:>5.2} {:>6.4} ", self.least, self.most, self.lapsed)?;
        write!(formatter, "{:>8} {:>6.1}", self.given_up, self.row_wait)
    }
}
