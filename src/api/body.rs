//! Request bodies: none is read without a cap on its length and on how long it may stand still.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::error::{ApiError, Refusal, Result};
use super::places::{Place, Places};
use crate::domain::ids::AppKey;

/// A body that brings nothing for this long is given up.
const IDLE: Duration = Duration::from_secs(60);
/// A body slower than this many bytes a second on the whole is given up too: bodies hold places that
/// others wait for. Only waiting for the client counts, not our own work.
const SLOWEST: u64 = 1 << 10;
/// Above this a body in memory needs one of few places.
const SMALL: usize = 1 << 20;
/// Large bodies in memory at once. One that can't be held to its end would deadlock with others, so
/// places are counted, not bytes.
const LARGE_AT_ONCE: usize = 3;
/// Of these, one app's at most.
const LARGE_OF_APP: usize = 2;

/// A body being read piece by piece.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: Body,
    waited: Duration,
    bytes: u64,
}

impl Incoming {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, waited: Duration::ZERO, bytes: 0 }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// 408 if nothing came for a minute or the whole is too slow, 400 if the client broke off or framed it wrongly.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let began = Instant::now();
            let allowed = IDLE + Duration::from_secs(self.bytes / SLOWEST);
            let patience = IDLE.min(allowed.saturating_sub(self.waited));
            let frame = match tokio::time::timeout(patience, self.body.frame()).await {
                Err(_) => {
                    let why = "The request body did not arrive in time.";
                    return Err(ApiError::new(Refusal::SlowBody, why));
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => {
                    let why = "The request body could not be read to its end.";
                    return Err(ApiError::new(Refusal::InvalidValue, why));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            self.waited += began.elapsed();
            // Trailers carry nothing for us.
            if let Ok(data) = frame.into_data() {
                self.bytes += data.len() as u64;
                return Ok(Some(data));
            }
        }
    }

    /// The length the client announced, if it did.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }
}

/// Reads whole bodies into memory, few large ones at a time.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    large: Places,
}

/// A body in memory; a large one holds its place until dropped.
#[derive(Debug)]
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    _place: Option<Place>,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self { large: Places::new(LARGE_AT_ONCE, LARGE_OF_APP) }
    }

    /// Reads a body of at most `cap` bytes, of a call that is made for this app.
    ///
    /// # Errors
    /// 413 above the cap, and those of [`Incoming::next`].
    pub(crate) async fn read(&self, app: AppKey, body: Body, cap: usize) -> Result<WholeBody> {
        let mut body = Capped::new(body, cap)?;
        let (mut read, mut place) = (BytesMut::new(), None);
        while let Some(piece) = body.next().await? {
            if place.is_none() && read.len() + piece.len() > SMALL {
                place = Some(self.large.take(app, 1).await?);
            }
            read.extend_from_slice(&piece);
        }
        Ok(WholeBody { bytes: read.freeze(), _place: place })
    }
}

/// Reads a body that is too short to need a place: at most `cap` bytes.
///
/// # Errors
/// 413 above the cap, and those of [`Incoming::next`].
pub(crate) async fn read_short(body: Body, cap: usize) -> Result<Bytes> {
    let (mut body, mut read) = (Capped::new(body, cap)?, BytesMut::new());
    while let Some(piece) = body.next().await? {
        read.extend_from_slice(&piece);
    }
    Ok(read.freeze())
}

/// A body of which no more is taken than may come.
struct Capped {
    body: Incoming,
    cap: usize,
    left: usize,
}

impl Capped {
    fn new(body: Body, cap: usize) -> Result<Self> {
        let body = Incoming::new(body);
        if body.announced().is_some_and(|length| length > cap as u64) {
            return Err(too_large(cap as u64));
        }
        Ok(Self { body, cap, left: cap })
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(piece) = self.body.next().await? else { return Ok(None) };
        self.left = self.left.checked_sub(piece.len()).ok_or_else(|| too_large(self.cap as u64))?;
        Ok(Some(piece))
    }
}

/// 413.
pub(crate) fn too_large(cap: u64) -> ApiError {
    let why = format!("The request body is too large: at most {cap} bytes are accepted here.");
    ApiError::new(Refusal::TooLarge, why)
}

/// The call's media type in lower case, without parameters; empty if it names none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Refuses a body that says it is something else than JSON; one that says nothing is taken as JSON.
///
/// # Errors
/// 415.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<()> {
    let given = media_type(headers);
    if given.is_empty() || given == "application/json" || given.ends_with("+json") {
        return Ok(());
    }
    let why = format!("Unsupported content type: '{given}'. This method accepts 'application/json'.");
    Err(ApiError::new(Refusal::UnsupportedMediaType, why))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    const APP: AppKey = AppKey(1);

    /// A body of single bytes, one per pause.
    fn dripping(pause: Duration) -> Body {
        Body::from_stream(stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up_however_steadily() {
        for pause in [1, 59, 61] {
            let began = Instant::now();
            let read = Bodies::new().read(APP, dripping(Duration::from_secs(pause)), 1_000).await;
            assert_eq!(read.unwrap_err().refusal(), Refusal::SlowBody);
            assert!(began.elapsed() <= IDLE + Duration::from_secs(1));
        }
    }

    #[tokio::test]
    async fn a_large_body_waits_for_its_place_and_gives_it_back() {
        let bodies = Bodies::new();
        let large = || Body::from(vec![b'x'; SMALL + 1]);
        let mut held = Vec::new();
        for app in [1, 1, 2] {
            held.push(bodies.read(AppKey(app), large(), 2 * SMALL).await.unwrap());
        }
        assert_eq!(held.len(), LARGE_AT_ONCE);
        let small = bodies.read(APP, Body::from("x"), 2 * SMALL).await.unwrap();
        assert_eq!(small.bytes, "x");
        let waiting = bodies.read(APP, large(), 2 * SMALL);
        let early = tokio::time::timeout(Duration::from_millis(20), waiting).await;
        assert!(early.is_err());
        held.clear();
        assert_eq!(bodies.read(APP, large(), 2 * SMALL).await.unwrap().bytes.len(), SMALL + 1);
        assert!(bodies.read(APP, large(), SMALL).await.is_err());
    }
}
