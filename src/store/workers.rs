//! Workers: the processes that share a store, and what is whose.

use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::ids::{BatchKey, FileKey};
use crate::domain::segment::SegmentHead;
use crate::domain::time::Timestamp;
use crate::domain::worker::WorkerRecord;
use crate::wakeup::Wakeup;

use super::sqlite::{Span, workers};
use super::{Database, LedgerEntry, LimitsTold, Result, Store, postgres};

/// What this process is called among those that share its store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Where it listens, as others would reach it: a process that starts there later is the same worker.
    pub name: String,
    /// The program's version.
    pub version: String,
}

/// What is asked for when segments are claimed.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Of which batch.
    pub batch: BatchKey,
    /// Its input.
    pub file: FileKey,
    /// Of which model.
    pub model: Arc<str>,
    /// Where nobody else claims: the first segment number that was not given out. Else the database knows.
    pub from: u32,
    /// At most so many.
    pub most: usize,
    /// Only if no other worker has segments of this batch.
    pub alone: bool,
    /// To write the rest of a batch that is cancelled or expires.
    pub closing: bool,
}

/// A segment that is this worker's now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedSegment {
    /// What it holds.
    pub head: SegmentHead,
    /// Somebody ran it before: some of its lines may be done.
    pub resumed: bool,
}

/// What a claim gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The segments, those that ran before first.
    pub segments: Vec<ClaimedSegment>,
    /// Whether asking again may give something: at once after segments, after a moment without any.
    pub more: bool,
}

/// # What is whose
impl Store {
    /// Whether other processes may work on the same database.
    pub const fn is_shared(&self) -> bool {
        matches!(self.database, Database::Postgres(_))
    }

