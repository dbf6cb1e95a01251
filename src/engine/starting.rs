//! Admitting heads and starting their items.

use crate::domain::time::Timestamp;
use crate::gate::{Admitted, Head, HeadId, Misfit};
use crate::metrics::Kind;

use super::attempt::Attempt;
use super::batches::ActiveBatch;
use super::completion::Running;
use super::dispatcher::Dispatcher;
use super::estimate::{Expected, Measure};
use super::item::{FeedId, LaneId, ReadyItem};
use super::lanes::{place_for, timeouts};
use super::lease::Lease;
use super::lost::Lost;
use super::reserving::{cost, tokens};

impl Dispatcher {
    /// Puts a feed's next item into the gate, at each lane that pulls, unless it waits there already. Items that
    /// no lane will ever have room for fail on the way.
    ///
    /// `now` is that of the admission that it follows, if any: at a later moment the gate would take its app for one
    /// that was away, and whose turn starts anew.
    pub(super) fn enqueue(&mut self, feed_id: FeedId, now: Timestamp) {
        while let Some(misfit) = self.stand(feed_id, now) {
            self.fail_misfit(feed_id, &misfit, now);
        }
    }

    /// Lets heads stand for the first ready item; if none can, tells the limit that it can never satisfy.
    fn stand(&mut self, feed_id: FeedId, now: Timestamp) -> Option<Misfit> {
        let feed = self.batches.feeds.get_mut(&feed_id).filter(|feed| feed.heads.is_empty())?;
        let route = feed.route?;
        let pulling = self.lanes.pulling(route, &feed.queue, &self.gate, now);
        let first = feed.queue.front_mut()?;
        let batch = self.batches.batches.get(&feed.batch).filter(|batch| batch.runs())?;
        let lease = self.batches.leases.get(&first.lease)?;
        let app = self.apps.level(batch.record.app, &mut self.gate, now);
        feed.heads_since = now;
        let mut misfit = None;
        for lane in pulling {
            let path = self.lanes.path(lane, app, &mut self.gate)?;
            let mut reserved = Expected::default();
            if self.gate.counts_tokens(path) {
                let measure = *first.measure.get_or_insert_with(|| measure(batch, lease, first.entry));
                let accounting = self.lanes.get(lane).provider.accounting;
                let of = (feed.batch, &*feed.model);
                let (expected, certain) = tokens(&self.estimates, of, &measure, accounting);
                misfit = self.gate.never_fits(path, batch.own_level, certain);
                if misfit.is_some() {
                    continue;
                }
                reserved = expected;
            }
            let (own, turn) = (batch.own_level, lease.turn);
            // Never so much that it would find no room beside the segments that are open.
            let copied = copied(batch, lease, first.entry).min(self.ahead.limit());
            let cost = cost(reserved, copied);
            let head = Head { tag: feed_id.0, path, own, cost, turn, interactive: false };
            match self.gate.enqueue(head, now) {
                Ok(id) => feed.heads.push((lane, id)),
                Err(error) => tracing::error!(error = %error, "an item could not be put into the gate"),
            }
        }
        misfit.filter(|_| feed.heads.is_empty())
    }

    /// Lets the feed's heads stand for what is ready now: what was added may suit lanes that did not pull.
    pub(super) fn ready_changed(&mut self, feed_id: FeedId) {
        let now = self.clock.now();
        let route = self.batches.feeds.get(&feed_id).and_then(|feed| feed.route);
        if route.is_some_and(|route| self.lanes.route(route).has_choice()) {
            self.withdraw(feed_id, now);
        }
        self.enqueue(feed_id, now);
    }

    /// Takes a feed's heads out of the gate.
    pub(super) fn withdraw(&mut self, feed_id: FeedId, now: Timestamp) {
        if let Some(feed) = self.batches.feeds.get_mut(&feed_id) {
            for (_, head) in feed.heads.drain(..) {
                self.gate.withdraw(head, now);
            }
        }
    }

    /// Starts whatever the gate lets go.
    pub(super) fn admit(&mut self, now: Timestamp) {
        // Looked at before each start: a process that was frozen must not send what it held.
        while !self.must_wait_alone()
            && self.store.may_start()
            && let Some(admitted) = self.gate.poll(now)
        {
            match super::interactive::number_of(admitted.tag) {
                Some(number) => self.let_pass(number, admitted, now),
                None => self.start(admitted, now),
            }
        }
        self.crew.send_off();
    }

