//! Why a command could not do what was asked.

use std::io;

use super::exit::Exit;
use crate::app::AppError;
use crate::config::ConfigError;
use crate::logs::LogError;
use crate::store::backup::BackupError;
use crate::store::check::CheckError;
use crate::store::copy::CopyError;
use crate::store::{DueError, StoreError};

/// Why a command could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Logging can't be set up.
    #[error(transparent)]
    Logs(#[from] LogError),
    /// Standard output can't be written to.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// The service could not start.
    #[error(transparent)]
    App(#[from] AppError),
    /// Nothing names the database that a store is copied to.
    #[error("where to? Name a PostgreSQL database with --to, --to-file or the configuration's store.url")]
    NoDestination,
    /// The store's database can't be used.
    #[error(transparent)]
    Store(StoreError),
    /// A store can't be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// There is no backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A store can't be checked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// It can't be told what retention would erase.
    #[error(transparent)]
    Due(#[from] DueError),
    /// The system refused a signal handler or threads.
    #[error("the process can't be set up: {0}")]
    Signals(io::Error),
    /// No answer from the server.
    #[error("the server can't be reached: {0}")]
    Unreachable(reqwest::Error),
    /// The server's answer is an error.
    #[error("the server refused ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// A file of the user's.
    #[error("{path}: {error}", path = path.display())]
    Local {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl CliError {
    /// The exit code that it ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::NoDestination | Self::App(AppError::NoKeys) => Exit::Usage,
            Self::Output(_) | Self::Local { .. } => Exit::Local,
            Self::Copy(error) => copy_exit(error),
            Self::Backup(error) => backup_exit(error),
            Self::Check(CheckError::Missing(_)) | Self::Due(DueError::Missing(_)) => Exit::Local,
            Self::Check(CheckError::Store(error)) | Self::Due(DueError::Store(error)) => store_exit(error),
            Self::Check(_) => Exit::SomeFailed,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Refused { status: 401 | 403, .. } => Exit::KeyRefused,
            Self::Refused { status: 400..500, .. } => Exit::Usage,
            Self::Refused { .. } => Exit::Unreachable,
            Self::App(_) | Self::Store(_) | Self::Logs(_) | Self::Signals(_) => Exit::SomeFailed,
        }
    }
}

/// The file or its disk, the server, or what is in them.
fn copy_exit(error: &CopyError) -> Exit {
    match error {
        CopyError::Missing(_) | CopyError::Source(StoreError::Unavailable(_)) => Exit::Local,
        CopyError::Lost(_) | CopyError::Destination(StoreError::Unavailable(_)) => Exit::Unreachable,
        _ => Exit::SomeFailed,
    }
}

/// A file or its disk, or what is in them.
fn backup_exit(error: &BackupError) -> Exit {
    match error {
        BackupError::OnServer => Exit::Usage,
        BackupError::Interrupted => Exit::Interrupted,
        BackupError::Missing(_)
        | BackupError::Exists(_)
        | BackupError::NoRoom { .. }
        | BackupError::File { .. }
        | BackupError::Store(StoreError::Unavailable(_)) => Exit::Local,
        BackupError::Running | BackupError::Store(_) => Exit::SomeFailed,
    }
}

/// Whether it was not there or not good.
fn store_exit(error: &StoreError) -> Exit {
    if matches!(error, StoreError::Unavailable(_)) { Exit::Unreachable } else { Exit::SomeFailed }
}
