//! The metrics of the gate over all lanes.

use std::time::Duration;

use prometheus::{Histogram, Registry};

use super::declare::{WAIT_SECONDS, metrics};

metrics! {
    /// What the gate does over all lanes.
    pub struct GateMetrics {
        /// Seconds from a head's first try to be admitted until it was.
        wait_seconds: Histogram = "gate_wait_seconds" [] WAIT_SECONDS;
    }
}

impl GateMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Self::register(registry)
    }

    /// A head was admitted, `waited` after it first asked.
    pub fn waited(&self, waited: Duration) {
        self.wait_seconds.observe(waited.as_secs_f64());
    }
}
