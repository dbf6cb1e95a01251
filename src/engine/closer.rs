//! Writing the rest of a batch that was cancelled or has expired, so that every item ends as a row.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::domain::batch::{BatchRecord, BatchStatus};
use crate::domain::ids::BatchKey;
use crate::domain::result::{ErrorCode, ItemStatus, NewResult, Payload};
use crate::domain::segment::SegmentHead;
use crate::metrics::{LaneMetrics, Outcome};
use crate::store::{Claim, Flush, Recorded, Store, StoreError};

use super::attempt::unsent;
use super::loader::{HEAD_PAGE, Wanted, load};

/// Flushes under way at once: enough to keep the writer busy, and what memory is bounded by.
const AHEAD: usize = 4;

/// Segments that are claimed at once.
const CLAIMED: usize = 8;

/// Pause after the store did not answer, and before others are looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// What closers work with.
#[derive(Debug)]
pub(super) struct Closer {
    store: Store,
    clock: Clock,
    /// Where each model's items are counted.
    metrics: HashMap<String, Arc<LaneMetrics>>,
}

/// One run through a batch.
struct Run<'a> {
    closer: &'a Closer,
    record: BatchRecord,
    sent: VecDeque<oneshot::Receiver<Result<Recorded, StoreError>>>,
    ended: Option<BatchStatus>,
}

impl Closer {
    pub(super) fn new(store: Store, clock: Clock, metrics: HashMap<String, Arc<LaneMetrics>>) -> Self {
        Self { store, clock, metrics }
    }

    /// Writes every missing row of a batch that expires or is cancelled; the last one ends it. Tells the state
    /// that the batch took by this. Fails only if the store is closed.
    ///
    /// Rows that exist already stay as they are, so starting over is harmless.
    pub(super) async fn close(&self, batch: BatchKey) -> Result<Option<BatchStatus>, StoreError> {
        loop {
            match self.try_close(batch).await {
                Ok(ended) => return Ok(ended),
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                Err(error) => {
                    tracing::error!(error = %error, "the rest of a batch could not be written; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn try_close(&self, batch: BatchKey) -> Result<Option<BatchStatus>, StoreError> {
        // Leases go through the writer unawaited: what is read before they are written would miss segments.
        self.store.record(Flush::default()).await.unwrap_or(Err(StoreError::Closed))?;
        // The row as it is now: its state and errors say how the rest ends.
        match self.store.batch_by_key(batch).await? {
            Some(record) if matches!(record.status, BatchStatus::Expiring | BatchStatus::Cancelling) => {
                let run = Run { closer: self, record, sent: VecDeque::new(), ended: None };
                if self.store.is_shared() { run.beside_others().await } else { run.through().await }
            }
            _ => Ok(None),
        }
    }
}

impl Run<'_> {
    async fn through(mut self) -> Result<Option<BatchStatus>, StoreError> {
        let store = &self.closer.store;
        for segment in store.leased_segments(self.record.key).await? {
            let heads = store.segment_heads(self.record.file, None, segment, 1).await?;
            for head in heads.into_iter().filter(|head| head.no == segment) {
                self.close_segment(head, true).await?;
            }
        }
        for cursor in store.cursors(self.record.key).await? {
            let mut from = cursor.next_segment;
            loop {
                let heads =
                    store.segment_heads(self.record.file, Some(&cursor.model), from, HEAD_PAGE).await?;
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
        Ok(self.ended)
    }

    /// Claims what is left like a worker that runs it, so that several closers share the writing and none touches what
    /// another one still runs.
    async fn beside_others(mut self) -> Result<Option<BatchStatus>, StoreError> {
        let (store, batch) = (&self.closer.store, self.record.key);
        let mut work = store.work_wakeup().listen();
        store.release(batch).await?;
        loop {
            for cursor in store.cursors(batch).await? {
                self.close_claimed(cursor.model.into()).await?;
            }
            while !self.sent.is_empty() {
                self.acknowledged().await?;
            }
            let status = store.batch_by_key(batch).await?.map(|record| record.status);
            if self.ended.is_some() || status.is_none_or(BatchStatus::is_terminal) {
                return Ok(self.ended);
            }
            // The rest is with other workers: they hand it back, record it themselves, or are found dead.
            tokio::select! {
                () = work.heard() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    async fn close_claimed(&mut self, model: Arc<str>) -> Result<(), StoreError> {
        loop {
            let claim = Claim {
                batch: self.record.key,
                file: self.record.file,
                model: Arc::clone(&model),
                from: 0,
                most: CLAIMED,
                alone: false,
                closing: true,
            };
            let claimed = self.closer.store.claim(claim).await?;
            if claimed.segments.is_empty() {
                return Ok(());
            }
            for segment in claimed.segments {
                self.close_segment(segment.head, true).await?;
            }
        }
    }

    async fn close_segment(&mut self, head: SegmentHead, leased: bool) -> Result<(), StoreError> {
        let batch = self.record.key;
        // Resumed even where it was never leased: an earlier run that broke off may have closed it.
        let wanted =
            Wanted { batch, file: self.record.file, head: head.clone(), resumed: true, duplicates: false };
        let loaded = load(&self.closer.store, &wanted).await.ok_or(StoreError::Closed)?;
        let (now, ending) = (self.closer.clock.now(), self.ending());
        let done: HashSet<u32> = loaded.done.iter().copied().collect();
        let mut results: Vec<NewResult> = Vec::new();
        for entry in loaded.open.items().filter(|entry| !done.contains(&entry.line)) {
            let custom_id = loaded.open.custom_id(entry);
            let mut result = unsent(batch, entry.line, custom_id, ending.clone(), now);
            if let Some(retry) = loaded.retries.iter().find(|retry| retry.line == entry.line) {
                result.attempts = retry.attempts;
                result.started_at = Some(retry.started_at);
            }
            results.push(result);
        }
        if let Some(metrics) = self.closer.metrics.get(&*head.model) {
            let outcome = if ending.0 == ItemStatus::Expired { Outcome::Expired } else { Outcome::Cancelled };
            results.iter().for_each(|_| metrics.item_ended(outcome, None));
        }
        let finished_segments = if leased { vec![(batch, head.no)] } else { Vec::new() };
        let flush = Flush { results, finished_segments, ..Flush::default() };
        self.sent.push_back(self.closer.store.record(flush));
        if self.sent.len() >= AHEAD {
            self.acknowledged().await?;
        }
        Ok(())
    }

    async fn acknowledged(&mut self) -> Result<(), StoreError> {
        let Some(reply) = self.sent.pop_front() else {
            return Ok(());
        };
        let recorded = reply.await.unwrap_or(Err(StoreError::Closed))?;
        let ended = recorded.ended.iter().find(|(batch, _)| *batch == self.record.key);
        if let Some((_, status)) = ended {
            self.ended.get_or_insert(*status);
        }
        Ok(())
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
