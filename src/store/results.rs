//! Results: read in pages, in either order.

use crate::domain::ids::BatchKey;
use crate::domain::result::{RetryRecord, StoredResult};

use super::sqlite::{Span, frontier, results};
use super::{Database, Result, Store, postgres};

/// In which order results come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultOrder {
    /// As they ended: by position, gapless.
    Completion,
    /// As their lines stand in the input.
    Input,
}

/// Which results come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultFilter {
    /// All.
    All,
    /// The output file's.
    Succeeded,
    /// The error file's: failed, expired and cancelled.
    NotSucceeded,
}

/// One page of a batch's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultQuery {
    /// Whose.
    pub batch: BatchKey,
    /// In which order.
    pub order: ResultOrder,
    /// The last position of the page before, or its last line under [`ResultOrder::Input`]; 0 at first.
    pub after: u64,
    /// Most rows; at most 500 are read at once.
    pub limit: usize,
    /// Which.
    pub filter: ResultFilter,
    /// Bytes of payload after which the page ends; its first row comes whatever its size.
    pub max_bytes: usize,
}

impl Store {
    /// A page of results.
    ///
    /// Under [`ResultOrder::Input`] a running batch has gaps beyond [`Store::input_frontier`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`](super::StoreError::Damaged) if a stored payload can't be read.
    pub async fn results(&self, query: ResultQuery) -> Result<Vec<StoredResult>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| results::page(connection, &query)).await
            }
            Database::Postgres(database) => postgres::results::page(database, &query).await,
        }
    }

    /// The position (or line, by the query's order) of the last row up to `until` among the first
    /// `limit` that a query matches, whatever their size; `None`: no row.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn last_result(&self, query: ResultQuery, until: u64) -> Result<Option<u64>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| results::last(connection, &query, until)).await
            }
            Database::Postgres(database) => postgres::results::last(database, &query, until).await,
        }
    }

    /// The first line that has an item without a result; `u32::MAX` once the batch is terminal.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn input_frontier(&self, batch: BatchKey) -> Result<u32> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| frontier::line(connection, batch)).await
            }
            Database::Postgres(database) => postgres::frontier::line(database, batch).await,
        }
    }

    /// The result of one line.
    ///
    /// # Errors
    /// As [`Store::results`].
    pub async fn result(&self, batch: BatchKey, line: u32) -> Result<Option<StoredResult>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Point, move |connection| results::of_line(connection, batch, line)).await
            }
            Database::Postgres(database) => postgres::results::of_line(database, batch, line).await,
        }
    }

    /// The retry that one line waits for.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn retry(&self, batch: BatchKey, line: u32) -> Result<Option<RetryRecord>> {
        Ok(self.retries(batch, line, line).await?.into_iter().next())
    }
}
