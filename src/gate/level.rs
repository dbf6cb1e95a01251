//! One holder of limits that a call must satisfy.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::{Budget, Dimension, Short, Terms};
use super::closure::Closure;
use super::pacing::Speed;
use super::rate_factor::RateFactor;
use super::reason::{Blocked, Reason};
use super::slots::Key;
use super::turns::TurnHeap;
use crate::domain::limits::Limits;
use crate::domain::time::Timestamp;

/// Calls in flight or not yet recorded, as a multiple of the calls that may be in flight.
const UNRECORDED: u32 = 2;
/// How soon a concurrency that a ramp holds down is looked at again.
const RAMP_STEP: Duration = Duration::from_millis(50);

/// A level's id. One kept after the level was removed finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LevelId(pub(super) Key);

/// What a level stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelKind {
    /// The whole service.
    #[default]
    Service,
    /// One provider.
    Provider,
    /// One model slot of a provider.
    Lane,
    /// One client application.
    App,
    /// One batch.
    Batch,
    /// The bytes of bodies held.
    Memory,
}

impl LevelKind {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Provider => "provider",
            Self::Lane => "lane",
            Self::App => "app",
            Self::Batch => "batch",
            Self::Memory => "memory",
        }
    }

    /// Whether its charges outlive the process. A batch's limits bind only while it runs here.
    pub(super) const fn is_durable(self) -> bool {
        !matches!(self, Self::Batch | Self::Memory)
    }

    /// Whether calls go to it, so that it can refuse them.
    const fn is_upstream(self) -> bool {
        matches!(self, Self::Provider | Self::Lane)
    }
}

/// A level as it is set up.
#[derive(Clone, Debug, Default)]
pub struct LevelSpec {
    /// What it stands for.
    pub kind: LevelKind,
    /// Its name, unique within the kind: a lane's is `provider/model`.
    pub name: String,
    /// Its limits.
    pub limits: Limits,
    /// Bytes of bodies that may be held at once; `None`: not limited here.
    pub memory: Option<u64>,
    /// The level whose pace suffers with it where it has none of its own: a lane's provider.
    pub parent: Option<LevelId>,
}

/// What a call takes from every level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Units of the requests budgets; 1 for a call.
    pub requests: u32,
    /// Bytes of its body, held until its result is durable.
    pub memory: u64,
}

/// One holder of limits and of what is waiting for them.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) kind: LevelKind,
    pub(super) name: Arc<str>,
    pub(super) parent: Option<LevelId>,
    pub(super) max_concurrent: Option<u32>,
    pub(super) in_flight: u32,
    /// Calls in flight or not yet recorded.
    pub(super) held: u32,
    pub(super) memory_limit: Option<u64>,
    pub(super) memory: u64,
    pub(super) budgets: Vec<Budget>,
    pub(super) factor: RateFactor,
    pub(super) closure: Closure,
    /// Paths that wait here, by their first head's turn.
    pub(super) waiting: TurnHeap,
    /// Whether the first of them is out trying.
    pub(super) lent: bool,
    /// Heads that wait for this as a level of their own.
    pub(super) own_waiting: Vec<u32>,
    /// Paths, heads and grants that name it.
    pub(super) uses: u32,
    pub(super) removed: bool,
    /// Whether it changed since the last snapshot.
    pub(super) dirty: bool,
    /// Whether its charges must not run ahead of what is saved.
    pub(super) ledger: bool,
}

impl Level {
    /// Whether a call may leave as far as this level is concerned. Takes nothing.
    pub(super) fn probe(&mut self, cost: Cost, now: Timestamp) -> Result<(), Blocked> {
        self.closure.probe(now)?;
        self.probe_room(cost, now)?;
        if self.budgets.is_empty() {
            return Ok(());
        }
        let speed = self.speed(now);
        let mut worst: Option<Blocked> = None;
        for budget in &mut self.budgets {
            if let Err(short) = budget.probe(u64::from(cost.requests), speed, now, self.ledger) {
                let until = match short {
                    Short::Until(moment) => Some(moment),
                    Short::Unsaved => None,
                };
                let blocked = Blocked { until, reason: Reason::Rate };
                if worst.is_none_or(|worst| blocked.outlasts(worst)) {
                    worst = Some(blocked);
                }
            }
        }
        worst.map_or(Ok(()), Err)
    }

