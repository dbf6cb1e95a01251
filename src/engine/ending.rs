//! What follows from the end of an attempt, and of an item.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::ids::BatchKey;
use crate::domain::result::{ItemStatus, NewResult, RetryRecord};
use crate::domain::time::Timestamp;
use crate::gate::{Grant, Refusal, StopReason};
use crate::metrics::{Outcome, RetryReason, TokenType};

use super::attempt::Ended;
use super::batches::{ActiveBatch, Feed, Phase};
use super::dispatcher::{Dispatcher, Stage};
use super::item::{LaneId, LeaseKey, ReadyItem};
use super::judge::{RetryAfter, Verdict};

impl Dispatcher {
    pub(super) fn ended(&mut self, ended: Ended, now: Timestamp) {
        let mut grant = ended.permit.into_grant();
        self.gate.finish_call(&mut grant, now);
        if ended.reply_bytes > 0 {
            self.gate.release_held(self.memory, ended.reply_bytes, now);
        }
        self.growth.ended(ended.number);
        self.in_flight -= 1;
        let key = ended.item.lease;
        if let Some(batch) = self.batches.batches.get_mut(&key.batch) {
            batch.in_flight -= 1;
        }
        self.count(ended.lane, &ended.judgement, ended.took);
        let mut item = ended.item;
        item.attempts += u32::from(ended.judgement.charged);
        item.started_at.get_or_insert(ended.started_at);
        match (ended.judgement.verdict, ended.result) {
            (Verdict::Succeeded { .. }, Some(result)) => {
                self.lane_works(ended.lane, &grant, now);
                self.leave_lease(key);
                self.finish_item(key, Some(ended.lane), result, Some(grant));
            }
            (Verdict::Failed { .. }, Some(result)) => {
                // An answer about the item proves that the lane answers.
                if grant.is_probe() {
                    self.gate.resume(self.lanes.get(ended.lane).level, now);
                }
                self.leave_lease(key);
                self.finish_item(key, Some(ended.lane), result, Some(grant));
            }
            (Verdict::Retry { after, reason, error }, _) => {
                self.gate.recorded(grant, now);
                self.retry(ended.lane, item, (after, reason, error), now);
            }
            (Verdict::LaneRateLimited { retry_after }, _) => {
                let lane = self.lanes.get(ended.lane);
                lane.metrics.retried(RetryReason::RateLimited);
                if item.refusals == 0 {
                    item.successes_before = lane.successes;
                }
                item.refusals += 1;
                let refusal = Refusal { sent_at: grant.admitted_at(), retry_after };
                self.gate.rate_limited(lane.level, refusal, now);
                self.gate.recorded(grant, now);
                self.put_back(item);
            }
            (Verdict::LaneStopped { reason, detail }, _) => {
                let reason = match reason {
                    super::judge::StopReason::Credential => StopReason::Credential,
                    super::judge::StopReason::Quota => StopReason::Quota,
                };
                self.stop_lane(ended.lane, (reason, detail), &grant, now);
                self.gate.recorded(grant, now);
                self.put_back(item);
            }
            // A terminal verdict always comes with its row.
            (Verdict::Succeeded { .. } | Verdict::Failed { .. }, None) => self.gate.recorded(grant, now),
        }
        self.settle_lease(key, now);
        if self.batches.batches.get(&key.batch).is_some_and(|batch| batch.can_close()) {
            self.close(key.batch);
        }
    }

    fn count(&self, lane: LaneId, judgement: &super::judge::Judgement, took: Duration) {
        let metrics = &self.lanes.get(lane).metrics;
        metrics.in_flight().dec();
        if let Some(class) = judgement.class {
            metrics.attempt_ended(class, took);
        }
        if let Some(refusal) = judgement.refusal {
            metrics.refused_upstream(refusal);
        }
        if let Some(usage) = judgement.usage {
            metrics.tokens_used(TokenType::Input, usage.input_tokens);
            metrics.tokens_used(TokenType::Output, usage.output_tokens);
            metrics.tokens_used(TokenType::Cached, usage.cached_tokens);
        }
    }

    fn lane_works(&mut self, lane: LaneId, grant: &Grant, now: Timestamp) {
        let lane = self.lanes.get_mut(lane);
        lane.successes += 1;
        lane.succeeded = true;
        if grant.is_probe() {
            tracing::info!(lane = %lane.name, "the lane answers again");
            self.gate.resume(lane.level, now);
        }
    }

    /// An item left its lease's bytes: it ended or waits elsewhere.
    fn leave_lease(&mut self, key: LeaseKey) {
        if let Some(lease) = self.batches.leases.get_mut(&key) {
            lease.busy -= 1;
        }
    }

