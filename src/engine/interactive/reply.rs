//! A reply's body on its way to its client: counted and given back to the gate when it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::domain::interactive::{BrokenOff, ReplyBody};
use crate::domain::time::Timestamp;
use crate::engine::judge::Judgement;
use crate::metrics::{AttemptClass, LaneMetrics, Outcome, TokenType};
use crate::upstream::{CallError, StreamedBody};

use super::hiding::UsageHider;
use super::judging::{Doubt, end_of};
use super::passing::{End, Ticket};
use super::usage::UsageReader;

/// What a call is counted by.
#[derive(Clone)]
pub(super) struct Account {
    /// When this attempt was sent.
    pub(super) started_at: Timestamp,
    /// When the call was sent first.
    pub(super) first_sent: Timestamp,
    pub(super) metrics: Arc<LaneMetrics>,
}

impl Account {
    /// The attempt ended; `None`: nothing was sent.
    pub(super) fn attempt_ended(&self, class: Option<AttemptClass>, now: Timestamp) {
        if let Some(class) = class {
            self.metrics.attempt_ended(class, now.since(self.started_at));
        }
    }

    /// The call ended.
    pub(super) fn call_ended(&self, outcome: Outcome, now: Timestamp) {
        self.metrics.interactive_ended(outcome, now.since(self.first_sent));
    }
}

/// What happens at the end.
struct Closing {
    account: Account,
    ticket: Ticket,
    usage: UsageReader,
    /// Whether the answer may be an error after all.
    doubt: Option<Doubt>,
    class: Option<AttemptClass>,
    outcome: Outcome,
    end: End,
}

impl Closing {
    /// Takes in a piece as it passes.
    fn read(&mut self, piece: &[u8]) {
        self.usage.read(piece);
        if self.doubt.as_mut().is_some_and(|doubt| !doubt.keep(piece)) {
            self.doubt = None;
            self.ticket.answers();
        }
    }

    fn close(mut self) {
        let now = self.ticket.reporter().clock.now();
        if let Some(doubt) = self.doubt.take() {
            match doubt.resolved(now) {
                Some(judgement) => self.fail(judgement),
                None => self.ticket.answers(),
            }
        }
        self.account.attempt_ended(self.class, now);
        self.account.call_ended(self.outcome, now);
        self.count_tokens();
        self.ticket.end(self.end, self.class, self.usage.usage());
    }

    /// The answer is an error, which its client has to find out as it would without this service.
    fn fail(&mut self, judgement: Judgement) {
        let Judgement { class, refusal, verdict, .. } = judgement;
        if let Some(about) = refusal {
            self.account.metrics.refused_upstream(about);
        }
        (self.class, self.outcome, self.end) = (class, Outcome::Failed, end_of(verdict, class));
    }

    /// The upstream ended the body before its end.
    fn break_off(mut self, error: &CallError) {
        (self.class, self.outcome) = (error.class(), Outcome::Failed);
        self.end = End::Failed;
        self.doubt = None;
        self.ticket.broke_off();
        self.close();
    }

    /// The client went away.
    fn abort(self) {
        self.count_tokens();
        self.ticket.abort(self.usage.usage());
    }

    fn count_tokens(&self) {
        if let Some(usage) = self.usage.usage() {
            let metrics = &self.account.metrics;
            metrics.tokens_used(TokenType::Input, usage.input_tokens);
            metrics.tokens_used(TokenType::Output, usage.output_tokens);
            metrics.tokens_used(TokenType::Cached, usage.cached_tokens);
        }
    }
}

/// Comes to its end with the dispatcher: once a drain's time is up.
type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body as its client reads it.
pub(super) struct PassedBody {
    /// What was read of it to judge it.
    first: Option<Bytes>,
    rest: Option<StreamedBody>,
    /// When the rest is not waited for any more.
    ending: Option<Ending>,
    /// Hides what was asked for in the client's place.
    hider: Option<UsageHider>,
    /// That the upstream broke off, once all that came before is passed on.
    broken_off: Option<BrokenOff>,
    closing: Option<Closing>,
}

impl PassedBody {
    fn new(first: Option<Bytes>, rest: Option<StreamedBody>, closing: Closing) -> Self {
        let events = rest.is_some().then(|| closing.ticket.reporter().events.clone());
        let ending = events.map(|events| Box::pin(async move { events.closed().await }) as Ending);
        Self { first, rest, ending, hider: None, broken_off: None, closing: Some(closing) }
    }

