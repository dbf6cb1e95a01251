//! One commit: what is kept first, then jobs, each of which may fail alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::params;

use super::fault::{Fault, Severity};
use super::flush;
use super::large::LargeFlushes;
use super::payload::Packer;
use super::queue::{Job, Kept, Lane, PendingFlush, Queue};
use super::writing::{Effects, Writing};
use crate::domain::ids::BatchKey;
use crate::store::{Flush, Recorded, Result, StoreError};

/// Results of one commit: bounds what a long sync lets pile up in one transaction.
const MOST_RESULTS: usize = 4_096;
/// Time that the jobs of one lane may take of a commit; one always runs.
const JOBS_TIME: Duration = Duration::from_millis(5);

/// What must become durable, in the order it came.
#[derive(Default)]
pub(super) struct Kepts {
    leases: Vec<Lease>,
    flushes: Vec<PendingFlush>,
    /// Parts of flushes that wait for their large results: nobody waits for these alone.
    parts: Vec<Flush>,
    large: LargeFlushes,
}

/// A segment that runs.
struct Lease {
    batch: BatchKey,
    segment: u32,
    model: Arc<str>,
}

impl Kepts {
    /// Adds what was queued since, unless a failing disk has let enough pile up.
    pub(super) fn collect(&mut self, queue: &Queue) {
        let held: usize = self.flushes.iter().map(|pending| pending.flush.results.len()).sum();
        for kept in queue.take_kept(MOST_RESULTS.saturating_sub(held)) {
            match kept {
                Kept::Lease { batch, segment, model } => self.leases.push(Lease { batch, segment, model }),
                Kept::Flush(pending) => {
                    let (part, now) = self.large.sift(pending);
                    // In the order of arrival: a part must not overwrite what a newer flush says.
                    match (part, self.flushes.last_mut()) {
                        (Some(part), Some(last)) => {
                            last.flush.retries.extend(part.retries);
                            last.flush.ledger.extend(part.ledger);
                        }
                        (part, _) => self.parts.extend(part),
                    }
                    self.flushes.extend(now);
                }
            }
        }
    }

    /// Whether everything is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.flushes.is_empty() && self.parts.is_empty() && self.large.is_empty()
    }

    /// Writes all of it; the answers are in the order of [`Kepts::answer`].
    fn write(
        &self,
        writing: &mut Writing<'_>,
        packer: &mut Packer,
    ) -> std::result::Result<Vec<Recorded>, Fault> {
        for lease in &self.leases {
            write_lease(writing, lease)?;
        }
        self.large.write_piece(writing, packer)?;
        let complete = self.large.complete().into_iter();
        let flushes = complete.chain(&self.flushes).map(|pending| &pending.flush);
        let mut answers = flush::write(writing, packer, self.parts.iter().chain(flushes))?;
        // Nobody waits for the parts: their flush is answered with its results.
        answers.drain(..self.parts.len().min(answers.len()));
        flush::finish_segments(writing, self.large.finished_now())?;
        if answers.iter().any(|recorded| recorded.inserted > 0) {
            let sql = "UPDATE boot SET recorded = 1 WHERE id = (SELECT max(id) FROM boot) AND recorded = 0";
            writing.connection.prepare_cached(sql)?.execute([])?;
        }
        Ok(answers)
    }

    /// After the commit: tells everyone what became of their flush.
    pub(super) fn answer(&mut self, answers: Vec<Recorded>) {
        self.leases.clear();
        self.parts.clear();
        let complete = self.large.advance();
        for (pending, recorded) in complete.into_iter().chain(self.flushes.drain(..)).zip(answers) {
            // Nobody waits any more if this fails; the rows are there all the same.
            let _ = pending.reply.send(Ok(recorded));
        }
    }

    /// Gives up what was to be written.
    pub(super) fn refuse(&mut self, error: &StoreError) {
        self.leases.clear();
        self.parts.clear();
        let complete = self.large.advance();
        for pending in complete.into_iter().chain(self.flushes.drain(..)) {
            let _ = pending.reply.send(Err(error.clone()));
        }
    }
}

fn write_lease(writing: &mut Writing<'_>, lease: &Lease) -> std::result::Result<(), Fault> {
    if writing.batches.get(writing.connection, lease.batch)?.is_none() {
        return Ok(());
    }
    let sql = "INSERT OR REPLACE INTO batch_segment (batch, segment, worker, epoch) \
               VALUES (?1, ?2, 1, (SELECT coalesce(max(id), 0) FROM boot))";
    writing.connection.prepare_cached(sql)?.execute(params![lease.batch.0, lease.segment])?;
    let sql =
        "UPDATE cursor SET next_segment = ?3 + 1 WHERE batch = ?1 AND model = ?2 AND next_segment <= ?3";
    writing.connection.prepare_cached(sql)?.execute(params![lease.batch.0, lease.model, lease.segment])?;
    writing.effects.rows += 2;
    Ok(())
}

