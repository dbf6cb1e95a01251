//! Lanes: what limits, pacing and cooldown apply to, made as models are met.

mod renewing;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::domain::time::Timestamp;
use crate::gate::{Gate, GateError, LaneState, LevelId, LevelKind, LevelSpec, PathId};
use crate::metrics::{LaneMetrics, Metrics};
use crate::upstream::PhaseTimeouts;

pub(super) use self::renewing::Renewed;

use super::completion::Flow;
use super::item::{LaneId, ReadyItem, RouteId};
use super::retry_budget::RetryBudget;
use super::routes::{Route, RouteLane};
use super::settings::{LaneChoice, ProviderSetup, RouteModel};

/// Lanes made for a provider that names none; further models share one called [`OTHER`].
pub const MOST_MODEL_LANES: usize = 64;
/// The lane of models beyond [`MOST_MODEL_LANES`].
pub const OTHER: &str = "other";

/// How many ready items are looked through for one that has not failed on the lane that pulls.
const PREFERENCE: usize = 64;

/// A provider in the gate.
#[derive(Debug)]
struct Provider {
    setup: Arc<ProviderSetup>,
    level: LevelId,
}

/// What tells lanes apart, whatever else of them changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LaneName {
    provider: String,
    /// The configured pattern, or the model.
    lane: String,
    /// Whose budget it spends.
    budget: String,
}

/// One lane: its place in the gate, and how its calls go.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    /// Its level's name, which lanes of one budget share.
    level_name: String,
    /// The model for which it was used first or last.
    model: Arc<str>,
    /// The settings that it is part of: of earlier ones than the present, and it takes no more calls.
    generation: u64,
    pub(super) provider: Arc<ProviderSetup>,
    /// The provider's name for the model; `None`: the same.
    pub(super) upstream_model: Option<Arc<str>>,
    pub(super) level: LevelId,
    provider_level: LevelId,
    /// Without an app: for what concerns its pace alone.
    pub(super) path: PathId,
    pub(super) metrics: Arc<LaneMetrics>,
    pub(super) retry_budget: RetryBudget,
    /// Successes since it last opened with its present key; a 403 before any is the operator's fault.
    pub(super) succeeded: bool,
    /// Successes so far: tells an item refused again and again whether others pass meanwhile.
    pub(super) successes: u64,
    /// When its provider's key last changed: a refusal of a call sent before is of the old key.
    pub(super) key_changed_at: Option<Timestamp>,
    /// How its items went.
    pub(super) flow: Flow,
    max_concurrent: u32,
}

impl Lane {
    /// The levels whose limits hold for all of its calls.
    pub(super) fn levels(&self, service: LevelId) -> [LevelId; 3] {
        [service, self.provider_level, self.level]
    }
}

/// Every lane and every route there is, or was: what is known of a lane that was taken away holds when it comes back.
pub(super) struct Lanes {
    served_by: RouteModel,
    providers: Vec<Provider>,
    /// The providers' levels, by the budgets' names.
    budgets: HashMap<String, LevelId>,
    /// Counts the settings up.
    generation: u64,
    /// Levels whose limits changed with the present ones.
    changed: HashSet<LevelId>,
    shared: [LevelId; 2],
    ceiling: u32,
    metrics: Metrics,
    lanes: Vec<Lane>,
    paths: FxHashMap<(LaneId, LevelId), PathId>,
    routes: Vec<Route>,
    by_name: HashMap<LaneName, LaneId>,
    by_lanes: HashMap<Vec<RouteLane>, RouteId>,
    by_model: HashMap<Arc<str>, Option<RouteId>>,
}

impl Lanes {
    /// No lanes yet, under the service and memory levels.
    pub(super) fn new(metrics: Metrics, shared: Shared) -> Self {
        let Shared { service, memory } = shared;
        Self {
            served_by: Arc::new(|_| Vec::new()),
            providers: Vec::new(),
            budgets: HashMap::new(),
            generation: 0,
            changed: HashSet::new(),
            shared: [service, memory],
            ceiling: 0,
            metrics,
            lanes: Vec::new(),
            paths: FxHashMap::default(),
            routes: Vec::new(),
            by_name: HashMap::new(),
            by_lanes: HashMap::new(),
            by_model: HashMap::new(),
        }
    }

    /// The route of a model, its lanes made if they are met for the first time; `None`: nothing serves it.
    pub(super) fn resolve(&mut self, model: &Arc<str>, gate: &mut Gate, now: Timestamp) -> Option<RouteId> {
        if let Some(known) = self.by_model.get(model) {
            return *known;
        }
        let mut lanes = Vec::new();
        for choice in (self.served_by)(model) {
            let (order, weight) = (choice.order, choice.weight);
            match self.lane_of(choice, model, gate, now) {
                Ok(lane) => lanes.push(RouteLane { lane, order, weight }),
                Err(error) => {
                    tracing::error!(model = %model, error = %error, "a lane of the model could not be made");
                }
            }
        }
        let route = self.route_over(&lanes);
        // Names come from clients: what is remembered of them is bounded.
        if self.by_model.len() >= 4_096 {
            self.by_model.clear();
        }
        self.by_model.insert(Arc::clone(model), route);
        route
    }

