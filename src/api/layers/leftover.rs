//! Reading what a handler left of a request's body.
//!
//! A server that answers and closes while the client still sends makes Node's SDK report a
//! connection error instead of the status, and send the upload again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header::EXPECT;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// Most bytes read of a body that nobody wants.
const MOST_BYTES: usize = 64 << 20;
/// Longest time spent on it.
const LONGEST: Duration = Duration::from_secs(10);

/// Reads a body that the handler left, within bounds, before its answer goes out.
pub(crate) async fn read_refused_bodies(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let waits_for_leave = request.headers().contains_key(EXPECT);
    let shelf = Shelf::default();
    let request = request.map(|body| Body::new(Lent { body, touched: false, shelf: shelf.clone() }));
    let response = next.run(request).await;
    let left = shelf.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(left) = left {
        // Who waits for `100 Continue` has not sent a body yet; asking for it now would make it come.
        if left.touched || !waits_for_leave {
            let _ = tokio::time::timeout(LONGEST, read_away(left.body)).await;
        }
    }
    response
}

async fn read_away(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MOST_BYTES {
            return;
        }
    }
}

/// Where a body is put when the handler drops it.
#[derive(Clone, Debug, Default)]
struct Shelf(Arc<Mutex<Option<Left>>>);

#[derive(Debug)]
struct Left {
    body: Body,
    touched: bool,
}

/// A body lent to a handler.
#[derive(Debug)]
struct Lent {
    body: Body,
    touched: bool,
    shelf: Shelf,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.touched = true;
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            let left = Left { body: std::mem::take(&mut self.body), touched: self.touched };
            *self.shelf.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        }
    }
}
