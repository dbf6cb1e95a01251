//! Leasing segments and taking in what they hold.

use std::collections::{HashMap, HashSet};

use crate::domain::result::{ErrorCode, ItemStatus, Payload};
use crate::domain::segment::{Entry, EntryKind, OpenSegment, SegmentHead};
use crate::domain::time::Timestamp;
use crate::ingest::LineCheck;

use super::ahead::Holder;
use super::attempt::unsent;
use super::dispatcher::Dispatcher;
use super::event::Event;
use super::item::{FeedId, LeaseKey, ReadyItem};
use super::lease::Lease;
use super::loader::{Loaded, Wanted, load};
use super::order::Standing;

/// What a segment's index costs beside its bytes, about.
const INDEX_BYTES: u64 = 8 * 1024;

/// A lease whose items are being sorted.
struct Entering {
    key: LeaseKey,
    feed: FeedId,
    open: OpenSegment,
    duplicates: HashSet<u32>,
}

impl Dispatcher {
    /// Leases the feed's next segment, its items to go at a turn; false if there is none at hand or no memory for it.
    /// `items`: how many are wanted in all.
    pub(super) fn lease_next(&mut self, feed_id: FeedId, turn: u64, items: usize) -> bool {
        let Some(feed) = self.batches.feeds.get_mut(&feed_id) else {
            return false;
        };
        let Some(next) = feed.leasable.front() else {
            self.claim(feed_id, items);
            return false;
        };
        let Some(batch) = self.batches.batches.get(&feed.batch) else {
            return false;
        };
        let bytes = charge(&next.head, self.ahead.limit());
        let holder = Holder { route: feed.route, app: batch.record.app };
        if !self.ahead.has_room(holder, bytes) || !self.gate.try_hold(self.memory, bytes) {
            return false;
        }
        let Some(next) = feed.leasable.pop_front() else {
            return false;
        };
        feed.loads += 1;
        let key = LeaseKey { batch: feed.batch, segment: next.head.no };
        if !next.resumed {
            self.store.lease(feed.batch, &next.head);
        }
        let wanted = Wanted {
            batch: feed.batch,
            file: batch.record.file,
            head: next.head.clone(),
            resumed: next.resumed,
            duplicates: batch.fails_items(),
        };
        let mut lease = Lease::new(feed_id, next.head, turn);
        lease.resumed = next.resumed && self.sharing.is_on;
        lease.held = bytes;
        lease.ahead = Some(holder);
        self.ahead.take(holder, bytes);
        self.batches.leases.insert(key, lease);
        self.spawn_load(key, wanted);
        true
    }

    pub(super) fn spawn_load(&self, lease: LeaseKey, wanted: Wanted) {
        let (store, events) = (self.store.clone(), self.reporter.events.clone());
        // Decompressing a segment takes as long as several live calls do, which would wait for it here.
        self.crew.spawn(async move {
            if let Some(loaded) = load(&store, &wanted).await {
                let _ = events.send(Event::Loaded { lease, loaded: Box::new(loaded) });
            }
        });
    }

    /// A lease's bytes arrived.
    pub(super) fn loaded(&mut self, key: LeaseKey, loaded: Loaded, now: Timestamp) {
        let Some(lease) = self.batches.leases.get_mut(&key) else {
            return;
        };
        let feed_id = lease.feed;
        lease.loading = false;
        lease.open = Some(loaded.open.clone());
        if lease.entered {
            let items = std::mem::take(&mut lease.waiting_for_bytes);
            self.make_ready(feed_id, items);
        } else {
            lease.entered = true;
            if let Some(feed) = self.batches.feeds.get_mut(&feed_id) {
                feed.loads -= 1;
            }
            self.enter(key, feed_id, loaded, now);
        }
        self.settle_lease(key, now);
    }

    /// Sorts a new lease's items: done, unservable, waiting for a retry, ready.
    fn enter(&mut self, key: LeaseKey, feed_id: FeedId, loaded: Loaded, now: Timestamp) {
        let done: HashSet<u32> = loaded.done.into_iter().collect();
        let retries: HashMap<u32, _> = loaded.retries.into_iter().map(|retry| (retry.line, retry)).collect();
        let duplicates = loaded.duplicates.into_iter().collect();
        let entering = Entering { key, feed: feed_id, open: loaded.open, duplicates };
        let open = &entering.open;
        let route = self.batches.feeds.get(&feed_id).and_then(|feed| feed.route);
        let mut ready = Vec::with_capacity(open.entries().len());
        for (place, entry) in open.entries().iter().enumerate() {
            if matches!(entry.kind, EntryKind::Blank | EntryKind::Continuation) {
                continue;
            }
            if done.contains(&entry.line) {
                if let Some(lease) = self.batches.leases.get_mut(&key) {
                    lease.unfinished -= 1;
                }
                continue;
            }
            // A line that can't be run may just have stopped its batch: the rest is the closer's.
            if !self.batches.feeds.contains_key(&feed_id) {
                return;
            }
            if let Some((code, message)) = self.unservable(&entering, entry) {
                let ending = (ItemStatus::Failed, Payload::Error { code, message });
                let result = unsent(key.batch, entry.line, open.custom_id(entry), ending, now);
                self.finish_item(key, route.and_then(|route| self.lanes.preferred(route)), result, None);
                continue;
            }
            let retry = retries.get(&entry.line);
            let item = ReadyItem {
                lease: key,
                entry: place,
                line: entry.line,
                feed: feed_id,
                attempts: retry.map_or(0, |retry| retry.attempts),
                refusals: 0,
                successes_before: 0,
                failed_on: None,
                measure: None,
                started_at: retry.map(|retry| retry.started_at),
                ready_at: now,
            };
            match retry.filter(|retry| retry.not_before > now) {
                Some(retry) => self.delayed.push(retry.not_before, feed_id, item),
                None => ready.push(item),
            }
        }
        if self.batches.leases.get(&key).is_some_and(|lease| lease.resumed) {
            // The head of what was ready before has the turn of that.
            self.withdraw(feed_id, now);
            self.make_ready(feed_id, ready);
        } else {
            self.append_ready(feed_id, ready);
        }
    }

