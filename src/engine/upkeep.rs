//! What is done a few times a second, not per item: rates, gauges, the board, lanes that stopped.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use crate::domain::ids::BatchKey;
use crate::domain::limits::Dimension;
use crate::domain::progress::{Progress, WaitingReason};
use crate::domain::time::Timestamp;
use crate::gate::{Grant, LaneState, PauseReason, StopReason, Waiting};
use crate::metrics::{LaneStateLabel, RetryReason};

use super::batches::{Feed, Phase};
use super::dispatcher::Dispatcher;
use super::event::Event;
use super::item::{LaneId, RouteId};

impl Dispatcher {
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.sort_feeds(now);
        // One more tick after the last batch, and as long as a lane's state may change by time alone: else the
        // gauges would keep what they showed last.
        self.settled = !self.has_work();
        for id in self.lanes.ids() {
            let lane = self.lanes.get(id);
            // What was taken away is closed to nobody: an alert about it would never end.
            if self.lanes.is_retired(id) {
                lane.metrics.clear_state();
                continue;
            }
            let state = self.gate.lane_state(lane.level, now);
            self.settled &= state == LaneState::Open;
            lane.metrics.set_state(label(state));
        }
        self.show_pending();
        self.tell_others(now);
        self.show_limits(now);
        self.observe_lanes(now);
        let mut prospects = self.prospects(now);
        let keys: Vec<_> = self.batches.batches.keys().copied().collect();
        for key in keys {
            let mut waiting = self.waiting(key, now);
            keep_since(&mut waiting, &self.board.progress(key).waiting);
            if let Some(batch) = self.batches.batches.get_mut(&key) {
                batch.rate.tick(now);
                let items_per_second = batch.rate.per_second();
                let running = u64::from(batch.in_flight);
                let prospect = prospects.remove(&key).unwrap_or_default();
                batch.alone = prospect.alone;
                let completion = prospect.completion;
                self.board.publish(key, Progress { running, items_per_second, completion, waiting });
            }
        }
        // What became of them meanwhile is not known to one that is cut off from the database; others tell.
        let is_known = !self.store.health().is_unheard;
        let running = self.batches.batches.values().filter(|_| is_known);
        let oldest =
            running.clone().map(|batch| now.since(batch.record.created_at).as_secs_f64()).fold(0.0, f64::max);
        self.metrics.batches().set_oldest_pending(oldest);
        let slack = running.map(|batch| super::leasing::slack_seconds(batch, now));
        self.metrics.batches().set_deadline_slack(slack.reduce(f64::min).unwrap_or(0.0));
    }

    /// What each lane's limits come to at present: those learned move.
    fn show_limits(&mut self, now: Timestamp) {
        for id in self.lanes.ids() {
            let (lane, is_retired) = (self.lanes.get(id), self.lanes.is_retired(id));
            for dimension in Dimension::ALL {
                let pace = self.gate.pace_in(lane.path, dimension, now).filter(|_| !is_retired);
                lane.metrics.set_limit(dimension, pace.unwrap_or(0.0));
            }
        }
    }

    /// Items without a result, each counted at the lane that its route prefers. Of several workers one tells for all.
    fn show_pending(&self) {
        let mut pending: HashMap<LaneId, u64> = self.lanes.ids().map(|lane| (lane, 0)).collect();
        let counted = self.store.is_first().then(|| self.lanes.route_ids());
        for route in counted.into_iter().flatten() {
            let Some(pending) = self.lanes.preferred(route).and_then(|lane| pending.get_mut(&lane)) else {
                continue;
            };
            let feeds = self.lanes.route(route).feeds().filter_map(|feed| self.batches.feeds.get(&feed));
            *pending += feeds.map(|feed| feed.remaining).sum::<u64>();
        }
        for (lane, pending) in pending {
            self.lanes.get(lane).metrics.pending().set(i64::try_from(pending).unwrap_or(i64::MAX));
        }
    }

    /// Why a batch's next items wait: one reason a lane, or one for all.
    pub(super) fn waiting(&self, key: BatchKey, now: Timestamp) -> Vec<WaitingReason> {
        let Some(batch) = self.batches.batches.get(&key).filter(|batch| batch.phase == Phase::Running) else {
            return Vec::new();
        };
        let everywhere = |reason| WaitingReason { lane: None, reason, since: now, until: None };
        // Without a head in the gate in both cases: nothing is leased.
        if batch.record.options.paused {
            return vec![everywhere("paused")];
        }
        if self.disk_full {
            return vec![everywhere("disk")];
        }
        let feeds = batch.feeds.iter().filter_map(|feed| self.batches.feeds.get(feed));
        let is_elsewhere = self.sharing.is_on && batch.in_flight == 0;
        let waiting = feeds.flat_map(|feed| match feed.route {
            Some(route) if is_elsewhere && feed.has_none_here() => self.closed_lanes(route, now),
            _ => self.feed_waiting(feed, now),
        });
        waiting.collect()
    }

    fn feed_waiting(&self, feed: &Feed, now: Timestamp) -> Vec<WaitingReason> {
        if feed.route.is_none() {
            return vec![WaitingReason { lane: None, reason: "no_provider", since: now, until: None }];
        }
        let reasons = feed
            .heads
            .iter()
            .filter_map(|(lane, head)| Some(self.lane_reason(*lane, self.gate.head_waiting(*head, now)?)));
        reasons.collect()
    }

    /// What holds back items that other workers have, as far as this one knows it too: that no lane takes them.
    fn closed_lanes(&self, route: RouteId, now: Timestamp) -> Vec<WaitingReason> {
        let reason = |lane| Some(self.lane_reason(lane, self.gate.closed(self.lanes.get(lane).level, now)?));
        self.lanes.route(route).lanes().map(reason).collect::<Option<_>>().unwrap_or_default()
    }

    fn lane_reason(&self, lane: LaneId, waiting: Waiting) -> WaitingReason {
        let Waiting { reason, since, until, .. } = waiting;
        WaitingReason { lane: Some(self.lanes.get(lane).name.clone()), reason: reason.as_str(), since, until }
    }

    /// A lane pulls no more for now: what its routes have in the gate goes to those that take over.
    pub(super) fn lane_closed(&mut self, lane: LaneId, now: Timestamp) {
        self.move_calls(lane, now);
        for route in self.lanes.routes_of(lane) {
            if !self.lanes.route(route).has_choice() {
                continue;
            }
            for feed in self.lanes.route(route).feeds().collect::<Vec<_>>() {
                self.withdraw(feed, now);
                self.enqueue(feed, now);
            }
        }
    }

    /// The upstream refused for a reason that is the operator's to mend.
    pub(super) fn stop_lane(&mut self, id: LaneId, why: (StopReason, String), grant: &Grant, now: Timestamp) {
        let (reason, detail) = why;
        let lane = self.lanes.get_mut(id);
        lane.metrics.retried(RetryReason::LaneStopped);
        if reason == StopReason::Credential && lane.key_changed_at.is_some_and(|at| grant.admitted_at() <= at)
        {
            // The key that was refused is not in use any more. If this was a probe, the next one may go at once.
            self.gate.probe_now(lane.level, now);
            return;
        }
        let was_open = self.gate.lane_state(lane.level, now) != LaneState::Stopped;
        self.gate.stop(lane.level, reason, grant.admitted_at(), now);
        self.interactive.doubt_all();
        if was_open {
            tracing::warn!(lane = %lane.name, reason = reason.as_str(), detail = %detail, "{}", stopped_by(reason));
        }
        if reason == StopReason::Credential {
            lane.succeeded = false;
            if was_open || grant.is_probe() {
                let provider = std::sync::Arc::clone(&lane.provider);
                // Another key is told of by the credential itself; why none could be read, by the next call.
                tokio::spawn(async move { provider.upstream.credential().refresh().await });
            }
        }
    }

    /// Lanes stopped for the old key may try the new one at once.
    pub(super) fn key_changed(&mut self, provider: &str, now: Timestamp) {
        for lane in self.lanes.ids() {
            let lane = self.lanes.get_mut(lane);
            if lane.provider.name == provider {
                lane.key_changed_at = Some(now);
                lane.succeeded = false;
                self.gate.probe_now(lane.level, now);
            }
        }
    }

    /// Pauses the lane of a provider that serves a model, or ends its pause; the state that it is in then.
    pub(super) fn pause_lane(
        &mut self,
        provider: &str,
        model: &str,
        paused: bool,
        now: Timestamp,
    ) -> Option<&'static str> {
        let id = self.lanes.find(provider, model, &mut self.gate, now)?;
        let (level, name) = (self.lanes.get(id).level, self.lanes.get(id).name.clone());
        if paused {
            self.gate.pause(level, PauseReason::Paused, now);
            tracing::warn!(lane = %name, "the lane is paused: nothing goes through it until it is resumed");
        } else {
            self.gate.unpause(level, now);
            tracing::info!(lane = %name, "the lane's pause is over");
        }
        self.settled = false;
        self.lane_closed(id, now);
        Some(self.gate.lane_state(level, now).as_str())
    }

    /// Asks the store what there is to know of the apps.
    pub(super) fn refresh_apps(&self) {
        let (store, events) = (self.store.clone(), self.reporter.events.clone());
        let complaint = Arc::clone(&self.apps.complaint);
        tokio::spawn(async move {
            let asked = store.apps().await;
            let mut complaint = complaint.lock().unwrap_or_else(PoisonError::into_inner);
            match asked {
                Ok(apps) => {
                    complaint.end();
                    let _ = events.send(Event::Apps(apps));
                }
                // While the database is away the bell is rung again and again, and once more when it is back.
                Err(error) if complaint.begin() => {
                    tracing::error!(error = %error, "the apps' limits could not be read");
                }
                Err(_) => {}
            }
        });
    }

    /// The disk ran full, or has room again.
    pub(super) fn look_at_disk(&mut self) {
        let now = self.clock.now();
        let full = !self.store.health().takes_work();
        if full == self.disk_full {
            return;
        }
        self.disk_full = full;
        // What is the matter and what to do is in the store's own line.
        if full {
            tracing::info!(
                in_flight = self.in_flight,
                "nothing new is sent until the store takes writes again"
            );
            self.gate.pause(self.service, PauseReason::Disk, now);
        } else {
            tracing::info!("the store takes writes again: sending goes on");
            self.gate.unpause(self.service, now);
        }
    }
}

/// What stopped a lane, and what its operator can do.
const fn stopped_by(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Credential => {
            "the lane is stopped: the provider refuses its key; put a good one in its place. Items wait and lose no \
             attempt, one probe a minute or a changed key file opens the lane"
        }
        StopReason::Quota => {
            "the lane is stopped: the account's money or quota is used up; top it up. Items wait and lose no attempt, one \
             probe a minute opens the lane"
        }
    }
}

/// A reason that was there at the last look holds since then at least.
fn keep_since(waiting: &mut [WaitingReason], before: &[WaitingReason]) {
    for reason in waiting {
        let same = before.iter().find(|old| (&old.lane, old.reason) == (&reason.lane, reason.reason));
        reason.since = same.map_or(reason.since, |old| old.since.min(reason.since));
    }
}

fn label(state: LaneState) -> LaneStateLabel {
    match state {
        LaneState::Open => LaneStateLabel::Open,
        LaneState::Cooldown => LaneStateLabel::Cooldown,
        LaneState::Breaker => LaneStateLabel::Breaker,
        LaneState::Stopped => LaneStateLabel::Stopped,
        LaneState::Paused => LaneStateLabel::Paused,
    }
}
