//! What handlers work with, built once.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;

use crate::clock::Clock;
use crate::config::{Change, Problem};
use crate::domain::ids::{AppKey, BatchKey};
use crate::domain::interactive::Interactive;
use crate::domain::limit_status::LimitStatus;
use crate::domain::progress::{ItemProgress, Progress, WindowQuestion, WouldFit};
use crate::ingest::IngestLimits;
use crate::metrics::HttpMetrics;
use crate::shutdown::Shutdown;
use crate::store::Store;

use super::body::Bodies;
use super::error::{ApiError, Refusal, Result};
use super::followers::Followers;
use super::intake::Intake;
use super::interactive::{PassThrough, Rooms};
use super::keyring::Keyring;

/// Limits and habits of the API, from the configuration.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// This program's version, shown at `/`.
    pub version: String,
    /// The address clients use, where a proxy stands in front: its origin is trusted like our own.
    pub public_url: Option<String>,
    /// Origins whose pages may call; empty: none.
    pub cors_origins: Vec<String>,
    /// Whether answers are packed for clients that ask for it.
    pub compress: bool,
    /// Most lines of one batch.
    pub max_items: u64,
    /// Most bytes of one line.
    pub max_line: usize,
    /// Most bytes of an uploaded file or an NDJSON body.
    pub max_file: u64,
    /// Most bytes of a JSON body.
    pub max_inline: usize,
    /// The longest wait of a client's own call in the gate.
    pub max_wait: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            version: String::new(),
            public_url: None,
            cors_origins: Vec::new(),
            compress: false,
            max_items: 1_000_000,
            max_line: 16 << 20,
            max_file: 512 << 20,
            max_inline: 32 << 20,
            max_wait: Duration::from_secs(30),
        }
    }
}

/// A model that lanes serve, as `GET /v1/models` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// The model's name.
    pub id: String,
    /// The provider that serves it first.
    pub owned_by: String,
}

/// Finds a model by its name.
pub type FindModel = Arc<dyn Fn(&str) -> Option<ModelEntry> + Send + Sync>;

/// A question to a task that answers in its own time.
pub type Ask<Q, A> = Arc<dyn Fn(Q) -> Pin<Box<dyn Future<Output = A> + Send>> + Send + Sync>;

/// A lane that is to be paused, or to go on.
#[derive(Clone, Debug)]
pub struct LanePause {
    /// Its provider.
    pub provider: String,
    /// Its model.
    pub model: String,
    /// Whether it is paused from now on.
    pub paused: bool,
}

/// A configuration that was taken over.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What is different from before.
    pub changes: Vec<Change>,
}

/// Why no configuration was taken over.
#[derive(Clone, Debug)]
pub enum ReloadRefused {
    /// It can't be used; everything that is wrong with it.
    Problems(Vec<Problem>),
    /// The process was started with one that can't be read again.
    NoSource,
    /// The process ends.
    Ending,
}

/// Where an item stands.
#[derive(Clone, Copy, Debug)]
pub struct ItemPlace {
    /// Its batch.
    pub batch: BatchKey,
    /// The segment of the batch's file that holds it.
    pub segment: u32,
    /// Its line.
    pub line: u32,
}

/// What the API asks of the rest of the process: closures, so that it depends on none of it.
#[derive(Clone)]
pub struct Board {
    /// Whether some lane serves a model; the empty name stands for lines that name none.
    pub has_lane: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// How a batch moves at the moment.
    pub progress: Arc<dyn Fn(BatchKey) -> Progress + Send + Sync>,
    /// Every limit and its use; of the apps' only one's, if that is given.
    pub limits: Ask<Option<AppKey>, Vec<LimitStatus>>,
    /// How far an item is that has no result.
    pub item: Ask<ItemPlace, ItemProgress>,
    /// What a batch could have instead of its window; nothing if it would end within that, as far as is known.
    pub would_fit: Ask<WindowQuestion, Option<WouldFit>>,
    /// Pauses a lane or ends its pause; tells its state then, nothing without such a lane.
    pub pause_lane: Ask<LanePause, Option<&'static str>>,
    /// Reads the configuration again and takes it over.
    pub reload: Ask<(), std::result::Result<Reloaded, ReloadRefused>>,
    /// The models that lanes name.
    pub models: Arc<dyn Fn() -> Vec<ModelEntry> + Send + Sync>,
    /// A model that some lane serves.
    pub model: FindModel,
    /// Every metric in Prometheus's text format.
    pub metrics_text: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Board {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Board").finish_non_exhaustive()
    }
}

/// Everything the API is built from.
#[derive(Clone)]
pub struct ApiParts {
    /// Files, batches and results.
    pub store: Store,
    /// Who may call.
    pub keyring: Keyring,
    /// Where calls are counted.
    pub metrics: HttpMetrics,
    /// The process's clock.
    pub clock: Clock,
    /// Once begun, nothing new is accepted and followers end; reads go on until the server stops.
    pub shutdown: Shutdown,
    /// Limits and habits.
    pub settings: ApiSettings,
    /// What the rest of the process tells.
    pub board: Board,
    /// Who makes clients' own calls; `None`: nobody does.
    pub calls: Option<Arc<dyn Interactive>>,
}

impl fmt::Debug for ApiParts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiParts").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The API's state. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Api {
    pub(super) store: Store,
    pub(super) keyring: Keyring,
    pub(super) metrics: HttpMetrics,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
    pub(super) settings: Arc<ApiSettings>,
    pub(super) board: Board,
    pub(super) followers: Followers,
    pub(super) intake: Intake,
    pub(super) bodies: Bodies,
    pub(super) interactive: PassThrough,
}

impl Api {
    /// Puts the parts together; starts nothing yet.
    pub fn new(parts: ApiParts) -> Self {
        let ApiParts { store, keyring, metrics, clock, shutdown, settings, board, calls } = parts;
        let limits = IngestLimits {
            max_line: settings.max_line,
            max_items: settings.max_items,
            max_bytes: settings.max_file,
        };
        Self {
            followers: Followers::new(store.clone(), shutdown.clone()),
            intake: Intake::new(store.clone(), clock, shutdown.clone(), limits),
            bodies: Bodies::new(),
            interactive: PassThrough {
                calls,
                max_wait: settings.max_wait,
                rooms: Rooms::new(settings.max_line),
            },
            store,
            keyring,
            metrics,
            clock,
            shutdown,
            settings: Arc::new(settings),
            board,
        }
    }

    /// Refuses what would begin new work while the process ends.
    pub(super) fn refuse_while_draining(&self) -> Result<()> {
        if self.shutdown.has_begun() { Err(draining()) } else { Ok(()) }
    }
}

/// What is said of work that does not begin, or does not get done, because the process ends.
pub(super) fn draining() -> ApiError {
    let why = "The server is shutting down and takes no new work. Try again in a few seconds.";
    ApiError::new(Refusal::Draining, why)
}

/// Lets a handler take the part it needs instead of everything.
macro_rules! parts {
    ($($field:ident: $part:ty),+ $(,)?) => {
        $(impl FromRef<Api> for $part {
            fn from_ref(api: &Api) -> Self {
                api.$field.clone()
            }
        })+
    };
}

parts! {
    store: Store,
    keyring: Keyring,
    clock: Clock,
    shutdown: Shutdown,
    settings: Arc<ApiSettings>,
    board: Board,
    followers: Followers,
    intake: Intake,
    bodies: Bodies,
}
