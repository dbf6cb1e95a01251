//! The call's id, its place in the metrics, and the one log line of a call that failed.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::domain::endpoint::Endpoint;
use crate::metrics::HttpMetrics;
use crate::traces;

use super::super::error::Cause;

const OURS: HeaderName = HeaderName::from_static("sluicegate-request-id");
/// The names that `OpenAI`'s and Anthropic's SDKs read.
const THEIRS: [HeaderName; 2] =
    [HeaderName::from_static("x-request-id"), HeaderName::from_static("request-id")];
/// Set on errors of calls that are passed through.
pub(crate) const ERROR_SOURCE: HeaderName = HeaderName::from_static("sluicegate-error-source");
/// The status counted when the client went away first; nginx's.
const CLIENT_CLOSED: u16 = 499;

/// Observes one call from its head to its answer's last byte.
pub(crate) async fn observe(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let id = format!("req_{:032x}", rand::random::<u128>());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().as_str().to_owned();
    let mut watch = Watch { metrics, method, route, started: Instant::now(), counted: false };
    let mut response = traces::call(next.run(request), &watch.method, watch.route()).await;
    let status = response.status();
    // What a provider answered, a lane's state, a drain and what `/readyz` tells of are no failures here: metrics and
    // lines of their own tell of them. Whatever failed here has a cause.
    let cause = response.extensions().get::<Cause>().filter(|_| status.is_server_error());
    if let Some(Cause(cause)) = cause {
        let (method, route) = (watch.method.as_str(), watch.route());
        tracing::error!(request_id = %id, method, route, status = status.as_u16(), cause, "a call failed");
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        // An upstream's own id is what its support asks for.
        if !THEIRS.iter().any(|name| response.headers().contains_key(name)) {
            let names = if watch.route() == Endpoint::Messages.path() { &THEIRS[..] } else { &THEIRS[..1] };
            for name in names {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response.headers_mut().insert(OURS, value);
    }
    let length = response.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    response.map(|body| {
        if body.is_end_stream() {
            watch.count(status.as_u16());
        }
        Body::new(Watched { body, watch, status: status.as_u16(), left: length })
    })
}

/// Counts the call once: at its answer's end, or when dropped, as a client that goes away drops it early.
#[derive(Debug)]
struct Watch {
    metrics: HttpMetrics,
    method: String,
    route: Option<MatchedPath>,
    started: Instant,
    counted: bool,
}

impl Watch {
    /// Before the client can read the last byte: whoever asks for the metrics next finds the call there.
    fn count(&mut self, status: u16) {
        if !std::mem::replace(&mut self.counted, true) {
            self.metrics.answered(&self.method, self.route(), status, self.started.elapsed());
        }
    }

    /// The pattern, never the path: its number is bounded.
    fn route(&self) -> &str {
        self.route.as_ref().map_or(HttpMetrics::UNMATCHED, MatchedPath::as_str)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.count(CLIENT_CLOSED);
    }
}

/// A body that knows whether it was sent to its end.
#[derive(Debug)]
struct Watched {
    body: Body,
    watch: Watch,
    status: u16,
    /// Bytes to go of an announced length: hyper drops such a body without asking for its end.
    left: Option<u64>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let sent = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.left = self.left.map(|left| left.saturating_sub(sent));
        }
        let ended = matches!(polled, Poll::Ready(None)) || self.left == Some(0) || self.body.is_end_stream();
        if ended {
            let status = self.status;
            self.watch.count(status);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
