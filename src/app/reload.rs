//! Taking over another configuration while everything runs: whole, or not at all.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::api::{ReloadRefused, Reloaded};
use crate::clock::Clock;
use crate::config::{Change, Config, ConfigError, Problem};
use crate::engine;
use crate::metrics::{ConfigMetrics, ReloadOutcome};
use crate::shutdown::Shutdown;

use super::admin_keys::AdminKeys;
use super::current::Current;
use super::providers::{self, Certificates, Client, Demand};
use super::source::{ConfigSource, Texts, texts};

/// How often the file is read. What it holds is taken over when two readings found the same: an editor may be in the
/// middle of writing it.
const LOOK: Duration = Duration::from_secs(1);

/// Who asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// The file has changed.
    File,
    /// SIGHUP.
    Signal,
    /// `POST /admin/v1/reload`.
    Call,
}

impl Trigger {
    const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Signal => "signal",
            Self::Call => "call",
        }
    }
}

/// Takes over other configurations. Clones share it.
#[derive(Clone)]
pub(super) struct Reloader {
    shared: Arc<Shared>,
}

/// What a reload works on.
pub(super) struct ReloaderParts {
    pub(super) source: ConfigSource,
    pub(super) current: Current,
    pub(super) clients: Vec<Client>,
    pub(super) engine: engine::Board,
    pub(super) admin_keys: AdminKeys,
    pub(super) metrics: ConfigMetrics,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
}

struct Shared {
    source: ConfigSource,
    current: Current,
    engine: engine::Board,
    admin_keys: AdminKeys,
    metrics: ConfigMetrics,
    clock: Clock,
    shutdown: Shutdown,
    /// Held by the one reload that runs.
    state: Mutex<State>,
}

struct State {
    clients: Vec<Client>,
    /// What there was at the last reload, however it ended: what is wrong is said once.
    tried: Found,
}

/// What a reload is made for when it changes.
#[derive(Clone, PartialEq, Eq)]
struct Found {
    /// The configuration's files.
    texts: Texts,
    /// The files of certificates that its providers name.
    certificates: Vec<Certificates>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reloader").field("source", &self.shared.source).finish_non_exhaustive()
    }
}

impl Reloader {
    pub(super) fn new(parts: ReloaderParts) -> Self {
        let ReloaderParts { source, current, clients, engine, admin_keys, metrics, clock, shutdown } = parts;
        let tried = Found { texts: source.texts.clone(), certificates: Certificates::in_use(&clients) };
        let state = Mutex::new(State { clients, tried });
        let shared = Shared { source, current, engine, admin_keys, metrics, clock, shutdown, state };
        Self { shared: Arc::new(shared) }
    }

    /// Reads the configuration again and takes it over. Goes on to its end even if whoever asked is gone.
    pub(super) async fn reload(&self, trigger: Trigger) -> Result<Reloaded, ReloadRefused> {
        let reloader = self.clone();
        let task = tokio::spawn(async move {
            let mut state = reloader.shared.state.lock().await;
            reloader.run(trigger, &mut state).await
        });
        task.await.unwrap_or(Err(ReloadRefused::Ending))
    }

