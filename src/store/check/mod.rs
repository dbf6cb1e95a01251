//! Whether a store is whole: what the rows say of each other, and on `SQLite` the file and everything in it.
//!
//! It reads one state and changes nothing, so it can be asked of a store that a service runs on and of a backup alike.

mod rows;

use std::path::PathBuf;

use thiserror::Error;

use super::{StoreError, StoreLocation, postgres, sqlite};

pub(super) use self::rows::invariants;

/// Most lines about one kind of fault: where a disk lost a megabyte, ten thousand lines say no more than a hundred.
pub(super) const MOST_LINES: usize = 100;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong, one line each, with the kind of fault first.
    pub wrong: Vec<String>,
    /// What was looked at, by kind, with how many.
    pub looked_at: Vec<(&'static str, u64)>,
    /// What can't be checked here and why.
    pub left_out: Vec<&'static str>,
}

impl CheckReport {
    /// Adds what is wrong, up to [`MOST_LINES`] of a kind.
    pub(super) fn add(&mut self, kind: &str, wrong: impl IntoIterator<Item = String>) {
        let start = format!("{kind}: ");
        let before = self.wrong.iter().filter(|line| line.starts_with(&start)).count();
        for (no, line) in (before..).zip(wrong) {
            if no < MOST_LINES {
                self.wrong.push(format!("{start}{line}"));
            } else if no == MOST_LINES {
                self.wrong.push(format!("{start}and more"));
            }
        }
    }
}

/// Why a store can't be checked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckError {
    /// There is no database.
    #[error("there is no database {} that this user can see", .0.display())]
    Missing(PathBuf),
    /// The database is of an earlier version of this program.
    #[error(
        "the store has schema {found}, this program checks schema {supported}: bring it up to date with \
         `sluicegate migrate`, or check it with the version that wrote it"
    )]
    OlderSchema {
        /// Its schema.
        found: u32,
        /// The one that can be checked.
        supported: u32,
    },
    /// The database can't be read.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
}

impl CheckError {
    /// Refuses a schema that the checks were not written for.
    pub(super) fn unless_current(version: u32, supported: u32) -> Result<(), Self> {
        match version {
            found if found > supported => Err(StoreError::NewerSchema { found, supported }.into()),
            found if found < supported => Err(Self::OlderSchema { found, supported }),
            _ => Ok(()),
        }
    }
}

/// Checks a store. `tell` is told which part begins.
///
/// # Errors
/// See [`CheckError`]: what is wrong in the store is no error, it is in the report.
pub async fn check(
    location: &StoreLocation,
    tell: impl FnMut(&'static str) + Send + 'static,
) -> Result<CheckReport, CheckError> {
    match location.clone() {
        StoreLocation::Sqlite(path) => {
            let mut tell = tell;
            let check = move || sqlite::check::check(&path, &mut tell);
            tokio::task::spawn_blocking(check).await.map_err(|_| StoreError::Closed)?
        }
        StoreLocation::Postgres { url, schema, .. } => postgres::check::check(&url, &schema, tell).await,
    }
}
