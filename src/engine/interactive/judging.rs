//! What a reply says of its lane: errors, and answers of status 200 that are errors.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use memchr::memmem;

use super::passing::End;
use crate::domain::time::Timestamp;
use crate::engine::judge::{self, JudgeContext, Judgement, Verdict, judge, tells_error};
use crate::engine::settings::ProviderSetup;
use crate::gate::StopReason;
use crate::metrics::AttemptClass;
use crate::upstream::{CallError, Reply as WholeReply, StreamedBody};

/// Most of an answer that is kept to see whether it is an error: an error's JSON is far shorter.
const LONGEST_ERROR: usize = 16 * 1024;

/// What a call's end is judged by.
#[derive(Clone, Debug)]
pub(super) struct Judging {
    pub(super) provider: Arc<ProviderSetup>,
    /// Whether the lane answered any call with success since it has its present key.
    pub(super) lane_succeeded: bool,
}

impl Judging {
    pub(super) fn judged(&self, attempt: Result<WholeReply, CallError>, now: Timestamp) -> Judgement {
        // One attempt: nothing is tried again here, but what a failure says of the lane is the same.
        let context = JudgeContext {
            attempts: 0,
            max_attempts: 1,
            now,
            deadline: now,
            lane_succeeded: self.lane_succeeded,
            refusals: 0,
            others_passed: false,
            retry_on: &self.provider.retry.on,
        };
        judge(attempt, &context)
    }
}

/// The end of a call that was judged so.
pub(super) fn end_of(verdict: Verdict, class: Option<AttemptClass>) -> End {
    match verdict {
        Verdict::Succeeded { .. } => End::Succeeded,
        Verdict::LaneRateLimited { retry_after } => End::RateLimited { retry_after },
        Verdict::LaneStopped { reason, detail } => {
            let reason = match reason {
                judge::StopReason::Credential => StopReason::Credential,
                judge::StopReason::Quota => StopReason::Quota,
            };
            End::Stopped { reason, detail }
        }
        _ if class == Some(AttemptClass::ClientError) => End::Refused,
        _ => End::Failed,
    }
}

/// An answer that may turn out to be an error: what came of it is kept while it is short, as it passes.
pub(super) struct Doubt {
    judging: Judging,
    retry_after: Option<Duration>,
    should_retry: Option<bool>,
    kept: BytesMut,
}

impl Doubt {
    /// Of an answer with this head; `None` if it is known to be none: a stream, whose events are not looked
    /// into, or a long body.
    pub(super) fn of(
        judging: Judging,
        headers: &HeaderMap,
        body: &StreamedBody,
        (retry_after, should_retry): (Option<Duration>, Option<bool>),
    ) -> Option<Self> {
        let is_long = body.left().is_some_and(|left| left > LONGEST_ERROR as u64);
        let stays = !is_long && !is_of_kind(headers, "text/event-stream");
        stays.then(|| Self { judging, retry_after, should_retry, kept: BytesMut::new() })
    }

    /// Keeps a piece; whether the answer may still be an error.
    pub(super) fn keep(&mut self, piece: &[u8]) -> bool {
        let may_be = self.kept.len() + piece.len() <= LONGEST_ERROR;
        if may_be {
            self.kept.extend_from_slice(piece);
        }
        may_be
    }

    /// What the whole of it is judged as, if it is an error.
    pub(super) fn resolved(self, now: Timestamp) -> Option<Judgement> {
        let Self { judging, retry_after, should_retry, kept } = self;
        // Most answers don't hold the word.
        memmem::find(&kept, b"\"error\"").filter(|_| tells_error(&kept))?;
        let reply = reply_of(200, kept.freeze(), (retry_after, should_retry), Duration::ZERO);
        Some(judging.judged(Ok(reply), now))
    }
}

/// A reply as it is judged; nobody is shown it.
pub(super) fn reply_of(
    status: u16,
    body: Bytes,
    (retry_after, should_retry): (Option<Duration>, Option<bool>),
    first_byte: Duration,
) -> WholeReply {
    let (request_id, quota) = (String::new(), Vec::new());
    WholeReply { status, request_id, retry_after, should_retry, quota, body, first_byte, total: first_byte }
}

/// Whether an error may be about the member that asks for a stream's usage. Some servers quote the whole
/// request in any error, so that it is known only once the same call passes without.
pub(super) fn names_usage(status: u16, body: &[u8]) -> bool {
    // 422: what servers on FastAPI answer to members that they don't know.
    matches!(status, 400 | 422) && memmem::find(body, b"stream_options").is_some()
}

/// Whether the headers say that the body is of this kind.
pub(super) fn is_of_kind(headers: &HeaderMap, kind: &str) -> bool {
    let found = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    found.is_some_and(|found| found.starts_with(kind))
}
