//! What can be wrong with a table.

use std::io;

/// Why a table can't be used. The file's name is not in it: whoever reports it knows the file.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The system can't read it, or can't write beside it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line of it.
    #[error("line {line}: {message}")]
    Line {
        /// Counted from 1, as editors do.
        line: u64,
        /// What is wrong there.
        message: String,
    },
    /// All of it.
    #[error("{0}")]
    Whole(String),
}

impl TableError {
    /// Something wrong in a line.
    pub(super) fn line(line: u64, message: impl Into<String>) -> Self {
        Self::Line { line, message: message.into() }
    }

    /// Something wrong with all of it.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self::Whole(message.into())
    }

    /// A reader's error: one of ours that came through it, or the system's.
    pub(super) fn from_read(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(error) => Self::Io(error),
        }
    }
}

impl From<TableError> for io::Error {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Io(error) => error,
            error => Self::other(error),
        }
    }
}
