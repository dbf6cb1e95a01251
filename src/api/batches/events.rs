//! `GET /v1/batches/{batch_id}/events`: progress as server-sent events.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tokio::time::Instant;

use crate::domain::progress::Progress;
use crate::shutdown::Shutdown;

use super::super::caller::Caller;
use super::super::error::Result;
use super::super::followers::Latest;
use super::super::path::Path;
use super::super::state::Api;
use super::view::Views;
use super::{UNBUFFERED, find};

/// Least time between two events.
const PACE: Duration = Duration::from_secs(1);
/// Silence after which a comment is sent: SDKs and proxies take long silence for a lost connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Tells how a batch moves until it ends.
pub(crate) async fn stream_events(
    State(api): State<Api>,
    State(views): State<Views>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response> {
    let batch = find(&api.store, caller, &id).await?;
    let events = Events {
        latest: api.followers.follow(batch),
        views,
        shutdown: api.shutdown.clone(),
        told: None,
        spoke: Instant::now(),
        ended: false,
    };
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache"), UNBUFFERED];
    Ok((headers, events.into_body()).into_response())
}

struct Events {
    latest: Latest,
    views: Views,
    shutdown: Shutdown,
    /// The progress told last; `None` before the first event.
    told: Option<Progress>,
    spoke: Instant,
    ended: bool,
}

impl Events {
    fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, |mut events| async move {
            let event = events.next().await?;
            Some((Ok::<_, std::convert::Infallible>(event), events))
        }))
    }

    /// The next event or comment; `None` after the end, and when the process ends.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            if self.told.is_some() {
                // What only the engine knows moves without a word from the store: it is looked at. The end is told at
                // once: whoever waits for it waits for nothing else.
                // A receiver of its own waits for it: what this one looks at counts as seen.
                let mut end = self.latest.clone();
                tokio::select! {
                    () = tokio::time::sleep(PACE) => {}
                    _ = end.wait_for(|batch| batch.status.is_terminal()) => {}
                    () = self.shutdown.begun() => return None,
                }
            }
            let moved = self.latest.has_changed().ok();
            let batch = self.latest.borrow_and_update().clone();
            self.ended = batch.status.is_terminal();
            let progress = self.views.progress(&batch);
            if self.ended || moved.unwrap_or(false) || self.told.as_ref() != Some(&progress) {
                let name = if self.ended { "end" } else { "progress" };
                let data = serde_json::to_string(&self.views.view(&batch)).ok()?;
                self.told = Some(progress);
                self.spoke = Instant::now();
                return Some(format!("event: {name}\ndata: {data}\n\n").into());
            }
            // The batch was deleted, or nobody watches it any more.
            moved?;
            if self.spoke.elapsed() >= KEEP_ALIVE {
                self.spoke = Instant::now();
                return Some(Bytes::from_static(b": waiting\n\n"));
            }
        }
        None
    }
}
