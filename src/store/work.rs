//! The engine's work: what is to run, what ran, and what must be known after a crash.

use tokio::sync::oneshot;

use crate::domain::batch::{BatchRecord, BatchStatus};
use crate::domain::file::LineProblem;
use crate::domain::ids::BatchKey;
use crate::domain::result::{NewResult, RetryRecord};
use crate::domain::segment::SegmentHead;
use crate::domain::time::Timestamp;

use super::sqlite::{Lane, Span, Writing, batch_rows, batches, boots, results, work};
use super::{Database, Result, Store, postgres};

/// How far leasing has come in one model's segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The model.
    pub model: String,
    /// The first segment number not leased yet.
    pub next_segment: u32,
}

/// What the engine learned since it last flushed; written as one.
#[derive(Clone, Debug, Default)]
pub struct Flush {
    /// Items that ended, in the order they did.
    pub results: Vec<NewResult>,
    /// Items that failed and will be tried again.
    pub retries: Vec<RetryRecord>,
    /// Leased segments whose items have all ended with this flush or before.
    pub finished_segments: Vec<(BatchKey, u32)>,
    /// Levels of the gate that changed.
    pub ledger: Vec<LedgerEntry>,
}

/// The saved state of one level of the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The level's name.
    pub name: String,
    /// Its state, as the gate writes it.
    pub state: Vec<u8>,
}

/// What became of a flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Rows written.
    pub inserted: u32,
    /// Results not written: their line has a row, or their batch takes none any more.
    pub dropped: u32,
    /// Batches that this flush ended, with their final state.
    pub ended: Vec<(BatchKey, BatchStatus)>,
}

/// What is known of the boot before this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootReport {
    /// This boot's number, from 1.
    pub boot: i64,
    /// The boot before ended cleanly, or there was none.
    pub clean: bool,
    /// The boot before recorded a result, or there was none.
    pub recorded_before: bool,
    /// The item that was alone in flight when boots died, and how many in a row did.
    pub alone: Option<(BatchKey, u32, u32)>,
}

/// # What is to run
impl Store {
    /// Every batch that takes results: in progress, expiring or cancelling.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn active_batches(&self) -> Result<Vec<BatchRecord>> {
        match &self.database {
            Database::Sqlite(database) => database.read(Span::Page, batch_rows::active).await,
            Database::Postgres(database) => postgres::batch_rows::active(database).await,
        }
    }

    /// A batch's cursors, one per model.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn cursors(&self, batch: BatchKey) -> Result<Vec<Cursor>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| work::cursors(connection, batch)).await
            }
            Database::Postgres(database) => postgres::work::cursors(database, batch).await,
        }
    }

    /// The numbers of the segments leased and unfinished.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn leased_segments(&self, batch: BatchKey) -> Result<Vec<u32>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| work::leased(connection, batch)).await
            }
            Database::Postgres(database) => postgres::work::leased(database, batch).await,
        }
    }

    /// Notes that a segment runs and moves the cursor of its model past it. Not awaited: the row is
    /// durable before any result recorded after this call. Where the database is shared [`Store::claim`] has done
    /// so, and this does nothing.
    pub fn lease(&self, batch: BatchKey, head: &SegmentHead) {
        match &self.database {
            Database::Sqlite(database) => database.lease(batch, head),
            Database::Postgres(_) => {}
        }
    }

    /// The lines from `first` to `last` that have a result, ascending.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn done_lines(&self, batch: BatchKey, first: u32, last: u32) -> Result<Vec<u32>> {
        match &self.database {
            Database::Sqlite(database) => {
                let done = move |connection: &_| results::done_lines(connection, batch, first, last);
                database.read(Span::Page, done).await
            }
            Database::Postgres(database) => {
                postgres::results::done_lines(&**database, batch, first, last).await.map_err(Into::into)
            }
        }
    }

    /// The retries that lines from `first` to `last` wait for, by line.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn retries(&self, batch: BatchKey, first: u32, last: u32) -> Result<Vec<RetryRecord>> {
        match &self.database {
            Database::Sqlite(database) => {
                let waiting = move |connection: &_| results::retries(connection, batch, first, last);
                database.read(Span::Page, waiting).await
            }
            Database::Postgres(database) => postgres::results::retries(database, batch, first, last).await,
        }
    }
}

/// # What ran
impl Store {
    /// Queues a flush ahead of every upload. Never blocks: what is unrecorded is bounded by the gate.
    /// A full disk delays the answer, it doesn't refuse the flush.
    pub fn record(&self, flush: Flush) -> oneshot::Receiver<Result<Recorded>> {
        match &self.database {
            Database::Sqlite(database) => database.record(flush),
            Database::Postgres(database) => database.record(flush),
        }
    }

    /// Fail-fast: a batch in progress begins to cancel, with this as its first error. `false`: it was
    /// not in progress.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn begin_cancelling(&self, batch: BatchKey, error: LineProblem) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => {
                let command = move |writing: &mut Writing<'_>| batches::fail_fast(writing, batch, error);
                database.write(Lane::Control, command).await
            }
            Database::Postgres(database) => postgres::batches::fail_fast(database, batch, error).await,
        }
    }

    /// A batch in progress begins to expire. `false`: it was not in progress.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn begin_expiring(&self, batch: BatchKey) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => {
                database.write(Lane::Control, move |writing| batches::expire(writing, batch)).await
            }
            Database::Postgres(database) => postgres::batches::expire(database, batch).await,
        }
    }

    /// The saved levels of the gate.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn ledger(&self) -> Result<Vec<LedgerEntry>> {
        match &self.database {
            Database::Sqlite(database) => database.read(Span::Page, work::ledger).await,
            Database::Postgres(database) => postgres::work::ledger(database).await,
        }
    }
}

/// # Boots
impl Store {
    /// Makes this process a worker and writes its boot's row, durable before the first dispatch; tells of the
    /// worker's boot before. What that one had leased and not finished is nobody's.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn begin_boot(&self, now: Timestamp) -> Result<BootReport> {
        match &self.database {
            Database::Sqlite(database) => {
                let worker = database.worker.clone();
                database.write(Lane::Control, move |writing| boots::begin(writing, &worker, now)).await
            }
            Database::Postgres(database) => postgres::boots::begin(database, now).await,
        }
    }

    /// Names the one item that is about to run alone; durable when this returns.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn name_alone(&self, batch: BatchKey, line: u32) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => {
                let command = move |writing: &mut Writing<'_>| boots::name_alone(writing, batch, line);
                database.write(Lane::Control, command).await
            }
            Database::Postgres(database) => postgres::boots::name_alone(database, batch, line).await,
        }
    }

    /// Notes that this boot ended cleanly, and lets others have what it leased and did not finish.
    pub async fn end_boot(&self) {
        // Without the note the next start is merely a careful one.
        let _ = match &self.database {
            Database::Sqlite(database) => database.write(Lane::Control, boots::end).await,
            Database::Postgres(database) => postgres::boots::end(database).await,
        };
    }
}
