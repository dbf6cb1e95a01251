//! What the end of an attempt means for its item and its lane. Pure: nothing here waits, counts or
//! writes, so that every rule can be told and tested as a row of a table.

mod body;
mod fault;
mod retry_on;
#[cfg(test)]
mod tests;
pub(super) mod usage;

use std::time::Duration;

pub use self::retry_on::RetryOn;

use self::body::Reading;
use self::fault::{Fault, Subject};
use crate::domain::batch::Usage;
use crate::domain::result::{ErrorCode, Payload};
use crate::domain::time::Timestamp;
use crate::metrics::{AttemptClass, RetryReason, Upstream429};
use crate::upstream::{CallError, Phase, Reply};

/// Refusals in a row of one item, while others pass, that show that the item itself is too large.
const TOO_LARGE_AFTER: u32 = 3;

/// The same where each refusal says that it is about requests or concurrency, which no item has more
/// of than another: chance is likelier, and only an upstream that never takes the item gets here.
const HOPELESS_AFTER: u32 = 10;

/// What an attempt is judged by besides its end.
#[derive(Clone, Copy, Debug)]
pub struct JudgeContext<'a> {
    /// The item's charged attempts before this one.
    pub attempts: u32,
    /// Most charged attempts of an item.
    pub max_attempts: u32,
    /// The present moment.
    pub now: Timestamp,
    /// When the item's batch ends.
    pub deadline: Timestamp,
    /// Whether the lane answered any call with success since it has its present key.
    pub lane_succeeded: bool,
    /// Refusals for rate that the item met in a row before this attempt.
    pub refusals: u32,
    /// Whether another item succeeded on the lane since the first of those.
    pub others_passed: bool,
    /// Which failures are tried again.
    pub retry_on: &'a RetryOn,
}

/// Why a lane stops until its operator acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The key is missing or refused.
    Credential,
    /// The account's money or quota is used up.
    Quota,
}

/// When an item is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// After the backoff of its charged attempts.
    Backoff,
    /// When the upstream said, though not past the deadline.
    At(Timestamp),
}

/// What becomes of the item or its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The item has its answer.
    Succeeded {
        /// The answer.
        payload: Payload,
    },
    /// The item has failed for good.
    Failed {
        /// What its result shows.
        payload: Payload,
    },
    /// The item is sent again.
    Retry {
        /// When.
        after: RetryAfter,
        /// Why, as metrics count it.
        reason: RetryReason,
        /// Why, for operators: `http_503`, `connection_error`.
        error: String,
    },
    /// The lane is closed for a while; the item keeps its place.
    LaneRateLimited {
        /// How long, if the upstream said.
        retry_after: Option<Duration>,
    },
    /// The lane is closed until its operator acts; the item keeps its place.
    LaneStopped {
        /// Why.
        reason: StopReason,
        /// What the upstream said, for operators; at most 300 characters.
        detail: String,
    },
}

/// An attempt, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How the call ended; `None`: nothing was sent.
    pub class: Option<AttemptClass>,
    /// What a 429 was about.
    pub refusal: Option<Upstream429>,
    /// Tokens that the reply reports, also of one that failed; `None`: unknown.
    pub usage: Option<Usage>,
    /// Whether it is one of the item's attempts.
    pub charged: bool,
    /// What becomes of the item or its lane.
    pub verdict: Verdict,
}

/// Judges the end of an attempt.
///
/// The deadline ends nothing here: an item whose retry can't start in time is expired with the rest
/// of its batch.
pub fn judge(attempt: Result<Reply, CallError>, context: &JudgeContext<'_>) -> Judgement {
    match attempt {
        Ok(reply) => judge_reply(reply, context),
        Err(error) => judge_error(&error, context),
    }
}

/// Whether the body of an answer of status 200 is an error.
pub(super) fn tells_error(body: &[u8]) -> bool {
    Reading::of(body, true).fault.is_some()
}

fn judge_error(error: &CallError, context: &JudgeContext<'_>) -> Judgement {
    let on = context.retry_on;
    let (reason, code) = match error {
        CallError::Credential { detail } => {
            let verdict = Verdict::LaneStopped { reason: StopReason::Credential, detail: detail.clone() };
            return Judgement { class: None, refusal: None, usage: None, charged: false, verdict };
        }
        CallError::TooLarge { .. } => (None, ErrorCode::ResponseTooLarge),
        CallError::Connect { .. }
        | CallError::BrokenOff { .. }
        | CallError::Timeout { phase: Phase::Connect, .. } => {
            (on.network().then_some(RetryReason::Network), ErrorCode::ConnectionError)
        }
        CallError::Timeout { .. } => {
            (on.timeouts().then_some(RetryReason::Timeout), ErrorCode::RequestTimeout)
        }
    };
    let verdict = retry_or_fail(reason, code, context, || error.to_string());
    Judgement { class: error.class(), refusal: None, usage: None, charged: true, verdict }
}

