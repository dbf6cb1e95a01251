//! Writing the rest of a batch that was cancelled or has expired, so that every item ends as a row.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::domain::batch::{BatchRecord, BatchStatus};
use crate::domain::result::{ErrorCode, ItemStatus, NewResult, Payload};
use crate::domain::segment::SegmentHead;
use crate::metrics::{LaneMetrics, Outcome};
use crate::store::{Flush, Recorded, Store, StoreError};

use super::attempt::unsent;
use super::loader::{HEAD_PAGE, Wanted, load};

/// Flushes under way at once: enough to keep the writer busy, and what memory is bounded by.
const AHEAD: usize = 4;

/// What one closer works with.
#[derive(Debug)]
pub(super) struct Closer {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) record: BatchRecord,
    /// Where each model's items are counted.
    pub(super) metrics: HashMap<String, Arc<LaneMetrics>>,
    sent: VecDeque<oneshot::Receiver<Result<Recorded, StoreError>>>,
}

impl Closer {
    pub(super) fn new(store: Store, clock: Clock, record: BatchRecord) -> Self {
        Self { store, clock, record, metrics: HashMap::new(), sent: VecDeque::new() }
    }

    /// Writes every missing row; the last one ends the batch.
    ///
    /// Rows that exist already are dropped by the flush, so starting over after a crash is harmless.
    pub(super) async fn run(mut self) -> Result<(), StoreError> {
        for segment in self.store.leased_segments(self.record.key).await? {
            let heads = self.store.segment_heads(self.record.file, None, segment, 1).await?;
            for head in heads.into_iter().filter(|head| head.no == segment) {
                self.close_segment(head, true).await?;
            }
        }
        for cursor in self.store.cursors(self.record.key).await? {
            let mut from = cursor.next_segment;
            loop {
                let heads =
                    self.store.segment_heads(self.record.file, Some(&cursor.model), from, HEAD_PAGE).await?;
                let Some(last) = heads.last() else {
                    break;
                };
                from = last.no + 1;
                for head in heads {
                    self.close_segment(head, false).await?;
                }
            }
        }
        while !self.sent.is_empty() {
            self.acknowledged().await?;
        }
        Ok(())
    }

    async fn close_segment(&mut self, head: SegmentHead, leased: bool) -> Result<(), StoreError> {
        let batch = self.record.key;
        let wanted =
            Wanted { batch, file: self.record.file, head: head.clone(), resumed: leased, duplicates: false };
        let loaded = load(&self.store, &wanted).await;
        let (now, ending) = (self.clock.now(), self.ending());
        let mut results: Vec<NewResult> = Vec::new();
        for entry in loaded.open.items() {
            if loaded.done.contains(&entry.line) {
                continue;
            }
            let custom_id = loaded.open.custom_id(entry);
            results.push(unsent(batch, entry.line, custom_id, ending.clone(), now));
        }
        if let Some(metrics) = self.metrics.get(&*head.model) {
            let outcome = if ending.0 == ItemStatus::Expired { Outcome::Expired } else { Outcome::Cancelled };
            results.iter().for_each(|_| metrics.item_ended(outcome, None));
        }
        let finished_segments = if leased { vec![(batch, head.no)] } else { Vec::new() };
        let flush = Flush { results, finished_segments, ..Flush::default() };
        self.sent.push_back(self.store.record(flush));
        if self.sent.len() >= AHEAD {
            self.acknowledged().await?;
        }
        Ok(())
    }

    async fn acknowledged(&mut self) -> Result<(), StoreError> {
        match self.sent.pop_front() {
            Some(reply) => reply.await.unwrap_or(Err(StoreError::Closed)).map(drop),
            None => Ok(()),
        }
    }

    fn ending(&self) -> (ItemStatus, Payload) {
        let error = |code, message: &str| Payload::Error { code, message: message.to_owned() };
        let failed_fast =
            self.record.errors.first().is_some_and(|first| first.code == ErrorCode::FailFast.as_str());
        match self.record.status {
            BatchStatus::Expiring => {
                let message = "This request could not be executed before the completion window expired.";
                (ItemStatus::Expired, error(ErrorCode::BatchExpired, message))
            }
            _ if failed_fast => {
                let message = "Another request of this batch failed and on_error is fail_fast.";
                (ItemStatus::Cancelled, error(ErrorCode::FailFast, message))
            }
            _ => {
                let message = "This request was not executed because its batch was cancelled.";
                (ItemStatus::Cancelled, error(ErrorCode::BatchCancelled, message))
            }
        }
    }
}
