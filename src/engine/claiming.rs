//! Claiming a batch's next segments: from here on they are this worker's to run.

use std::sync::Arc;
use std::time::Duration;

use crate::complaint::Complaint;
use crate::domain::ids::BatchKey;
use crate::domain::segment::MAX_ITEMS;
use crate::store::{Claim, Claimed, Store, StoreError};

use super::batches::Leasable;
use super::dispatcher::Dispatcher;
use super::event::Event;
use super::item::FeedId;
use super::loader::HEAD_PAGE;

/// Segments that a worker claims at once at most, where others may want some too: what one holds and does not run yet is
/// what the others lack at the end.
const MOST_SHARED: usize = 4;
/// A worker claims at most one in so many of the segments that are left, so that the last ones are spread.
const PART: u64 = 8;
/// Pause after another worker held what was asked for, and after the store did not answer.
const BUSY: Duration = Duration::from_millis(50);
const AGAIN: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Asks for a feed's next segments, enough for so many items; one question at a time.
    pub(super) fn claim(&mut self, feed_id: FeedId, items: usize) {
        let Some(feed) =
            self.batches.feeds.get_mut(&feed_id).filter(|feed| !feed.exhausted && !feed.claiming)
        else {
            return;
        };
        let Some(batch) = self.batches.batches.get(&feed.batch) else {
            return;
        };
        feed.claiming = true;
        let most = if self.sharing.is_on { share(items, feed.remaining) } else { HEAD_PAGE };
        let claim = Claim {
            batch: feed.batch,
            file: batch.record.file,
            model: Arc::clone(&feed.model),
            from: feed.next_no,
            most,
            alone: batch.record.options.max_concurrency.is_some(),
            closing: false,
        };
        let (store, events) = (self.store.clone(), self.reporter.events.clone());
        tokio::spawn(async move {
            if let Some(claimed) = claim_patiently(&store, &claim).await {
                let _ = events.send(Event::Claimed { feed: feed_id, batch: claim.batch, claimed });
            }
        });
    }

    /// Segments were claimed.
    pub(super) fn claimed(&mut self, feed_id: FeedId, batch: BatchKey, claimed: Claimed) {
        let Some(feed) = self.batches.feeds.get_mut(&feed_id) else {
            // Its batch stopped meanwhile: whoever writes the rest of it must find them.
            if !claimed.segments.is_empty() {
                self.give_back_segments(batch);
            }
            return;
        };
        feed.claiming = false;
        feed.exhausted = !claimed.more;
        let (resumed, fresh): (Vec<_>, Vec<_>) =
            claimed.segments.into_iter().partition(|segment| segment.resumed);
        if !resumed.is_empty() && self.sharing.is_on && !self.left.contains(&feed_id) {
            self.left.push(feed_id);
        }
        for segment in resumed.into_iter().rev() {
            feed.leasable.push_front(Leasable { head: segment.head, resumed: true });
        }
        for segment in fresh {
            feed.next_no = feed.next_no.max(segment.head.no + 1);
            feed.leasable.push_back(Leasable { head: segment.head, resumed: false });
        }
    }

    /// What this worker claimed of a batch is nobody's any more.
    fn give_back_segments(&self, batch: BatchKey) {
        let store = self.store.clone();
        tokio::spawn(async move {
            while let Err(error) = store.release(batch).await {
                if matches!(error, StoreError::Closed | StoreError::Fenced) {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    /// Some segments of a batch's model are nobody's: they are claimed now, however much there is to do.
    pub(super) fn orphaned(&mut self, batch: BatchKey, model: &str) {
        let running = self.batches.batches.get(&batch).filter(|batch| batch.runs());
        for id in running.map(|batch| batch.feeds.clone()).unwrap_or_default() {
            if let Some(feed) = self.batches.feeds.get_mut(&id).filter(|feed| &*feed.model == model) {
                feed.exhausted = false;
                self.claim(id, MAX_ITEMS as usize);
            }
        }
    }
}

/// Segments to claim for so many items, of those that are left to all workers.
fn share(items: usize, remaining: u64) -> usize {
    let wanted = items.div_ceil(MAX_ITEMS as usize).clamp(1, MOST_SHARED);
    let left = remaining.div_ceil(u64::from(MAX_ITEMS) * PART);
    wanted.min(usize::try_from(left).unwrap_or(MOST_SHARED)).max(1)
}

/// Claims until the store answers; `None`: it is closed, or this worker's work was taken over.
async fn claim_patiently(store: &Store, claim: &Claim) -> Option<Claimed> {
    let mut complaint = Complaint::default();
    loop {
        match store.claim(claim.clone()).await {
            Ok(claimed) => {
                if claimed.segments.is_empty() && claimed.more {
                    tokio::time::sleep(BUSY.mul_f64(1.0 + rand::random::<f64>())).await;
                }
                return Some(claimed);
            }
            Err(StoreError::Closed | StoreError::Fenced) => return None,
            Err(error) => {
                if complaint.begin() {
                    tracing::error!(error = %error, "a batch's next segments could not be claimed; trying again");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segments_are_spread() {
        assert_eq!(share(10_000, 1_000_000), MOST_SHARED);
        assert_eq!(share(65, 1_000_000), 2);
        assert_eq!(share(10_000, 1_024), 2);
        assert_eq!(share(150, 1_000_000), 3);
        assert_eq!(share(10_000, 60), 1);
        assert_eq!(share(0, 0), 1);
    }
}