fn judge_reply(reply: Reply, context: &JudgeContext<'_>) -> Judgement {
    let fine = (200..300).contains(&reply.status);
    let Reading { is_json, is_object, usage, fault } = Reading::of(&reply.body, fine);
    let judged =
        |class, verdict| Judgement { class: Some(class), refusal: None, usage, charged: true, verdict };
    match fault {
        None if fine && is_object => {
            let payload = response(reply.status, reply, true);
            judged(AttemptClass::Ok, Verdict::Succeeded { payload })
        }
        None if fine => {
            let reason = context.retry_on.invalid_answers().then_some(RetryReason::InvalidResponse);
            let verdict = retry_or_fail(reason, ErrorCode::InvalidResponse, context, || {
                format!("the upstream answered {} with a body that is no JSON object", reply.status)
            });
            judged(AttemptClass::ServerError, verdict)
        }
        fault => {
            let fault = fault.unwrap_or_default();
            let status = if fine { fault.status() } else { reply.status };
            if status == 429 {
                return judge_429(&fault, reply.retry_after, usage, context);
            }
            if let Some(reason) = fault.stops_lane(status, context.lane_succeeded) {
                let verdict = Verdict::LaneStopped { reason, detail: fault.detail(status) };
                return Judgement { charged: false, ..judged(class_of(status), verdict) };
            }
            let reason = retried(status, &fault, reply.should_retry, context.retry_on);
            let verdict = match reason.and_then(|reason| again(reason, reply.retry_after, context)) {
                Some((after, reason)) => Verdict::Retry { after, reason, error: format!("http_{status}") },
                None => Verdict::Failed { payload: response(status, reply, is_json) },
            };
            judged(class_of(status), verdict)
        }
    }
}

fn judge_429(
    fault: &Fault,
    retry_after: Option<Duration>,
    usage: Option<Usage>,
    context: &JudgeContext<'_>,
) -> Judgement {
    let judged = |refusal, charged, verdict| {
        let class = Some(AttemptClass::RateLimited);
        Judgement { class, refusal: Some(refusal), usage, charged, verdict }
    };
    let subject = fault.subject();
    let (refusal, patience) = match subject {
        Subject::Quota => {
            let verdict = Verdict::LaneStopped { reason: StopReason::Quota, detail: fault.detail(429) };
            return judged(Upstream429::Quota, false, verdict);
        }
        Subject::Concurrency => (Upstream429::Concurrency, HOPELESS_AFTER),
        Subject::Requests => (Upstream429::Rate, HOPELESS_AFTER),
        Subject::Other => (Upstream429::Rate, TOO_LARGE_AFTER),
    };
    let hopeless = context.others_passed && context.refusals.saturating_add(1) >= patience;
    if !hopeless && !fault.names_more_than_the_limit() {
        return judged(refusal, false, Verdict::LaneRateLimited { retry_after });
    }
    let message = format!("the upstream refuses the request as above its limit: {}", fault.detail(429));
    let payload = Payload::Error { code: ErrorCode::TokenBudgetExceeded, message };
    judged(refusal, true, Verdict::Failed { payload })
}

/// Why an answer of this status is asked for again; `None`: it is final.
fn retried(status: u16, fault: &Fault, should_retry: Option<bool>, on: &RetryOn) -> Option<RetryReason> {
    let reason = match status {
        498 | 503 | 529 => RetryReason::Overloaded,
        500..=599 => RetryReason::ServerError,
        400..=499 => RetryReason::Conflict,
        _ => return None,
    };
    let told = should_retry == Some(true);
    let again = if status == 409 {
        on.status(409) && (told || fault.names_a_lock())
    } else {
        // The upstream may add what nobody thinks of, but not what the operator has taken out.
        on.status(status) || told && !RetryOn::USUAL.status(status)
    };
    (again && should_retry != Some(false)).then_some(reason)
}

fn class_of(status: u16) -> AttemptClass {
    match status {
        429 => AttemptClass::RateLimited,
        498 | 503 | 529 => AttemptClass::Overloaded,
        400..=499 => AttemptClass::ClientError,
        _ => AttemptClass::ServerError,
    }
}

fn retry_or_fail(
    reason: Option<RetryReason>,
    code: ErrorCode,
    context: &JudgeContext<'_>,
    message: impl FnOnce() -> String,
) -> Verdict {
    match reason.and_then(|reason| again(reason, None, context)) {
        Some((after, reason)) => Verdict::Retry { after, reason, error: code.as_str().to_owned() },
        None => Verdict::Failed { payload: Payload::Error { code, message: message() } },
    }
}

/// When the item is sent again, if attempts are left and this kind of failure is tried again.
fn again(
    reason: RetryReason,
    retry_after: Option<Duration>,
    context: &JudgeContext<'_>,
) -> Option<(RetryAfter, RetryReason)> {
    let left = context.attempts.saturating_add(1) < context.max_attempts;
    if !left {
        return None;
    }
    // "At once" is said by servers that send the header always; the backoff is better advice.
    let named = retry_after.filter(|wait| !wait.is_zero());
    let at = |wait| RetryAfter::At((context.now + wait).min(context.deadline));
    Some((named.map_or(RetryAfter::Backoff, at), reason))
}

fn response(status: u16, reply: Reply, is_json: bool) -> Payload {
    let body = if is_json { body::one_line(reply.body) } else { body::quoted(&reply.body) };
    Payload::Response { status, request_id: reply.request_id, body }
}
