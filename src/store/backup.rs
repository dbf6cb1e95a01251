//! Backups of a database file: one consistent state of everything, taken while a service runs on it or while none does.
//!
//! Everything that a store keeps is in the one file, large payloads too, so a backup is a file as well: a database that
//! a service can be started on. On `PostgreSQL` that server's own tools make backups.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{Database, Store, StoreError, StoreLocation, sqlite};
use crate::domain::time::Timestamp;

/// The folder beside the database that a running service puts its backups into.
pub const FOLDER: &str = "backups";

/// How a backup goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupProgress {
    /// Bytes copied.
    pub copied: u64,
    /// Bytes to copy in all.
    pub total: u64,
}

/// A backup that is complete and on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Why there is no backup. Nothing is left of one that failed.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The store is on a server.
    #[error(
        "the store is on a PostgreSQL server: back it up with that server's own tools, pg_dump for its schema or \
         pg_basebackup for all of it"
    )]
    OnServer,
    /// There is no database.
    #[error("there is no database {} that this user can see", .0.display())]
    Missing(PathBuf),
    /// Something is there already.
    #[error("{} exists; name another file, or remove it", .0.display())]
    Exists(PathBuf),
    /// Another backup of the store, or to the same file, runs.
    #[error("another backup is being made")]
    Running,
    /// It would not leave enough room on the disk.
    #[error(
        "not enough room on the disk: {needed} bytes are needed beside `store.min_free`, {free} are free"
    )]
    NoRoom {
        /// Bytes that the backup needs.
        needed: u64,
        /// Bytes that are free, without what must stay free.
        free: u64,
    },
    /// It was told to stop.
    #[error("the backup was interrupted")]
    Interrupted,
    /// The database can't be read.
    #[error("the store: {0}")]
    Store(StoreError),
    /// The backup's file can't be written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Takes a backup of the database at `location` into a file that does not exist yet. Blocks.
///
/// `min_free`: bytes that stay free on the database's disk, or it is given up. `tell` is told how far it is, about a
/// hundred times a second at most, and answers whether to go on.
///
/// # Errors
/// See [`BackupError`].
pub fn backup(
    location: &StoreLocation,
    to: &Path,
    min_free: u64,
    tell: &mut dyn FnMut(BackupProgress) -> bool,
) -> Result<BackupReport, BackupError> {
    match location {
        StoreLocation::Sqlite(path) => sqlite::backup::backup(path, to, min_free, tell),
        StoreLocation::Postgres { .. } => Err(BackupError::OnServer),
    }
}

impl Store {
    /// Takes a backup into [`FOLDER`] beside the database, under a name made of `now`, and says in the log how far it is.
    /// It is made to its end even if nobody waits for this any more, unless `is_ending` says that the process ends.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn backup(
        &self,
        now: Timestamp,
        is_ending: impl Fn() -> bool + Send + 'static,
    ) -> Result<BackupReport, BackupError> {
        let Database::Sqlite(database) = &self.database else { return Err(BackupError::OnServer) };
        let database = std::sync::Arc::clone(database);
        let made = tokio::task::spawn_blocking(move || database.back_up(now, &is_ending));
        made.await.unwrap_or(Err(BackupError::Store(StoreError::Closed)))
    }
}
