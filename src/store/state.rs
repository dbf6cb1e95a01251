//! A batch's mutable state and the rules it moves by: pure, the same for every database.

use crate::domain::batch::{BatchStatus, Counts, Moments, Sums};
use crate::domain::ids::{AppKey, BatchId, BatchKey, FileId};
use crate::domain::result::{ItemStatus, NewResult};
use crate::domain::time::Timestamp;

/// What a flush reads and moves of one batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BatchState {
    pub(super) key: BatchKey,
    pub(super) id: BatchId,
    pub(super) app: AppKey,
    pub(super) status: BatchStatus,
    pub(super) counts: Counts,
    pub(super) sums: Sums,
    pub(super) moments: Moments,
    pub(super) output_file_id: Option<FileId>,
    pub(super) error_file_id: Option<FileId>,
}

impl BatchState {
    /// The position that the next result gets; positions are dense because only this gives them.
    pub(super) fn next_position(&self) -> u64 {
        self.counts.recorded() + 1
    }

    /// Counts a row that was written. `line_bytes` is its length in a file.
    pub(super) fn count(&mut self, result: &NewResult, line_bytes: u64) {
        let (count, bytes) = match result.status {
            ItemStatus::Succeeded => (&mut self.counts.succeeded, &mut self.sums.output_bytes),
            ItemStatus::Failed => (&mut self.counts.failed, &mut self.sums.error_bytes),
            ItemStatus::Expired => (&mut self.counts.expired, &mut self.sums.error_bytes),
            ItemStatus::Cancelled => (&mut self.counts.cancelled, &mut self.sums.error_bytes),
        };
        *count += 1;
        *bytes += line_bytes;
        self.sums.attempts += u64::from(result.attempts);
        self.sums.retries += u64::from(result.attempts.saturating_sub(1));
        self.sums.usage.add(&result.usage);
        if let Some(started) = result.started_at {
            self.time(result.finished_at, started);
        }
        self.moments.last_result_at = self.moments.last_result_at.max(Some(result.finished_at));
    }

    fn time(&mut self, finished: Timestamp, started: Timestamp) {
        let micros = u64::try_from(finished.since(started).as_micros()).unwrap_or(u64::MAX);
        let sums = &mut self.sums;
        sums.timed_items += 1;
        sums.item_micros = sums.item_micros.saturating_add(micros);
        sums.min_item_micros = Some(sums.min_item_micros.map_or(micros, |least| least.min(micros)));
        sums.max_item_micros = sums.max_item_micros.max(Some(micros));
        let earliest = self.moments.started_at.map_or(started, |earliest| earliest.min(started));
        self.moments.started_at = Some(earliest);
    }

    /// Begins to cancel. `false`: it was not in progress.
    pub(super) fn begin_cancelling(&mut self, now: Timestamp) -> bool {
        let begins = self.status == BatchStatus::InProgress;
        if begins {
            self.status = BatchStatus::Cancelling;
            self.moments.cancelling_at = Some(now);
        }
        begins
    }

    /// Begins to expire. `false`: it was not in progress; a recorded cancel stays one.
    pub(super) fn begin_expiring(&mut self, now: Timestamp) -> bool {
        let begins = self.status == BatchStatus::InProgress;
        if begins {
            self.status = BatchStatus::Expiring;
            self.moments.finalizing_at = Some(now);
        }
        begins
    }

    /// Takes the final state once every item has its row. `true`: it did just now.
    pub(super) fn end_if_done(&mut self, now: Timestamp) -> bool {
        if !self.status.accepts_results() || self.counts.recorded() < self.counts.total {
            return false;
        }
        match self.status {
            BatchStatus::Cancelling => {
                self.status = BatchStatus::Cancelled;
                self.moments.cancelled_at = Some(now);
            }
            BatchStatus::Expiring => {
                self.status = BatchStatus::Expired;
                self.moments.expired_at = Some(now);
            }
            _ => {
                self.status = BatchStatus::Completed;
                self.moments.finalizing_at = Some(now);
                self.moments.completed_at = Some(now);
            }
        }
        true
    }

    /// When it took its final state.
    pub(super) fn ended_at(&self) -> Option<Timestamp> {
        let moments = &self.moments;
        match self.status {
            BatchStatus::Failed => moments.failed_at,
            BatchStatus::Completed => moments.completed_at,
            BatchStatus::Expired => moments.expired_at,
            BatchStatus::Cancelled => moments.cancelled_at,
            _ => None,
        }
    }
}
