//! The composition root: configuration in, a running service out, in one straight line.

mod admin_keys;
mod current;
mod load;
mod providers;
mod reload;
mod source;
mod upkeep;
mod worker_name;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::api::{
    self, Api, ApiParts, ApiSettings, Board, ItemPlace, Keyring, KeyringSettings, LanePause, ModelEntry,
    ReloadRefused, ServerSettings, Surface,
};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Pattern};
use crate::domain::interactive::Interactive;
use crate::engine::{self, EngineError, EngineParts};
use crate::metrics::{Metrics, MetricsError};
use crate::shutdown::Shutdown;
use crate::store::{Store, StoreError, StoreSettings, WorkerSettings};

pub use self::load::load;
pub use self::source::{ConfigSource, ReadConfig, Texts, texts};

use self::admin_keys::AdminKeys;
use self::current::Current;
use self::providers::Demand;
pub use self::providers::probe;
use self::reload::{Reloader, ReloaderParts, Trigger};
pub use crate::upstream::Probe;

/// How long open connections may take to end once the engine has drained.
const LAST_REPLIES: Duration = Duration::from_secs(5);

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The store can't be opened.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The engine can't start.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The metrics can't be registered.
    #[error("{0}")]
    Metrics(#[from] MetricsError),
    /// Providers' settings can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Keys are asked for, and there is none that could be given.
    #[error(
        "no one could call: keys are asked for and there is none. Three ways out: give the service an admin key of \
         your own (SLUICEGATE_ADMIN_KEY or auth.admin_key_file) and make keys with it; or listen on loopback with \
         auth.mode = \"auto\" and make the first key there, with POST /admin/v1/keys; or set auth.mode = \"none\" if a \
         proxy or firewall decides who may call"
    )]
    NoKeys,
    /// The address can't be listened on.
    #[error("can't listen on {address}: {reason}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
}

/// A running service.
#[derive(Debug)]
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where metrics and administration are served, if apart.
    pub admin_address: Option<SocketAddr>,
    store: Store,
    shutdown: Shutdown,
    server: Shutdown,
    reloader: Option<Reloader>,
}

impl App {
    /// Starts everything; when this returns, requests are answered. `attempts`: where the calls of batches run,
    /// apart from everything else. `source`: where the configuration can be read again, if anywhere.
    ///
    /// # Errors
    /// If the store, a provider's settings or the address can't be used.
    pub async fn start(
        config: Config,
        source: Option<ConfigSource>,
        attempts: Handle,
    ) -> Result<Self, AppError> {
        let config = Arc::new(config);
        let (clock, shutdown, server) = (Clock::start(), Shutdown::default(), Shutdown::default());
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"))?;
        // Bound before anything else is done: a port in use costs no recovery work.
        let (listener, address) = bind(config.server.listen).await?;
        let admin = match config.server.admin_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let store = open_store(&config, address, clock, &metrics).await?;
        // Workers of one database go by its time: else they would not agree on deadlines.
        let clock = store.shared_time().await?.map_or(clock, |(moment, at)| Clock::anchored(moment, at));
        let (keyring, admin_keys) = open_keyring(&config, &store, clock, &shutdown).await?;
        let clients = providers::clients(&config, &[], Demand::Later, &shutdown).await;
        let clients = clients.map_err(ConfigError::Problems)?;
        let engine = engine::spawn(EngineParts {
            store: store.clone(),
            clock,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            attempts,
            memory_budget: config.server.memory_budget.0,
            settings: providers::engine_settings(&config, &clients),
        })
        .await?;
        metrics.config().started(clock.now());
        let current = Current::new(Arc::clone(&config));
        let reloader = source.map(|source| {
            let (current, engine) = (current.clone(), engine.board.clone());
            let (metrics, shutdown) = (metrics.config().clone(), shutdown.clone());
            let parts =
                ReloaderParts { source, current, clients, engine, admin_keys, metrics, clock, shutdown };
            Reloader::new(parts)
        });
        let api = Api::new(ApiParts {
            store: store.clone(),
            keyring,
            metrics: metrics.http().clone(),
            clock,
            shutdown: shutdown.clone(),
            settings: api_settings(&config),
            board: api_board(&current, engine.board, reloader.clone(), &metrics),
            calls: interactive(&config, engine.calls),
        });
        let admin_address = admin.as_ref().map(|(_, address)| *address);
        let surface = if admin.is_some() { Surface::Clients } else { Surface::Whole };
        let served = [(listener, surface)].into_iter();
        for (listener, surface) in served.chain(admin.map(|(listener, _)| (listener, Surface::Operators))) {
            let routes = api::routes(&api, surface);
            server.spawn(api::serve(listener, routes, ServerSettings::default(), server.clone()));
        }
        if let Some(reloader) = reloader.clone() {
            shutdown.spawn(reloader.follow_files());
        }
        shutdown.spawn(upkeep::count_batches(store.clone(), metrics.batches().clone(), shutdown.clone()));
        shutdown.spawn(upkeep::sweep(store.clone(), clock, shutdown.clone()));
        Ok(Self { address, admin_address, store, shutdown, server, reloader })
    }

    /// Reads the configuration again and takes it over, in the background: what comes of it is in the log.
    pub fn reload(&self) {
        let Some(reloader) = self.reloader.clone() else { return };
        tokio::spawn(async move { reloader.reload(Trigger::Signal).await });
    }

