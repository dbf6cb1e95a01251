//! An upstream that keeps the very bytes it was sent and answers with given ones.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use axum::response::IntoResponse;
use tokio::net::TcpListener;

/// What arrived: target, headers and body of each call.
type Arrived = Arc<Mutex<Vec<(Uri, HeaderMap, Bytes)>>>;

#[derive(Clone)]
pub(crate) struct Recording {
    arrived: Arrived,
    answer: &'static str,
}

impl Recording {
    /// Starts one on a free port; it ends with the test's runtime.
    pub(crate) async fn start(answer: &'static str) -> (Self, SocketAddr) {
        let recording = Self { arrived: Arrived::default(), answer };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(keep).with_state(recording.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (recording, address)
    }

    pub(crate) fn arrived(&self) -> Vec<(HeaderMap, Bytes)> {
        let arrived = self.arrived.lock().unwrap();
        arrived.iter().map(|(_, headers, body)| (headers.clone(), body.clone())).collect()
    }

    /// Path and query of each call.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.arrived.lock().unwrap().iter().map(|(target, ..)| target.to_string()).collect()
    }
}

async fn keep(
    State(recording): State<Recording>,
    target: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    recording.arrived.lock().unwrap().push((target, headers, body));
    ([(CONTENT_TYPE, "application/json")], recording.answer)
}
