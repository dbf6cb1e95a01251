//! One upstream call for an item, from permit to verdict: the only part of the engine that waits for a provider.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::domain::batch::Usage;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::BatchKey;
use crate::domain::model_field::with_model;
use crate::domain::quota::QuotaReading;
use crate::domain::result::{ItemStatus, NewResult, Payload};
use crate::domain::time::Timestamp;
use crate::gate::Permit;
use crate::ingest::Defaults;
use crate::metrics::AttemptClass;
use crate::store::Store;
use crate::traces::{self, AttemptFacts};
use crate::upstream::{Call, PhaseTimeouts, ReplyMemory};

use super::event::Event;
use super::item::{LaneId, ReadyItem};
use super::judge::{JudgeContext, Judgement, Verdict, judge};
use super::settings::ProviderSetup;

/// All that one attempt needs; it borrows nothing from the dispatcher.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Counted over all calls of the process: older ones have lower numbers.
    pub(super) number: u64,
    pub(super) lane: LaneId,
    pub(super) item: ReadyItem,
    pub(super) permit: Permit,
    pub(super) provider: Arc<ProviderSetup>,
    pub(super) endpoint: Endpoint,
    /// The model as its line names it; empty where it names none.
    pub(super) model: Arc<str>,
    /// The provider's name for it, if another.
    pub(super) upstream_model: Option<Arc<str>>,
    pub(super) body: Bytes,
    /// Laid under the body, if the batch has defaults.
    pub(super) defaults: Option<Arc<Defaults>>,
    pub(super) custom_id: Option<String>,
    pub(super) timeouts: PhaseTimeouts,
    pub(super) max_attempts: u32,
    pub(super) deadline: Timestamp,
    pub(super) lane_succeeded: bool,
    pub(super) others_passed: bool,
    /// Set on a careful start: the item is named in the boot row before it is sent.
    pub(super) name_first: Option<Store>,
}

impl Attempt {
    /// What traces tell of it.
    pub(super) fn facts(&self) -> AttemptFacts<'_> {
        AttemptFacts {
            provider: &self.provider.name,
            model: &self.model,
            endpoint: self.endpoint.path(),
            number: self.item.attempts + 1,
        }
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// As in [`Attempt::number`].
    pub(super) number: u64,
    pub(super) lane: LaneId,
    pub(super) item: ReadyItem,
    pub(super) permit: Permit,
    pub(super) judgement: Judgement,
    /// The terminal row, if the verdict is one.
    pub(super) result: Option<NewResult>,
    pub(super) started_at: Timestamp,
    pub(super) took: Duration,
    /// Bytes of the reply charged to the memory level beyond the permit's.
    pub(super) reply_bytes: u64,
    /// What the reply said of the provider's limits.
    pub(super) quota: Vec<QuotaReading>,
}

/// Where attempts report to.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    pub(super) clock: Clock,
    pub(super) events: mpsc::UnboundedSender<Event>,
}

/// Makes the call, judges it and reports.
pub(super) async fn run(attempt: Attempt, reporter: Reporter) {
    let batch = attempt.item.lease.batch;
    if let Some(store) = &attempt.name_first
        // Boxed, or every attempt would be as large as what a database's transaction takes.
        && let Err(error) = Box::pin(store.name_alone(batch, attempt.item.line)).await
    {
        tracing::error!(error = %error, "the first item of a careful start could not be named");
    }
    let started_at = reporter.clock.now();
    let memory = Growth {
        call: attempt.number,
        events: reporter.events.clone(),
        granted: std::sync::atomic::AtomicU64::new(0),
    };
    let body = match &attempt.defaults {
        Some(defaults) => defaults.lay_under(&attempt.body).into(),
        None => attempt.body.clone(),
    };
    let body = match &attempt.upstream_model {
        Some(model) => with_model(&body, model),
        None => body,
    };
    let call = Call {
        endpoint: attempt.endpoint,
        model: attempt.upstream_model.as_ref().unwrap_or(&attempt.model),
        body,
        headers: &[],
        timeouts: attempt.timeouts,
        max_reply: MAX_REPLY,
    };
    let mut reply = attempt.provider.upstream.call(call, &memory).await;
    let quota = reply.as_mut().map(|reply| std::mem::take(&mut reply.quota)).unwrap_or_default();
    let now = reporter.clock.now();
    let context = JudgeContext {
        attempts: attempt.item.attempts,
        max_attempts: attempt.max_attempts,
        now,
        deadline: attempt.deadline,
        lane_succeeded: attempt.lane_succeeded,
        refusals: attempt.item.refusals,
        others_passed: attempt.others_passed,
        retry_on: &attempt.provider.retry.on,
    };
    let mut judgement = judge(reply, &context);
    traces::outcome(judgement.class.map_or("not_sent", AttemptClass::as_str));
    let result = terminal(&mut judgement, &attempt, started_at, now);
    let reply_bytes = memory.granted.into_inner();
    let Attempt { number, lane, item, permit, .. } = attempt;
    let took = now.since(started_at);
    let ended = Ended { number, lane, item, permit, judgement, result, started_at, took, reply_bytes, quota };
    // A dispatcher that is gone has given up on what is in flight: the permit goes with the event.
    let _ = reporter.events.send(Event::Ended(Box::new(ended)));
}

/// Longest reply that is kept, decoded.
const MAX_REPLY: usize = 32 * 1024 * 1024;

fn terminal(
    judgement: &mut Judgement,
    attempt: &Attempt,
    started_at: Timestamp,
    now: Timestamp,
) -> Option<NewResult> {
    let (status, payload) = match &mut judgement.verdict {
        Verdict::Succeeded { payload } => (ItemStatus::Succeeded, payload),
        Verdict::Failed { payload } => (ItemStatus::Failed, payload),
        _ => return None,
    };
    Some(NewResult {
        batch: attempt.item.lease.batch,
        line: attempt.item.line,
        custom_id: attempt.custom_id.clone(),
        status,
        attempts: attempt.item.attempts + u32::from(judgement.charged),
        started_at: Some(attempt.item.started_at.unwrap_or(started_at)),
        finished_at: now,
        usage: judgement.usage.unwrap_or_default(),
        payload: std::mem::replace(payload, empty_payload()),
    })
}

/// The row of an item that was never sent.
pub(super) fn unsent(
    batch: BatchKey,
    line: u32,
    custom_id: Option<&str>,
    ending: (ItemStatus, Payload),
    now: Timestamp,
) -> NewResult {
    NewResult {
        batch,
        line,
        custom_id: custom_id.map(str::to_owned),
        status: ending.0,
        attempts: 0,
        started_at: None,
        finished_at: now,
        usage: Usage::default(),
        payload: ending.1,
    }
}

fn empty_payload() -> Payload {
    Payload::Response { status: 0, request_id: String::new(), body: Bytes::new() }
}

/// Asks the dispatcher for each further piece of a long reply.
struct Growth {
    call: u64,
    events: mpsc::UnboundedSender<Event>,
    granted: std::sync::atomic::AtomicU64,
}

impl ReplyMemory for Growth {
    async fn grow(&self, bytes: usize) {
        let (reply, granted) = oneshot::channel();
        let bytes = bytes as u64;
        if self.events.send(Event::Grow { call: self.call, bytes, reply }).is_ok()
            && let Ok(held) = granted.await
        {
            self.granted.fetch_add(held, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