    /// Whether nothing may start beside what is under way: on a careful start items go one at a time.
    pub(super) fn must_wait_alone(&self) -> bool {
        self.careful && (self.in_flight > 0 || !self.recorder.is_idle())
    }

    fn start(&mut self, admitted: Admitted, now: Timestamp) {
        let feed_id = FeedId(admitted.tag);
        let Some((lane, item)) = self.take_next(feed_id, admitted.head, now) else {
            self.gate.unused(admitted.grant, now);
            return;
        };
        let lease = item.lease;
        if let Some(lease) = self.batches.leases.get_mut(&lease) {
            lease.ready -= 1;
        }
        let permit = self.gate.permit(admitted.grant);
        let left = item.clone();
        match self.attempt((feed_id, lane), item, permit, now) {
            Some(attempt) => {
                let lost = Lost { number: attempt.number, lane, item: left };
                self.crew.take_on(attempt, lost);
            }
            None => tracing::error!("an admitted item had lost its batch or its bytes"),
        }
        self.settle_lease(lease, now);
        self.enqueue(feed_id, now);
    }

    /// The lane whose head was admitted, and the item that it takes. The other lanes' heads stood for the same
    /// item: they are taken back and stand again for the next one.
    fn take_next(&mut self, feed_id: FeedId, head: HeadId, now: Timestamp) -> Option<(LaneId, ReadyItem)> {
        let feed = self.batches.feeds.get_mut(&feed_id)?;
        self.metrics.gate().waited(now.since(feed.heads_since));
        let place = feed.heads.iter().position(|(_, waiting)| *waiting == head)?;
        let (lane, _) = feed.heads.swap_remove(place);
        for (_, other) in feed.heads.drain(..) {
            self.gate.withdraw(other, now);
        }
        let route = self.lanes.route_mut(feed.route?);
        let place = if route.has_choice() {
            route.started(lane);
            place_for(lane, &feed.queue).unwrap_or(0)
        } else {
            0
        };
        feed.queue.remove(place).map(|item| (lane, item))
    }

    fn attempt(
        &mut self,
        from: (FeedId, LaneId),
        item: ReadyItem,
        permit: crate::gate::Permit,
        now: Timestamp,
    ) -> Option<Attempt> {
        let (feed_id, lane_id) = from;
        let feed = self.batches.feeds.get(&feed_id)?;
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
        for (dimension, units) in permit.grant().cost().by_dimension() {
            lane.metrics.admitted(dimension, units);
        }
        batch.in_flight += 1;
        let running = Running { lane: lane_id, feed: feed_id, since: now };
        self.running.insert((feed.batch, item.line), running);
        self.in_flight += 1;
        self.calls += 1;
        Some(Attempt {
            number: self.calls,
            lane: lane_id,
            permit,
            provider: std::sync::Arc::clone(&lane.provider),
            endpoint,
            model: std::sync::Arc::clone(&feed.model),
            upstream_model: lane.upstream_model.clone(),
            body: open.body(entry),
            defaults: batch.defaults.clone(),
            custom_id: open.custom_id(entry).map(str::to_owned),
            timeouts: timeouts(&lane.provider, batch.record.options.request_timeout_ms),
            max_attempts: batch.record.options.max_attempts.unwrap_or(lane.provider.retry.max_attempts),
            deadline: batch.record.deadline,
            lane_succeeded: lane.succeeded,
            others_passed: item.refusals > 0
                && item.failed_on == Some(lane_id)
                && lane.successes > item.successes_before,
            name_first: self.careful.then(|| self.store.clone()),
            item,
        })
    }
}

/// Bytes of the body that an item is sent with, where its batch's defaults make that another one than its segment's.
fn copied(batch: &ActiveBatch, lease: &Lease, entry: usize) -> u64 {
    let Some(defaults) = &batch.defaults else { return 0 };
    let found = lease.open.as_ref().and_then(|open| Some((open, open.entries().get(entry)?)));
    let own = found.map(|(open, entry)| open.body(entry).len());
    (defaults.bytes() + own.unwrap_or_default()) as u64
}

/// What an item's tokens are estimated from: its body, with the batch's defaults under it.
fn measure(batch: &ActiveBatch, lease: &Lease, entry: usize) -> Measure {
    let found = lease.open.as_ref().and_then(|open| Some((open, open.entries().get(entry)?)));
    let body = found.map(|(open, entry)| Measure::of(&open.body(entry))).unwrap_or_default();
    body.over(&batch.defaults_measure)
}
