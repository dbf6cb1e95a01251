//! What the end of an attempt means for its item and its lane. Pure: nothing here waits, counts or
//! writes, so that every rule can be told and tested as a row of a table.

mod body;
mod fault;
mod retry_on;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

pub use self::retry_on::RetryOn;

use self::body::Reading;
use self::fault::{Fault, Speaks};
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

fn judge_error(error: &CallError, context: &JudgeContext<'_>) -> Judgement {
    let retried = match error {
        CallError::Credential { detail } => {
            let verdict = Verdict::LaneStopped { reason: StopReason::Credential, detail: detail.clone() };
            return Judgement { class: None, refusal: None, usage: None, charged: false, verdict };
        }
        CallError::TooLarge { .. } => None,
        CallError::Timeout { phase, .. } if *phase != Phase::Connect => {
            Some((RetryReason::Timeout, ErrorCode::RequestTimeout))
        }
        CallError::Timeout { .. } | CallError::Connect { .. } | CallError::BrokenOff { .. } => {
            Some((RetryReason::Network, ErrorCode::ConnectionError))
        }
    };
    let (reason, code) = retried.unzip();
    let payload = Payload::Error { code: code.unwrap_or(ErrorCode::ResponseTooLarge), message: error.to_string() };
    let verdict = retry_or_fail(reason, None, context, || payload);
    Judgement { class: error.class(), refusal: None, usage: None, charged: true, verdict }
}

fn judge_reply(reply: Reply, context: &JudgeContext<'_>) -> Judgement {
    let reading = Reading::of(&reply.body);
    let usage = reading.usage;
    let fine = (200..300).contains(&reply.status);
    if fine && reading.is_object && reading.fault.is_none() {
        let payload = response(reply.status, reply, true);
        let class = Some(AttemptClass::Ok);
        return Judgement { class, refusal: None, usage, charged: true, verdict: Verdict::Succeeded { payload } };
    }
    if fine && reading.fault.is_none() {
        let code = ErrorCode::InvalidResponse;
        let message = format!("the upstream answered {} with a body that is no JSON object", reply.status);
        let verdict = retry_or_fail(Some(RetryReason::InvalidResponse), None, context, || {
            Payload::Error { code, message }
        });
        let class = Some(AttemptClass::ServerError);
        return Judgement { class, refusal: None, usage, charged: true, verdict };
    }
    let fault = reading.fault.unwrap_or_default();
    let status = if fine { fault.status() } else { reply.status };
    let class = Some(class_of(status));
    let is_json = reading.is_json;
    if status == 429 {
        let (refusal, charged, verdict) = judge_429(&fault, &reply, context);
        return Judgement { class, refusal: Some(refusal), usage, charged, verdict };
    }
    if let Some(reason) = stops_lane(status, &fault, context) {
        let verdict = Verdict::LaneStopped { reason, detail: fault.detail(status) };
        return Judgement { class, refusal: None, usage, charged: false, verdict };
    }
    let reason = retried(status, &fault, reply.should_retry);
    let verdict =
        retry_or_fail(reason.map(|reason| (reason, status)), reply.retry_after, context, || response(status, reply, is_json));
    Judgement { class, refusal: None, usage, charged: true, verdict }
}
