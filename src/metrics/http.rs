//! The metrics of our own HTTP server.

use std::time::Duration;

use prometheus::{HistogramVec, Registry};

use super::declare::{LOCAL_SECONDS, metrics};

metrics! {
    /// What our own HTTP server does.
    pub struct HttpMetrics {
        /// Seconds until a call's response was complete.
        request_seconds: HistogramVec = "http_request_duration_seconds" ["method", "route", "status"] LOCAL_SECONDS;
    }
}

/// Methods that have a series of their own; clients can invent others without end.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl HttpMetrics {
    /// The route of calls that matched none.
    pub const UNMATCHED: &'static str = "unmatched";

    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::register(registry)?;
        metrics.request_seconds.with_label_values(&["GET", Self::UNMATCHED, "404"]);
        Ok(metrics)
    }

    /// Lists a route's series for 200 at 0 before its first call. `route` is the pattern, never a path.
    pub fn declare(&self, method: &str, route: &str) {
        self.request_seconds.with_label_values(&[bounded(method), route, "200"]);
    }

    /// A call was answered; `route` is the pattern that it matched, or [`HttpMetrics::UNMATCHED`].
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let mut buffer = [0; 3];
        let status = three_digits(status, &mut buffer);
        self.request_seconds.with_label_values(&[bounded(method), route, status]).observe(took.as_secs_f64());
    }
}

fn bounded(method: &str) -> &str {
    if METHODS.contains(&method) { method } else { "other" }
}

/// The status without an allocation per call.
fn three_digits(status: u16, buffer: &mut [u8; 3]) -> &str {
    let status = status.clamp(100, 999);
    for (place, divisor) in buffer.iter_mut().zip([100, 10, 1]) {
        *place = b'0' + u8::try_from(status / divisor % 10).unwrap_or(0);
    }
    std::str::from_utf8(buffer).unwrap_or("000")
}
