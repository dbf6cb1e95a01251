//! What a command sees of the transaction it runs in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::Connection;

use super::batch_rows;
use super::fault::Fault;
use crate::domain::ids::BatchKey;
use crate::domain::time::Timestamp;
use crate::store::shared::Effects;
use crate::store::state::BatchState;
use crate::store::usage_sums::UsageSums;

/// Batches remembered between commits; more are forgotten and read again.
const MOST_REMEMBERED: usize = 4_096;

/// One transaction, and what is to happen after its commit.
pub(crate) struct Writing<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) now: Timestamp,
    pub(crate) batches: &'c mut ActiveBatches,
    /// What apps used and this transaction is to count.
    pub(crate) usage: UsageSums,
    pub(crate) effects: Effects,
}

/// The running batches' states as committed or about to be, so that a flush reads none of them again.
#[derive(Debug, Default)]
pub(crate) struct ActiveBatches {
    known: HashMap<BatchKey, ActiveBatch>,
}

/// A running batch as the writer remembers it.
#[derive(Debug)]
pub(crate) struct ActiveBatch {
    pub(crate) state: BatchState,
    /// It may have rows in `retry`; while not, results need not look for one to delete.
    pub(crate) has_retries: bool,
    /// Its row must be rewritten before the commit.
    pub(crate) moved: bool,
}

impl ActiveBatches {
    /// The batch, if it takes results.
    pub(crate) fn get(
        &mut self,
        connection: &Connection,
        key: BatchKey,
    ) -> Result<Option<&mut ActiveBatch>, Fault> {
        let batch = match self.known.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let Some(state) = batch_rows::state(connection, key)? else { return Ok(None) };
                let has_retries = batch_rows::has_retries(connection, key)?;
                unknown.insert(ActiveBatch { state, has_retries, moved: false })
            }
        };
        Ok(Some(batch).filter(|batch| batch.state.status.accepts_results()))
    }

    /// A batch that just took its final state.
    pub(crate) fn ended_mut(&mut self, key: BatchKey) -> Option<&mut ActiveBatch> {
        self.known.get_mut(&key)
    }

    /// Those to rewrite, with their mark taken off.
    pub(crate) fn take_moved(&mut self) -> impl Iterator<Item = &ActiveBatch> {
        self.known.values_mut().filter_map(|batch| std::mem::take(&mut batch.moved).then_some(&*batch))
    }

    /// A command wrote the row itself: it is read again when needed.
    pub(crate) fn forget(&mut self, key: BatchKey) {
        self.known.remove(&key);
    }

    /// The transaction was rolled back: nothing remembered is sure.
    pub(crate) fn forget_all(&mut self) {
        self.known.clear();
    }

    /// After a commit: forgets ended batches, and all where they are too many.
    pub(crate) fn trim(&mut self, ended: &[BatchKey]) {
        for key in ended {
            self.known.remove(key);
        }
        if self.known.len() > MOST_REMEMBERED {
            self.known.clear();
        }
    }
}
