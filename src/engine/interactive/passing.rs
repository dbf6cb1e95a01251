//! From an admission to the reply's head: the upstream call of a client that waits.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;

use crate::domain::batch::Usage;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::AppKey;
use crate::domain::interactive::{Call, Refusal, Refused, Reply};
use crate::domain::model_field::with_model;
use crate::domain::quota::QuotaReading;
use crate::domain::stream_usage::with_usage;
use crate::domain::time::Timestamp;
use crate::gate::{Permit, StopReason};
use crate::metrics::{AttemptClass, LaneMetrics, Outcome};
use crate::upstream::{CallError, Opening, Streamed, StreamedBody};

use super::Note;
use super::hiding::UsageHider;
use super::judging::{Doubt, Judging, end_of, is_of_kind, names_usage, reply_of};
use super::reply::{Account, PassedBody};
use crate::engine::attempt::Reporter;
use crate::engine::estimate::Measure;
use crate::engine::event::Event;
use crate::engine::item::LaneId;
use crate::engine::judge::Judgement;
use crate::engine::settings::ProviderSetup;

/// What tells SDKs whether to try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// What of an error reply is read before it is passed on: an error's JSON is far shorter.
const JUDGED: usize = 64 * 1024;

/// How a call ended, as far as its lane is concerned.
#[derive(Debug)]
pub(super) enum End {
    /// It was never sent.
    Unsent,
    /// Its client went away.
    Aborted,
    /// It was answered.
    Succeeded,
    /// Its request was refused.
    Refused,
    /// It failed for no fault of its own.
    Failed,
    /// It was refused for rate.
    RateLimited { retry_after: Option<Duration> },
    /// It was refused for what the operator has to mend.
    Stopped { reason: StopReason, detail: String },
}

/// A call that is over, with all that it held.
#[derive(Debug)]
pub(in crate::engine) struct Over {
    pub(super) lane: LaneId,
    pub(super) permit: Permit,
    /// Bytes of the memory level beyond the permit's.
    pub(super) held: u64,
    pub(super) end: End,
    /// Whether the call may go on: it is counted when it is clear that it does or doesn't.
    pub(super) goes_on: bool,
    /// Whose call it was.
    pub(super) app: AppKey,
    /// The model as its client named it.
    pub(super) model: Arc<str>,
    /// What its tokens were estimated from.
    pub(super) measure: Measure,
    pub(super) heard: Heard,
}

/// What its reply told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// How it ended; `None`: nothing was sent, or its client went away.
    pub(super) class: Option<AttemptClass>,
    /// Tokens that it reports.
    pub(super) usage: Option<Usage>,
    /// Whether it broke off or was left: its usage is a part of what was used then, at most.
    pub(super) broken_off: bool,
    /// What its headers say of the provider's limits.
    pub(super) quota: Vec<QuotaReading>,
}

/// What a call holds; dropping it gives it back, since then its client went away.
pub(super) struct Ticket {
    over: Option<Box<Over>>,
    /// How it is counted once it was sent.
    account: Option<Account>,
    /// Whether the call finds out if a stopped lane works again.
    probe: bool,
    reporter: Reporter,
}

impl Ticket {
    pub(super) fn new(over: Over, reporter: Reporter) -> Self {
        let probe = over.permit.grant().is_probe();
        Self { over: Some(Box::new(over)), account: None, probe, reporter }
    }

    pub(super) const fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Tells the dispatcher something before the end.
    fn note(&self, note: Note) {
        // A dispatcher that is gone has no use for it.
        let _ = self.reporter.events.send(Event::Interactive(Box::new(note)));
    }

    /// Tells that the lane answers, if that was to be found out.
    pub(super) fn answers(&self) {
        if self.probe {
            self.note(Note::Answers { lane: self.lane() });
        }
    }

    /// The reply broke off.
    pub(super) fn broke_off(&mut self) {
        if let Some(over) = &mut self.over {
            over.heard.broken_off = true;
        }
    }

    fn lane(&self) -> LaneId {
        self.over.as_ref().map_or(LaneId(0), |over| over.lane)
    }

    /// Keeps what the reply's head said of limits.
    fn hear(&mut self, quota: Vec<QuotaReading>) {
        if let Some(over) = &mut self.over {
            over.heard.quota = quota;
        }
    }

    /// Gives everything back. The class is that of the call's end, the usage what its reply reported.
    pub(super) fn end(mut self, end: End, class: Option<AttemptClass>, usage: Option<Usage>) {
        if let Some(over) = &mut self.over {
            (over.heard.class, over.heard.usage) = (class, usage);
        }
        self.give_back(end);
    }

