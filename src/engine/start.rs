//! Starting the engine: the boot row, the gate with its ledger, the dispatcher.

use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::domain::limits::{Limits, PROCESS_CONCURRENCY};
use crate::domain::time::Timestamp;
use crate::gate::{Boot, Gate, GateOptions, LevelKind, LevelSpec, LevelState};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::store::{BootReport, Store, StoreError};

use super::ahead::Ahead;
use super::apps::Apps;
use super::attempt::Reporter;
use super::batches::Batches;
use super::board::Board;
use super::crew::Crew;
use super::delayed::Delayed;
use super::dispatcher::{Dispatcher, Stage, Suspect};
use super::estimate::Estimates;
use super::event::Event;
use super::growth::Growth;
use super::interactive::{Calls, Desk};
use super::lanes::{Lanes, Shared};
use super::recorder::Recorder;
use super::settings::{EngineSettings, ProviderSetup};
use super::sharing::Sharing;

/// How much the time to a provider varies where a slot may be used some time after its moment.
const SHARED_JITTER: Duration = Duration::from_millis(300);

/// What the engine is made of.
pub struct EngineParts {
    /// Where batches and results are.
    pub store: Store,
    /// The process's clock.
    pub clock: Clock,
    /// Where it counts.
    pub metrics: Metrics,
    /// What ends it: it drains, then its task ends.
    pub shutdown: Shutdown,
    /// Where the calls of batches run.
    pub attempts: Handle,
    /// Bytes of bodies and replies held at once.
    pub memory_budget: u64,
    /// What may change while it runs.
    pub settings: EngineSettings,
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store did not answer.
    #[error("the store can't be read: {0}")]
    Store(#[from] StoreError),
}

/// A running engine.
#[derive(Clone, Debug)]
pub struct Engine {
    /// What it lets others see.
    pub board: Board,
    /// Where clients' own calls go.
    pub calls: Calls,
}

/// Starts the engine; nothing is sent before its boot row is durable.
///
/// # Errors
/// If the store can't be read or written.
pub async fn spawn(parts: EngineParts) -> Result<Engine, EngineError> {
    let now = parts.clock.now();
    let boot = parts.store.begin_boot(now).await?;
    let mut gate = open_gate(&parts, &boot, now).await?;
    let sharing = Sharing::new(parts.store.is_shared(), now);
    let EngineSettings { limits, drain_timeout, providers, route, .. } = parts.settings;
    let own_places = !shares_places(&limits);
    let (limits, ceiling) = bounded(limits);
    let service = level(LevelKind::Service, "service", limits, None);
    let service = gate.add_level(LevelSpec { own_places, ..service }, now);
    let memory = level(LevelKind::Memory, "memory", Limits::default(), Some(parts.memory_budget));
    let memory = gate.add_level(memory, now);
    let mut apps = Apps::default();
    apps.refresh(parts.store.apps().await?, &mut gate, now);
    let mut lanes = Lanes::new(parts.metrics.clone(), Shared { service, memory });
    let renewed = lanes.renew(providers, (route, ceiling), &mut gate, now);

    let (events, heard) = mpsc::unbounded_channel();
    renewed.clients.iter().for_each(|provider| watch_key(provider, &events));
    let board = Board::new(events.clone(), parts.store.clone());
    let reporter = Reporter { clock: parts.clock, events };
    let (calls, interactive) = Desk::open(reporter.clone());
    let dispatcher = Dispatcher {
        store: parts.store,
        clock: parts.clock,
        metrics: parts.metrics,
        shutdown: parts.shutdown.clone(),
        crew: Crew::new(parts.attempts, &reporter),
        drain_timeout,
        reporter,
        gate,
        service,
        memory,
        ahead: Ahead::new(parts.memory_budget / 4),
        lanes,
        apps,
        estimates: Estimates::default(),
        batches: Batches::default(),
        laneless: Vec::new(),
        left: Vec::new(),
        delayed: Delayed::default(),
        interactive,
        recorder: Recorder::default(),
        growth: Growth::default(),
        board: board.clone(),
        stage: Stage::Running,
        in_flight: 0,
        running: FxHashMap::default(),
        calls: 0,
        careful: needs_care(&boot),
        suspect: boot.alone.map(|(batch, line, deaths)| Suspect { batch, line, deaths }),
        disk_full: false,
        sharing,
        refreshing: false,
        refresh_again: false,
        next_tick: now,
        settled: false,
    };
    parts.shutdown.spawn(dispatcher.run(heard));
    Ok(Engine { board, calls })
}

/// The gate with what the budgets had used when the process last ran.
async fn open_gate(parts: &EngineParts, boot: &BootReport, now: Timestamp) -> Result<Gate, StoreError> {
    let saved = parts.store.ledger().await?;
    let states: Vec<LevelState> =
        saved.iter().filter_map(|entry| serde_json::from_slice(&entry.state).ok()).collect();
    let first = boot.boot <= 1 && states.is_empty();
    let boot = if first { Boot::First } else { Boot::Again(states) };
    let (interactive_share, shared) = (parts.settings.interactive_share, parts.store.is_shared());
    let jitter = if shared { SHARED_JITTER } else { GateOptions::default().jitter };
    Ok(Gate::new(GateOptions { jitter, ledger: true, shared, interactive_share, boot }, now))
}

fn level(kind: LevelKind, name: &str, limits: Limits, memory: Option<u64>) -> LevelSpec {
    LevelSpec { kind, name: name.to_owned(), limits, memory, ..LevelSpec::default() }
}

/// A process that died without recording anything may have been killed by an item: find out which.
fn needs_care(boot: &BootReport) -> bool {
    let careful = !boot.clean && !boot.recorded_before && boot.boot > 1;
    if careful {
        tracing::warn!("the last run died before it recorded anything: starting with one item at a time");
    }
    careful
}

/// Whether the service's calls in flight are those of all workers together: where somebody says how many there may be. The
/// ceiling that holds without is what one process bears.
pub(super) const fn shares_places(limits: &Limits) -> bool {
    limits.max_concurrent.is_some()
}

/// The service's limits with its ceiling of calls in flight, and that.
pub(super) fn bounded(limits: Limits) -> (Limits, u32) {
    let ceiling = limits.max_concurrent.unwrap_or(PROCESS_CONCURRENCY);
    (Limits { max_concurrent: Some(ceiling), ..limits }, ceiling)
}

/// A key that changed on disk opens the lanes that stopped for the old one. Ends with the provider's client.
pub(super) fn watch_key(provider: &ProviderSetup, events: &mpsc::UnboundedSender<Event>) {
    let (name, events) = (provider.name.clone(), events.clone());
    let mut changes = provider.upstream.credential().changes();
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            if events.send(Event::KeyChanged { provider: name.clone() }).is_err() {
                return;
            }
        }
    });
}
