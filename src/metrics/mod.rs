//! Everything that `/metrics` tells, in one registry that belongs to one process.
//!
//! A metric's help text is the doc comment of its field, so that the two can't differ. Handles are
//! looked up once, when a lane or a route is made, and are plain atomics from then on.

mod batches;
mod config;
mod declare;
mod gate;
mod http;
mod label;
mod lanes;
mod store;

use std::sync::Arc;

use prometheus::{Registry, TextEncoder};

pub use self::batches::BatchMetrics;
pub use self::config::ConfigMetrics;
pub use self::gate::GateMetrics;
pub use self::http::HttpMetrics;
pub use self::label::{
    AttemptClass, BatchOutcome, BatchStatus, Kind, LaneStateLabel, Outcome, ReloadOutcome, RetryReason,
    TokenType, Upstream429,
};
pub use self::lanes::LaneMetrics;
pub use self::store::StoreMetrics;
/// Handed out where what it counts is counted in several places.
pub use prometheus::IntGauge;

use self::lanes::Lanes;

/// Why metrics could not be set up or written out; a defect of this program, never of its input.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// The process's metrics. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    lanes: Lanes,
    batches: BatchMetrics,
    config: ConfigMetrics,
    gate: GateMetrics,
    store: StoreMetrics,
    http: HttpMetrics,
}

impl Metrics {
    /// A fresh registry holding every metric; `version` is shown by `build_info`.
    ///
    /// # Errors
    /// A metric declared twice or with an unusable name, which the tests rule out.
    pub fn new(version: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let inner = Inner {
            lanes: Lanes::register(&registry)?,
            batches: BatchMetrics::new(&registry)?,
            config: ConfigMetrics::new(&registry)?,
            gate: GateMetrics::new(&registry)?,
            store: StoreMetrics::new(&registry)?,
            http: HttpMetrics::new(&registry)?,
            registry,
        };
        Build::register(&inner.registry)?.info.with_label_values(&[version]).set(1);
        register_process(&inner.registry)?;
        Ok(Self(Arc::new(inner)))
    }

    /// The handles of one lane, all of its series at 0 if it is new.
    ///
    /// The labels are those of the lane, so their number is bounded by the number of lanes: a model
    /// without a lane of its own must come as `other`.
    pub fn lane(&self, provider: &str, model: &str) -> Arc<LaneMetrics> {
        self.0.lanes.get(provider, model)
    }

    /// Removes the series of a lane that is gone, so that idle models leave no labels behind.
    pub fn retire_lane(&self, provider: &str, model: &str) {
        self.0.lanes.retire(provider, model);
    }

    /// What batches do as wholes.
    pub fn batches(&self) -> &BatchMetrics {
        &self.0.batches
    }

    /// What becomes of reading the configuration again.
    pub fn config(&self) -> &ConfigMetrics {
        &self.0.config
    }

    /// What the gate does over all lanes.
    pub fn gate(&self) -> &GateMetrics {
        &self.0.gate
    }

    /// What the store does.
    pub fn store(&self) -> &StoreMetrics {
        &self.0.store
    }

    /// What our own HTTP server does.
    pub fn http(&self) -> &HttpMetrics {
        &self.0.http
    }

    /// Every series in Prometheus's text format.
    ///
    /// # Errors
    /// A series that can't be written, which the tests rule out.
    pub fn encode(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.0.registry.gather())?)
    }
}

declare::metrics! {
    /// What is running.
    struct Build {
        /// 1, labelled with the version that is running.
        info: prometheus::IntGaugeVec = "build_info" ["version"];
    }
}

#[cfg(target_os = "linux")]
fn register_process(registry: &Registry) -> Result<(), MetricsError> {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    Ok(registry.register(Box::new(process))?)
}

// The collector reads /proc, which other systems lack.
#[cfg(not(target_os = "linux"))]
fn register_process(_: &Registry) -> Result<(), MetricsError> {
    Ok(())
}

#[cfg(test)]
mod tests;
