//! A service in a folder of its own, called without a socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use crate::clock::Clock;
use crate::domain::batch::{BatchRecord, Usage};
use crate::domain::ids::{AppKey, BatchId};
use crate::domain::progress::{ItemProgress, Progress};
use crate::domain::result::{ErrorCode, ItemStatus, NewResult, Payload};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::store::{Flush, Store, StoreLocation, StoreSettings, WorkerSettings};

use super::super::{
    Api, ApiParts, ApiSettings, Board, Keyring, KeyringSettings, ModelEntry, ReloadRefused, Surface, routes,
};
use crate::config::AuthMode;

/// The boundary of every form sent here.
const BOUNDARY: &str = "b0";

pub(super) struct Service {
    pub(super) store: Store,
    pub(super) shutdown: Shutdown,
    pub(super) metrics: Metrics,
    clock: Clock,
    routes: Router,
    _folder: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

impl Service {
    pub(super) async fn start() -> Self {
        Self::with(ApiSettings::default()).await
    }

    pub(super) async fn with(settings: ApiSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::start();
        let metrics = Metrics::new("test").unwrap();
        let shutdown = Shutdown::default();
        let store_settings = StoreSettings {
            location: StoreLocation::Sqlite(folder.path().join("store.db")),
            worker: WorkerSettings::default(),
            min_free: 0,
            files_retention: None,
            results_retention: None,
        };
        let store = Store::open(store_settings, clock, metrics.store().clone()).await.unwrap();
        let text = metrics.clone();
        let board = Board {
            // One model has no lane; lines without a model have none either.
            has_lane: Arc::new(|model| !matches!(model, "" | "unserved")),
            limits: Arc::new(|_| Box::pin(async { Vec::new() })),
            item: Arc::new(|_| Box::pin(async { ItemProgress::default() })),
            would_fit: Arc::new(|_| Box::pin(async { None })),
            pause_lane: Arc::new(|_| Box::pin(async { None })),
            reload: Arc::new(|()| Box::pin(async { Err(ReloadRefused::NoSource) })),
            progress: Arc::new(|_| Progress::default()),
            models: Arc::new(|| vec![ModelEntry { id: "m".to_owned(), owned_by: "openai".to_owned() }]),
            model: Arc::new(|_| None),
            metrics_text: Arc::new(move || text.encode().unwrap()),
        };
        let open = KeyringSettings { mode: AuthMode::Auto, is_local: true, admin_keys: 0 };
        let keyring = Keyring::load(store.clone(), clock, open).await.unwrap();
        let parts = ApiParts {
            store: store.clone(),
            keyring,
            metrics: metrics.http().clone(),
            clock,
            shutdown: shutdown.clone(),
            settings,
            board,
            calls: None,
        };
        let routes = routes(&Api::new(parts), Surface::Whole);
        Self { store, shutdown, metrics, clock, routes, _folder: folder }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// Sends a call whose answer is read by the test.
    pub(super) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.routes.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(path).body(Body::empty()).unwrap()).await
    }

    /// Posts JSON.
    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub(super) async fn post_with(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::post(path);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// Uploads a form of these parts, in their order; the part named `file` gets a file name.
    pub(super) async fn upload(&self, parts: &[(&str, &[u8])]) -> Answer {
        let mut body = Vec::new();
        for (name, content) in parts {
            let filename = if *name == "file" { "; filename=\"in.jsonl\"" } else { "" };
            let head =
                format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{filename}\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.send(form(Method::POST, "/v1/files", body)).await
    }

    /// Uploads a file and gives its id.
    pub(super) async fn file(&self, content: &[u8]) -> String {
        let answer = self.upload(&[("purpose", b"batch"), ("file", content)]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Creates a batch and gives its id.
    pub(super) async fn batch(&self, body: &str) -> String {
        let answer = self.post("/v1/batches", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// A batch of so many items, `c1`, `c2`, ….
    pub(super) async fn batch_of(&self, items: u32) -> String {
        let requests: Vec<String> =
            (1..=items).map(|no| format!(r#"{{"custom_id":"c{no}","model":"m","input":"{no}"}}"#)).collect();
        self.batch(&format!(r#"{{"endpoint":"/v1/embeddings","requests":[{}]}}"#, requests.join(","))).await
    }

    pub(super) async fn record(&self, batch: &str, results: &[(u32, ItemStatus)]) {
        let record = self.row(batch).await;
        // As the engine does: what has results was leased before.
        for head in self.store.segment_heads(record.file, None, 0, 1_000).await.unwrap() {
            self.store.lease(record.key, &head);
        }
        let results = results.iter().map(|(line, status)| self.result(&record, *line, *status)).collect();
        let flush = Flush { results, ..Flush::default() };
        self.store.record(flush).await.unwrap().unwrap();
    }

    /// Erases what was deleted, as the upkeep does.
    pub(super) async fn sweep(&self) {
        while self.store.sweep(self.clock.now()).await.unwrap().more {}
    }

    pub(super) async fn row(&self, batch: &str) -> BatchRecord {
        self.store.batch(AppKey::DEFAULT, &BatchId::new(batch)).await.unwrap().unwrap()
    }

    fn result(&self, batch: &BatchRecord, line: u32, status: ItemStatus) -> NewResult {
        let now = self.clock.now();
        let payload = match status {
            ItemStatus::Succeeded => Payload::Response {
                status: 200,
                request_id: format!("up-{line}"),
                body: format!(r#"{{"line":{line}}}"#).into(),
            },
            _ => Payload::Error { code: ErrorCode::ConnectionError, message: "refused".to_owned() },
        };
        NewResult {
            batch: batch.key,
            line,
            custom_id: Some(format!("c{line}")),
            status,
            attempts: 1,
            started_at: Some(now - Duration::from_millis(250)),
            finished_at: now,
            usage: Usage { input_tokens: 10, cached_tokens: 4, output_tokens: 3, reasoning_tokens: 1 },
            payload,
        }
    }
}

/// A call with a form as its body.
pub(super) fn form(method: Method, path: &str, body: Vec<u8>) -> Request<Body> {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    Request::builder().method(method).uri(path).header("content-type", kind).body(Body::from(body)).unwrap()
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and body in one line, as the golden tests show refusals.
    pub(super) fn shown(&self) -> String {
        let retry = match self.header("x-should-retry") {
            "" => "",
            _ => " (no retry)",
        };
        format!("{}{retry} {}", self.status.as_u16(), self.text())
    }

    /// The `custom_id` of each line.
    pub(super) fn ids(&self) -> Vec<String> {
        let lines = self.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["custom_id"].as_str().unwrap().to_owned()).collect()
    }
}
