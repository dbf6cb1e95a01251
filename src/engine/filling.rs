//! Keeping each route's window topped up, for every app that has items for it.

use std::time::Duration;

use crate::domain::segment::MAX_ITEMS;
use crate::domain::time::Timestamp;

use super::batches::ActiveBatch;
use super::dispatcher::Dispatcher;
use super::item::{FeedId, RouteId};
use super::leasing::standing;
use super::order::{Standing, turn};

/// Results of unservable items under way at most: they cost no call, so nothing else slows them down.
const UNSERVED_AHEAD: u32 = 1_024;

impl Dispatcher {
    /// Leases what the lanes will need next.
    pub(super) fn top_up(&mut self, now: Timestamp) {
        if self.delayed.is_full() || self.disk_full {
            return;
        }
        self.lease_left(now);
        for route in self.lanes.route_ids() {
            self.top_up_route(route, now);
        }
        for feed in self.laneless.clone() {
            let idle = self.batches.feeds.get(&feed).is_some_and(|feed| feed.loads == 0);
            if idle && self.unrecorded_of(feed) < UNSERVED_AHEAD {
                // Nothing is sent of it, so no turn is waited for.
                self.lease_next(feed, 0, MAX_ITEMS as usize);
            }
        }
    }

    fn unrecorded_of(&self, feed: FeedId) -> u32 {
        self.batch_of(feed).map_or(0, |batch| batch.unrecorded)
    }

    fn batch_of(&self, feed: FeedId) -> Option<&ActiveBatch> {
        self.batches.batches.get(&self.batches.feeds.get(&feed)?.batch)
    }

    fn top_up_route(&mut self, route: RouteId, now: Timestamp) {
        let apps = self.lanes.route(route).apps();
        if apps == 0 {
            return;
        }
        let window = self.lanes.window(route, &mut self.gate, now);
        // Another one first each time: what one app's large bodies leave of the memory must not always be the others'.
        let first = usize::try_from(self.calls).unwrap_or(0);
        for offset in 0..apps {
            self.top_up_app(route, (first + offset) % apps, window, now);
        }
    }

    fn top_up_app(&mut self, route: RouteId, app: usize, window: usize, now: Timestamp) {
        let (mut ready, mut place) = (0, 0);
        while ready < window {
            let Some(feed_id) = self.lanes.route(route).feed(app, place) else {
                return;
            };
            place += 1;
            let Some(feed) = self.batches.feeds.get(&feed_id) else {
                continue;
            };
            let Some(batch) = self.batches.batches.get(&feed.batch).filter(|batch| batch.runs()) else {
                continue;
            };
            // A batch of few slots is not worth more of the window than it can use.
            let most = batch
                .record
                .options
                .max_concurrency
                .map_or(window, |most| 2 * most as usize)
                .min(window - ready);
            let mut have = feed.queue.len() + feed.loads as usize * MAX_ITEMS as usize;
            let standing = standing(batch, now);
            while have < most && self.lease_next(feed_id, turn(&standing), most - have) {
                have += MAX_ITEMS as usize;
                self.keep_floor(route, (app, place), &standing, now);
            }
            ready += have.min(most);
        }
    }

    /// Leases what other workers left, whatever is at hand: it is claimed, so nobody else would run it.
    fn lease_left(&mut self, now: Timestamp) {
        let mut left = std::mem::take(&mut self.left);
        left.retain(|feed| self.is_left(*feed, now));
        self.left = left;
    }

    /// Leases what other workers left of a feed; whether some of it has to wait.
    fn is_left(&mut self, feed_id: FeedId, now: Timestamp) -> bool {
        let Some(batch) = self.batch_of(feed_id) else { return false };
        // It has waited long enough: before whatever of its app is as urgent. By the slack of its batch, all that is left
        // of a batch due sooner would go first.
        let turn = turn(&Standing { slack: Duration::ZERO, ..standing(batch, now) });
        let runs = batch.runs();
        while let Some(feed) = self.batches.feeds.get(&feed_id) {
            if !feed.leasable.front().is_some_and(|next| next.resumed) {
                break;
            }
            if !runs || feed.route.is_none() || !self.lease_next(feed_id, turn, 1) {
                return true;
            }
        }
        false
    }

    /// A batch got a lease: each time that is due, the first one behind it that is there only because it can't make
    /// its deadline any more goes next.
    fn keep_floor(&mut self, route: RouteId, behind: (usize, usize), first: &Standing, now: Timestamp) {
        let (app, place) = behind;
        if first.hopeless || !self.lanes.route_mut(route).floor_is_due(app) {
            return;
        }
        let displaced = |feed: &FeedId| {
            let batch = self.batch_of(*feed).filter(|batch| batch.runs());
            batch
                .map(|batch| standing(batch, now))
                .is_some_and(|standing| standing.hopeless && standing.priority == first.priority)
        };
        let mut behind = (place..).map_while(|place| self.lanes.route(route).feed(app, place));
        let found = behind.find(displaced);
        let Some((feed, batch)) = found.and_then(|feed| Some((feed, self.batch_of(feed)?))) else { return };
        let submission = batch.record.key.0;
        let soonest = Standing { slack: Duration::ZERO, submission, ..*first };
        self.let_go_first(feed, turn(&soonest), now);
    }

    /// A segment's worth of a feed's items takes another turn: of what is leased already, else of a new lease.
    fn let_go_first(&mut self, feed_id: FeedId, turn: u64, now: Timestamp) {
        let leases = self.batches.leases.iter_mut();
        let mut waiting: Vec<_> = leases
            .filter(|(_, lease)| {
                lease.feed == feed_id && lease.turn > turn && (lease.ready > 0 || !lease.entered)
            })
            .collect();
        waiting.sort_by_key(|(key, _)| key.segment);
        let mut items = 0;
        for (_, lease) in waiting {
            // The first may be down to its last items: that alone would be no tenth.
            if items < MAX_ITEMS {
                lease.turn = turn;
                items += if lease.entered { lease.ready } else { lease.unfinished };
            }
        }
        if items < MAX_ITEMS {
            self.lease_next(feed_id, turn, MAX_ITEMS as usize);
        }
        // The head that stands for them has the turn of before.
        self.withdraw(feed_id, now);
        self.enqueue(feed_id, now);
    }
}