    fn probe_room(&mut self, cost: Cost, now: Timestamp) -> Result<(), Blocked> {
        if let Some(limit) = self.max_concurrent {
            let ramp = u32::from(self.closure.cooldown.ramp(now));
            let allowed = if ramp >= 100 { limit } else { limit.saturating_mul(ramp).div_ceil(100) };
            if self.in_flight >= allowed {
                let until = (allowed < limit).then(|| now + RAMP_STEP);
                return Err(Blocked { until, reason: Reason::Concurrency });
            }
            if self.held >= limit.saturating_mul(UNRECORDED) {
                return Err(Blocked { until: None, reason: Reason::Disk });
            }
        }
        if self.has_room(cost.memory) { Ok(()) } else { Err(Blocked { until: None, reason: Reason::Memory }) }
    }

    /// Whether bytes fit; a body above the whole limit fits alone.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.memory_limit.is_none_or(|limit| self.memory.saturating_add(bytes.min(limit)) <= limit)
    }

    /// Takes what was just probed; tells whether the call is a probe of a stopped level.
    pub(super) fn take(&mut self, cost: Cost, now: Timestamp) -> bool {
        self.in_flight += 1;
        self.held += 1;
        self.hold(cost.memory);
        if !self.budgets.is_empty() {
            let speed = self.speed(now);
            for budget in &mut self.budgets {
                budget.take(u64::from(cost.requests), speed, now);
            }
        }
        self.kind.is_upstream() && self.closure.sent(now)
    }

    /// Gives back what a call of `at` charged and did not use.
    pub(super) fn refund(&mut self, cost: Cost, at: Timestamp, now: Timestamp) {
        if self.budgets.is_empty() {
            return;
        }
        let speed = self.speed(now);
        for budget in &mut self.budgets {
            budget.refund(u64::from(cost.requests), speed, at);
        }
    }

    /// Holds the memory of a body.
    pub(super) fn hold(&mut self, bytes: u64) {
        self.memory = self.memory.saturating_add(bytes);
    }

    /// Gives the memory of a body back.
    pub(super) fn free(&mut self, bytes: u64) {
        self.memory = self.memory.saturating_sub(bytes);
    }

    /// How fast it goes now.
    pub(super) fn speed(&mut self, now: Timestamp) -> Speed {
        Speed { factor: self.factor.value(now), ramp: self.closure.cooldown.ramp(now) }
    }

    /// Whether it has a pace of its own.
    pub(super) fn is_paced(&self) -> bool {
        self.budgets.iter().any(Budget::is_paced)
    }

    /// Takes over other limits. Budgets of the same period keep what they charged; `history`: a budget
    /// that is new starts with an unknown last period, since calls left without being counted in it.
    pub(super) fn set_limits(&mut self, limits: &Limits, jitter: i64, history: Option<Timestamp>) {
        // Tokens, learning and their budgets join here.
        let terms = Terms { burst: limits.burst, day_starts: limits.day_starts, jitter };
        self.max_concurrent = limits.max_concurrent;
        let mut before = std::mem::take(&mut self.budgets);
        for rate in &limits.requests {
            let kept = before.iter().position(|budget| budget.has_period(Dimension::Requests, rate.period));
            let budget = if let Some(kept) = kept {
                let mut budget = before.swap_remove(kept);
                budget.set_amount(rate.amount, terms.burst);
                budget
            } else {
                let mut budget = Budget::new(Dimension::Requests, *rate, terms);
                if let Some(now) = history {
                    budget.start_unknown(now);
                }
                budget
            };
            self.budgets.push(budget);
        }
    }
}
