//! A reply on its way to its client, which has to keep reading.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::server::Cut;
use crate::domain::interactive::{BrokenOff, ReplyBody};

/// A client that takes nothing for so long is dropped: it keeps an upstream call open.
const STALLED: Duration = Duration::from_secs(60);

/// What the server and the watch share.
struct State {
    /// `None` once the client was dropped.
    body: Option<Box<dyn ReplyBody>>,
    /// When the last piece was handed over; `None` while the upstream is waited for.
    handed_at: Option<Instant>,
}

/// The client is watched once it was handed so much: the server buffers 64 KiB before it stops asking for
/// more, and until then the upstream's reply goes on whether the client reads or not.
const WATCHED_FROM: usize = 32 * 1024;

type Shared = Arc<Mutex<State>>;

/// A reply's body as the server reads it.
pub(super) struct PassedReply {
    state: Shared,
    cut: Option<Cut>,
    /// Bytes handed over.
    handed: usize,
    /// Looks whether the client still reads.
    watch: Option<JoinHandle<()>>,
}

impl PassedReply {
    pub(super) fn new(body: Box<dyn ReplyBody>, cut: Option<Cut>) -> Self {
        let state = State { body: Some(body), handed_at: None };
        Self { state: Arc::new(Mutex::new(state)), cut, handed: 0, watch: None }
    }
}

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpBody for PassedReply {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut state = lock(&self.state);
        state.handed_at = None;
        let Some(body) = &mut state.body else {
            return Poll::Ready(Some(Err(BrokenOff("the client read nothing for 60 s".to_owned()))));
        };
        let Some(piece) = ready!(body.poll_piece(context)) else { return Poll::Ready(None) };
        let more = body.left() != Some(0);
        state.handed_at = Some(Instant::now());
        drop(state);
        self.handed += piece.as_ref().map_or(0, Bytes::len);
        if more && self.handed >= WATCHED_FROM && self.watch.is_none() {
            let watching = watch(Arc::downgrade(&self.state), self.cut.clone());
            self.watch = Some(tokio::spawn(watching));
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.state);
        let left = state.body.as_ref().and_then(|body| body.left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for PassedReply {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// Ends the upstream call, and the connection where it carries nothing else, of a client that stalls.
async fn watch(state: Weak<Mutex<State>>, cut: Option<Cut>) {
    loop {
        let Some(shared) = state.upgrade() else { return };
        let now = Instant::now();
        let due = {
            let mut state = lock(&shared);
            let due = state.handed_at.map_or(now, |handed_at| handed_at) + STALLED;
            if due <= now {
                state.body = None;
            }
            due
        };
        drop(shared);
        if due <= now {
            tracing::info!("a client that read nothing for 60 s was dropped");
            if let Some(cut) = cut {
                cut.now();
            }
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// Pieces without end; tells when it is dropped.
    struct Endless {
        _held: Arc<()>,
    }

    impl ReplyBody for Endless {
        fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
            Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; WATCHED_FROM]))))
        }

        fn left(&self) -> Option<u64> {
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_for_a_minute_is_dropped() {
        let (held, cut) = (Arc::new(()), Cut::default());
        let mut reply = PassedReply::new(Box::new(Endless { _held: Arc::clone(&held) }), Some(cut.clone()));
        for _ in 0..3 {
            tokio::time::sleep(STALLED - Duration::from_millis(1)).await;
            assert!(reply.frame().await.unwrap().is_ok());
        }
        let began = Instant::now();
        cut.asked_for().await;
        assert_eq!(began.elapsed().as_secs(), STALLED.as_secs());
        assert_eq!(Arc::strong_count(&held), 1, "the upstream call is over");
        assert!(reply.frame().await.unwrap().is_err());
    }
}