/// A commit in the making.
pub(super) struct Group<'c> {
    writing: Writing<'c>,
    jobs: Vec<RanJob>,
}

/// A job and how it went, to be told after the commit.
pub(super) struct RanJob {
    job: Box<dyn Job>,
    outcome: Result<()>,
}

impl RanJob {
    /// Tells its caller, now that the commit is durable.
    pub(super) fn answer(self) {
        self.job.answer(self.outcome);
    }

    /// Tells its caller that nothing was written.
    pub(super) fn refuse(self, error: &StoreError) {
        self.job.answer(self.outcome.and_then(|()| Err(error.clone())));
    }
}

/// A commit that is durable.
pub(super) struct Committed {
    pub(super) effects: Effects,
    pub(super) took: Duration,
    pub(super) answers: Vec<Recorded>,
    pub(super) ended: Vec<BatchKey>,
    pub(super) jobs: Vec<RanJob>,
}

/// A commit that did not happen.
pub(super) struct Failed {
    pub(super) fault: Fault,
    pub(super) jobs: Vec<RanJob>,
}

impl<'c> Group<'c> {
    pub(super) fn new(writing: Writing<'c>) -> Self {
        Self { writing, jobs: Vec::new() }
    }

    /// Runs and commits, or rolls back.
    pub(super) fn run(
        mut self,
        kepts: &Kepts,
        packer: &mut Packer,
        queue: &Queue,
    ) -> std::result::Result<Committed, Failed> {
        match self.transact(kepts, packer, queue) {
            Ok((answers, took)) => {
                let ended =
                    answers.iter().flat_map(|recorded| &recorded.ended).map(|(key, _)| *key).collect();
                Ok(Committed { effects: self.writing.effects, took, answers, ended, jobs: self.jobs })
            }
            Err(fault) => {
                // SQLite may have rolled back by itself already.
                if !self.writing.connection.is_autocommit() {
                    let _ = self.writing.connection.execute_batch("ROLLBACK");
                }
                Err(Failed { fault, jobs: self.jobs })
            }
        }
    }

    fn transact(
        &mut self,
        kepts: &Kepts,
        packer: &mut Packer,
        queue: &Queue,
    ) -> std::result::Result<(Vec<Recorded>, Duration), Fault> {
        let connection = self.writing.connection;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let answers = kepts.write(&mut self.writing, packer)?;
        self.run_jobs(queue, Lane::Control)?;
        self.run_jobs(queue, Lane::Bulk)?;
        let began = Instant::now();
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok((answers, began.elapsed()))
    }

    fn run_jobs(&mut self, queue: &Queue, lane: Lane) -> std::result::Result<(), Fault> {
        let began = Instant::now();
        while let Some(mut job) = queue.take_job(lane) {
            let outcome = self.run_job(job.as_mut());
            let (outcome, abandon) = match outcome {
                Ok(()) => (Ok(()), None),
                Err(fault) if self.goes_on_after(&fault) => (Err(fault.answer()), None),
                Err(fault) => (Err(fault.answer()), Some(fault)),
            };
            self.jobs.push(RanJob { job, outcome });
            if let Some(fault) = abandon {
                return Err(fault);
            }
            if began.elapsed() >= JOBS_TIME {
                break;
            }
        }
        Ok(())
    }

    /// Whether a job's failure leaves the transaction standing.
    fn goes_on_after(&self, fault: &Fault) -> bool {
        fault.severity() == Severity::Answer && !self.writing.connection.is_autocommit()
    }

    /// Runs a job so that its failure undoes nothing but its own writes.
    fn run_job(&mut self, job: &mut dyn Job) -> std::result::Result<(), Fault> {
        let connection = self.writing.connection;
        connection.prepare_cached("SAVEPOINT job")?.execute([])?;
        let outcome = job.run(&mut self.writing);
        if outcome.is_err() {
            self.writing.batches.forget_all();
            if !connection.is_autocommit() {
                connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
            }
        }
        if !connection.is_autocommit() {
            connection.prepare_cached("RELEASE job")?.execute([])?;
        }
        outcome
    }
}
