//! Ending batches early: cancel, fail-fast, deadline; and forgetting those that ended.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::batch::BatchStatus;
use crate::domain::file::LineProblem;
use crate::domain::ids::BatchKey;
use crate::domain::result::{ErrorCode, NewResult, Payload};
use crate::domain::time::Timestamp;
use crate::metrics::BatchOutcome;
use crate::store::StoreError;

use super::batches::Phase;
use super::closer::Closer;
use super::dispatcher::Dispatcher;
use super::event::Event;

/// Pause after the store refused to record the end of a batch.
const AGAIN: Duration = Duration::from_secs(1);

/// What `errors.data[0]` of a batch says that stopped at its first failed item.
pub(super) fn failed_fast(result: &NewResult) -> LineProblem {
    let why = match &result.payload {
        Payload::Response { status, .. } => format!("HTTP {status}"),
        Payload::Error { code, message } => format!("{}: {message}", code.as_str()),
    };
    LineProblem {
        line: Some(result.line),
        code: ErrorCode::FailFast.as_str().to_owned(),
        message: format!("The request of this line failed ({why}) and on_error is fail_fast."),
        param: None,
    }
}

impl Dispatcher {
    /// The batch's deadline passed.
    pub(super) fn expire(&mut self, key: BatchKey) {
        self.stop_starting(key, false);
        let store = self.store.clone();
        self.record_stop(key, move || {
            let store = store.clone();
            async move { store.begin_expiring(key).await }
        });
    }

    /// An item failed and the batch is to stop at the first.
    pub(super) fn fail_fast(&mut self, key: BatchKey, problem: LineProblem) {
        self.stop_starting(key, false);
        let store = self.store.clone();
        self.record_stop(key, move || {
            let (store, problem) = (store.clone(), problem.clone());
            async move { store.begin_cancelling(key, problem).await }
        });
    }

    /// Until it is durable: a full disk may refuse it for hours, and nothing else would try again.
    fn record_stop<R, F>(&self, batch: BatchKey, record: R)
    where
        R: Fn() -> F + Send + 'static,
        F: Future<Output = Result<bool, StoreError>> + Send + 'static,
    {
        let events = self.reporter.events.clone();
        tokio::spawn(async move {
            loop {
                match record().await {
                    Ok(_) => break,
                    Err(StoreError::Closed) => return,
                    Err(error) => {
                        tracing::error!(error = %error, "the end of a batch could not be recorded; trying again");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
            let _ = events.send(Event::StopRecorded { batch });
        });
    }

    pub(super) fn stop_recorded(&mut self, key: BatchKey) {
        if let Some(batch) = self.batches.batches.get_mut(&key)
            && matches!(batch.phase, Phase::Stopping { .. })
        {
            batch.phase = Phase::Stopping { recorded: true };
            if batch.can_close() {
                self.close(key);
            }
        }
        // Its row, with the reason, is what the closer goes by.
        self.refresh();
    }

    /// Nothing of the batch is leased or started any more.
    pub(super) fn stop_starting(&mut self, key: BatchKey, recorded: bool) {
        let now = self.clock.now();
        let Some(batch) = self.batches.batches.get_mut(&key) else {
            return;
        };
        batch.phase = Phase::Stopping { recorded };
        for feed_id in std::mem::take(&mut batch.feeds) {
            self.withdraw(feed_id, now);
            let Some(feed) = self.batches.feeds.remove(&feed_id) else {
                continue;
            };
            self.laneless.retain(|laneless| *laneless != feed_id);
            self.delayed.forget(feed_id);
            if let Some(route) = feed.route {
                let route = self.lanes.route_mut(route);
                route.remove_feed(feed_id);
                route.due.retain(|(due_feed, _)| *due_feed != feed_id);
            }
            for item in feed.queue {
                if let Some(lease) = self.batches.leases.get_mut(&item.lease) {
                    lease.busy -= 1;
                    lease.ready -= 1;
                }
            }
        }
        let leases: Vec<_> = self.batches.leases.keys().filter(|lease| lease.batch == key).copied().collect();
        for lease_key in leases {
            if let Some(lease) = self.batches.leases.get_mut(&lease_key) {
                lease.waiting_for_bytes.clear();
            }
            self.settle_lease(lease_key, now);
        }
        self.batches.recompute_deadline();
    }

    /// Starts the closer of a batch of which nothing is under way.
    pub(super) fn close(&mut self, key: BatchKey) {
        let now = self.clock.now();
        let Some(batch) = self.batches.batches.get_mut(&key) else {
            return;
        };
        batch.phase = Phase::Closing;
        let leases: Vec<_> = self.batches.leases.keys().filter(|lease| lease.batch == key).copied().collect();
        for lease in leases {
            self.drop_lease(lease, now);
        }
        let closer = Closer::new(self.store.clone(), self.clock, self.lanes.metrics_by_model());
        let events = self.reporter.events.clone();
        tokio::spawn(async move {
            if let Ok(ended) = closer.close(key).await {
                let _ = events.send(Event::Closed { batch: key, ended });
            }
        });
    }

    /// The closer is done with a batch.
    pub(super) fn closed(&mut self, key: BatchKey, ended: Option<BatchStatus>, now: Timestamp) {
        if let Some(status) = ended {
            self.batch_ended(key, status, now);
        }
        self.forget(key, now);
        // A batch whose stop came to nothing, as when its deadline was moved meanwhile, runs on.
        self.refresh();
    }

    fn drop_lease(&mut self, key: super::item::LeaseKey, now: Timestamp) {
        if let Some(lease) = self.batches.leases.remove(&key) {
            if let Some(holder) = lease.ahead {
                self.ahead.give_back(holder, lease.held);
            }
            if lease.held > 0 {
                self.gate.release_held(self.memory, lease.held, now);
            }
        }
    }

    /// A flush wrote the batch's last row.
    pub(super) fn batch_ended(&mut self, key: BatchKey, status: BatchStatus, now: Timestamp) {
        let outcome = match status {
            BatchStatus::Completed => BatchOutcome::Completed,
            BatchStatus::Expired => BatchOutcome::Expired,
            BatchStatus::Cancelled => BatchOutcome::Cancelled,
            _ => BatchOutcome::Failed,
        };
        let Some(batch) = self.batches.batches.get(&key) else {
            return;
        };
        let seconds = now.since(batch.record.created_at);
        self.metrics.batches().ended(outcome, seconds);
        tracing::info!(batch = %batch.record.id, status = status.as_str(), seconds = seconds.as_secs_f64(), "batch ended");
        if batch.phase != Phase::Closing {
            self.forget(key, now);
        }
    }

    /// Drops everything known of a batch.
    pub(super) fn forget(&mut self, key: BatchKey, now: Timestamp) {
        if self.batches.batches.contains_key(&key) {
            self.stop_starting(key, true);
        }
        let leases: Vec<_> = self.batches.leases.keys().filter(|lease| lease.batch == key).copied().collect();
        for lease in leases {
            self.drop_lease(lease, now);
        }
        // Of those that were given up while they ran.
        self.running.retain(|(batch, _), _| *batch != key);
        if let Some(batch) = self.batches.batches.remove(&key)
            && let Some(level) = batch.own_level
        {
            self.gate.remove_level(level);
        }
        self.estimates.forget(key);
        self.board.remove(key);
        self.batches.recompute_deadline();
    }
}

impl super::lanes::Lanes {
    fn metrics_by_model(&self) -> std::collections::HashMap<String, Arc<crate::metrics::LaneMetrics>> {
        self.known_models().map(|(model, lane)| (model.to_string(), Arc::clone(&lane.metrics))).collect()
    }
}
