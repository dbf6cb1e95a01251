//! What goes wrong inside, and how bad it is.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::store::StoreError;

/// An error on its way to the caller, or to the writer that must act on it first.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The command itself can't be done.
    Refused(StoreError),
    /// The database failed.
    Database(rusqlite::Error),
}

/// What a database error calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Tell the caller.
    Answer,
    /// The disk takes no writes now; try again later.
    Disk,
    /// Nothing that this process knows about the file is certain any more.
    Fatal,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Fault {
    /// What it calls for.
    pub(crate) fn severity(&self) -> Severity {
        let Self::Database(rusqlite::Error::SqliteFailure(failure, _)) = self else {
            return Severity::Answer;
        };
        match (failure.code, failure.extended_code) {
            (_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
            | (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => Severity::Fatal,
            (
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory,
                _,
            ) => Severity::Disk,
            _ => Severity::Answer,
        }
    }

    /// As the caller sees it.
    pub(crate) fn answer(&self) -> StoreError {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Database(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => StoreError::Full,
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    StoreError::Damaged(error.to_string())
                }
                _ => StoreError::Unavailable(error.to_string()),
            },
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        fault.answer()
    }
}

/// What a row can't be.
pub(crate) fn damaged(what: &str) -> Fault {
    crate::store::error::damaged(what).into()
}

/// Ends the process.
///
/// After a failed fsync the kernel may have dropped the pages and marked them clean, so that a second
/// fsync reports success for data that is not there. Going on would acknowledge it; a restart reads
/// what really is on the disk.
pub(crate) fn fatal(fault: &Fault) -> ! {
    tracing::error!(
        error = %fault.answer(),
        "the database can't be trusted any more; exiting. Look at the disk, then run `sluicegate store check`; restore a \
         backup if that finds anything"
    );
    std::process::exit(1)
}
