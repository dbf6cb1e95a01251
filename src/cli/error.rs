//! Why a command could not do what was asked.

use std::io;

use super::client::Trouble;
use super::exit::Exit;
use super::table::TableError;
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
    /// `run` keeps its state beside its input, and can't.
    #[error("{}", state_refused(.0))]
    State(StoreError),
    /// The system refused a signal handler or threads.
    #[error("the process can't be set up: {0}")]
    Signals(io::Error),
    /// No answer from the server.
    #[error(transparent)]
    Unreachable(#[from] Trouble),
    /// The server ended a stream of events before the batch had ended.
    #[error("the server ended the connection: is it ending?")]
    StreamEnded,
    /// The provider does not take the key that it is given.
    #[error(
        "the provider refuses the key ({0}): nothing can run with it\n  put a good one where it is configured (such as \
         OPENAI_API_KEY); `sluicegate doctor` checks it. The same command goes on from here"
    )]
    ProviderKey(String),
    /// Arguments that don't go together or make no sense.
    #[error("{0}")]
    Use(String),
    /// The output is there already.
    #[error("{path} exists: --force replaces it", path = .0.display())]
    Exists(std::path::PathBuf),
    /// An input that can't be used.
    #[error("{path}: {error}", path = path.display())]
    Table {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        error: TableError,
    },
    /// The server's answer is an error.
    #[error("the server refused ({status}): {message}{hint}", hint = hint(*status))]
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
    /// Whether the same call may succeed later without anybody's doing: the server is away or starts again.
    pub(super) fn may_pass(&self) -> bool {
        let busy = matches!(self, Self::Refused { status: 429 | 502..=504, .. });
        busy || matches!(self, Self::Unreachable(_) | Self::StreamEnded)
    }

    /// Whether whoever reads standard output has seen enough, as in `sluicegate results ID | head`: no error.
    pub(super) fn is_left_by_reader(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code that it ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::NoDestination | Self::Use(_) => Exit::Usage,
            Self::App(AppError::NoKeys | AppError::Config(_)) => Exit::Usage,
            Self::Output(_) | Self::Local { .. } | Self::Exists(_) | Self::State(_) => Exit::Local,
            Self::Table { error: TableError::Io(_), .. } => Exit::Local,
            Self::Table { .. } => Exit::Usage,
            Self::Copy(error) => copy_exit(error),
            Self::Backup(error) => backup_exit(error),
            Self::Check(CheckError::Missing(_)) | Self::Due(DueError::Missing(_)) => Exit::Local,
            Self::Check(CheckError::Store(error)) | Self::Due(DueError::Store(error)) => store_exit(error),
            Self::Check(_) => Exit::SomeFailed,
            Self::Unreachable(_) | Self::StreamEnded => Exit::Unreachable,
            Self::Refused { status: 401 | 403, .. } | Self::ProviderKey(_) => Exit::KeyRefused,
            Self::Refused { status: 507, .. } => Exit::Local,
            Self::Refused { status: 400..500, .. } => Exit::Usage,
            Self::Refused { .. } => Exit::Unreachable,
            Self::App(_) | Self::Store(_) | Self::Logs(_) | Self::Signals(_) => Exit::SomeFailed,
        }
    }
}

/// Why a run's folder can't be used, and what to do about it.
fn state_refused(error: &StoreError) -> String {
    match error {
        StoreError::InUse(folder) => {
            format!("the same command runs already: it holds {}", folder.display())
        }
        error => format!(
            "{error}\n  a run keeps beside its input what was answered: copy the input to where you may write"
        ),
    }
}

/// What to do about a refusal, where that can be known.
fn hint(status: u16) -> &'static str {
    match status {
        401 => "\n  give a key of this service (sk-sg-…) with --api-key-file or in SLUICEGATE_API_KEY",
        403 => "\n  this needs a key of a larger scope: `sluicegate keys list` shows what there is",
        404 => {
            "\n  ids are those of the key's own app; administration may be served apart (server.admin_listen)"
        }
        413 => {
            "\n  the server's batches.max_items, max_file or max_line is lower than what is set here; give the same with --set"
        }
        507 => "\n  the disk of the service's data is full",
        _ => "",
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
pub(super) fn store_exit(error: &StoreError) -> Exit {
    if matches!(error, StoreError::Unavailable(_)) { Exit::Unreachable } else { Exit::SomeFailed }
}