    /// Reloads whenever a file has changed. The configuration's goes by its content, so that it makes no difference whether
    /// it was written, replaced, or is behind a link that points elsewhere now.
    pub(super) async fn follow_files(self) {
        let mut seen: Option<Found> = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.shared.shutdown.begun() => return,
            }
            let Some(texts) = self.texts().await else { continue };
            let (found, is_news) = {
                let state = self.shared.state.lock().await;
                let found = Found { texts, certificates: Certificates::present(&state.clients) };
                let is_news = found != state.tried;
                (found, is_news)
            };
            if is_news && seen.as_ref() == Some(&found) {
                // What came of it is in the log.
                let _ = self.reload(Trigger::File).await;
            }
            seen = Some(found);
        }
    }

    async fn texts(&self) -> Option<Texts> {
        let files = self.shared.source.files.clone();
        tokio::task::spawn_blocking(move || texts(&files)).await.ok()
    }

    async fn run(&self, trigger: Trigger, state: &mut State) -> Result<Reloaded, ReloadRefused> {
        if self.shared.shutdown.has_begun() {
            return Err(ReloadRefused::Ending);
        }
        // Before it is read: what changes in between is read again.
        if let Some(texts) = self.texts().await {
            state.tried.texts = texts;
        }
        state.tried.certificates = Certificates::present(&state.clients);
        let taken_over = self.take_over(state).await;
        match &taken_over {
            Ok(changes) => self.tell(trigger, changes),
            Err(problems) => {
                self.count(ReloadOutcome::Refused);
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                tracing::error!(
                    trigger = trigger.as_str(),
                    problems = %problems.join("; "),
                    "the configuration was refused and nothing changed"
                );
            }
        }
        taken_over.map(|changes| Reloaded { changes }).map_err(ReloadRefused::Problems)
    }

    /// Everything that may fail comes before anything is changed.
    async fn take_over(&self, state: &mut State) -> Result<Vec<Change>, Vec<Problem>> {
        let running = self.shared.current.get();
        let mut config = self.read().await?;
        let mut changes = running.changes_to(&config);
        config.keep_fixed(&running);
        self.check(&config)?;
        let shutdown = &self.shared.shutdown;
        let clients = providers::clients(&config, &state.clients, Demand::Now, shutdown).await?;
        changes.extend(providers::changed_files(&config, &state.clients, &clients));

        let config = Arc::new(config);
        if config.log.level != running.log.level
            && self.shared.source.log_level.set(&config.log.level).is_err()
        {
            tracing::error!("log.level could not be changed");
        }
        if config.admin_keys != running.admin_keys {
            self.shared.admin_keys.replace(&config.admin_keys).await;
        }
        self.shared.engine.reload(providers::engine_settings(&config, &clients)).await;
        // Only now: a batch for a new lane's model must not be taken before there is the lane.
        self.shared.current.set(config);
        state.tried.certificates = Certificates::in_use(&clients);
        state.clients = clients;
        Ok(changes)
    }

    async fn read(&self) -> Result<Config, Vec<Problem>> {
        let read = Arc::clone(&self.shared.source.read);
        match tokio::task::spawn_blocking(move || read()).await {
            Ok(Ok(config)) => Ok(config),
            Ok(Err(ConfigError::Problems(problems))) => Err(problems),
            Ok(Err(ConfigError::NoProvider)) => {
                Err(vec![problem("providers", "names no provider".to_owned())])
            }
            Err(_) => Err(vec![problem("", "the configuration could not be read".to_owned())]),
        }
    }

    fn check(&self, config: &Config) -> Result<(), Vec<Problem>> {
        if self.shared.admin_keys.would_lock_everyone_out(&config.admin_keys) {
            let message =
                "would be without a key, where keys are asked for and there is no other: no one could call";
            return Err(vec![problem("auth.admin_key_file", message.to_owned())]);
        }
        Ok(())
    }

    fn count(&self, outcome: ReloadOutcome) {
        self.shared.metrics.reloaded(outcome, self.shared.clock.now());
    }

    fn tell(&self, trigger: Trigger, changes: &[Change]) {
        let trigger = trigger.as_str();
        let (fixed, live): (Vec<&Change>, Vec<&Change>) =
            changes.iter().partition(|change| change.needs_restart);
        if live.is_empty() {
            self.count(ReloadOutcome::Unchanged);
            tracing::info!(trigger, "the configuration was read again and nothing changed");
        } else {
            self.count(ReloadOutcome::Applied);
            tracing::info!(trigger, changed = %listed(&live), "the configuration was reloaded");
        }
        if !fixed.is_empty() {
            tracing::warn!(trigger, keys = %listed(&fixed), "what changed here holds from the next start on: it needs a restart");
        }
    }
}

/// Each key with its value before and now.
fn listed(changes: &[&Change]) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let one =
        |change: &&Change| format!("{}: {} -> {}", change.key, value(&change.before), value(&change.after));
    changes.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn problem(key: &str, message: String) -> Problem {
    Problem { key: key.to_owned(), value: None, origin: None, message, nearest: None }
}