    /// Ends it in order: nothing new starts, what is in flight finishes, the last replies go out, the store closes.
    pub async fn stop(self) {
        self.shutdown.begin();
        self.shutdown.finished().await;
        self.server.begin();
        if tokio::time::timeout(LAST_REPLIES, self.server.finished()).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
        }
        self.store.end_boot().await;
        self.store.close().await;
    }
}

/// Listens there; tells the port that was given for port 0.
async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), AppError> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|error| AppError::Listen { address, reason: error.to_string() })?;
    let address = listener.local_addr().unwrap_or(address);
    Ok((listener, address))
}

async fn open_keyring(
    config: &Config,
    store: &Store,
    clock: Clock,
    shutdown: &Shutdown,
) -> Result<(Keyring, AdminKeys), AppError> {
    let addresses = [Some(config.server.listen), config.server.admin_listen];
    let settings = KeyringSettings {
        mode: config.auth.mode,
        is_local: addresses.iter().flatten().all(|address| address.ip().to_canonical().is_loopback()),
        admin_keys: config.admin_keys.len(),
    };
    let keyring = Keyring::load(store.clone(), clock, settings).await?;
    if keyring.locks_everyone_out() {
        return Err(AppError::NoKeys);
    }
    let admin_keys = AdminKeys::follow(&config.admin_keys, &keyring, shutdown).await;
    shutdown.spawn(keyring.clone().follow(shutdown.clone()));
    Ok((keyring, admin_keys))
}

async fn open_store(
    config: &Config,
    address: SocketAddr,
    clock: Clock,
    metrics: &Metrics,
) -> Result<Store, StoreError> {
    let worker = WorkerSettings {
        name: worker_name::worker_name(address),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let settings = StoreSettings {
        location: config.store.location.clone(),
        worker,
        min_free: config.store.min_free.0,
        files_retention: Some(config.retention.files),
        results_retention: Some(config.retention.results),
    };
    Store::open(settings, clock, metrics.store().clone()).await
}

/// Who makes clients' own calls, if they are passed through.
fn interactive(config: &Config, calls: engine::Calls) -> Option<Arc<dyn Interactive>> {
    config.interactive.passthrough.then(|| Arc::new(calls) as Arc<dyn Interactive>)
}

fn api_settings(config: &Config) -> ApiSettings {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    ApiSettings {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        public_url: config.server.public_url.as_ref().map(|url| url.as_str().to_owned()),
        cors_origins: config.server.cors_origins.clone(),
        compress: config.server.compress,
        max_items: u64::from(config.batches.max_items.get()),
        max_line: size(config.batches.max_line.0),
        max_file: config.batches.max_file.0,
        max_inline: size(config.batches.max_inline.0),
        max_wait: config.interactive.max_wait,
    }
}

fn api_board(
    current: &Current,
    progress: engine::Board,
    reloader: Option<Reloader>,
    metrics: &Metrics,
) -> Board {
    let (lanes, listed, served, metrics) =
        (current.clone(), current.clone(), current.clone(), metrics.clone());
    let items = progress.clone();
    let (limits, pauses, reach) = (progress.clone(), progress.clone(), progress.clone());
    Board {
        has_lane: Arc::new(move |model| !lanes.get().route(model).is_empty()),
        limits: Arc::new(move |of_app| {
            let limits = limits.clone();
            Box::pin(async move { limits.limits(of_app).await })
        }),
        item: Arc::new(move |ItemPlace { batch, segment, line }| {
            let items = items.clone();
            Box::pin(async move { items.item(batch, segment, line).await })
        }),
        would_fit: Arc::new(move |question| {
            let reach = reach.clone();
            Box::pin(async move { reach.would_fit(question).await })
        }),
        pause_lane: Arc::new(move |LanePause { provider, model, paused }| {
            let pauses = pauses.clone();
            Box::pin(async move { pauses.pause_lane(provider, model, paused).await })
        }),
        progress: Arc::new(move |batch| progress.progress(batch)),
        reload: Arc::new(move |()| {
            let reloader = reloader.clone();
            Box::pin(async move {
                match reloader {
                    Some(reloader) => reloader.reload(Trigger::Call).await,
                    None => Err(ReloadRefused::NoSource),
                }
            })
        }),
        models: Arc::new(move || models(&listed.get())),
        model: Arc::new(move |name| model(&served.get(), name)),
        metrics_text: Arc::new(move || metrics.encode().unwrap_or_default()),
    }
}

/// A model that some lane serves.
fn model(config: &Config, name: &str) -> Option<ModelEntry> {
    let preferred = config.route(name).into_iter().next()?;
    Some(ModelEntry { id: name.to_owned(), owned_by: preferred.provider.name.clone() })
}

/// The models that configured lanes name outright; patterns name none.
fn models(config: &Config) -> Vec<ModelEntry> {
    let lanes = config.providers.iter().flat_map(|provider| &provider.lanes);
    let named = lanes.map(|lane| &lane.pattern).filter(|pattern| pattern.is_exact());
    let names: BTreeSet<&str> = named.map(Pattern::as_str).collect();
    names.into_iter().filter_map(|name| model(config, name)).collect()
}