    /// Makes segments of a batch this worker's, durably where the database is shared: those that nobody runs any
    /// more, then untouched ones. Nothing is claimed of a batch that ended, or that is stopping unless to close it.
    ///
    /// Without segments and with `more`, somebody else is claiming at this moment. Without both there is nothing
    /// now; a batch that is to be run alone may be another's. [`Store::work_wakeup`] tells when work became free
    /// by an end, a takeover or [`Store::release`], but not that another worker has finished its last segment.
    ///
    /// To be awaited to its end: what is claimed by a call that was given up stays claimed.
    ///
    /// # Errors
    /// [`StoreError::Fenced`](super::StoreError::Fenced), and what every write may answer.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed> {
        match &self.database {
            Database::Sqlite(_) => {
                let heads =
                    self.segment_heads(claim.file, Some(&claim.model), claim.from, claim.most).await?;
                let more = heads.len() >= claim.most;
                let fresh = |head| ClaimedSegment { head, resumed: false };
                Ok(Claimed { segments: heads.into_iter().map(fresh).collect(), more })
            }
            Database::Postgres(database) => postgres::claims::claim(database, &claim).await,
        }
    }

    /// Lets others have this worker's unfinished segments of a batch.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn release(&self, batch: BatchKey) -> Result<()> {
        match &self.database {
            Database::Sqlite(_) => Ok(()),
            Database::Postgres(database) => postgres::claims::release(database, batch).await,
        }
    }

    /// The running batches and models of which there are segments that nobody runs. Empty where nobody else could
    /// have left any.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn orphans(&self) -> Result<Vec<(BatchKey, String)>> {
        match &self.database {
            Database::Sqlite(_) => Ok(Vec::new()),
            Database::Postgres(database) => postgres::claims::orphans(database).await,
        }
    }

    /// Whether a call may be started now: what this worker claimed is still its own, as far as it can know. Reads
    /// two atomics and the clock. False before [`Store::begin_boot`] where the database is shared.
    pub fn may_start(&self) -> bool {
        match &self.database {
            Database::Sqlite(_) => true,
            Database::Postgres(database) => database.membership().may_start(),
        }
    }

    /// Whether others have taken this worker's segments over. Then nothing of them may be started or finished any
    /// more, and [`Store::rejoin`] comes next.
    pub fn ownership_lost(&self) -> bool {
        match &self.database {
            Database::Sqlite(_) => false,
            Database::Postgres(database) => database.membership().is_lost(),
        }
    }

    /// Rung when [`Store::may_start`] or [`Store::ownership_lost`] changes.
    pub fn ownership_wakeup(&self) -> &Wakeup {
        &self.shared().ownership
    }

    /// Takes part again, after its segments were lost and let go of: whatever was this worker's is nobody's.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn rejoin(&self) -> Result<()> {
        match &self.database {
            Database::Sqlite(_) => Ok(()),
            Database::Postgres(database) => postgres::workers::rejoin(database).await,
        }
    }

    /// What the next beats tell of this worker: calls in flight, and segments that it has.
    pub fn note_load(&self, running: u32, leases: u32) {
        self.shared().told.note_load(running, leases);
    }

    /// What the next beats tell of the calls in flight, by batch.
    pub fn note_running(&self, by_batch: Vec<(BatchKey, u32)>) {
        self.shared().told.note_running(by_batch);
    }

    /// The calls of a batch that other living workers have in flight, as of the last beats: some seconds old.
    pub fn running_elsewhere(&self, batch: BatchKey) -> u64 {
        self.shared().told.running_elsewhere(batch)
    }

    /// What the next beats tell of the limits that this worker is configured with, in any words that are equal for
    /// equal limits.
    pub fn note_limits(&self, limits: &str) {
        self.shared().told.note_limits(limits);
    }

    /// The living workers that told other limits than this one, as of the last beat.
    pub fn limits_of_others(&self) -> Arc<[LimitsTold]> {
        self.shared().told.others()
    }

    /// Rung when [`Store::limits_of_others`] or [`Store::is_first`] changes.
    pub fn others_wakeup(&self) -> &Wakeup {
        self.shared().told.heard()
    }

    /// Whether this is the oldest living worker, as of the last beat: what belongs to all of them is told by that one
    /// alone. One that is cut off from the database is not: another one tells by then, and knows.
    pub fn is_first(&self) -> bool {
        self.shared().told.is_first() && !self.health().is_unheard
    }

    /// Every worker that is or was there, by its key. Those that ended long ago are forgotten.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        match &self.database {
            Database::Sqlite(database) => {
                let (now, (running, leases)) = (self.clock.now(), self.shared().told.load());
                let own = database.read(Span::Point, workers::all).await?;
                let here = |own| WorkerRecord { beat_at: now, running, leases, ..own };
                Ok(own.into_iter().map(here).collect())
            }
            Database::Postgres(database) => postgres::workers::all(database).await,
        }
    }
}

/// # What others tell
impl Store {
    /// The time of a database that several processes share, with the moment here at which it was so: what they all go
    /// by. `None` where the process's own clock will do.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn shared_time(&self) -> Result<Option<(Timestamp, Instant)>> {
        match &self.database {
            Database::Sqlite(_) => Ok(None),
            Database::Postgres(database) => postgres::workers::time(database).await.map(Some),
        }
    }

    /// Rung when another worker saved levels of the gate: [`Store::ledger_since`] tells which.
    pub fn levels_wakeup(&self) -> &Wakeup {
        &self.shared().levels
    }

    /// The levels that others saved after a version, and the version to ask with the next time; 0 at first. A level
    /// may be told more than once.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn ledger_since(&self, version: i64) -> Result<(Vec<LedgerEntry>, i64)> {
        match &self.database {
            Database::Sqlite(_) => Ok((Vec::new(), version)),
            Database::Postgres(database) => postgres::work::ledger_since(database, version).await,
        }
    }

    /// Whether the bells tell of what others do as soon as it is done. Else they are rung now and then, and whoever
    /// wants to know sooner has to look.
    pub fn hears_others(&self) -> bool {
        match &self.database {
            Database::Sqlite(_) => true,
            Database::Postgres(_) => self.shared().hears_others(),
        }
    }
}
