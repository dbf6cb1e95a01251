//! Batches: made, listed, changed, cancelled and deleted.

use std::time::Duration;

use crate::domain::app::OverQuota;
use crate::domain::batch::{BatchOptions, BatchRecord, BatchStatus};
use crate::domain::endpoint::Endpoint;
use crate::domain::file::LineProblem;
use crate::domain::ids::{AppKey, BatchId, BatchKey, FileKey};
use crate::domain::time::Timestamp;

use super::sqlite::{Lane, Span, Writing, batch_lists, batch_rows, batches};
use super::{Database, Page, Result, Store, postgres};

/// A batch about to be made.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Its owner.
    pub app: AppKey,
    /// Its public id.
    pub id: BatchId,
    /// The complete file it runs.
    pub file: FileKey,
    /// The endpoint every line names; `None`: lines differ.
    pub endpoint: Option<Endpoint>,
    /// The one model; `None` when mixed.
    pub model: Option<String>,
    /// The completion window as the client wrote it.
    pub completion_window: String,
    /// Its length; the deadline is `created_at + window`.
    pub window: Duration,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Options beyond `OpenAI`'s.
    pub options: BatchOptions,
    /// Labels, in their order.
    pub metadata: Vec<(String, String)>,
    /// Items to run.
    pub total: u64,
    /// The file's models: one cursor each.
    pub models: Vec<String>,
    /// Why it can't run; any makes it end as `failed` with no items.
    pub problems: Vec<LineProblem>,
    /// How a repeated create is known.
    pub idempotency: Option<Idempotency>,
    /// Hash of everything the client asked for, kept for every batch.
    pub fingerprint: [u8; 32],
}

/// How a repeated create is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// The client named it; the name holds as long as the batch exists.
    Key {
        /// The client's name, per app.
        key: String,
        /// What the name stands for.
        fingerprint: [u8; 32],
    },
    /// The client says that it tries again: an equal batch made since then is the one it means.
    RetriedCreate {
        /// What it asks for.
        fingerprint: [u8; 32],
        /// How far back to look.
        since: Timestamp,
    },
}

/// What became of a create.
#[derive(Clone, Debug)]
pub enum CreateOutcome {
    /// A new batch.
    Created(BatchRecord),
    /// The batch that the same request made before; an inline file of this request was given up.
    Existing(BatchRecord),
    /// The key stands for another request; an inline file of this one was given up.
    KeyReused,
    /// It would not fit in what its app may hold; an inline file of it was given up.
    OverQuota(OverQuota),
}

/// Which batches to list, newest first.
#[derive(Clone, Debug)]
pub struct BatchQuery {
    /// Whose.
    pub app: AppKey,
    /// The last id of the page before; one that is unknown gives an empty page.
    pub after: Option<BatchId>,
    /// Most entries.
    pub limit: usize,
    /// Only those in this state.
    pub status: Option<BatchStatus>,
    /// Only those with all of these labels.
    pub metadata: Vec<(String, String)>,
}

/// What to change; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct BatchChange {
    /// New priority.
    pub priority: Option<i32>,
    /// New most in flight; `Some(None)` lifts the limit.
    pub max_concurrency: Option<Option<u32>>,
    /// New window as written, and its length from `created_at`.
    pub window: Option<(String, Duration)>,
    /// New labels in place of all.
    pub metadata: Option<Vec<(String, String)>>,
    /// Whether to start nothing.
    pub paused: Option<bool>,
}

/// What became of a change.
#[derive(Clone, Debug)]
pub enum ChangeOutcome {
    /// Done; the batch as it is now.
    Changed(Box<BatchRecord>),
    /// Not running: it is in this state.
    Refused(BatchStatus),
}

/// What became of a cancel.
#[derive(Clone, Debug)]
pub enum CancelOutcome {
    /// The app has no such batch.
    Unknown,
    /// Too late: completed, failed or expired.
    Ended(BatchRecord),
    /// Recorded, now or before; it may have ended as cancelled already.
    Cancelling(BatchRecord),
}

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The app has no such batch.
    Unknown,
    /// It runs.
    Active,
    /// Hidden at once; its rows go by and by.
    Deleted,
}

