//! Lanes: what limits, pacing and cooldown apply to, made as models are met.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::limits::Limits;
use crate::domain::time::Timestamp;
use crate::gate::{Gate, GateError, LevelId, LevelKind, LevelSpec, PathId};
use crate::metrics::{Dimension, LaneMetrics, Metrics};
use crate::upstream::{PhaseTimeouts, Upstream};

use super::backoff::Backoff;
use super::item::{FeedId, LaneId, ReadyItem};
use super::judge::RetryOn;
use super::retry_budget::RetryBudget;

/// Lanes made for a provider that names none; further models share one called [`OTHER`].
pub const MOST_MODEL_LANES: usize = 64;
/// The lane of models beyond [`MOST_MODEL_LANES`].
pub const OTHER: &str = "other";

/// How a provider's failed attempts are repeated.
#[derive(Clone, Debug)]
pub struct RetrySetup {
    /// Most charged attempts of an item.
    pub max_attempts: u32,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// What is worth repeating.
    pub on: RetryOn,
}

/// A provider as the engine needs it.
#[derive(Debug)]
pub struct ProviderSetup {
    /// Its name in the configuration.
    pub name: String,
    /// Its client.
    pub upstream: Upstream,
    /// Limits over all of its lanes.
    pub limits: Limits,
    /// Limits of one call's phases.
    pub timeouts: PhaseTimeouts,
    /// Its retries.
    pub retry: RetrySetup,
}

/// Which lane serves a model.
#[derive(Clone, Debug)]
pub struct LaneChoice {
    /// The provider's place in [`super::EngineParts::providers`].
    pub provider: usize,
    /// The configured pattern, or the model itself where the provider names no lanes.
    pub lane: String,
    /// Whether the lane is configured; those that are not are capped at [`MOST_MODEL_LANES`].
    pub configured: bool,
    /// The lane's own limits.
    pub limits: Limits,
}

/// Finds the lane of a model; `None`: nothing serves it.
pub type RouteModel = Arc<dyn Fn(&str) -> Option<LaneChoice> + Send + Sync>;

/// A provider in the gate.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) setup: Arc<ProviderSetup>,
    level: LevelId,
}

/// One lane: its place in the gate, its retries, and the feeds it pulls from.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) provider: Arc<ProviderSetup>,
    pub(super) level: LevelId,
    pub(super) path: PathId,
    pub(super) metrics: Arc<LaneMetrics>,
    pub(super) retry_budget: RetryBudget,
    /// Due retries that wait for the retry budget.
    pub(super) due: VecDeque<(FeedId, ReadyItem)>,
    /// Feeds that it pulls from, in turn.
    pub(super) feeds: Vec<FeedId>,
    /// Successes since it last opened with its present key; a 403 before any is the operator's fault.
    pub(super) succeeded: bool,
    /// Successes so far: tells an item refused again and again whether others pass meanwhile.
    pub(super) successes: u64,
    /// When its provider's key last changed: a refusal of a call sent before is of the old key.
    pub(super) key_changed_at: Option<Timestamp>,
    max_concurrent: u32,
}

/// Every lane there is.
pub(super) struct Lanes {
    route: RouteModel,
    providers: Vec<Provider>,
    shared: [LevelId; 2],
    ceiling: u32,
    metrics: Metrics,
    lanes: Vec<Lane>,
    by_name: HashMap<(usize, String), LaneId>,
    by_model: HashMap<Arc<str>, Option<LaneId>>,
}

impl Lanes {
    /// Registers the providers under the service and memory levels.
    pub(super) fn new(
        route: RouteModel,
        providers: Vec<ProviderSetup>,
        metrics: Metrics,
        shared: Shared,
        gate: &mut Gate,
    ) -> Self {
        let Shared { service, memory, ceiling, now } = shared;
        let providers = providers.into_iter().map(|setup| {
            let limits = setup.limits.clone();
            let spec = LevelSpec {
                kind: LevelKind::Provider,
                name: setup.name.clone(),
                limits,
                ..LevelSpec::default()
            };
            Provider { level: gate.add_level(spec, now), setup: Arc::new(setup) }
        });
        let providers = providers.collect();
        Self {
            route,
            providers,
            shared: [service, memory],
            ceiling,
            metrics,
            lanes: Vec::new(),
            by_name: HashMap::new(),
            by_model: HashMap::new(),
        }
    }

