//! The store: files, batches, results and what the engine must remember, durable and grouped.
//!
//! Input is immutable, results are insert-only, and the mutable state is a few small rows per batch.
//! One thread writes; whatever arrives while a commit runs forms the next one, so the sync is shared
//! without anything waiting for company. Reads go to connections of their own and never block it.

mod api_keys;
mod apps;
mod batches;
mod error;
mod files;
mod health;
mod results;
mod retention;
mod sqlite;
mod state;
#[cfg(test)]
mod tests;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use crate::wakeup::Wakeup;

use self::sqlite::Database;

pub use self::api_keys::{KeyOrigin, KeyQuery, LiveKeys, MOST_LIVE_KEYS, NewKey, NewKeyOutcome};
pub use self::apps::{AppReport, MOST_APPS};
pub use self::batches::{
    BatchChange, BatchQuery, CancelOutcome, ChangeOutcome, CreateOutcome, DeleteOutcome, Idempotency,
    NewBatch,
};
pub use self::error::{Result, StoreError};
pub use self::files::{FileQuery, NewFile};
pub use self::health::StoreHealth;
pub use self::results::{ResultFilter, ResultOrder, ResultQuery};
pub use self::retention::Swept;
pub use self::work::{BootReport, Cursor, Flush, LedgerEntry, Recorded};

/// Where the store lies and how long it keeps things.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The database file; its folder is the data folder.
    pub path: PathBuf,
    /// Bytes that must stay free on its disk: below, nothing new is taken.
    pub min_free: u64,
    /// How long uploaded files are kept; `None`: until deleted.
    pub files_retention: Option<Duration>,
    /// How long ended batches and their results are kept; `None`: until deleted.
    pub results_retention: Option<Duration>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, in the order asked for.
    pub data: Vec<T>,
    /// Whether more follow.
    pub has_more: bool,
}

/// The store. Cloning shares it.
///
/// Dropping the last clone without [`Store::close`] leaves what a crash leaves: everything that was
/// acknowledged, and nothing else is promised.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<Database>,
    files_retention: Option<Duration>,
    results_retention: Option<Duration>,
}

impl Store {
    /// Opens or makes the database and starts its threads. Blocks; called once, at start.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::NewerSchema`], [`StoreError::Damaged`], or
    /// [`StoreError::Unavailable`] when the folder can't be used.
    pub fn open(settings: StoreSettings, clock: Clock, metrics: StoreMetrics) -> Result<Self> {
        let database = Arc::new(Database::open(&settings, clock, metrics)?);
        let StoreSettings { files_retention, results_retention, .. } = settings;
        Ok(Self { database, files_retention, results_retention })
    }

    /// Rung after a commit that made, changed, cancelled or expired a batch.
    pub fn work_wakeup(&self) -> &Wakeup {
        self.database.work()
    }

    /// Rung after a commit that recorded results or changed a batch's status.
    pub fn progress_wakeup(&self) -> &Wakeup {
        self.database.progress()
    }

    /// Rung when [`StoreHealth::disk_full`] changes.
    pub fn disk_wakeup(&self) -> &Wakeup {
        self.database.disk()
    }

    /// How the store is, without asking the disk.
    pub fn health(&self) -> StoreHealth {
        self.database.health()
    }

    /// Commits what is queued, folds the log into the database and gives the data folder free.
    pub async fn close(&self) {
        let database = Arc::clone(&self.database);
        // It joins threads; a runtime that is ending itself has let go of them already.
        let _ = tokio::task::spawn_blocking(move || database.end(true)).await;
    }
}
