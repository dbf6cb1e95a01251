//! A reply on its way to its client, which has to keep reading.

use std::collections::VecDeque;
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

/// Pieces of a stream handed over together at most: the server's write takes no more of them.
const PIECES_TOGETHER: usize = 16;
/// Bytes after which no further piece is waited for.
const BYTES_TOGETHER: usize = 16 * 1024;
/// How often the server is told to ask again before what is gathered leaves: it asks twice each time before other
/// tasks have their turn, one of which reads the upstream's connection.
const LOOKS: u8 = 2;

type Shared = Arc<Mutex<State>>;

/// A reply's body as the server reads it.
///
/// What came in one read of the upstream's connection comes here piece by piece, and would leave in as many writes,
/// each of which wakes the client. So a stream's pieces are gathered while more of them are there already.
pub(super) struct PassedReply {
    state: Shared,
    cut: Option<Cut>,
    /// What came and is not handed over yet.
    gathered: VecDeque<Result<Bytes, BrokenOff>>,
    /// How often it was asked for more since the last of them came.
    looks: u8,
    /// Whether the server had its turn to send what came before the break: it drops the connection at once, and with
    /// it what it has not sent, the head too.
    sent_before_break: bool,
    /// Bytes handed over.
    handed: usize,
    /// Looks whether the client still reads.
    watch: Option<JoinHandle<()>>,
}

impl PassedReply {
    pub(super) fn new(body: Box<dyn ReplyBody>, cut: Option<Cut>) -> Self {
        let state = State { body: Some(body), handed_at: None };
        let state = Arc::new(Mutex::new(state));
        Self {
            state,
            cut,
            gathered: VecDeque::new(),
            looks: 0,
            sent_before_break: false,
            handed: 0,
            watch: None,
        }
    }

    /// Waits for a piece, and for those that are there with it; none at the end. A body of known length comes
    /// whole or in pieces too long to wait for each other.
    fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self { state, gathered, looks, .. } = self;
        let mut state = lock(state);
        state.handed_at = None;
        let looked = std::mem::take(looks);
        let Some(body) = &mut state.body else {
            gathered.push_back(Err(BrokenOff("the client read nothing for 60 s".to_owned())));
            return Poll::Ready(());
        };
        let (before, mut bytes) = (gathered.len(), lengths(gathered));
        while gathered.len() < PIECES_TOGETHER && bytes < BYTES_TOGETHER {
            match body.poll_piece(context) {
                Poll::Ready(Some(piece)) => {
                    let is_last = piece.is_err() || body.left().is_some();
                    bytes += piece.as_ref().map_or(0, Bytes::len);
                    gathered.push_back(piece);
                    if is_last {
                        break;
                    }
                }
                Poll::Ready(None) => break,
                Poll::Pending if gathered.is_empty() => return Poll::Pending,
                Poll::Pending if gathered.len() == before && looked == LOOKS => break,
                Poll::Pending => {
                    // Taking a piece has woken the task that reads the connection: it is in the queue before this one.
                    *looks = if gathered.len() == before { looked + 1 } else { 1 };
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }
}

fn lengths(gathered: &VecDeque<Result<Bytes, BrokenOff>>) -> usize {
    gathered.iter().flatten().map(Bytes::len).sum()
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
        if self.gathered.is_empty() || self.looks > 0 {
            ready!(self.poll_gather(context));
        }
        if self.gathered.front().is_some_and(Result::is_err)
            && !std::mem::replace(&mut self.sent_before_break, true)
        {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(piece) = self.gathered.pop_front() else { return Poll::Ready(None) };
        let more = !self.is_end_stream();
        lock(&self.state).handed_at = Some(Instant::now());
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
        if !self.gathered.is_empty() {
            return SizeHint::default();
        }
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
    use std::task::Waker;

    use futures_util::FutureExt as _;
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
    /// A connection of which one task reads: a piece is there once that task had its turn, as hyper has it.
    #[derive(Default)]
    struct Connection {
        read: VecDeque<Bytes>,
        decoded: Option<Bytes>,
        waiting: Option<Waker>,
    }

    struct OverConnection(Arc<Mutex<Connection>>);

    impl ReplyBody for OverConnection {
        fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
            let mut connection = self.0.lock().unwrap();
            if let Some(piece) = connection.decoded.take() {
                return Poll::Ready(Some(Ok(piece)));
            }
            if connection.read.is_empty() {
                connection.waiting = Some(context.waker().clone());
                return Poll::Pending;
            }
            let (shared, waker) = (Arc::clone(&self.0), context.waker().clone());
            tokio::spawn(async move {
                let mut connection = shared.lock().unwrap();
                if connection.decoded.is_none() {
                    connection.decoded = connection.read.pop_front();
                    waker.wake();
                }
            });
            Poll::Pending
        }

        fn left(&self) -> Option<u64> {
            None
        }
    }

    fn arrive(connection: &Mutex<Connection>, pieces: &[&'static str]) {
        let mut connection = connection.lock().unwrap();
        connection.read.extend(pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())));
        connection.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Asks as hyper does: once more before it lets others have their turn.
    fn poll_twice(reply: &mut PassedReply, context: &mut Context<'_>) -> Poll<Bytes> {
        let first = Pin::new(&mut *reply).poll_frame(context);
        let polled = if first.is_pending() { Pin::new(reply).poll_frame(context) } else { first };
        polled.map(|frame| frame.unwrap().unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn pieces_that_came_together_leave_together_and_one_alone_at_once() {
        let connection = Arc::default();
        let mut reply = PassedReply::new(Box::new(OverConnection(Arc::clone(&connection))), None);
        for burst in [["a", "b", "c"].as_slice(), &["d"], &["e", "f"]] {
            let mut next = std::future::poll_fn(|context| poll_twice(&mut reply, context));
            assert!((&mut next).now_or_never().is_none());
            arrive(&connection, burst);
            let mut handed = vec![next.await];
            while let Some(piece) =
                std::future::poll_fn(|context| poll_twice(&mut reply, context)).now_or_never()
            {
                handed.push(piece);
            }
            assert_eq!(handed, burst);
        }
    }
}