    /// Gives everything back of a call that may be sent again.
    fn set_aside(mut self, end: End, class: Option<AttemptClass>) -> Unanswered {
        let app = self.over.as_ref().map(|over| over.app);
        if let Some(over) = &mut self.over {
            over.goes_on = true;
        }
        let unanswered = Unanswered { app, reporter: self.reporter.clone() };
        self.end(end, class, None);
        unanswered
    }

    /// Its client went away after the reply had reported so much.
    pub(super) fn abort(mut self, usage: Option<Usage>) {
        if let Some(over) = &mut self.over {
            (over.heard.usage, over.heard.broken_off) = (usage, true);
        }
    }

    fn give_back(&mut self, end: End) {
        if let Some(mut over) = self.over.take() {
            over.end = end;
            // Without a dispatcher the permit goes with the event.
            self.note(Note::Over(over));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.over.is_some()
            && let Some(account) = &self.account
        {
            account.call_ended(Outcome::Cancelled, self.reporter.clock.now());
        }
        self.give_back(if self.account.is_some() { End::Aborted } else { End::Unsent });
    }
}

/// A call that was sent and may be sent again. Dropping it tells that it was not.
pub(super) struct Unanswered {
    app: Option<AppKey>,
    reporter: Reporter,
}

impl Unanswered {
    /// It is sent again, and counted at the end of that.
    pub(super) fn goes_on(mut self) {
        self.app = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(app) = self.app {
            // A dispatcher that is gone counts nothing any more.
            let _ = self.reporter.events.send(Event::Interactive(Box::new(Note::Unanswered { app })));
        }
    }
}

/// The right to make one call, and what it takes to make it.
pub(super) struct Pass {
    pub(super) provider: Arc<ProviderSetup>,
    pub(super) provider_name: Arc<str>,
    pub(super) lane: Arc<str>,
    pub(super) upstream_model: Option<Arc<str>>,
    pub(super) metrics: Arc<LaneMetrics>,
    /// Whether the lane answered any call with success since it has its present key.
    pub(super) lane_succeeded: bool,
    /// Whether a stream is asked for its usage.
    pub(super) asks_usage: bool,
    pub(super) ticket: Ticket,
}

/// An upstream's refusal for rate, kept until it is clear that no later call will be let through.
pub(super) struct HeldBack {
    provider: Arc<str>,
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    metrics: Arc<LaneMetrics>,
    took: Duration,
    unanswered: Unanswered,
}

impl HeldBack {
    /// The call is sent again.
    pub(super) fn goes_on(self) {
        self.unanswered.goes_on();
    }
}

/// What came of a call.
pub(super) enum Sent {
    /// The upstream's answer.
    Reply(Reply),
    /// It was refused for rate; it may be sent again.
    HeldBack(HeldBack),
    /// It may have been refused, by this lane, for what was asked for in its client's place; it is sent again
    /// without.
    RefusedUsage(LaneId, Unanswered),
    /// There is no answer.
    Failed(Refused),
}

impl Pass {
    /// Makes the call. `first_sent`: when it was sent first; `waited`: its time in the gate so far;
    /// `refused_by`: the lane that may have refused it for asking for its usage.
    pub(super) async fn send(
        mut self,
        call: &Call,
        first_sent: Timestamp,
        waited: Duration,
        refused_by: Option<LaneId>,
    ) -> Sent {
        let started_at = self.ticket.reporter.clock.now();
        let account = Account { started_at, first_sent, metrics: Arc::clone(&self.metrics) };
        self.ticket.account = Some(account.clone());
        self.asks_usage &= refused_by.is_none();
        let body = self.body_of(call);
        let opening = Opening {
            endpoint: call.endpoint,
            model: self.upstream_model.as_deref().unwrap_or(&call.model),
            body,
            headers: &call.headers,
            query: call.query.as_deref(),
            timeouts: self.provider.timeouts,
        };
        let opened = self.provider.upstream.open(opening).await;
        match opened {
            Err(error) => Sent::Failed(self.failed(error, &account, waited)),
            Ok(streamed) if streamed.status < 400 => self.answered(streamed, account, waited, refused_by),
            Ok(streamed) => self.refused(streamed, account, waited).await,
        }
    }

