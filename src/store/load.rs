//! What a worker has in hand, as its beats tell it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Calls and segments. One may be a moment older than the other.
#[derive(Debug, Default)]
pub(super) struct Load {
    running: AtomicU32,
    leases: AtomicU32,
}

impl Load {
    /// Takes the present numbers: calls in flight, and segments.
    pub(super) fn note(&self, running: u32, leases: u32) {
        self.running.store(running, Ordering::Relaxed);
        self.leases.store(leases, Ordering::Relaxed);
    }

    /// The numbers noted last.
    pub(super) fn noted(&self) -> (u32, u32) {
        (self.running.load(Ordering::Relaxed), self.leases.load(Ordering::Relaxed))
    }
}