impl Store {
    /// Makes a batch, or finds the one that the same request made.
    ///
    /// # Errors
    /// [`StoreError::Damaged`](super::StoreError::Damaged) if the file is not complete;
    /// [`StoreError::Full`](super::StoreError::Full).
    pub async fn create_batch(&self, batch: NewBatch) -> Result<CreateOutcome> {
        match &self.database {
            Database::Sqlite(database) => {
                database.write_new(Lane::Control, move |writing| batches::create(writing, &batch)).await
            }
            Database::Postgres(database) => postgres::batches::create(database, &batch).await,
        }
    }

    /// What an equal request got before, or that its key was used for another: a create would find the same.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn asked_before(&self, app: AppKey, idempotency: Idempotency) -> Result<Option<CreateOutcome>> {
        match &self.database {
            Database::Sqlite(database) => {
                let found = move |connection: &_| batches::asked_before(connection, app, Some(&idempotency));
                database.read(Span::Point, found).await
            }
            Database::Postgres(database) => {
                let found = postgres::batches::asked_before(&**database, app, Some(&idempotency)).await;
                found.map_err(Into::into)
            }
        }
    }

    /// An app's batch.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn batch(&self, app: AppKey, id: &BatchId) -> Result<Option<BatchRecord>> {
        match &self.database {
            Database::Sqlite(database) => {
                let id = id.clone();
                database.read(Span::Point, move |connection| batch_rows::by_id(connection, app, &id)).await
            }
            Database::Postgres(database) => {
                postgres::batch_rows::by_id(&**database, app, id).await.map_err(Into::into)
            }
        }
    }

    /// A batch by its key; `None` once deleted.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn batch_by_key(&self, key: BatchKey) -> Result<Option<BatchRecord>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Point, move |connection| batch_rows::by_key(connection, key)).await
            }
            Database::Postgres(database) => {
                postgres::batch_rows::by_key(&**database, key).await.map_err(Into::into)
            }
        }
    }

    /// A page of an app's batches.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn batches(&self, query: BatchQuery) -> Result<Page<BatchRecord>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| batch_lists::page(connection, &query)).await
            }
            Database::Postgres(database) => postgres::batch_lists::page(database, &query).await,
        }
    }

    /// How many batches there are of each status, of all apps; those with none are left out.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn batch_counts(&self) -> Result<Vec<(BatchStatus, u64)>> {
        match &self.database {
            Database::Sqlite(database) => database.read(Span::Page, batch_lists::counts).await,
            Database::Postgres(database) => postgres::batch_lists::counts(database).await,
        }
    }

    /// Changes a batch that is in progress; `None`: the app has no such batch.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn change_batch(
        &self,
        app: AppKey,
        id: &BatchId,
        change: BatchChange,
    ) -> Result<Option<ChangeOutcome>> {
        match &self.database {
            Database::Sqlite(database) => {
                let id = id.clone();
                let command = move |writing: &mut Writing<'_>| batches::change(writing, app, &id, change);
                database.write(Lane::Control, command).await
            }
            Database::Postgres(database) => postgres::batches::change(database, app, id, change).await,
        }
    }

    /// Records a cancel.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn cancel_batch(&self, app: AppKey, id: &BatchId) -> Result<CancelOutcome> {
        match &self.database {
            Database::Sqlite(database) => {
                let id = id.clone();
                database.write(Lane::Control, move |writing| batches::cancel(writing, app, &id)).await
            }
            Database::Postgres(database) => postgres::batches::cancel(database, app, id).await,
        }
    }

    /// Hides an ended batch with its results, its output files and an inline input.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn delete_batch(&self, app: AppKey, id: &BatchId) -> Result<DeleteOutcome> {
        match &self.database {
            Database::Sqlite(database) => {
                let id = id.clone();
                database.write(Lane::Control, move |writing| batches::delete(writing, app, &id)).await
            }
            Database::Postgres(database) => postgres::batches::delete(database, app, id).await,
        }
    }
}
