//! What the engine lets others see of the batches it runs: written by the dispatcher, read by whoever asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::BatchKey;
use crate::domain::progress::Progress;

/// The present progress of every running batch. Cheap to clone; all clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Board {
    batches: Arc<Mutex<HashMap<BatchKey, Progress>>>,
}

impl Board {
    /// The progress of a batch; nothing is running of one that is not on the board.
    pub fn progress(&self, batch: BatchKey) -> Progress {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.get(&batch).cloned().unwrap_or_default()
    }

    pub(super) fn publish(&self, batch: BatchKey, progress: Progress) {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).insert(batch, progress);
    }

    pub(super) fn remove(&self, batch: BatchKey) {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).remove(&batch);
    }
}
