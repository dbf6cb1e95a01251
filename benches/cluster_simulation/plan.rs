//! What is simulated.

use std::time::Duration;

use clap::Args;
use sluicegate::domain::limits::{Limits, Rate};
use sluicegate::domain::time::Timestamp;

/// When it begins: not at a whole minute, so that fixed windows begin in the middle of the run's.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_700_000_017);
/// The period of every limit.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// What limits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Calls.
    Requests,
    /// Tokens, of items of many sizes.
    Tokens,
}

/// How long a run is, and what befalls it.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Course {
    /// Simulated minutes of a run
    #[arg(long, default_value_t = 4.0)]
    minutes: f64,
    /// How many of them are left out at the start
    #[arg(long, default_value_t = 1.0)]
    skip: f64,
    /// The shortest way to the database and back, in milliseconds
    #[arg(long, default_value_t = 1.0)]
    quickest: f64,
    /// The longest way to the database and back, in milliseconds
    #[arg(long, default_value_t = 30.0)]
    slowest: f64,
    /// For how long a statement keeps the lane's row, in microseconds, its commit included: the next one waits
    #[arg(long, default_value_t = 0)]
    statement: u64,
    /// How far the clocks are apart, in seconds
    #[arg(long, default_value_t = 3_600)]
    skew: u64,
    /// Workers that die in a minute with what they have in hand, and start anew
    #[arg(long, default_value_t = 0.0)]
    deaths: f64,
    /// After so many seconds other workers have the backlog; 0: never
    #[arg(long, default_value_t = 0)]
    turn: u64,
    /// The smallest item, in tokens
    #[arg(long, default_value_t = 200)]
    smallest: u64,
    /// The largest item, in tokens
    #[arg(long, default_value_t = 8_000)]
    largest: u64,
    /// The random numbers' seed
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

impl Course {
    /// From when on it is measured, and its end.
    pub(crate) fn measured(&self) -> (Timestamp, Timestamp) {
        let after = |minutes: f64| START + Duration::from_secs_f64(minutes.max(0.0) * 60.0);
        (after(self.skip), after(self.minutes.max(self.skip)))
    }

    /// The shortest and the longest way to the database and back, in microseconds.
    pub(crate) fn round_trip(&self) -> (u64, u64) {
        let micros = |milliseconds: f64| (milliseconds * 1e3) as u64;
        (micros(self.quickest), micros(self.slowest.max(self.quickest)))
    }

    /// For how long a statement keeps the lane's row.
    pub(crate) fn statement(&self) -> Duration {
        Duration::from_micros(self.statement)
    }

    /// How far clocks are apart, in microseconds.
    pub(crate) fn skew(&self) -> u64 {
        self.skew * 1_000_000
    }

    /// How long it takes from one death to the next, if any dies.
    pub(crate) fn between_deaths(&self) -> Option<Duration> {
        (self.deaths > 0.0).then(|| Duration::from_secs_f64(60.0 / self.deaths))
    }

    /// How long the same workers have the backlog, if not always.
    pub(crate) fn turn(&self) -> Option<Duration> {
        (self.turn > 0).then(|| Duration::from_secs(self.turn))
    }

    /// The random numbers' seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) counted: Counted,
    /// Units per minute.
    pub(crate) limit: u64,
    pub(crate) workers: usize,
    /// Workers that have a backlog.
    pub(crate) active: usize,
    pub(crate) course: Course,
}

impl Plan {
    /// The lane's limit.
    pub(crate) fn rate(&self) -> Rate {
        Rate { amount: self.limit, period: MINUTE }
    }

    /// The lane's limits.
    pub(crate) fn limits(&self) -> Limits {
        match self.counted {
            Counted::Requests => Limits { requests: vec![self.rate()], ..Limits::default() },
            Counted::Tokens => Limits { tokens: vec![self.rate()], ..Limits::default() },
        }
    }

    /// The smallest and the largest item, in units.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        match self.counted {
            Counted::Requests => (1, 1),
            Counted::Tokens => (self.course.smallest, self.course.largest.max(self.course.smallest)),
        }
    }

    /// How long a worker with a backlog waits from one call to the next where all get the same.
    pub(crate) fn fair_wait(&self) -> f64 {
        let (least, most) = self.sizes();
        let calls = self.limit as f64 / ((least + most) as f64 / 2.0);
        self.active as f64 * MINUTE.as_secs_f64() / calls
    }
}
