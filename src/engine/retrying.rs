//! Items that are tried again: when, within which budget, and with their bytes loaded again.

use rustc_hash::FxHashMap;

use crate::domain::ids::BatchKey;
use crate::domain::result::RetryRecord;
use crate::domain::time::Timestamp;
use crate::metrics::RetryReason;

use super::batches::{ActiveBatch, Feed};
use super::dispatcher::{Dispatcher, Stage};
use super::item::{FeedId, LaneId, ReadyItem, RouteId};
use super::judge::RetryAfter;

impl Dispatcher {
    /// An attempt failed and there are more: the item waits for its time.
    pub(super) fn retry(
        &mut self,
        lane: LaneId,
        mut item: ReadyItem,
        how: (RetryAfter, RetryReason, String),
        now: Timestamp,
    ) {
        let (after, reason, last_error) = how;
        item.refusals = 0;
        item.failed_on = Some(lane);
        let key = item.lease;
        let feed = self.batches.leases.get(&key).map(|lease| lease.feed);
        let elsewhere = feed.is_some_and(|feed| self.can_go_elsewhere(feed, lane, now));
        let lane = self.lanes.get(lane);
        lane.metrics.retried(reason);
        let due = match after {
            // How long this lane asks for is nothing to the lane that the item goes to next.
            RetryAfter::At(at) if !elsewhere => at,
            _ => now + lane.provider.retry.backoff.delay(item.attempts, rand::random()),
        };
        let started_at = item.started_at.unwrap_or(now);
        let (batch, line, attempts) = (key.batch, item.line, item.attempts);
        self.recorder.retry(RetryRecord { batch, line, attempts, not_before: due, started_at, last_error });
        self.leave_lease(key);
        if let Some(feed) = feed.filter(|feed| self.batches.feeds.contains_key(feed)) {
            self.delayed.push(due, feed, item);
        }
    }

    /// Whether a feed has an open lane beside this one.
    fn can_go_elsewhere(&self, feed: FeedId, lane: LaneId, now: Timestamp) -> bool {
        let route = self.batches.feeds.get(&feed).and_then(|feed| feed.route);
        let mut others = route.into_iter().flat_map(|route| self.lanes.route(route).lanes());
        others.any(|other| other != lane && self.lanes.is_open(other, &self.gate, now))
    }

    /// Retries that are due: into their route's queue for the retry budget, and from there to their feeds.
    pub(super) fn release_due(&mut self, now: Timestamp) {
        if self.stage != Stage::Running {
            return;
        }
        while let Some((feed_id, item)) = self.delayed.pop_due(now) {
            match self.batches.feeds.get(&feed_id).map(|feed| feed.route) {
                Some(Some(route)) => self.lanes.route_mut(route).due.push_back((feed_id, item)),
                // No lane serves it at present: it waits with the others of its feed.
                Some(None) => self.wake_item(feed_id, item),
                None => {}
            }
        }
        for route in self.lanes.route_ids() {
            while let Some((feed, item)) = self.next_retry(route) {
                self.wake_item(feed, item);
            }
        }
    }

    fn next_retry(&mut self, route_id: RouteId) -> Option<(FeedId, ReadyItem)> {
        let route = self.lanes.route(route_id);
        route.due.front()?;
        let (feeds, batches) = (&self.batches.feeds, &self.batches.batches);
        // Those of a batch that may start nothing are not what a retry would displace.
        let first_attempts = route
            .feeds()
            .filter_map(|feed| feeds.get(&feed))
            .filter(|feed| has_room(batches, feed))
            .any(|feed| feed.has_more() || feed.queue.iter().any(|item| item.attempts == 0));
        let waiting = super::retry_budget::Waiting {
            first_attempts,
            delayed_retries: self.delayed.len() + route.due.len(),
        };
        let lane = route.lanes().find(|lane| self.lanes.get(*lane).retry_budget.allows(waiting))?;
        // Charged here, not at the send: else everything due would leave on one credit.
        self.lanes.get_mut(lane).retry_budget.started(true);
        self.lanes.route_mut(route_id).due.pop_front()
    }

    /// Makes a due retry ready, loading its bytes again if they were closed.
    pub(super) fn wake_item(&mut self, feed_id: FeedId, mut item: ReadyItem) {
        let key = item.lease;
        item.ready_at = self.clock.now();
        let Some(lease) = self.batches.leases.get_mut(&key) else {
            return;
        };
        if lease.open.is_some() {
            self.make_ready(feed_id, vec![item]);
            return;
        }
        lease.waiting_for_bytes.push(item);
        if lease.loading {
            return;
        }
        lease.loading = true;
        let head = lease.head.clone();
        // Charged even beyond the level: what failed must be able to end before anything new is leased.
        let bytes = super::leasing::charge(&head, self.ahead.limit());
        if self.gate.try_hold(self.memory, bytes) {
            lease.held = bytes;
        }
        let Some(batch) = self.batches.batches.get(&key.batch) else {
            return;
        };
        let file = batch.record.file;
        let wanted =
            super::loader::Wanted { batch: key.batch, file, head, resumed: false, duplicates: false };
        self.spawn_load(key, wanted);
    }
}

/// Whether a feed's batch may start an item as far as the batch is concerned.
fn has_room(batches: &FxHashMap<BatchKey, ActiveBatch>, feed: &Feed) -> bool {
    batches.get(&feed.batch).is_some_and(ActiveBatch::has_room)
}
