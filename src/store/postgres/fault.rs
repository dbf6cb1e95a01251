//! What goes wrong at the server or on the way to it, and how bad it is.

use std::error::Error as _;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// What statements return.
pub(crate) type Attempt<T> = std::result::Result<T, Fault>;

/// An error on its way to the caller, or to the flusher that must act on it first.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The command itself can't be done.
    Refused(StoreError),
    /// The server refused a statement, or an answer can't be read.
    Database(tokio_postgres::Error),
    /// The server was not reached, or did not answer in time.
    Away(String),
    /// The connection broke while this transaction committed, and what became of it can't be found out yet.
    Unknown(String),
}

/// What an error calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Tell the caller.
    Answer,
    /// The database takes no writes now; try again later.
    Away,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Database(error),
            PoolError::Closed => Self::Refused(StoreError::Closed),
            PoolError::Timeout(_) => Self::Away("no connection became free or was made in time".to_owned()),
            other => Self::Away(other.to_string()),
        }
    }
}

impl Fault {
    /// What it calls for.
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::Refused(_) => Severity::Answer,
            Self::Away(_) | Self::Unknown(_) => Severity::Away,
            Self::Database(error) => match error.code() {
                None if is_lost(error) => Severity::Away,
                None => Severity::Answer,
                // What the statement asks for is wrong; it would be the next time too. A right or a table that
                // is missing is the operator's to bring back, and a duplicate is somebody else's commit.
                Some(code) => match code {
                    &SqlState::INSUFFICIENT_PRIVILEGE
                    | &SqlState::UNDEFINED_TABLE
                    | &SqlState::UNDEFINED_COLUMN
                    | &SqlState::UNIQUE_VIOLATION => Severity::Away,
                    code if ["22", "23", "42"].contains(&class(code)) => Severity::Answer,
                    _ => Severity::Away,
                },
            },
        }
    }

    /// Whether the connection broke, so that it is not known what the server still did.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Database(error) => is_lost(error),
            Self::Refused(_) | Self::Unknown(_) => false,
        }
    }

    /// Whether the server said this.
    pub(super) fn is(&self, code: &SqlState) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(code))
    }

    /// As the caller sees it.
    pub(super) fn answer(&self) -> StoreError {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Away(reason) => StoreError::Unavailable(reason.clone()),
            Self::Unknown(id) => {
                StoreError::Unavailable(format!("it is not known whether transaction {id} was committed"))
            }
            Self::Database(error) => match error.code() {
                Some(&SqlState::DISK_FULL) => StoreError::Full,
                Some(&SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED) => {
                    StoreError::Damaged(told(error))
                }
                _ => StoreError::Unavailable(told(error)),
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
pub(super) fn damaged(what: &str) -> Fault {
    crate::store::error::damaged(what).into()
}

/// What the error says: the server's words with their code, or every cause down to the innermost.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let text = format!("{} ({})", said.message(), said.code().code());
        let too_many = *said.code() == SqlState::TOO_MANY_CONNECTIONS;
        return if too_many { format!("{text}; each replica takes up to 17 connections") } else { text };
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    // The driver's words: they have no code.
    if text.contains("does not allow writes") {
        return "the server is a standby or read-only; store.url must name the primary".to_owned();
    }
    if text.contains("password missing") {
        return "the server asks for a password, and store.url has none".to_owned();
    }
    text
}

/// The kind of a code: its first two characters.
fn class(code: &SqlState) -> &str {
    code.code().get(..2).unwrap_or_default()
}

/// The server is not there any more, or says that it goes.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    let gone = |code: &SqlState| {
        class(code) == "08"
            || [&SqlState::ADMIN_SHUTDOWN, &SqlState::CRASH_SHUTDOWN, &SqlState::CANNOT_CONNECT_NOW]
                .contains(&code)
            // Idle for too long, in a transaction or outside.
            || ["25P03", "57P05"].contains(&code.code())
    };
    let by_system = |error: &tokio_postgres::Error| {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if inner.is::<std::io::Error>() {
                return true;
            }
            cause = inner.source();
        }
        false
    };
    error.is_closed() || error.code().is_some_and(gone) || by_system(error)
}
