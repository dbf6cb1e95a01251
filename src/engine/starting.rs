//! Admitting heads and starting their items.

use crate::domain::time::Timestamp;
use crate::gate::{Admitted, Cost, Head};
use crate::metrics::{Dimension, Kind};

use super::attempt::{Attempt, run};
use super::dispatcher::Dispatcher;
use super::item::{FeedId, ReadyItem};
use super::lanes::timeouts;

/// Memory charged for each call's reply until its length is known; longer ones ask for more.
const REPLY_BYTES: u64 = 32 * 1024;

impl Dispatcher {
    /// Puts a feed's next item into the gate, unless it waits there already.
    pub(super) fn enqueue(&mut self, feed_id: FeedId) {
        let Some(feed) = self.batches.feeds.get_mut(&feed_id) else {
            return;
        };
        let (None, Some(lane), Some(first)) = (feed.head, feed.lane, feed.queue.front()) else {
            return;
        };
        let batch = self.batches.batches.get(&feed.batch).filter(|batch| batch.runs());
        let (Some(batch), Some(lease)) = (batch, self.batches.leases.get(&first.lease)) else {
            return;
        };
        let head = Head {
            tag: feed_id.0,
            path: self.lanes.get(lane).path,
            own: batch.own_level,
            cost: Cost { requests: 1, memory: REPLY_BYTES, ..Cost::default() },
            turn: lease.turn,
            interactive: false,
        };
        let now = self.clock.now();
        match self.gate.enqueue(head, now) {
            Ok(id) => (feed.head, feed.head_since) = (Some(id), now),
            Err(error) => tracing::error!(error = %error, "an item could not be put into the gate"),
        }
    }

    /// Takes a feed's head out of the gate.
    pub(super) fn withdraw(&mut self, feed_id: FeedId, now: Timestamp) {
        if let Some(feed) = self.batches.feeds.get_mut(&feed_id)
            && let Some(head) = feed.head.take()
        {
            self.gate.withdraw(head, now);
        }
    }

    /// Starts whatever the gate lets go.
    pub(super) fn admit(&mut self, now: Timestamp) {
        loop {
            if self.must_wait_alone() {
                return;
            }
            let Some(admitted) = self.gate.poll(now) else {
                return;
            };
            self.start(admitted, now);
        }
    }

    /// Whether nothing may start beside what is under way: on a careful start items go one at a time.
    pub(super) fn must_wait_alone(&self) -> bool {
        self.careful && (self.in_flight > 0 || !self.recorder.is_idle())
    }

    fn start(&mut self, admitted: Admitted, now: Timestamp) {
        let feed_id = FeedId(admitted.tag);
        let item = self.batches.feeds.get_mut(&feed_id).and_then(|feed| {
            feed.head = None;
            self.metrics.gate().waited(now.since(feed.head_since));
            feed.queue.pop_front()
        });
        let Some(item) = item else {
            self.gate.unused(admitted.grant, now);
            return;
        };
        let lease = item.lease;
        if let Some(lease) = self.batches.leases.get_mut(&lease) {
            lease.ready -= 1;
        }
        let permit = self.gate.permit(admitted.grant);
        match self.attempt(feed_id, item, permit, now) {
            Some(attempt) => {
                // Not under the shutdown's tracker: at the end of the grace time they are left behind on purpose.
                tokio::spawn(run(attempt, self.reporter.clone()));
            }
            None => tracing::error!("an admitted item had lost its batch or its bytes"),
        }
        self.settle_lease(lease, now);
        self.enqueue(feed_id);
    }

    fn attempt(
        &mut self,
        feed_id: FeedId,
        item: ReadyItem,
        permit: crate::gate::Permit,
        now: Timestamp,
    ) -> Option<Attempt> {
        let feed = self.batches.feeds.get(&feed_id)?;
        let lane_id = feed.lane?;
        let batch = self.batches.batches.get_mut(&feed.batch)?;
        let lease = self.batches.leases.get(&item.lease)?;
        let open = lease.open.as_ref()?;
        let entry = open.entries().get(item.entry)?;
        let endpoint = entry.endpoint?;
        let lane = self.lanes.get_mut(lane_id);
        if item.attempts == 0 {
            lane.retry_budget.started(false);
        }
        lane.metrics.queue_waited(Kind::Batch, now.since(item.ready_at));
        lane.metrics.in_flight().inc();
        lane.metrics.admitted(Dimension::Requests, 1);
        batch.in_flight += 1;
        self.in_flight += 1;
        self.calls += 1;
        Some(Attempt {
            number: self.calls,
            lane: lane_id,
            permit,
            provider: std::sync::Arc::clone(&lane.provider),
            endpoint,
            body: open.body(entry),
            defaults: batch.defaults.clone(),
            custom_id: open.custom_id(entry).map(str::to_owned),
            timeouts: timeouts(&lane.provider, batch.record.options.request_timeout_ms),
            max_attempts: batch.record.options.max_attempts.unwrap_or(lane.provider.retry.max_attempts),
            deadline: batch.record.deadline,
            lane_succeeded: lane.succeeded,
            others_passed: item.refusals > 0 && lane.successes > item.successes_before,
            name_first: self.careful.then(|| self.store.clone()),
            item,
        })
    }
}
