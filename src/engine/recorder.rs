//! Results on their way to the store: gathered per round, sent as one flush, acknowledged in order.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::domain::ids::BatchKey;
use crate::domain::result::{NewResult, RetryRecord};
use crate::domain::time::Timestamp;
use crate::gate::{Gate, Grant, SaveNeed};
use crate::store::{Flush, LedgerEntry, Recorded, Store, StoreError};

/// What a flush carried, given back when it is durable.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// The unrecorded shares of its results.
    pub(super) grants: Vec<Grant>,
    /// The batches of its results, one entry a result.
    pub(super) batches: Vec<BatchKey>,
    /// The numbers of the calls that brought its results.
    pub(super) calls: Vec<u64>,
    /// Bytes of their replies that the memory level holds beyond the grants.
    pub(super) reply_bytes: u64,
    /// The gate's ledger as of then.
    pub(super) ledger: Option<u64>,
}

#[derive(Debug)]
struct Sent {
    reply: oneshot::Receiver<Result<Recorded, StoreError>>,
    carried: Carried,
}

#[derive(Debug, Default)]
pub(super) struct Recorder {
    next: Flush,
    carried: Carried,
    sent: VecDeque<Sent>,
}

impl Recorder {
    /// Adds a result; `grant` is what its call still holds.
    pub(super) fn result(&mut self, result: NewResult, grant: Option<Grant>) {
        self.carried.batches.push(result.batch);
        self.carried.grants.extend(grant);
        self.next.results.push(result);
    }

    /// The next result is that of this call, whose reply holds so much of the memory level beyond its grant.
    pub(super) fn reply(&mut self, call: u64, bytes: u64) {
        self.carried.calls.push(call);
        self.carried.reply_bytes += bytes;
    }

    /// Adds a result of a batch that this worker does not run any more; it counts if no other worker was quicker.
    pub(super) fn late_result(&mut self, result: NewResult, grant: Grant) {
        self.carried.grants.push(grant);
        self.next.results.push(result);
    }

    /// Adds what a restart must know of a failed attempt.
    pub(super) fn retry(&mut self, retry: RetryRecord) {
        self.next.retries.push(retry);
    }

    /// Every item of the segment has its result, here or earlier.
    pub(super) fn segment_finished(&mut self, batch: BatchKey, segment: u32) {
        self.next.finished_segments.push((batch, segment));
    }

    /// Sends what was gathered. The ledger rides along; alone it goes only if `ledger_alone` or a head waits for it.
    pub(super) fn send(&mut self, store: &Store, gate: &mut Gate, ledger_alone: bool, now: Timestamp) {
        let rides = match gate.save_need() {
            SaveNeed::Nothing => false,
            SaveNeed::Ride => ledger_alone || !self.is_empty(),
            SaveNeed::Now => true,
        };
        if rides && let Some(snapshot) = gate.snapshot_dirty(now) {
            self.carried.ledger = Some(snapshot.version);
            self.next.ledger = snapshot.states.iter().filter_map(ledger_entry).collect();
        }
        if self.is_empty() && self.carried.ledger.is_none() {
            return;
        }
        let reply = store.record(std::mem::take(&mut self.next));
        self.sent.push_back(Sent { reply, carried: std::mem::take(&mut self.carried) });
    }

    fn is_empty(&self) -> bool {
        self.next.results.is_empty() && self.next.retries.is_empty() && self.next.finished_segments.is_empty()
    }

    /// Whether everything gathered is durable.
    pub(super) fn is_idle(&self) -> bool {
        self.is_empty() && self.sent.is_empty()
    }

    /// The next acknowledgement, in the order of sending; never while nothing is under way. Cancel safe.
    pub(super) async fn acknowledged(&mut self) -> (Carried, Result<Recorded, StoreError>) {
        let Some(first) = self.sent.front_mut() else {
            return std::future::pending().await;
        };
        let recorded = (&mut first.reply).await.unwrap_or(Err(StoreError::Closed));
        let carried = self.sent.pop_front().map(|sent| sent.carried).unwrap_or_default();
        (carried, recorded)
    }

    /// The next acknowledgement if it is there already: one commit acknowledges several flushes.
    pub(super) fn acknowledged_now(&mut self) -> Option<(Carried, Result<Recorded, StoreError>)> {
        let recorded = match self.sent.front_mut()?.reply.try_recv() {
            Ok(recorded) => recorded,
            Err(TryRecvError::Closed) => Err(StoreError::Closed),
            Err(TryRecvError::Empty) => return None,
        };
        self.sent.pop_front().map(|sent| (sent.carried, recorded))
    }
}

fn ledger_entry(state: &crate::gate::LevelState) -> Option<LedgerEntry> {
    let json = serde_json::to_vec(state).ok()?;
    Some(LedgerEntry { name: format!("{}/{}", state.kind.as_str(), state.name), state: json })
}
