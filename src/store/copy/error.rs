//! Why a store can't be copied.

use std::path::PathBuf;

use thiserror::Error;

use super::rows::Tally;
use crate::store::StoreError;

/// Why a store can't be copied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CopyError {
    /// There is no database to copy.
    #[error("there is no database {} that this user can see", .0.display())]
    Missing(PathBuf),
    /// The database to copy can't be read, or is in use.
    #[error("the store to copy from: {0}")]
    Source(StoreError),
    /// The database to copy is of an earlier version of this program.
    #[error(
        "the store to copy from has schema {found}, this program copies schema {supported}: start the service on it \
         once with this version, which brings it up to date, and stop it"
    )]
    OlderSchema {
        /// Its schema.
        found: u32,
        /// The one that can be copied.
        supported: u32,
    },
    /// The server or the schema can't be used.
    #[error("the store to copy to: {0}")]
    Destination(StoreError),
    /// The connection broke, or the hold on the schema was lost.
    #[error("the store to copy to: {0}; what was copied stays, and the same command goes on from there")]
    Lost(StoreError),
    /// The schema holds something else than a copy that was begun.
    #[error("the schema {schema} is not empty: its table {table} has rows; name another, or drop it")]
    NotEmpty {
        /// The schema.
        schema: String,
        /// The first table that has rows.
        table: String,
    },
    /// The schema holds part of a copy of something else.
    #[error(
        "the schema {0} holds part of a copy of another store, or of this one before its service ran again: drop the \
         schema and begin again"
    )]
    OtherSource(String),
    /// The two databases have not the same tables and columns.
    #[error("the two stores are not made alike: {0}")]
    Unlike(String),
    /// What arrived is not what was sent.
    #[error(
        "table {table} differs: {source_tally} where it comes from, {copy_tally} in the copy; the copy can't be used: \
         drop the schema and begin again"
    )]
    Differs {
        /// The table.
        table: String,
        /// What is in the store that is copied.
        source_tally: Box<Tally>,
        /// What is in the copy.
        copy_tally: Box<Tally>,
    },
}
