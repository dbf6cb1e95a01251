//! The process's clock: the only place that reads time for pure code.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::domain::time::Timestamp;

/// Wall time anchored once, then moved by the monotonic clock.
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

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.anchor + self.started.elapsed()
    }

    /// The moment as tokio's timers want it; one in the past comes out as now.
    pub fn instant_of(&self, moment: Timestamp) -> Instant {
        self.started + moment.since(self.anchor)
    }
}
