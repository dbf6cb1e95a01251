//! What operators see of the gate.

use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use super::level::{LevelId, LevelKind};
use super::path::{HeadId, PathId, Wait};
use super::reason::{LaneState, Reason};
use crate::domain::limits::Dimension;
use crate::domain::time::Timestamp;

/// Why heads wait, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The level that holds them back longest.
    pub level: LevelId,
    /// What it stands for.
    pub kind: LevelKind,
    /// Its name.
    pub name: Arc<str>,
    /// Why it does.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// The earliest moment at which it may let the first of them pass, where time alone decides: one to come.
    pub until: Option<Timestamp>,
}

/// One budget as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetView {
    /// What it counts.
    pub dimension: Dimension,
    /// Units per period.
    pub limit: u64,
    /// The period.
    pub period: Duration,
    /// Units charged in the last period.
    pub used: u64,
    /// Units of calls that are not settled yet; 0 for requests, which are settled as they leave.
    pub reserved: u64,
    /// Whether the limit was learned from the provider; else it is configured.
    pub learned: bool,
    /// Units that the pace still has to pay off.
    pub debt: u64,
}

/// One level as operators see it.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelView {
    /// What it stands for.
    pub kind: LevelKind,
    /// Its name.
    pub name: Arc<str>,
    /// Its budgets.
    pub budgets: Vec<BudgetView>,
    /// The share of its limits in use, up to 0.995.
    pub rate_factor: f64,
    /// Calls in flight.
    pub in_flight: u32,
    /// Calls that may be in flight: as configured, or fewer where the upstream bears fewer.
    pub max_concurrent: Option<u32>,
    /// Calls over whose results are not durable yet.
    pub unrecorded: u32,
    /// Bytes of bodies held.
    pub memory: u64,
    /// Bytes of bodies that may be held.
    pub memory_limit: Option<u64>,
    /// Whether it takes calls.
    pub state: LaneState,
    /// Until when it is closed, where a time is known.
    pub closed_until: Option<Timestamp>,
    /// Heads that wait at it.
    pub waiting: usize,
}

impl Gate {
    /// One level as it is now.
    pub fn view(&mut self, id: LevelId, now: Timestamp) -> Option<LevelView> {
        let now = self.move_clock(now);
        let index = self.levels.find(id.0)?;
        let shared: usize = self.levels[index].waiting.paths().map(|path| self.paths[path].heads.len()).sum();
        let level = &mut self.levels[index];
        let speed = level.speed(now);
        let budgets = level.budgets.iter_mut().map(|budget| {
            let (dimension, rate) = budget.rate();
            let (used, debt) = budget.used(speed, now);
            let (limit, period) = (rate.amount, rate.period);
            let (reserved, learned) = (budget.reserved, budget.learned);
            BudgetView { dimension, limit, period, used, reserved, learned, debt }
        });
        Some(LevelView {
            kind: level.kind,
            name: Arc::clone(&level.name),
            budgets: budgets.collect(),
            rate_factor: f64::from(speed.factor) / 10_000.0,
            in_flight: level.in_flight,
            max_concurrent: level.slots(),
            unrecorded: level.held - level.in_flight,
            memory: level.memory,
            memory_limit: level.memory_limit,
            state: level.closure.state(now),
            closed_until: level.closure.until(now),
            waiting: shared + level.own_waiting.len(),
        })
    }

    /// Every level there is.
    pub fn level_ids(&self) -> Vec<LevelId> {
        self.levels.indices().map(|index| LevelId(self.levels.key(index))).collect()
    }

    /// Whether a level takes calls; a level that is gone does not, and is not closed either.
    pub fn lane_state(&self, id: LevelId, now: Timestamp) -> LaneState {
        self.levels.find(id.0).map_or(LaneState::Open, |index| self.levels[index].closure.state(now))
    }

    /// What a closed level holds back whatever would go through it by; `None` while it is open.
    pub fn closed(&self, id: LevelId, now: Timestamp) -> Option<Waiting> {
        let level = &self.levels[self.levels.find(id.0)?];
        let (reason, until) = match (level.closure.probe(now), level.closure.stopped()) {
            (Err(closed), _) => (closed.reason, closed.until),
            // It would take a probe.
            (Ok(()), Some(stopped)) => (stopped.into(), None),
            (Ok(()), None) => return None,
        };
        let (kind, name) = (level.kind, Arc::clone(&level.name));
        let since = level.closure.since(now).unwrap_or(now);
        Some(Waiting { level: id, kind, name, reason, since, until })
    }

    /// Why a path's heads wait; `None` if none does.
    pub fn waiting(&self, id: PathId, now: Timestamp) -> Option<Waiting> {
        let path = self.paths.find(id.0)?;
        self.waiting_of(self.paths[path].wait?, now)
    }

    /// Why one head waits; `None` if it has left or was not tried yet.
    pub fn head_waiting(&self, id: HeadId, now: Timestamp) -> Option<Waiting> {
        let head = &self.heads[self.heads.find(id.0)?];
        self.waiting_of(head.own_wait.or(self.paths[head.path].wait)?, now)
    }

    /// Requests per second that a path's rates let pass; `None` if no level has a rate.
    pub fn pace(&mut self, id: PathId, now: Timestamp) -> Option<f64> {
        self.pace_in(id, Dimension::Requests, now)
    }

    /// The same in any dimension, in its units per second.
    pub fn pace_in(&mut self, id: PathId, dimension: Dimension, now: Timestamp) -> Option<f64> {
        let now = self.move_clock(now);
        let path = self.paths.find(id.0)?;
        let mut slowest: Option<f64> = None;
        for index in self.paths[path].levels.as_slice() {
            let level = &mut self.levels[*index];
            let speed = level.speed(now);
            for budget in level.budgets.iter().filter(|budget| budget.dimension == dimension) {
                let pace = budget.pace(speed);
                slowest = Some(slowest.map_or(pace, |slowest| slowest.min(pace)));
            }
        }
        slowest
    }

    fn waiting_of(&self, wait: Wait, now: Timestamp) -> Option<Waiting> {
        let level = &self.levels[wait.level];
        // A level that closed while heads waited at it for something else holds them back by that now.
        let closed = level.closure.probe(now).err();
        let (reason, until) =
            closed.map_or((wait.reason, wait.until), |closed| (closed.reason, closed.until));
        // What was waited for came, and another path took it: the next chance is the level's.
        let until = until.and_then(|until| if until > now { Some(until) } else { self.next_of(wait.level) });
        let until = until.filter(|until| *until > now);
        let since = level.closure.since(now).filter(|_| closed.is_some()).unwrap_or(wait.since);
        Some(Waiting {
            level: LevelId(self.levels.key(wait.level)),
            kind: level.kind,
            name: Arc::clone(&level.name),
            reason,
            since,
            until,
        })
    }
}
