//! One holder of limits that a call must satisfy.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::{Budget, By, Short, Terms};
use super::closure::Closure;
use super::cost::{Accounting, Cost};
use super::learning::Learning;
use super::lease::Lease;
use super::order::Waiters;
use super::overload::Overload;
use super::pacing::{LONGEST_PACED, Speed};
use super::rate_factor::RateFactor;
use super::reason::{Blocked, Reason};
use super::shares::{CALL, Shares};
use super::silent::Silent;
use super::slots::Key;
use crate::domain::limits::{Dimension, Limits, Rate};
use crate::domain::time::Timestamp;

/// Calls in flight or not yet recorded, as a multiple of the calls that may be in flight.
const UNRECORDED: u32 = 2;
/// Budgets whose limit was taken away that are remembered at most.
const MOST_DORMANT: usize = 8;
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
    pub const fn is_upstream(self) -> bool {
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
    /// How a provider or a lane charges tokens. Levels of our own charge what was used.
    pub accounting: Accounting,
    /// An app's share against that of other apps that want the same; 0 counts as 1.
    pub weight: u32,
    /// Whether its calls in flight are the process's own, where workers on one store share those of all levels.
    pub own_places: bool,
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
    /// Long periods whose limit was taken away: should it come back, what was used until then counts.
    pub(super) dormant: Vec<Budget>,
    pub(super) accounting: Accounting,
    pub(super) factor: RateFactor,
    pub(super) closure: Closure,
    /// What is configured and what was learned of it.
    pub(super) learning: Learning,
    /// How many calls the upstream bears.
    pub(super) overload: Overload,
    /// What is known of its rate where it says nothing.
    pub(super) silent: Silent,
    /// Paths that wait here, by their apps' counters and their first head's turn.
    pub(super) waiting: Waiters,
    /// The one of them that is out trying.
    pub(super) lent: Option<u32>,
    /// What each app took here.
    pub(super) shares: Shares,
    /// An app's own: its number and its weight.
    pub(super) ordinal: u32,
    pub(super) weight: u32,
    /// The budget that refused last, by its place: the one that binds.
    pub(super) binding: Option<usize>,
    /// Interactive ones of the calls in flight.
    pub(super) interactive: u32,
    /// Heads that wait for this as a level of their own.
    pub(super) own_waiting: Vec<u32>,
    /// Paths, heads and grants that name it.
    pub(super) uses: u32,
    pub(super) removed: bool,
    /// Whether it changed since the last snapshot.
    pub(super) dirty: bool,
    /// Whether its charges must not run ahead of what is saved.
    pub(super) ledger: bool,
    /// What is in hand of its shared limits, where several workers share them.
    pub(super) lease: Option<Box<Lease>>,
}

impl Level {
    /// Whether a call may leave as far as this level is concerned. Takes nothing.
    pub(super) fn probe(&mut self, cost: Cost, interactive: bool, now: Timestamp) -> Result<(), Blocked> {
        self.closure.probe(now)?;
        let room = self.probe_room(cost, interactive, now);
        if self.budgets.is_empty() || (room.is_err() && !self.lease.as_ref().is_some_and(|it| it.starts())) {
            return room;
        }
        // Where nothing is in hand yet, one exchange brings places and slots.
        let budgets = self.probe_budgets(cost, interactive, now);
        room.and(budgets)
    }

    fn probe_budgets(&mut self, cost: Cost, interactive: bool, now: Timestamp) -> Result<(), Blocked> {
        let speed = self.speed(now);
        let by = By { ledger: self.ledger, interactive };
        let mut worst: Option<Blocked> = None;
        for (place, budget) in self.budgets.iter_mut().enumerate() {
            let amount = budget.amount(&cost, self.accounting);
            if let Err(short) = budget.probe(amount, (speed, now), by) {
                let until = match short {
                    Short::Until(moment) => Some(moment),
                    Short::Unsaved | Short::Unleased => None,
                };
                let blocked = Blocked { until, reason: budget.reason() };
                if worst.is_none_or(|worst| blocked.outlasts(worst)) {
                    worst = Some(blocked);
                    self.binding = Some(place);
                }
            }
        }
        worst.map_or(Ok(()), Err)
    }

    /// Whether a head that was probed needs a save before it may leave.
    pub(super) fn take_asks(&mut self) -> bool {
        self.budgets.iter_mut().fold(false, |asks, budget| budget.take_asks() | asks)
    }

    /// Calls that may be in flight: as configured, or as the upstream bears.
    pub(super) fn slots(&self) -> Option<u32> {
        self.max_concurrent.into_iter().chain(self.overload.limit()).min()
    }

    /// Calls that may be in flight here: fewer where other workers have the rest.
    fn slots_here(&self) -> Option<u32> {
        let shared = self.shared_concurrent().and(self.lease.as_ref());
        self.slots().into_iter().chain(shared.map(|lease| lease.slots())).min()
    }