    fn retry(
        &mut self,
        lane: LaneId,
        mut item: ReadyItem,
        how: (RetryAfter, RetryReason, String),
        now: Timestamp,
    ) {
        let (after, reason, last_error) = how;
        item.refusals = 0;
        let lane = self.lanes.get(lane);
        lane.metrics.retried(reason);
        let due = match after {
            RetryAfter::Backoff => now + lane.provider.retry.backoff.delay(item.attempts, rand::random()),
            RetryAfter::At(at) => at,
        };
        let key = item.lease;
        let started_at = item.started_at.unwrap_or(now);
        let (batch, line, attempts) = (key.batch, item.line, item.attempts);
        self.recorder.retry(RetryRecord { batch, line, attempts, not_before: due, started_at, last_error });
        self.leave_lease(key);
        let feed = self.batches.leases.get(&key).map(|lease| lease.feed);
        if let Some(feed) = feed.filter(|feed| self.batches.feeds.contains_key(feed)) {
            self.delayed.push(due, feed, item);
        }
    }

    /// An item that its lane could not take goes first when the lane opens; it lost nothing.
    fn put_back(&mut self, item: ReadyItem) {
        let key = item.lease;
        self.leave_lease(key);
        let Some(lease) = self.batches.leases.get(&key) else {
            return;
        };
        let (feed, stopping) = (lease.feed, !self.batches.feeds.contains_key(&lease.feed));
        if !stopping {
            self.make_ready(feed, vec![item]);
        }
    }

    /// An item has its result: from its lane, unless none serves it.
    pub(super) fn finish_item(
        &mut self,
        key: LeaseKey,
        lane: Option<LaneId>,
        result: NewResult,
        grant: Option<Grant>,
    ) {
        let failed = result.status == ItemStatus::Failed;
        let took = result.started_at.map(|started| result.finished_at.since(started));
        if let Some(lease) = self.batches.leases.get_mut(&key) {
            lease.unfinished -= 1;
            let finished = lease.unfinished == 0;
            if let Some(feed) = self.batches.feeds.get_mut(&lease.feed) {
                feed.remaining = feed.remaining.saturating_sub(1);
            }
            if finished {
                self.recorder.segment_finished(key.batch, key.segment);
            }
        }
        if let Some(lane) = lane {
            let outcome = if failed { Outcome::Failed } else { Outcome::Succeeded };
            self.lanes.get(lane).metrics.item_ended(outcome, took);
        }
        let mut stop = None;
        if let Some(batch) = self.batches.batches.get_mut(&key.batch) {
            batch.unrecorded += 1;
            batch.remaining = batch.remaining.saturating_sub(1);
            if failed && batch.fails_fast() && batch.phase == Phase::Running {
                stop = Some(super::stopping::failed_fast(&result));
            }
        }
        self.recorder.result(result, grant);
        if let Some(problem) = stop {
            self.fail_fast(key.batch, problem);
        }
    }

    /// Closes a lease's bytes when nothing needs them, forgets it when all of its items ended.
    pub(super) fn settle_lease(&mut self, key: LeaseKey, now: Timestamp) {
        let Some(lease) = self.batches.leases.get_mut(&key) else {
            return;
        };
        if lease.ahead && lease.entered && lease.ready == 0 {
            lease.ahead = false;
            self.ahead -= lease.held;
        }
        if lease.can_close() {
            lease.open = None;
            let held = std::mem::take(&mut lease.held);
            self.gate.release_held(self.memory, held, now);
        }
        if lease.unfinished == 0 && lease.open.is_none() {
            self.batches.leases.remove(&key);
        }
    }

    /// Retries that are due: into their lane's queue for the retry budget, and from there to their feeds.
    pub(super) fn release_due(&mut self, now: Timestamp) {
        if self.stage != Stage::Running {
            return;
        }
        while let Some((feed_id, item)) = self.delayed.pop_due(now) {
            if let Some(lane) = self.batches.feeds.get(&feed_id).and_then(|feed| feed.lane) {
                self.lanes.get_mut(lane).due.push_back((feed_id, item));
            }
        }
        for lane in self.lanes.ids() {
            while let Some((feed, item)) = self.next_retry(lane) {
                self.wake_item(feed, item);
            }
        }
    }

    fn next_retry(&mut self, lane_id: LaneId) -> Option<(super::item::FeedId, ReadyItem)> {
        let lane = self.lanes.get_mut(lane_id);
        lane.due.front()?;
        let (feeds, batches) = (&self.batches.feeds, &self.batches.batches);
        // Those of a batch that may start nothing are not what a retry would displace.
        let mut waiting =
            lane.feeds.iter().filter_map(|feed| feeds.get(feed)).filter(|feed| has_room(batches, feed));
        let first_attempts =
            waiting.any(|feed| feed.has_more() || feed.queue.iter().any(|item| item.attempts == 0));
        let waiting = super::retry_budget::Waiting {
            first_attempts,
            delayed_retries: self.delayed.len() + lane.due.len(),
        };
        if !lane.retry_budget.allows(waiting) {
            return None;
        }
        // Charged here, not at the send: else everything due would leave on one credit.
        lane.retry_budget.started(true);
        lane.due.pop_front()
    }

    /// Makes a due retry ready, loading its bytes again if they were closed.
    fn wake_item(&mut self, feed_id: super::item::FeedId, mut item: ReadyItem) {
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
        let bytes = super::leasing::charge(&head, self.ahead_limit);
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
fn has_room(batches: &HashMap<BatchKey, ActiveBatch>, feed: &Feed) -> bool {
    batches.get(&feed.batch).is_some_and(ActiveBatch::has_room)
}
