//! A reply that its caller reads piece by piece: nothing of it is kept here.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};
use http_body::Body as _;
use reqwest::{Body, Response};
use tokio::time::{Instant, Sleep, sleep_until};

use super::call::{CallError, Phase, PhaseTimeouts};
use super::exchange::broken_off;
use super::quota_headers;
use super::reply_head;
use super::shards::Place;
use crate::domain::endpoint::Endpoint;
use crate::domain::quota::QuotaReading;

/// What only the client can know. Other headers of the configuration stand above the client's: they
/// say which organisation pays.
const CLIENTS_OWN: [HeaderName; 4] = [
    ACCEPT,
    CONTENT_TYPE,
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
];

/// One request whose reply is read as it comes.
#[derive(Debug)]
pub struct Opening<'a> {
    /// What of the provider is called.
    pub endpoint: Endpoint,
    /// The model as the provider names it.
    pub model: &'a str,
    /// The body, sent as it stands.
    pub body: Bytes,
    /// Headers of the client; those of the provider's configuration stand above most of them.
    pub headers: &'a HeaderMap,
    /// The query of the client; parameters of the provider's configuration stand above it.
    pub query: Option<&'a str>,
    /// Limits of its phases.
    pub timeouts: PhaseTimeouts,
}

/// A reply's head, and its body still to be read.
#[derive(Debug)]
pub struct Streamed {
    /// HTTP status.
    pub status: u16,
    /// The headers as they came. Those of a body that was decompressed here are left out.
    pub headers: HeaderMap,
    /// The upstream's request id; empty if it gave none.
    pub request_id: String,
    /// How long to wait before another call, at most an hour.
    pub retry_after: Option<Duration>,
    /// What `x-should-retry` says.
    pub should_retry: Option<bool>,
    /// What the headers say of the provider's limits.
    pub quota: Vec<QuotaReading>,
    /// The body.
    pub body: StreamedBody,
}

impl Streamed {
    pub(super) fn new(response: Response, place: Place, timeouts: PhaseTimeouts, started: Instant) -> Self {
        let (head, body) = http::Response::<Body>::from(response).into_parts();
        let left = body.size_hint().exact();
        Self {
            status: head.status.as_u16(),
            request_id: reply_head::request_id(&head.headers),
            retry_after: reply_head::retry_after(&head.headers, SystemTime::now),
            should_retry: reply_head::should_retry(&head.headers),
            quota: quota_headers::readings(&head.headers, SystemTime::now),
            headers: head.headers,
            body: StreamedBody {
                body,
                left,
                timeouts,
                ends_at: started + timeouts.total,
                handed_at: None,
                timer: None,
                armed: false,
                _place: place,
            },
        }
    }
}

/// A reply's body on its way. Dropping it ends the call.
pub struct StreamedBody {
    body: Body,
    left: Option<u64>,
    timeouts: PhaseTimeouts,
    /// When the whole call has to be over; moved on by the time that the reader takes.
    ends_at: Instant,
    /// When the last piece was given to the reader.
    handed_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs for the piece now waited for.
    armed: bool,
    _place: Place,
}

impl std::fmt::Debug for StreamedBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamedBody").field("left", &self.left).finish_non_exhaustive()
    }
}

impl StreamedBody {
    /// Bytes still to come, where their number was announced.
    pub const fn left(&self) -> Option<u64> {
        self.left
    }

    /// The next piece as it came; `None` at the end.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        if let Some(handed_at) = self.handed_at.take() {
            self.ends_at += handed_at.elapsed();
        }
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(broken_off(&error)))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return self.poll_limits(context),
            };
            self.armed = false;
            // Trailers are of the hop that ends here.
            if let Ok(piece) = frame.into_data()
                && !piece.is_empty()
            {
                self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                self.handed_at = Some(Instant::now());
                return Poll::Ready(Some(Ok(piece)));
            }
        }
    }

    /// The next piece, for whoever has nothing else to do.
    ///
    /// # Errors
    /// Why the body does not come to its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        std::future::poll_fn(|context| self.poll_piece(context)).await.transpose()
    }

    fn poll_limits(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        if !self.armed {
            let due = (Instant::now() + self.timeouts.idle).min(self.ends_at);
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(due),
                timer => *timer = Some(Box::pin(sleep_until(due))),
            }
            self.armed = true;
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let (phase, after) = if timer.deadline() >= self.ends_at {
            (Phase::Total, self.timeouts.total)
        } else {
            (Phase::Idle, self.timeouts.idle)
        };
        Poll::Ready(Some(Err(CallError::Timeout { phase, after })))
    }
}

/// Lays a client's headers over those of a request.
pub(super) fn lay_over(request: &mut HeaderMap, headers: &HeaderMap) {
    for name in headers.keys() {
        if request.contains_key(name) {
            if !CLIENTS_OWN.contains(name) {
                continue;
            }
            request.remove(name);
        }
        for value in headers.get_all(name) {
            request.append(name.clone(), value.clone());
        }
    }
}