    fn probe_room(&mut self, cost: Cost, interactive: bool, now: Timestamp) -> Result<(), Blocked> {
        if let Some(limit) = self.slots() {
            let ramp = u32::from(self.closure.cooldown.ramp(now));
            let allowed = if ramp >= 100 { limit } else { limit.saturating_mul(ramp).div_ceil(100) };
            if self.shared_concurrent().is_some()
                && let Some(lease) = &mut self.lease
                && !lease.probe(self.in_flight, allowed, interactive)
            {
                return Err(Blocked { until: None, reason: Reason::Concurrency });
            }
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
    pub(super) fn take(&mut self, cost: Cost, call: Call, now: Timestamp) -> bool {
        let Call { interactive, number } = call;
        self.in_flight += 1;
        if let Some(lease) = &mut self.lease {
            lease.took(self.in_flight, interactive, now);
        }
        self.interactive += u32::from(interactive);
        self.held += 1;
        self.hold(cost.memory);
        if !self.budgets.is_empty() {
            let speed = self.speed(now);
            for budget in &mut self.budgets {
                budget.reserve(&cost, self.accounting, (speed, now), number);
                if interactive {
                    budget.note_interactive(&cost, self.accounting, now);
                }
            }
        }
        self.kind.is_upstream() && self.closure.sent(now)
    }

    /// What a call takes of the budget that binds, as virtual time.
    pub(super) fn share_of(&self, cost: &Cost) -> u64 {
        let bound = self.binding.and_then(|place| self.budgets.get(place));
        bound
            .or_else(|| self.budgets.first())
            .map_or(CALL, |budget| budget.time_of(budget.amount(cost, self.accounting)))
    }

    /// Whether interactive calls go before others: they took less than their share of each budget.
    pub(super) fn interactive_first(&mut self, share: f64, now: Timestamp) -> bool {
        let below = |used: u64, limit: u64| (used as f64) < share * limit as f64;
        let slots = self.slots_here();
        slots.is_none_or(|slots| self.interactive == 0 || below(self.interactive.into(), slots.into()))
            && self.budgets.iter_mut().all(|budget| below(budget.interactive(now), budget.rate.amount))
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

    /// Takes over other limits. Budgets of the same period keep what they charged; `change`: a budget
    /// that is new starts with an unknown last period, since calls left without being counted in it.
    pub(super) fn set_limits(&mut self, limits: &Limits, jitter: i64, change: Option<Change>) {
        let shared = self.lease.is_some();
        let Limits { burst, day_starts, .. } = *limits;
        let terms = Terms { burst, day_starts, jitter, shared, paired: are_paired(limits) };
        self.max_concurrent = limits.max_concurrent;
        self.binding = None;
        self.lease.iter_mut().for_each(|lease| lease.reopen());
        let mut before = std::mem::take(&mut self.budgets);
        for (dimension, rate) in rates_of(limits) {
            let is_it = |budget: &Budget| budget.has_period(dimension, rate.period);
            let mut budget = match (before.iter().position(is_it), self.dormant.iter().position(is_it)) {
                (Some(kept), _) => before.swap_remove(kept),
                (None, Some(dormant)) => {
                    let mut budget = self.dormant.remove(dormant);
                    change.into_iter().for_each(|change| budget.come_back(change));
                    budget
                }
                (None, None) => {
                    let mut budget = Budget::new(dimension, rate, terms);
                    if let Some(change) = change {
                        budget.start_unknown(change.now);
                        budget.since = change.number;
                    }
                    budget
                }
            };
            change.into_iter().for_each(|change| budget.set_amount(rate.amount, terms, change));
            self.budgets.push(budget);
        }
        self.dormant.extend(before.into_iter().filter(Budget::outlasts_its_limit));
        let surplus = self.dormant.len().saturating_sub(MOST_DORMANT);
        self.dormant.drain(..surplus);
    }
}

/// A call that takes a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Whether a client waits for it.
    pub(super) interactive: bool,
    /// Counts up with every call admitted.
    pub(super) number: u64,
}

/// When limits change: the moment, and the number of the last call admitted before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) now: Timestamp,
    pub(super) number: u64,
}

/// Every rate of a set of limits, with what it counts.
pub(super) fn rates_of(limits: &Limits) -> impl Iterator<Item = (Dimension, Rate)> {
    Dimension::ALL.into_iter().flat_map(|dimension| {
        let rates = match dimension {
            Dimension::Requests => &limits.requests,
            Dimension::Tokens => &limits.tokens,
            Dimension::InputTokens => &limits.input_tokens,
            Dimension::OutputTokens => &limits.output_tokens,
        };
        rates.iter().map(move |rate| (dimension, *rate))
    })
}

/// Whether calls need units of several kinds that are each spent at an even pace.
fn are_paired(limits: &Limits) -> bool {
    let paced = rates_of(limits).filter(|(_, rate)| rate.period <= LONGEST_PACED);
    paced.map(|(dimension, _)| dimension).collect::<BTreeSet<_>>().len() > 1
}
