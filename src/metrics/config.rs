//! The metrics of reading the configuration again.

use prometheus::{Gauge, IntCounterVec, IntGauge, Registry};

use crate::domain::time::Timestamp;

use super::declare::metrics;
use super::label::ReloadOutcome;

metrics! {
    /// What became of readings while the service ran.
    struct Reloads {
        /// Times that the configuration was read again while the service ran.
        reloads: IntCounterVec = "config_reloads_total" ["outcome"];
        /// 1 if the configuration could be used when it was read last, 0 if it was refused.
        success: IntGauge = "config_last_reload_success" [];
        /// When the configuration was read last that is in force, in seconds since the epoch.
        succeeded_at: Gauge = "config_last_reload_success_timestamp_seconds" [];
    }
}

/// What became of reading the configuration again.
#[derive(Clone, Debug)]
pub struct ConfigMetrics(Reloads);

impl ConfigMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self(Reloads::register(registry)?);
        for outcome in ReloadOutcome::ALL {
            metrics.0.reloads.with_label_values(&[outcome.as_str()]);
        }
        Ok(metrics)
    }

    /// It was read for the first time, and could be used.
    pub fn started(&self, now: Timestamp) {
        self.0.success.set(1);
        self.0.succeeded_at.set(now.micros() as f64 / 1e6);
    }

    /// It was read again.
    pub fn reloaded(&self, outcome: ReloadOutcome, now: Timestamp) {
        self.0.reloads.with_label_values(&[outcome.as_str()]).inc();
        match outcome {
            ReloadOutcome::Applied | ReloadOutcome::Unchanged => self.started(now),
            ReloadOutcome::Refused => self.0.success.set(0),
        }
    }
}