    /// The lane of a provider that is called so, or that serves a model of that name.
    pub(super) fn find(
        &mut self,
        provider: &str,
        model: &str,
        gate: &mut Gate,
        now: Timestamp,
    ) -> Option<LaneId> {
        let named = format!("{provider}/{model}");
        let is_it = |lane: &Lane| lane.name == named && lane.generation == self.generation;
        if let Some(place) = self.lanes.iter().position(is_it) {
            return Some(LaneId(place));
        }
        let route = self.resolve(&model.into(), gate, now)?;
        self.routes[route.0].lanes().find(|lane| self.get(*lane).provider.name == provider)
    }

    /// The route over a list of lanes with their orders and weights: the same list is always the same route.
    fn route_over(&mut self, lanes: &[RouteLane]) -> Option<RouteId> {
        if lanes.is_empty() {
            return None;
        }
        let next = RouteId(self.routes.len());
        let id = *self.by_lanes.entry(lanes.to_vec()).or_insert(next);
        if id == next {
            self.routes.push(Route::new(lanes));
        }
        Some(id)
    }

    fn lane_of(
        &mut self,
        choice: LaneChoice,
        model: &Arc<str>,
        gate: &mut Gate,
        now: Timestamp,
    ) -> Result<LaneId, GateError> {
        let setup = Arc::clone(&self.providers[choice.provider].setup);
        let budget = setup.budget_name().to_owned();
        let mut name = LaneName { provider: setup.name.clone(), lane: choice.lane.clone(), budget };
        if !choice.configured && !self.is_in_use(&name) && self.lanes_of(&setup.name) >= MOST_MODEL_LANES {
            OTHER.clone_into(&mut name.lane);
        }
        if let Some(lane) = self.by_name.get(&name).copied() {
            if self.is_retired(lane) {
                self.take_up((lane, choice), model, gate, now);
            }
            return Ok(lane);
        }
        let parent = self.providers[choice.provider].level;
        // A model of one account is one lane to the gate, however many of our providers stand for the account.
        let level_name = format!("{}/{}", name.budget, name.lane);
        let known = self.lanes.iter().find(|lane| lane.level_name == level_name).map(|lane| lane.level);
        let level = known.unwrap_or_else(|| {
            let spec = LevelSpec {
                kind: LevelKind::Lane,
                name: level_name.clone(),
                limits: choice.limits.clone(),
                parent: Some(parent),
                accounting: setup.accounting,
                ..LevelSpec::default()
            };
            gate.add_level(spec, now)
        });
        let path = gate.add_path(&[self.shared[0], self.shared[1], parent, level])?;
        let metrics = self.metrics.lane(&name.provider, &name.lane);
        let id = LaneId(self.lanes.len());
        self.lanes.push(Lane {
            name: format!("{}/{}", name.provider, name.lane),
            level_name,
            model: Arc::clone(model),
            generation: 0,
            provider: setup,
            upstream_model: None,
            level,
            provider_level: parent,
            path,
            metrics,
            retry_budget: RetryBudget::default(),
            succeeded: false,
            successes: 0,
            key_changed_at: None,
            flow: Flow::default(),
            max_concurrent: 0,
        });
        self.by_name.insert(name, id);
        self.take_up((id, choice), model, gate, now);
        Ok(id)
    }

    /// A lane becomes part of the present settings.
    fn take_up(
        &mut self,
        (id, choice): (LaneId, LaneChoice),
        model: &Arc<str>,
        gate: &mut Gate,
        now: Timestamp,
    ) {
        let level = self.lanes[id.0].level;
        let setup = Arc::clone(&self.providers[choice.provider].setup);
        let max_concurrent =
            choice.limits.max_concurrent.or(setup.limits.max_concurrent).unwrap_or(self.ceiling);
        // Of several lanes of one level, the first says its limits.
        if !self.is_in_force(level) {
            let limited = gate.set_limits(level, &choice.limits, now);
            if gate.set_accounting(level, setup.accounting) || limited {
                self.changed.insert(level);
            }
        }
        let lane = &mut self.lanes[id.0];
        lane.generation = self.generation;
        lane.model = Arc::clone(model);
        lane.upstream_model = choice.upstream_model;
        lane.max_concurrent = max_concurrent.min(self.ceiling);
        if !lane.provider.has_upstream_of(&setup) {
            // What was refused before was another key, or another place.
            lane.key_changed_at = Some(now);
            lane.succeeded = false;
            gate.probe_now(level, now);
        }
        lane.provider = setup;
    }

    /// Whether a lane was taken away: it takes no more calls.
    pub(super) fn is_retired(&self, id: LaneId) -> bool {
        self.lanes[id.0].generation != self.generation
    }

