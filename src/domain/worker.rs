//! Workers: the processes that share a store's work, as operators see them.

use super::time::Timestamp;

/// A worker's key in the store; 0 stands for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerKey(pub i64);

/// Whether a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It beats.
    Alive,
    /// It has not been heard of for too long; its work is taken over.
    Dead,
    /// It ended in order.
    Ended,
}

impl WorkerState {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Ended => "ended",
        }
    }
}

/// A worker's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRecord {
    /// Its key.
    pub key: WorkerKey,
    /// Its host and port: a process started there again is the same worker.
    pub name: String,
    /// Raised by every start and every takeover.
    pub epoch: i64,
    /// The program's version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was heard of last.
    pub beat_at: Timestamp,
    /// Whether it runs.
    pub state: WorkerState,
    /// Calls in flight, when it was heard of last.
    pub running: u32,
    /// Segments that it has leased.
    pub leases: u32,
}
