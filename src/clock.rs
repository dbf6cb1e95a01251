//! The process's clock: the only place that reads time for pure code.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::domain::time::Timestamp;

/// Wall time, or the time of a database, anchored once and then moved by the monotonic clock.
///
/// A jump of the wall clock while the process runs neither opens a limit nor expires a batch
/// early; reading the wall clock each time would do both.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Timestamp,
    started: Instant,
}

impl Clock {
    /// Anchored at the present wall time.
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { anchor: Timestamp::ZERO + wall, started: Instant::now() }
    }

    /// Showing `moment` at `at`, whatever the wall clock says. Where several processes work together they go by the
    /// time of their database, so that they agree on deadlines.
    pub const fn anchored(moment: Timestamp, at: Instant) -> Self {
        Self { anchor: moment, started: at }
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.anchor + self.started.elapsed()
    }

    /// The moment as tokio's timers want it; one in the past comes out as now.
    pub fn instant_of(&self, moment: Timestamp) -> Instant {
        self.started + moment.since(self.anchor)
    }
}