    /// Whether a level is that of a provider or a lane of the present settings.
    pub(super) fn is_in_force(&self, level: LevelId) -> bool {
        let mut lanes = self.lanes.iter().filter(|lane| lane.generation == self.generation);
        lanes.any(|lane| lane.level == level) || self.providers.iter().any(|provider| provider.level == level)
    }

    fn is_in_use(&self, name: &LaneName) -> bool {
        self.by_name.get(name).is_some_and(|lane| !self.is_retired(*lane))
    }

    fn lanes_of(&self, provider: &str) -> usize {
        let lanes = self.lanes.iter().filter(|lane| lane.generation == self.generation);
        lanes.filter(|lane| lane.provider.name == provider).count()
    }

    /// Items worth having ready: for each of the route's lanes a quarter of a second of its pace, or twice its slots.
    pub(super) fn window(&self, id: RouteId, gate: &mut Gate, now: Timestamp) -> usize {
        let of_lane = |lane: LaneId| {
            let lane = self.get(lane);
            let slots = lane.max_concurrent as usize * 2;
            let paced = gate.pace(lane.path, now).map_or(usize::MAX, |rate| (rate * 0.25).ceil() as usize);
            slots.min(paced)
        };
        let all: usize = self.routes[id.0].lanes().map(of_lane).sum();
        all.clamp(8, 4_096)
    }

    /// The models met so far that are served, each with its preferred lane.
    pub(super) fn known_models(&self) -> impl Iterator<Item = (&Arc<str>, &Lane)> {
        self.by_model.iter().filter_map(|(model, route)| Some((model, self.get(self.preferred((*route)?)?))))
    }

    /// The lane that a route prefers: it stands for the route where one lane must.
    pub(super) fn preferred(&self, id: RouteId) -> Option<LaneId> {
        self.routes[id.0].lanes().next()
    }

    /// The lanes that pull at present from a feed of a route, in turn. With one lane nothing is decided or allocated.
    pub(super) fn pulling(
        &self,
        id: RouteId,
        queue: &VecDeque<ReadyItem>,
        gate: &Gate,
        now: Timestamp,
    ) -> impl Iterator<Item = LaneId> + use<> {
        let route = self.route(id);
        let is_open = |lane| self.is_open(lane, gate, now);
        let (only, several) = match route.has_choice() {
            false => (route.lanes().next(), Vec::new()),
            true => (None, unfailed(route.pulling(is_open), queue, is_open)),
        };
        only.into_iter().chain(several)
    }

    /// The path of an app's calls through a lane; `None` if the gate has no room for it, which is a defect.
    pub(super) fn path(&mut self, id: LaneId, app: LevelId, gate: &mut Gate) -> Option<PathId> {
        if let Some(path) = self.paths.get(&(id, app)) {
            return Some(*path);
        }
        let [service, memory] = self.shared;
        let lane = &self.lanes[id.0];
        let path = gate.add_path(&[service, app, memory, lane.provider_level, lane.level]);
        let path =
            path.inspect_err(|error| tracing::error!(error = %error, "an app's path could not be made"));
        self.paths.insert((id, app), *path.as_ref().ok()?);
        path.ok()
    }

    /// Whether a lane takes calls, within its limits.
    pub(super) fn is_open(&self, lane: LaneId, gate: &Gate, now: Timestamp) -> bool {
        gate.lane_state(self.get(lane).level, now) == LaneState::Open
    }

    pub(super) fn route(&self, id: RouteId) -> &Route {
        &self.routes[id.0]
    }

    pub(super) fn route_mut(&mut self, id: RouteId) -> &mut Route {
        &mut self.routes[id.0]
    }

    pub(super) fn route_ids(&self) -> impl Iterator<Item = RouteId> + use<> {
        (0..self.routes.len()).map(RouteId)
    }

    /// The routes that a lane is part of.
    pub(super) fn routes_of(&self, lane: LaneId) -> Vec<RouteId> {
        self.route_ids()
            .filter(|route| self.routes[route.0].lanes().any(|of_route| of_route == lane))
            .collect()
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
}

/// Without lanes on which everything that is ready has just failed, as long as an open one is left.
fn unfailed(
    pulling: Vec<LaneId>,
    queue: &VecDeque<ReadyItem>,
    is_open: impl Fn(LaneId) -> bool,
) -> Vec<LaneId> {
    let useful = |lane: &LaneId| place_for(*lane, queue).is_some();
    if pulling.iter().any(|lane| is_open(*lane) && useful(lane)) {
        pulling.into_iter().filter(useful).collect()
    } else {
        pulling
    }
}

/// The place of the first ready item that has not failed on a lane.
pub(super) fn place_for(lane: LaneId, queue: &VecDeque<ReadyItem>) -> Option<usize> {
    queue.iter().take(PREFERENCE).position(|item| item.failed_on != Some(lane))
}

/// What every lane has above it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    pub(super) service: LevelId,
    pub(super) memory: LevelId,
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
