//! Reading a reply's body: in pieces, against a memory level, without copying what comes whole.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Version;
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::call::{CallError, Phase, PhaseTimeouts};
use super::exchange::broken_off;

/// Bytes of a reply that nobody is asked for: admission has charged them.
pub const FREE_REPLY: usize = 64 * 1024;

/// A longer reply grows by multiples of this.
pub const GROWTH_STEP: usize = 64 * 1024;

/// A buffer doubles up to this much more at a time.
const LARGEST_GROWTH: usize = 4 * 1024 * 1024;

/// A reply up to this length is copied out of the connection's buffer, which may be a hundred times
/// as large and would be kept with it; a longer one that came whole is used where it is.
const SMALL_REPLY: usize = 4 * 1024;

/// Where the bytes of growing replies are charged.
pub trait ReplyMemory: Sync {
    /// Charges `bytes` more, a multiple of [`GROWTH_STEP`]; ends when they may be used. Until then
    /// the reply is not read on, and none of its timers runs.
    fn grow(&self, bytes: usize) -> impl Future<Output = ()> + Send;
}

/// Memory without a limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl ReplyMemory for Unlimited {
    async fn grow(&self, _bytes: usize) {}
}

/// A reply's body on its way in.
pub(super) struct Collector<'a, M> {
    pub(super) memory: &'a M,
    pub(super) timeouts: PhaseTimeouts,
    /// When the whole call has to be over.
    pub(super) ends_at: Instant,
    pub(super) max_reply: usize,
}

impl<M: ReplyMemory> Collector<'_, M> {
    /// Reads the body to its end.
    pub(super) async fn collect(mut self, mut response: Response) -> Result<Bytes, CallError> {
        let announced = response.content_length().and_then(|bytes| usize::try_from(bytes).ok());
        if announced.is_some_and(|bytes| bytes > self.max_reply) {
            return Err(self.too_large());
        }
        let Some(first) = self.next(&mut response, 0).await? else { return Ok(Bytes::new()) };
        if is_read(&response) {
            return Ok(alone(first));
        }
        let Some(second) = self.next(&mut response, first.len()).await? else { return Ok(alone(first)) };
        let mut whole = BytesMut::new();
        let mut charged = FREE_REPLY;
        self.append(&mut whole, &mut charged, &first, announced).await;
        drop(first);
        self.append(&mut whole, &mut charged, &second, announced).await;
        drop(second);
        while let Some(piece) = self.next(&mut response, whole.len()).await? {
            self.append(&mut whole, &mut charged, &piece, announced).await;
        }
        Ok(whole.freeze())
    }

    /// The next piece, if it still fits the cap.
    async fn next(&self, response: &mut Response, so_far: usize) -> Result<Option<Bytes>, CallError> {
        let PhaseTimeouts { idle, total, .. } = self.timeouts;
        let idle_at = Instant::now() + idle;
        let piece = match timeout_at(idle_at.min(self.ends_at), response.chunk()).await {
            Ok(piece) => piece.map_err(|error| broken_off(&error))?,
            Err(_) if idle_at < self.ends_at => {
                return Err(CallError::Timeout { phase: Phase::Idle, after: idle });
            }
            Err(_) => return Err(CallError::Timeout { phase: Phase::Total, after: total }),
        };
        match piece {
            Some(piece) if piece.len() > self.max_reply - so_far => Err(self.too_large()),
            piece => Ok(piece),
        }
    }

    async fn append(
        &mut self,
        whole: &mut BytesMut,
        charged: &mut usize,
        piece: &Bytes,
        announced: Option<usize>,
    ) {
        let needed = whole.len() + piece.len();
        if needed > *charged {
            // Doubling, or a long reply would be copied once per step; never beyond what was
            // announced, which alone is no reason to charge anything ahead.
            let ahead = (*charged * 2).min(*charged + LARGEST_GROWTH);
            let ahead = announced.map_or(ahead, |announced| ahead.min(announced));
            let more = (ahead.max(needed) - *charged).next_multiple_of(GROWTH_STEP);
            let asked = Instant::now();
            self.memory.grow(more).await;
            self.ends_at += asked.elapsed();
            *charged += more;
        }
        if needed > whole.capacity() {
            let unannounced = if *charged > FREE_REPLY { *charged } else { needed };
            let capacity = announced.unwrap_or(unannounced).clamp(needed, *charged);
            whole.reserve(capacity - whole.len());
        }
        whole.extend_from_slice(piece);
    }

    const fn too_large(&self) -> CallError {
        CallError::TooLarge { limit: self.max_reply }
    }
}

/// Whether nothing is left of a body, so that its end need not be waited for. In HTTP/2 the end is told apart from
/// the last byte, and a body that is dropped before it is taken for an aborted call.
fn is_read(response: &Response) -> bool {
    response.version() < Version::HTTP_2 && response.content_length() == Some(0)
}

fn alone(piece: Bytes) -> Bytes {
    if piece.len() <= SMALL_REPLY { Bytes::copy_from_slice(&piece) } else { piece }
}

/// When a call's head has to be there, and which limit that is.
pub(super) fn head_limit(timeouts: &PhaseTimeouts) -> (Duration, Phase) {
    if timeouts.first_byte < timeouts.total {
        (timeouts.first_byte, Phase::FirstByte)
    } else {
        (timeouts.total, Phase::Total)
    }
}