    /// The lane that serves a model, made if it is met for the first time.
    pub(super) fn resolve(&mut self, model: &Arc<str>, gate: &mut Gate, now: Timestamp) -> Option<LaneId> {
        if let Some(known) = self.by_model.get(model) {
            return *known;
        }
        let lane = (self.route)(model).and_then(|choice| match self.lane_of(choice, gate, now) {
            Ok(lane) => Some(lane),
            Err(error) => {
                tracing::error!(model = %model, error = %error, "the model's lane could not be made");
                None
            }
        });
        // Names come from clients: what is remembered of them is bounded.
        if self.by_model.len() >= 4_096 {
            self.by_model.clear();
        }
        self.by_model.insert(Arc::clone(model), lane);
        lane
    }

    fn lane_of(&mut self, choice: LaneChoice, gate: &mut Gate, now: Timestamp) -> Result<LaneId, GateError> {
        let mut name = choice.lane;
        let of_provider = self.by_name.keys().filter(|(provider, _)| *provider == choice.provider).count();
        if !choice.configured
            && of_provider >= MOST_MODEL_LANES
            && !self.by_name.contains_key(&(choice.provider, name.clone()))
        {
            OTHER.clone_into(&mut name);
        }
        let key = (choice.provider, name);
        if let Some(lane) = self.by_name.get(&key) {
            return Ok(*lane);
        }
        let provider = &self.providers[choice.provider];
        let parent = provider.level;
        let setup = Arc::clone(&provider.setup);
        let full_name = format!("{}/{}", setup.name, key.1);
        let max_concurrent =
            choice.limits.max_concurrent.or(setup.limits.max_concurrent).unwrap_or(self.ceiling);
        let spec = LevelSpec {
            kind: LevelKind::Lane,
            name: full_name.clone(),
            limits: choice.limits,
            parent: Some(parent),
            ..LevelSpec::default()
        };
        let level = gate.add_level(spec, now);
        let path = gate.add_path(&[self.shared[0], self.shared[1], parent, level])?;
        let metrics = self.metrics.lane(&setup.name, &key.1);
        metrics.set_limit(Dimension::Requests, gate.pace(path, now).unwrap_or(0.0));
        let id = LaneId(self.lanes.len());
        self.lanes.push(Lane {
            name: full_name,
            provider: setup,
            level,
            path,
            metrics,
            retry_budget: RetryBudget::default(),
            due: VecDeque::new(),
            feeds: Vec::new(),
            succeeded: false,
            successes: 0,
            key_changed_at: None,
            max_concurrent: max_concurrent.min(self.ceiling),
        });
        self.by_name.insert(key, id);
        Ok(id)
    }

    /// Items worth having ready: a quarter of a second of the lane's pace, or twice its slots.
    pub(super) fn window(&self, id: LaneId, gate: &mut Gate, now: Timestamp) -> usize {
        let lane = self.get(id);
        let slots = lane.max_concurrent as usize * 2;
        let paced = gate.pace(lane.path, now).map_or(usize::MAX, |rate| (rate * 0.25).ceil() as usize);
        slots.min(paced).clamp(8, 4_096)
    }

    /// The models met so far that a lane serves.
    pub(super) fn known_models(&self) -> impl Iterator<Item = (&Arc<str>, &Lane)> {
        self.by_model.iter().filter_map(|(model, lane)| Some((model, self.get((*lane)?))))
    }

    pub(super) fn get(&self, id: LaneId) -> &Lane {
        &self.lanes[id.0]
    }

    pub(super) fn get_mut(&mut self, id: LaneId) -> &mut Lane {
        &mut self.lanes[id.0]
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = LaneId> + use<> {
        (0..self.lanes.len()).map(LaneId)
    }

    /// The providers' setups, for what concerns their keys.
    pub(super) fn providers(&self) -> impl Iterator<Item = &Arc<ProviderSetup>> {
        self.providers.iter().map(|provider| &provider.setup)
    }
}

/// What every lane has above it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    pub(super) service: LevelId,
    pub(super) memory: LevelId,
    /// The service's most calls in flight.
    pub(super) ceiling: u32,
    pub(super) now: Timestamp,
}

/// The attempt's limits: the provider's, with the batch's own total where it set one.
pub(super) fn timeouts(provider: &ProviderSetup, request_timeout_ms: Option<u64>) -> PhaseTimeouts {
    let mut timeouts = provider.timeouts;
    if let Some(total) = request_timeout_ms.map(Duration::from_millis) {
        timeouts.total = total;
        timeouts.first_byte = timeouts.first_byte.min(total);
        timeouts.idle = timeouts.idle.min(total);
    }
    timeouts
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lanes").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}
