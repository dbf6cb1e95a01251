//! Why the store refuses or fails.

use std::path::PathBuf;

use thiserror::Error;

use crate::domain::app::OverQuota;

/// What the store answers instead of a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The disk is full, or less than `store.min_free` is left: nothing new is taken.
    #[error("the disk that holds the store is full")]
    Full,
    /// It would not fit in what its app may hold.
    #[error("{0}")]
    OverQuota(OverQuota),
    /// Another process runs on this data folder.
    #[error("the data folder {} is used by another process", .0.display())]
    InUse(PathBuf),
    /// A copy into this schema runs, or services run on the schema that is to be copied to.
    #[error("the schema {0} is used by another process, or was until a moment ago")]
    SchemaInUse(String),
    /// This worker was not heard of for too long, and others have taken its work over.
    #[error("this worker was not heard of for too long: its work is others' now")]
    Fenced,
    /// A copy into this schema was begun and has not ended.
    #[error(
        "the schema {0} holds an unfinished copy of a store: finish it with `sluicegate store copy`, or drop the schema"
    )]
    UnfinishedCopy(String),
    /// A newer version of this program wrote the database.
    #[error("the database has schema {found}, this program knows up to {supported}; run a newer version")]
    NewerSchema {
        /// The oldest schema that programs must know to read it.
        found: u32,
        /// The newest schema this program knows.
        supported: u32,
    },
    /// What is stored contradicts itself.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database can't be reached or written at the moment.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// A word for logs and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::OverQuota(_) => "over_quota",
            Self::InUse(_) | Self::SchemaInUse(_) => "in_use",
            Self::Fenced => "fenced",
            Self::UnfinishedCopy(_) => "unfinished_copy",
            Self::NewerSchema { .. } => "newer_schema",
            Self::Damaged(_) => "damaged",
            Self::Unavailable(_) => "unavailable",
            Self::Closed => "closed",
        }
    }
}

/// What a row can't be.
pub(super) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(what.to_owned())
}

/// What every method of the store returns.
pub type Result<T> = std::result::Result<T, StoreError>;
