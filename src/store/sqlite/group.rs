//! One commit: what is kept first, then jobs, each of which may fail alone.

use std::time::{Duration, Instant};

use rusqlite::params;

use super::fault::{Fault, Severity};
use super::flush;
use super::queue::{Job, Lane, Queue};
use super::results;
use super::writing::Writing;
use crate::domain::ids::BatchKey;
use crate::store::kept::{Kepts, Lease, ResultPiece};
use crate::store::payload::Packer;
use crate::store::shared::Effects;
use crate::store::{Recorded, Result, StoreError};

/// Time that the jobs of one lane may take of a commit; one always runs.
const JOBS_TIME: Duration = Duration::from_millis(5);

/// Writes what is kept; one answer for each of its flushes.
fn write_kept(
    writing: &mut Writing<'_>,
    packer: &mut Packer,
    kepts: &Kepts,
) -> std::result::Result<Vec<Recorded>, Fault> {
    for lease in kepts.leases() {
        write_lease(writing, lease)?;
    }
    if let Some(piece) = kepts.piece() {
        write_piece(writing, packer, &piece)?;
    }
    let answers = flush::write(writing, packer, kepts.flushes())?;
    flush::finish_segments(writing, kepts.finished_segments())?;
    if answers.iter().any(|recorded| recorded.inserted > 0) {
        let sql = "UPDATE boot SET recorded = 1 WHERE id = (SELECT max(id) FROM boot) AND recorded = 0";
        writing.connection.prepare_cached(sql)?.execute([])?;
    }
    Ok(answers)
}

/// Writes a piece of a large result, unless its line has a row already.
fn write_piece(
    writing: &mut Writing<'_>,
    packer: &mut Packer,
    piece: &ResultPiece<'_>,
) -> std::result::Result<(), Fault> {
    let (batch, line) = (piece.result.batch, piece.result.line);
    let takes = writing.batches.get(writing.connection, batch)?.is_some();
    // A row that is there may have pieces of its own under the same numbers.
    if takes && !results::has_line(writing.connection, batch, line)? {
        let (stored, compressed) = packer.pack(&piece.data);
        let sql = "INSERT OR REPLACE INTO result_chunk (batch, line, no, compressed, data) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        writing
            .connection
            .prepare_cached(sql)?
            .execute(params![batch.0, line, piece.no, compressed, stored])?;
        writing.effects.rows += 1;
    }
    Ok(())
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
        let answers = write_kept(&mut self.writing, packer, kepts)?;
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