    /// The body as the lane gets it. From here on `asks_usage` tells whether it does ask.
    fn body_of(&mut self, call: &Call) -> Bytes {
        let body = match &self.upstream_model {
            Some(model) => with_model(&call.body, model),
            None => call.body.clone(),
        };
        // Most calls ask for no stream: that is seen without reading them as JSON.
        self.asks_usage &= matches!(call.endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
            && memmem::find(&body, b"\"stream\"").is_some();
        let asking = if self.asks_usage { with_usage(&body) } else { None };
        self.asks_usage = asking.is_some();
        asking.unwrap_or(body)
    }

    /// An answer's head came.
    fn answered(
        mut self,
        streamed: Streamed,
        account: Account,
        waited: Duration,
        refused_by: Option<LaneId>,
    ) -> Sent {
        let lane = self.ticket.lane();
        let fine = (200..300).contains(&streamed.status);
        if fine && refused_by == Some(lane) {
            self.ticket.note(Note::RefusesUsage { lane });
        }
        let Streamed { status, headers, quota, body, retry_after, should_retry, .. } = streamed;
        self.ticket.hear(quota);
        let doubt =
            if fine { Doubt::of(self.judging(), &headers, &body, (retry_after, should_retry)) } else { None };
        if doubt.is_none() && fine {
            self.ticket.answers();
        }
        let hider = (self.asks_usage && !is_of_kind(&headers, "application/json")).then(UsageHider::default);
        let body = PassedBody::of_answer(body, (fine, doubt), account, self.ticket).hiding(hider);
        let provider = self.provider_name;
        Sent::Reply(Reply { provider, waited, status, headers, body: Box::new(body) })
    }

    fn judging(&self) -> Judging {
        Judging { provider: Arc::clone(&self.provider), lane_succeeded: self.lane_succeeded }
    }

    /// No head came.
    fn failed(self, error: CallError, account: &Account, waited: Duration) -> Refused {
        let now = self.ticket.reporter.clock.now();
        let text = error.to_string();
        let refusal = match &error {
            CallError::Timeout { .. } => Refusal::TimedOut(text),
            CallError::Credential { .. } => {
                let (lane, retry_after) = (Arc::clone(&self.lane), Duration::from_secs(60));
                Refusal::LaneStopped { lane, reason: "credential", retry_after }
            }
            _ => Refusal::Unreachable(text),
        };
        let Judgement { class, verdict, .. } = self.judging().judged(Err(error), now);
        account.attempt_ended(class, now);
        account.call_ended(Outcome::Failed, now);
        let provider = class.is_some().then_some(self.provider_name);
        self.ticket.end(end_of(verdict, class), class, None);
        Refused { waited, provider, refusal }
    }

    /// An error's head came: its body says what it is about.
    async fn refused(mut self, streamed: Streamed, account: Account, waited: Duration) -> Sent {
        let Streamed { status, mut headers, retry_after, should_retry, quota, mut body, .. } = streamed;
        self.ticket.hear(quota);
        let (read, whole) = read_ahead(&mut body).await;
        let read = self.provider.upstream.blank_out_key(read);
        let now = self.ticket.reporter.clock.now();
        let first_byte = now.since(account.started_at);
        let reply = reply_of(status, read.clone(), (retry_after, should_retry), first_byte);
        let Judgement { class, refusal, verdict, .. } = self.judging().judged(Ok(reply), now);
        if let Some(about) = refusal {
            self.metrics.refused_upstream(about);
        }
        let end = end_of(verdict, class);
        if whole && self.asks_usage && names_usage(status, &read) {
            account.attempt_ended(class, now);
            let lane = self.ticket.lane();
            return Sent::RefusedUsage(lane, self.ticket.set_aside(end, class));
        }
        if whole && matches!(end, End::RateLimited { .. }) {
            account.attempt_ended(class, now);
            let unanswered = self.ticket.set_aside(end, class);
            let took = now.since(account.first_sent);
            let (provider, metrics) = (self.provider_name, self.metrics);
            return Sent::HeldBack(HeldBack {
                provider,
                status,
                headers,
                body: read,
                metrics,
                took,
                unanswered,
            });
        }
        if matches!(end, End::Stopped { .. }) {
            // SDKs send a 429 again, whatever it is about, and would show the lane's stop in place of its cause.
            headers.entry(SHOULD_RETRY).or_insert(HeaderValue::from_static("false"));
        }
        let rest = (!whole).then_some(body);
        let body = PassedBody::of_error(read, rest, class, account, (self.ticket, end));
        let provider = self.provider_name;
        Sent::Reply(Reply { provider, waited, status, headers, body: Box::new(body) })
    }

    /// The refusal for rate that was held back, as the answer after all.
    pub(super) fn reply_of(held_back: HeldBack, waited: Duration) -> Reply {
        let HeldBack { provider, status, headers, body, metrics, took, unanswered: _counted } = held_back;
        metrics.interactive_ended(Outcome::Failed, took);
        let body = Box::new(PassedBody::whole(body));
        Reply { provider, waited, status, headers, body }
    }
}

/// The body's beginning, and whether it is all of it; what breaks off is passed on as far as it came.
async fn read_ahead(body: &mut StreamedBody) -> (Bytes, bool) {
    let mut read = BytesMut::new();
    while read.len() < JUDGED {
        match body.next().await {
            Ok(Some(piece)) => read.extend_from_slice(&piece),
            Ok(None) => return (read.freeze(), true),
            // The error comes again when the rest is read.
            Err(_) => break,
        }
    }
    (read.freeze(), false)
}