    /// That of an answer; `fine`: its status says so.
    pub(super) fn of_answer(
        body: StreamedBody,
        (fine, doubt): (bool, Option<Doubt>),
        account: Account,
        ticket: Ticket,
    ) -> Self {
        // A redirect is passed on like everything else, but it is no answer.
        let (class, outcome, end) = if fine {
            (AttemptClass::Ok, Outcome::Succeeded, End::Succeeded)
        } else {
            (AttemptClass::ServerError, Outcome::Failed, End::Failed)
        };
        let usage = UsageReader::default();
        let closing = Closing { account, ticket, usage, doubt, class: Some(class), outcome, end };
        let mut passed = Self::new(None, Some(body), closing);
        passed.close_if_read();
        passed
    }

    /// The same, with something hidden from its client.
    pub(super) fn hiding(mut self, hider: Option<UsageHider>) -> Self {
        self.hider = hider;
        self
    }

    /// That of an error of which the beginning was read.
    pub(super) fn of_error(
        first: Bytes,
        rest: Option<StreamedBody>,
        class: Option<AttemptClass>,
        account: Account,
        (ticket, end): (Ticket, End),
    ) -> Self {
        let (usage, outcome) = (UsageReader::default(), Outcome::Failed);
        let closing = Closing { account, ticket, usage, doubt: None, class, outcome, end };
        let mut passed = Self::new(Some(first), rest, closing);
        passed.close_if_read();
        passed
    }

    /// One that needs no more than its bytes.
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self { first: Some(bytes), rest: None, ending: None, hider: None, broken_off: None, closing: None }
    }

    /// What is passed on once the upstream's last byte is here.
    fn leftover(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        let seen = self.hider.take().map(UsageHider::end).filter(|seen| !seen.is_empty());
        seen.map(Ok).or_else(|| self.broken_off.take().map(Err))
    }

    /// Ends it if the process does: what is missing will not come in time.
    fn end_with_the_drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(ending) = &mut self.ending else { return Poll::Pending };
        ready!(ending.as_mut().poll(context));
        (self.rest, self.ending) = (None, None);
        if let Some(closing) = self.closing.take() {
            closing.abort();
        }
        self.broken_off = Some(BrokenOff("the service ends".to_owned()));
        Poll::Ready(())
    }

    /// The upstream's last byte is here: hyper drops a body of known length without asking for its end.
    fn close_if_read(&mut self) {
        if self.rest.as_ref().is_none_or(|rest| rest.left() == Some(0))
            && let Some(closing) = self.closing.take()
        {
            self.rest = None;
            closing.close();
        }
    }
}

impl ReplyBody for PassedBody {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            let Some(rest) = &mut self.rest else { return Poll::Ready(self.leftover()) };
            let Poll::Ready(polled) = rest.poll_piece(context) else {
                ready!(self.end_with_the_drain(context));
                continue;
            };
            match polled {
                Some(Ok(piece)) => {
                    if let Some(closing) = &mut self.closing {
                        closing.read(&piece);
                    }
                    self.close_if_read();
                    let seen = match &mut self.hider {
                        Some(hider) => hider.see(&piece),
                        None => piece,
                    };
                    if !seen.is_empty() {
                        return Poll::Ready(Some(Ok(seen)));
                    }
                }
                None => {
                    self.rest = None;
                    self.close_if_read();
                }
                Some(Err(error)) => {
                    self.rest = None;
                    if let Some(closing) = self.closing.take() {
                        closing.break_off(&error);
                    }
                    self.broken_off = Some(BrokenOff(error.to_string()));
                }
            }
        }
    }

    fn left(&self) -> Option<u64> {
        // How much of the rest is hidden shows at its end.
        if self.hider.is_some() || self.broken_off.is_some() {
            return None;
        }
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.rest.as_ref().map_or(Some(0), StreamedBody::left)?;
        Some(first + rest)
    }
}

impl Drop for PassedBody {
    fn drop(&mut self) {
        // The upstream call ends before its place is given back.
        self.rest = None;
        if let Some(closing) = self.closing.take() {
            closing.abort();
        }
    }
}
