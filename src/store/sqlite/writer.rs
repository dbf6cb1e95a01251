//! The writer: one thread, one connection, one commit after another.
//!
//! It never lingers for company. Whatever arrives while a commit syncs makes up the next one, so that a
//! slow disk gets larger groups by itself and a fast one short waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::disk::Disk;
use super::fault::{Fault, Severity, fatal};
use super::group::Group;
use super::log::Log;
use super::queue::{Ending, Lane, Queue};
use super::writing::{ActiveBatches, Writing};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::kept::Kepts;
use crate::store::payload::Packer;
use crate::store::shared::{Effects, Shared};

/// How often the disk is measured, and after how long without work the log is emptied.
const TICK: Duration = Duration::from_secs(1);
/// Results of one commit: bounds what a long sync lets pile up in one transaction.
const MOST_RESULTS: usize = 4_096;
/// How long a disk that refused a write is left alone.
const REST: Duration = Duration::from_millis(250);

/// The writer thread's belongings.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) database: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue>,
    pub(super) clock: Clock,
    pub(super) disk: Disk,
    pub(super) log: Log,
    pub(super) batches: ActiveBatches,
    pub(super) packer: Packer,
    pub(super) kepts: Kepts,
    pub(super) measured: Instant,
}

impl Writer {
    /// Its life: returns when the end was asked for.
    pub(super) fn run(mut self) {
        let _guard = EndWithPanic;
        self.tell();
        loop {
            let busy = !self.kepts.is_empty() || self.queue.wait(TICK) || self.shared.has_usage();
            match self.queue.ending() {
                Some(Ending::Abort) => break,
                Some(Ending::Drain) if self.is_drained() => break,
                _ => {}
            }
            if busy {
                self.commit_group();
            } else {
                self.idle();
            }
            if self.measured.elapsed() >= TICK {
                self.measure();
            }
        }
        if self.queue.ending() == Some(Ending::Drain) {
            self.empty_log();
        }
        self.queue.clear();
    }

    /// Whether nothing is left that a clean end waits for. A disk that takes nothing holds no end up:
    /// what is not durable was never acknowledged.
    fn is_drained(&self) -> bool {
        self.disk.is_failing() || (self.kepts.is_empty() && self.queue.is_empty() && !self.shared.has_usage())
    }

    /// One commit of everything that waits.
    fn commit_group(&mut self) {
        // Unless a failing disk has let enough pile up.
        let room = MOST_RESULTS.saturating_sub(self.kepts.results());
        self.kepts.collect(self.queue.take_kept(room));
        let usage = self.shared.take_usage();
        let writing = Writing {
            connection: &self.connection,
            now: self.clock.now(),
            batches: &mut self.batches,
            usage: usage.clone(),
            effects: Effects::default(),
        };
        let group = Group::new(writing);
        let run = group.run(&self.kepts, &mut self.packer, &self.queue);
        match run {
            Ok(committed) => {
                self.batches.trim(&committed.ended);
                self.shared.metrics.committed(committed.effects.rows, committed.took);
                self.kepts.answer(committed.answers);
                for job in committed.jobs {
                    job.answer();
                }
                self.shared.ring(committed.effects);
                self.disk.write_succeeded();
                self.after_commit();
            }
            Err(failed) => {
                self.batches.forget_all();
                self.shared.put_usage_back(usage);
                for job in failed.jobs {
                    job.refuse(&failed.fault.answer());
                }
                self.failed(&failed.fault);
            }
        }
    }

    fn after_commit(&mut self) {
        if let Err(fault) = self.log.fold_if_grown(&self.connection) {
            self.failed(&fault);
        }
        self.tell();
    }

    /// Nothing waits: folds the log, and finds out whether a disk that refused takes writes again.
    fn idle(&mut self) {
        if self.disk.is_failing() {
            match self.connection.execute("UPDATE schema SET version = version", []) {
                Ok(_) => self.disk.write_succeeded(),
                Err(error) => self.failed(&error.into()),
            }
        } else {
            self.empty_log();
        }
        self.tell();
    }

    fn empty_log(&mut self) {
        if let Err(fault) = self.log.empty(&self.connection) {
            self.failed(&fault);
        }
    }

    /// Acts on what the database refused.
    fn failed(&mut self, fault: &Fault) {
        match fault.severity() {
            Severity::Fatal => fatal(fault),
            Severity::Disk => {
                let first = !self.disk.is_failing();
                // It is tried several times a second: one line says it all until it works again.
                if first {
                    tracing::warn!(error = %fault.answer(), "the database could not be written; trying again");
                }
                self.disk.write_failed();
                self.tell();
                self.refuse_jobs(&fault.answer());
                // At first there is the ballast's room: what is in flight goes there at once.
                if !first {
                    self.queue.wait_for_end(REST);
                }
            }
            Severity::Answer => {
                tracing::error!(error = %fault.answer(), "results could not be recorded");
                self.kepts.refuse(&fault.answer());
            }
        }
    }

    fn refuse_jobs(&self, error: &StoreError) {
        for lane in [Lane::Control, Lane::Bulk] {
            while let Some(job) = self.queue.take_job(lane) {
                job.answer(Err(error.clone()));
            }
        }
    }

    pub(super) fn measure(&mut self) {
        self.measured = Instant::now();
        self.disk.measure();
        self.shared.tell_size(std::fs::metadata(&self.database).map_or(0, |file| file.len()));
        self.tell();
    }

    fn tell(&self) {
        self.shared.tell_disk(self.disk.is_refusing(), Some(self.disk.free_bytes()));
        self.shared.tell_log(self.log.bytes());
    }
}

/// Ends the process if the writer panics: without it every write would wait for ever.
struct EndWithPanic;

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fatal(&StoreError::Unavailable("the writer panicked".to_owned()).into());
        }
    }
}
