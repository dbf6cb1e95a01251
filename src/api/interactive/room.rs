//! Room for bodies that are read and wait, until the gate's memory level holds them.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};

use super::super::body::{Incoming, too_large};
use super::super::error::{ApiError, Refusal, Result};
use super::super::places::{Place, Places};
use crate::domain::ids::AppKey;
use crate::domain::interactive::Room;

/// Bodies up to this length have room of their own, so that a long one that comes slowly keeps back
/// only others of its kind.
const SMALL: usize = 256 * 1024;
/// Bytes of small bodies at once.
const SMALL_AT_ONCE: usize = 4 * 1024 * 1024;
/// Of these, one app's at most.
const SMALL_OF_APP: usize = 3 * 1024 * 1024;
/// Room is counted in these.
const UNIT: usize = 1024;

/// All the room there is.
#[derive(Clone, Debug)]
pub(crate) struct Rooms {
    small: Places,
    large: Places,
    longest: usize,
}

impl Rooms {
    /// Room for small bodies, and beside them for one of the longest.
    pub(crate) fn new(longest: usize) -> Self {
        let small = Places::new(SMALL_AT_ONCE / UNIT, SMALL_OF_APP / UNIT);
        // One of the longest takes it all.
        Self { small, large: Places::new(units(longest), units(longest)), longest }
    }

    /// Reads a body whole, waiting for room for so long at most.
    ///
    /// # Errors
    /// 413 above the cap, 429 without room, and those of [`Incoming::next`].
    pub(super) async fn read(&self, app: AppKey, body: Body, patience: Duration) -> Result<(Bytes, Room)> {
        let mut body = Incoming::new(body);
        let announced = body.announced().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if announced.is_some_and(|bytes| bytes > self.longest) {
            return Err(too_large(self.longest as u64));
        }
        let mut room = match announced {
            Some(bytes) if bytes > SMALL => take(&self.large, app, bytes, patience).await?,
            announced => take(&self.small, app, announced.unwrap_or(SMALL), patience).await?,
        };
        let mut read = BytesMut::with_capacity(announced.unwrap_or(0));
        let mut most = announced.unwrap_or(SMALL);
        while let Some(piece) = body.next().await? {
            let length = read.len() + piece.len();
            if length > self.longest {
                return Err(too_large(self.longest as u64));
            }
            if length > most {
                // One without a length that turns out to be long. Those that hold the large room wait for
                // nobody, so whoever waits for it may keep what it has.
                room = take(&self.large, app, self.longest, patience).await?;
                most = self.longest;
            }
            read.extend_from_slice(&piece);
        }
        // One without a length took room for more than it may have needed, and may wait for long.
        room.keep(units(read.len()));
        Ok((read.freeze(), Box::new(room)))
    }
}

const fn units(bytes: usize) -> usize {
    let units = bytes.div_ceil(UNIT);
    if units == 0 { 1 } else { units }
}

async fn take(places: &Places, app: AppKey, bytes: usize, patience: Duration) -> Result<Place> {
    let units = u32::try_from(units(bytes)).unwrap_or(u32::MAX);
    let taken = tokio::time::timeout(patience, places.take(app, units)).await;
    taken.unwrap_or_else(|_| {
        let why = "The server holds as many request bodies as it may (held back by: memory). Please try again soon.";
        Err(ApiError::new(Refusal::RequestsLimited, why).retry_after(Duration::from_secs(1)))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    const APP: AppKey = AppKey(1);
    const PATIENCE: Duration = Duration::from_secs(5);

    fn without_length(pieces: Vec<usize>) -> Body {
        let pieces = pieces.into_iter().map(|length| Ok::<_, Infallible>(Bytes::from(vec![b'x'; length])));
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn long_bodies_wait_for_each_other_and_small_ones_for_none_of_them() {
        let rooms = Rooms::new(4 * SMALL);
        let (long, held) = rooms.read(APP, Body::from(vec![b'x'; 4 * SMALL]), PATIENCE).await.unwrap();
        assert_eq!(long.len(), 4 * SMALL);
        let refused =
            rooms.read(APP, Body::from(vec![b'x'; SMALL + 1]), PATIENCE).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.refusal(), Refusal::RequestsLimited);
        let refused =
            rooms.read(APP, without_length(vec![SMALL, 1]), PATIENCE).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.refusal(), Refusal::RequestsLimited);
        let (small, _) = rooms.read(APP, Body::from("{}"), PATIENCE).await.unwrap();
        assert_eq!(small, "{}");
        drop(held);
        let (long, _) = rooms.read(APP, without_length(vec![SMALL, 1]), PATIENCE).await.unwrap();
        assert_eq!(long.len(), SMALL + 1);
    }

    #[tokio::test]
    async fn what_is_above_the_cap_is_refused_with_and_without_its_length() {
        let rooms = Rooms::new(1_000);
        for body in [Body::from(vec![b'x'; 1_001]), without_length(vec![1_000, 1])] {
            let refused = rooms.read(APP, body, PATIENCE).await.map(|_| ()).unwrap_err();
            assert_eq!(refused.refusal(), Refusal::TooLarge);
        }
    }
}
