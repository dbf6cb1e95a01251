//! The store: files, batches, results and what the engine must remember, durable and grouped.
//!
//! Input is immutable, results are insert-only, and the mutable state is a few small rows per batch.
//! One thread or task records; whatever arrives while a commit runs forms the next one, so the sync is
//! shared without anything waiting for company. Reads go to connections of their own and never block it.
//!
//! Two databases can be behind it. Each method says here what it does and there, in `sqlite` and in
//! `postgres`, how: two plain sets of statements, side by side, are easier to read than one that is
//! bent to suit both. What is no statement is shared.

mod api_keys;
mod apps;
pub mod backup;
mod batches;
mod bells;
pub mod check;
pub mod copy;
mod error;
mod exchange;
mod files;
mod health;
pub mod inspection;
mod json;
mod kept;
mod key_columns;
mod large;
mod ownership;
mod packed_keys;
mod payload;
mod postgres;
mod previous_boot;
mod results;
mod retention;
mod shared;
mod sqlite;
mod state;
#[cfg(test)]
mod tests;
mod told;
mod usage_sums;
mod work;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use crate::wakeup::Wakeup;

use self::shared::Shared;

pub use self::api_keys::{KeyOrigin, KeyQuery, LiveKeys, MOST_LIVE_KEYS, NewKey, NewKeyOutcome};
pub use self::apps::{AppReport, MOST_APPS};
pub use self::batches::{
    BatchChange, BatchQuery, CancelOutcome, ChangeOutcome, CreateOutcome, DeleteOutcome, Idempotency,
    NewBatch,
};
pub use self::error::{Result, StoreError};
pub use self::files::{FileQuery, FileSalt, NewFile};
pub use self::health::StoreHealth;
pub use self::results::{ResultFilter, ResultOrder, ResultQuery};
pub use self::retention::{DueError, DueOfApp, Swept, due};
pub use self::told::LimitsTold;
pub use self::work::{BootReport, Cursor, Flush, LedgerEntry, Recorded};
pub use self::workers::{Claim, Claimed, ClaimedSegment, WorkerSettings};
pub use crate::config::StoreLocation;

/// Where the store lies and how long it keeps things.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The database.
    pub location: StoreLocation,
    /// This process among those that share it.
    pub worker: WorkerSettings,
    /// Bytes that must stay free on the disk of a database file: below, nothing new is taken.
    pub min_free: u64,
    /// How long uploaded files are kept; `None`: until deleted.
    pub files_retention: Option<Duration>,
    /// How long ended batches and their results are kept; `None`: until deleted.
    pub results_retention: Option<Duration>,
}

/// Whether what is configured can be a store, as far as can be told without opening or connecting to anything.
///
/// # Errors
/// Why not, in words, without the URL.
pub fn check_location(location: &StoreLocation) -> std::result::Result<(), String> {
    match location {
        StoreLocation::Sqlite(_) => Ok(()),
        StoreLocation::Postgres { url, .. } => postgres::check_url(url),
    }
}

/// Brings a database up to date and ends; makes it where there is none.
///
/// # Errors
/// As of [`Store::open`].
pub async fn migrate(location: StoreLocation) -> Result<()> {
    match location {
        StoreLocation::Sqlite(path) => {
            let migrate = move || sqlite::migrate(&path);
            tokio::task::spawn_blocking(migrate).await.map_err(|_| StoreError::Closed)?
        }
        StoreLocation::Postgres { url, schema, .. } => postgres::migrate(&url, &schema).await,
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, in the order asked for.
    pub data: Vec<T>,
    /// Whether more follow.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// The first `limit` of these, which are one more than that where more follow.
    fn of(mut found: Vec<T>, limit: usize) -> Self {
        let has_more = found.len() > limit;
        found.truncate(limit);
        Self { data: found, has_more }
    }
}

/// The store. Cloning shares it.
///
/// Dropping the last clone without [`Store::close`] leaves what a crash leaves: everything that was
/// acknowledged, and nothing else is promised.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    clock: Clock,
    files_retention: Option<Duration>,
    results_retention: Option<Duration>,
}

/// What is behind a store.
#[derive(Clone, Debug)]
enum Database {
    Sqlite(Arc<sqlite::Database>),
    Postgres(Arc<postgres::Database>),
}

impl Store {
    /// Opens or makes the database and starts what serves it. Called once, at start.
    ///
    /// # Errors
    /// [`StoreError::InUse`] or [`StoreError::SchemaInUse`], [`StoreError::UnfinishedCopy`],
    /// [`StoreError::NewerSchema`], [`StoreError::Damaged`], or [`StoreError::Unavailable`] when the folder or the server can't be used.
    pub async fn open(settings: StoreSettings, clock: Clock, metrics: StoreMetrics) -> Result<Self> {
        let StoreSettings { location, worker, min_free, files_retention, results_retention } = settings;
        let shared = Arc::new(Shared::new(metrics));
        let database = match location {
            StoreLocation::Sqlite(path) => {
                shared.metrics.set_min_free_bytes(min_free);
                let open = move || sqlite::Database::open(&path, min_free, worker, clock, shared);
                let opened = tokio::task::spawn_blocking(open).await;
                Database::Sqlite(Arc::new(opened.map_err(|_| StoreError::Closed)??))
            }
            StoreLocation::Postgres { url, schema, url_file } => {
                let opened = postgres::Database::open(&url, url_file, &schema, worker, shared);
                Database::Postgres(Arc::new(opened.await?))
            }
        };
        Ok(Self { database, clock, files_retention, results_retention })
    }

    /// Bells and gauges.
    fn shared(&self) -> &Shared {
        match &self.database {
            Database::Sqlite(database) => database.shared(),
            Database::Postgres(database) => database.shared(),
        }
    }

    /// Rung after a commit that made, changed, cancelled or expired a batch.
    pub fn work_wakeup(&self) -> &Wakeup {
        &self.shared().work
    }

    /// Rung after a commit that recorded results or changed a batch's status.
    pub fn progress_wakeup(&self) -> &Wakeup {
        &self.shared().progress
    }

    /// Rung when [`StoreHealth::takes_work`] changes.
    pub fn disk_wakeup(&self) -> &Wakeup {
        &self.shared().disk
    }

    /// How the store is, without asking the disk or the server.
    pub fn health(&self) -> StoreHealth {
        match &self.database {
            Database::Sqlite(database) => database.health(),
            Database::Postgres(database) => database.health(),
        }
    }

    /// Commits what is queued and gives the data folder or the schema free.
    pub async fn close(&self) {
        match &self.database {
            Database::Sqlite(database) => {
                let database = Arc::clone(database);
                // It joins threads; a runtime that is ending itself has let go of them already.
                let _ = tokio::task::spawn_blocking(move || database.end(true)).await;
            }
            Database::Postgres(database) => database.close().await,
        }
    }
}
