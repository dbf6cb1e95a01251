//! What follows from the end of an attempt, and of an item.

use std::time::Duration;

use crate::domain::result::{ErrorCode, ItemStatus, NewResult, Payload};
use crate::domain::time::Timestamp;
use crate::gate::{Grant, Refusal, StopReason};
use crate::metrics::{Outcome, RetryReason, TokenType};

use super::attempt::{Ended, unsent};
use super::batches::Phase;
use super::dispatcher::Dispatcher;
use super::feedback::Heard;
use super::item::{LaneId, LeaseKey, ReadyItem};
use super::judge::{RetryAfter, Verdict};
use super::lost::Lost;

impl Dispatcher {
    pub(super) fn ended(&mut self, ended: Ended, now: Timestamp) {
        let mut grant = ended.permit.into_grant();
        self.settle_tokens((ended.lane, &ended.item), &ended.judgement, &mut grant, now);
        self.gate.finish_call(&mut grant, now);
        let (class, sent) = (ended.judgement.class, grant.sent());
        self.hear(&Heard { lane: ended.lane, class, quota: &ended.quota, sent }, now);
        if ended.result.is_some() {
            // Its bytes are here until they are recorded.
            self.recorder.reply(ended.number, ended.reply_bytes);
        } else {
            self.reply_gone(ended.number, ended.reply_bytes, now);
        }
        self.in_flight -= 1;
        self.count(ended.lane, &ended.judgement, ended.took);
        if !self.is_current(&ended.item) {
            return match ended.result {
                Some(result) => self.recorder.late_result(result, grant),
                None => self.gate.recorded(grant, now),
            };
        }
        let (lane, mut item) = (ended.lane, ended.item);
        let key = item.lease;
        self.running.remove(&(key.batch, item.line));
        if let Some(batch) = self.batches.batches.get_mut(&key.batch) {
            batch.in_flight -= 1;
        }
        item.attempts += u32::from(ended.judgement.charged);
        item.started_at.get_or_insert(ended.started_at);
        if ended.result.is_none() {
            self.lanes.get_mut(lane).flow.repeated();
        }
        self.follow((lane, item), (ended.judgement.verdict, ended.result), grant, now);
        self.settle_lease(key, now);
        if self.batches.batches.get(&key.batch).is_some_and(|batch| batch.can_close()) {
            self.close(key.batch);
        }
    }

    /// What an item's verdict means for it and for its lane.
    fn follow(
        &mut self,
        (lane, item): (LaneId, ReadyItem),
        (verdict, result): (Verdict, Option<NewResult>),
        grant: Grant,
        now: Timestamp,
    ) {
        let key = item.lease;
        match (verdict, result) {
            (Verdict::Succeeded { .. }, Some(result)) => {
                self.lane_works(lane, &grant, now);
                self.leave_lease(key);
                self.finish_item(key, Some(lane), result, Some(grant));
            }
            (Verdict::Failed { .. }, Some(result)) => {
                // An answer about the item proves that the lane answers.
                if grant.is_probe() {
                    self.gate.resume(self.lanes.get(lane).level, now);
                }
                self.leave_lease(key);
                self.finish_item(key, Some(lane), result, Some(grant));
            }
            (Verdict::Retry { after, reason, error }, _) => {
                self.gate.recorded(grant, now);
                self.retry(lane, item, (after, reason, error), now);
            }
            (Verdict::LaneRateLimited { retry_after }, _) => {
                let refusal = Refusal { sent_at: grant.admitted_at(), retry_after };
                self.gate.recorded(grant, now);
                self.refused(lane, item, refusal, now);
            }
            (Verdict::LaneStopped { reason, detail }, _) => {
                let reason = match reason {
                    super::judge::StopReason::Credential => StopReason::Credential,
                    super::judge::StopReason::Quota => StopReason::Quota,
                };
                self.stop_lane(lane, (reason, detail), &grant, now);
                self.gate.recorded(grant, now);
                self.put_back(item);
                self.lane_closed(lane, now);
            }
            // A terminal verdict always comes with its row.
            (Verdict::Succeeded { .. } | Verdict::Failed { .. }, None) => self.gate.recorded(grant, now),
        }
    }

    /// Nothing of a call's reply is held any more.
    fn reply_gone(&mut self, call: u64, bytes: u64, now: Timestamp) {
        if bytes > 0 {
            self.gate.release_held(self.memory, bytes, now);
        }
        self.growth.ended(call);
    }

    /// Whether an item's lease is the one that it was started for: others may have taken that over meanwhile.
    fn is_current(&self, item: &ReadyItem) -> bool {
        self.batches.leases.get(&item.lease).is_some_and(|lease| lease.feed == item.feed)
    }

    /// The lane refused the item for its rate: the lane is closed for a while, the item goes first when one opens.
    fn refused(&mut self, lane_id: LaneId, mut item: ReadyItem, refusal: Refusal, now: Timestamp) {
        let lane = self.lanes.get(lane_id);
        lane.metrics.retried(RetryReason::RateLimited);
        if item.failed_on != Some(lane_id) {
            item.refusals = 0;
        }
        if item.refusals == 0 {
            item.successes_before = lane.successes;
        }
        item.refusals += 1;
        item.failed_on = Some(lane_id);
        self.gate.rate_limited(lane.level, refusal, now);
        self.put_back(item);
        self.lane_closed(lane_id, now);
    }

    /// An attempt's task panicked: the attempt counts, and an item that has used up its attempts this way fails.
    pub(super) fn lost(&mut self, lost: Lost, now: Timestamp) {
        let Lost { number, lane, mut item } = lost;
        tracing::error!(
            batch = item.lease.batch.0,
            line = item.line,
            "an attempt ended in a defect of the service"
        );
        self.growth.ended(number);
        self.in_flight -= 1;
        self.lanes.get(lane).metrics.in_flight().dec();
        let key = item.lease;
        if !self.is_current(&item) {
            return;
        }
        self.running.remove(&(key.batch, item.line));
        let asked = self.batches.batches.get_mut(&key.batch).and_then(|batch| {
            batch.in_flight -= 1;
            batch.record.options.max_attempts
        });
        item.attempts += 1;
        if item.attempts < asked.unwrap_or(self.lanes.get(lane).provider.retry.max_attempts) {
            let why = "the service failed while the request ran".to_owned();
            self.retry(lane, item, (RetryAfter::Backoff, RetryReason::Network, why), now);
        } else {
            self.leave_lease(key);
            let message = "The service failed each time this request ran.".to_owned();
            let payload = Payload::Error { code: ErrorCode::WorkerCrash, message };
            let lease = self.batches.leases.get(&key).and_then(|lease| lease.open.as_ref());
            let entry = lease.and_then(|open| Some((open, open.entries().get(item.entry)?)));
            let custom_id = entry.and_then(|(open, entry)| open.custom_id(entry));
            let mut result = unsent(key.batch, item.line, custom_id, (ItemStatus::Failed, payload), now);
            result.attempts = item.attempts;
            self.finish_item(key, Some(lane), result, None);
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
    pub(super) fn leave_lease(&mut self, key: LeaseKey) {
        if let Some(lease) = self.batches.leases.get_mut(&key) {
            lease.busy -= 1;
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
        if let (Some(lane), Some(took)) = (lane, took) {
            self.lanes.get_mut(lane).flow.ended(took);
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
        if lease.entered
            && lease.ready == 0
            && let Some(holder) = lease.ahead.take()
        {
            self.ahead.give_back(holder, lease.held);
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
}
