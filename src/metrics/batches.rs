//! The metrics of batches as wholes.

use std::time::Duration;

use prometheus::{Gauge, HistogramVec, IntGaugeVec, Registry};

use super::declare::{BATCH_SECONDS, metrics};
use super::label::{BatchOutcome, BatchStatus};

metrics! {
    /// What batches do as wholes.
    pub struct BatchMetrics {
        /// Seconds from a batch's creation to its end.
        duration_seconds: HistogramVec = "batch_duration_seconds" ["outcome"] BATCH_SECONDS;
        /// Batches kept, by status.
        by_status: IntGaugeVec = "batches" ["status"];
        /// Seconds since the oldest unfinished batch was created; 0: none.
        oldest_pending_seconds: Gauge = "oldest_pending_seconds" [];
        /// Seconds that the running batch nearest to missing its deadline has to spare; 0: none runs.
        deadline_slack_seconds: Gauge = "deadline_slack_seconds" [];
    }
}

impl BatchMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::register(registry)?;
        for outcome in BatchOutcome::ALL {
            metrics.duration_seconds.with_label_values(&[outcome.as_str()]);
        }
        for status in BatchStatus::ALL {
            metrics.by_status.with_label_values(&[status.as_str()]);
        }
        Ok(metrics)
    }

    /// A batch ended, `took` after its creation.
    pub fn ended(&self, outcome: BatchOutcome, took: Duration) {
        self.duration_seconds.with_label_values(&[outcome.as_str()]).observe(took.as_secs_f64());
    }

    /// How many batches have this status.
    pub fn set_count(&self, status: BatchStatus, batches: i64) {
        self.by_status.with_label_values(&[status.as_str()]).set(batches);
    }

    /// The age of the oldest unfinished batch in seconds; 0: none.
    pub fn set_oldest_pending(&self, seconds: f64) {
        self.oldest_pending_seconds.set(seconds);
    }

    /// The least time to spare before a deadline in seconds, negative if one will be missed; 0: none runs.
    pub fn set_deadline_slack(&self, seconds: f64) {
        self.deadline_slack_seconds.set(seconds);
    }
}