    /// Why an item can't be run at all, if so.
    fn unservable(&self, entering: &Entering, entry: &Entry) -> Option<(ErrorCode, String)> {
        let Entering { key, feed, open, duplicates } = entering;
        if entry.kind == EntryKind::Faulty {
            return Some((ErrorCode::InvalidRequest, open.fault(entry).to_owned()));
        }
        if duplicates.contains(&entry.line) {
            let message = "This line repeats the custom_id of an earlier line; only the first is run.";
            return Some((ErrorCode::InvalidRequest, message.to_owned()));
        }
        let batch = self.batches.batches.get(&key.batch)?;
        let feed = self.batches.feeds.get(feed)?;
        let check = LineCheck {
            endpoint: batch.record.endpoint,
            defaults_model: batch.defaults.as_ref().and_then(|defaults| defaults.model()),
            has_lane: &|_| feed.is_served(),
        };
        if let Some(fault) = check.fault(&feed.model, entry.endpoint?) {
            let no_lane = fault.code == ErrorCode::ModelNotFound.as_str();
            let code = if no_lane { ErrorCode::ModelNotFound } else { ErrorCode::InvalidRequest };
            return Some((code, fault.message));
        }
        let suspect = self.suspect?;
        let guilty = suspect.batch == key.batch && suspect.line == entry.line && suspect.deaths >= 3;
        guilty.then(|| {
            let message = "The service died three times while this request alone was running.";
            (ErrorCode::WorkerCrash, message.to_owned())
        })
    }

    /// Puts items behind those that are ready already: input order.
    fn append_ready(&mut self, feed_id: FeedId, items: Vec<ReadyItem>) {
        for item in items {
            let (lease, feed) =
                (self.batches.leases.get_mut(&item.lease), self.batches.feeds.get_mut(&feed_id));
            if let (Some(lease), Some(feed)) = (lease, feed) {
                lease.busy += 1;
                lease.ready += 1;
                feed.queue.push_back(item);
            }
        }
        self.ready_changed(feed_id);
    }

    /// Puts items before those that are ready already: they were started earlier.
    pub(super) fn make_ready(&mut self, feed_id: FeedId, items: Vec<ReadyItem>) {
        for item in items.into_iter().rev() {
            let (lease, feed) =
                (self.batches.leases.get_mut(&item.lease), self.batches.feeds.get_mut(&feed_id));
            if let (Some(lease), Some(feed)) = (lease, feed) {
                lease.busy += 1;
                lease.ready += 1;
                feed.queue.push_front(item);
            }
        }
        self.ready_changed(feed_id);
    }
}

/// What a segment's bytes cost the memory level: never so much that its own calls would find no room beside it.
pub(super) fn charge(head: &SegmentHead, ahead_limit: u64) -> u64 {
    (u64::from(head.raw_bytes) + INDEX_BYTES).min(2 * ahead_limit)
}

/// The time to spare before a batch's deadline in seconds; negative by what it will be late.
pub(super) fn slack_seconds(batch: &super::batches::ActiveBatch, now: Timestamp) -> f64 {
    batch.record.deadline.since(now).as_secs_f64() - work_seconds(batch)
}

/// What the rest of a batch takes if it has its lanes to itself, in seconds.
fn work_seconds(batch: &super::batches::ActiveBatch) -> f64 {
    batch.alone.clamp(0.0, 1e9)
}

/// Where a batch stands among those of its app.
pub(super) fn standing(batch: &super::batches::ActiveBatch, now: Timestamp) -> Standing {
    let left = batch.record.deadline.since(now);
    let work = std::time::Duration::from_secs_f64(work_seconds(batch));
    let slack = left.saturating_sub(work);
    Standing {
        priority: batch.record.options.priority,
        hopeless: work > left,
        total: batch.record.counts.total,
        slack,
        submission: batch.record.key.0,
    }
}
