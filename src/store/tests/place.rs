//! Where a test's store lies, and what tests put into it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::server;
use crate::clock::Clock;
use crate::config::Secret;
use crate::domain::batch::{BatchOptions, BatchRecord, Usage};
use crate::domain::endpoint::Endpoint;
use crate::domain::file::{FileSource, FileSummary, ModelShape};
use crate::domain::ids::{AppKey, BatchId, BatchKey, FileId, FileKey};
use crate::domain::result::{ErrorCode, ItemStatus, NewResult, Payload};
use crate::domain::segment::{ItemLine, Segment, SegmentBuilder};
use crate::domain::time::Timestamp;
use crate::metrics::Metrics;
use crate::store::{
    Claim, ClaimedSegment, CreateOutcome, Flush, NewBatch, NewFile, Recorded, Result, Store, StoreLocation,
    StoreSettings, WorkerSettings,
};

/// Which database is behind a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// A data folder, or a schema, that outlives the stores opened in it.
pub(super) struct Place {
    folder: TempDir,
    pub(super) settings: StoreSettings,
}

impl Place {
    pub(super) fn new(dialect: Dialect) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = match dialect {
            Dialect::Sqlite => StoreLocation::Sqlite(folder.path().join("data").join("store.db")),
            Dialect::Postgres => {
                let (url, schema) = (Secret::new(server::url()), server::new_schema());
                StoreLocation::Postgres { url, schema, url_file: None }
            }
        };
        let worker = WorkerSettings { name: "host:1".to_owned(), version: "1".to_owned() };
        let settings =
            StoreSettings { location, worker, min_free: 0, files_retention: None, results_retention: None };
        Self { folder, settings }
    }

    pub(super) async fn try_open(&self) -> Result<Store> {
        let metrics = Metrics::new("test").unwrap();
        Store::open(self.settings.clone(), Clock::start(), metrics.store().clone()).await
    }

    pub(super) async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    /// Opens a store and makes it a worker's.
    pub(super) async fn start(&self) -> Store {
        let store = self.open().await;
        store.begin_boot(at(0)).await.unwrap();
        store
    }

    /// The same place, as another worker sees it.
    pub(super) fn beside(&self, worker: &str) -> Self {
        let mut settings = self.settings.clone();
        settings.worker.name = worker.to_owned();
        Self { folder: tempfile::tempdir().unwrap(), settings }
    }

    /// What a crash does, as far as one process can: queued commands are gone, the log is not folded.
    pub(super) async fn crash_and_reopen(&self, store: Store) -> Store {
        drop(store);
        self.open().await
    }

    /// Rows of a table, read from beside the store.
    pub(super) async fn rows(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        match &self.settings.location {
            StoreLocation::Sqlite(path) => {
                rusqlite::Connection::open(path).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
            }
            StoreLocation::Postgres { .. } => self.client().await.query_one(&sql, &[]).await.unwrap().get(0),
        }
    }

    /// Runs a statement from beside the store.
    pub(super) async fn execute(&self, sql: &str) {
        match &self.settings.location {
            StoreLocation::Sqlite(path) => {
                rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap()
            }
            StoreLocation::Postgres { .. } => self.client().await.batch_execute(sql).await.unwrap(),
        }
    }

    /// `ok`, or what is wrong with what is stored.
    pub(super) async fn integrity(&self) -> String {
        match &self.settings.location {
            StoreLocation::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
            }
            // The file is the server's own affair; what the rows say of each other is not.
            StoreLocation::Postgres { .. } => {
                let sql = "SELECT coalesce(string_agg(batch.id, ' '), 'ok') FROM batch LEFT JOIN LATERAL ( \
                               SELECT count(*) AS rows, max(id) - (batch.key << 32) AS last FROM result \
                               WHERE result.batch = batch.key \
                           ) AS found ON TRUE \
                           WHERE deleted_at IS NULL AND (rows <> succeeded + failed + expired + cancelled \
                               OR coalesce(last, 0) <> rows)";
                self.client().await.query_one(sql, &[]).await.unwrap().get(0)
            }
        }
    }

    /// A connection beside the store, in its schema.
    pub(super) async fn client(&self) -> tokio_postgres::Client {
        let client = server::client().await;
        client.batch_execute(&format!("SET search_path = {}", self.schema())).await.unwrap();
        client
    }

    pub(super) fn schema(&self) -> &str {
        match &self.settings.location {
            StoreLocation::Postgres { schema, .. } => schema,
            StoreLocation::Sqlite(_) => panic!("a file has no schema"),
        }
    }

    /// The database file.
    pub(super) fn path(&self) -> &std::path::Path {
        match &self.settings.location {
            StoreLocation::Sqlite(path) => path,
            StoreLocation::Postgres { .. } => panic!("it is no file"),
        }
    }

    pub(super) fn root(&self) -> &std::path::Path {
        self.folder.path()
    }
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_000_000 + second)
}

/// A segment whose lines are items that name `model`.
pub(super) fn segment(no: u32, model: &str, lines: std::ops::RangeInclusive<u32>) -> Segment {
    let mut builder = SegmentBuilder::default();
    for line in lines {
        let raw = format!("{{\"custom_id\":\"id-{line}\",\"body\":{{}}}}\n");
        let body = raw.len() - 4..raw.len() - 2;
        builder.push_item(ItemLine {
            line,
            raw: raw.as_bytes(),
            body,
            custom_id: &format!("id-{line}"),
            endpoint: Endpoint::ChatCompletions,
        });
    }
    builder.finish(no, Arc::from(model))
}

pub(super) fn new_file(source: FileSource) -> NewFile {
    NewFile {
        app: AppKey::DEFAULT,
        id: FileId::from_random(rand::random()),
        source,
        filename: "in.jsonl".to_owned(),
        created_at: at(0),
        expires_at: None,
        salt: u64::MAX - 5,
    }
}

/// A complete file of `total` items of one model, ten to a segment.
pub(super) async fn items(store: &Store, source: FileSource, total: u32) -> (FileKey, FileId) {
    let new = new_file(source);
    let id = new.id.clone();
    let file = store.begin_file(new).await.unwrap();
    let firsts: Vec<u32> = (1..=total).step_by(10).collect();
    let segments = (0..).zip(&firsts).map(|(no, first)| segment(no, "m", *first..=(first + 9).min(total)));
    store.append_segments(file, segments.collect()).await.unwrap();
    let models = vec![ModelShape { model: "m".to_owned(), items: total.into(), endpoints: 1, first_line: 1 }];
    let summary = FileSummary {
        bytes: 1_000,
        lines: total,
        items: total.into(),
        segments: firsts.len() as u32,
        models,
        ..FileSummary::default()
    };
    store.finish_file(file, summary, None).await.unwrap();
    (file, id)
}

pub(super) fn new_batch(file: FileKey, total: u32) -> NewBatch {
    NewBatch {
        app: AppKey::DEFAULT,
        id: BatchId::from_random(rand::random()),
        file,
        endpoint: Some(Endpoint::ChatCompletions),
        model: Some("m".to_owned()),
        completion_window: "24h".to_owned(),
        window: Duration::from_secs(86_400),
        created_at: at(10),
        options: BatchOptions::default(),
        metadata: vec![("team".to_owned(), "x".to_owned())],
        total: total.into(),
        models: vec!["m".to_owned()],
        problems: Vec::new(),
        idempotency: None,
        fingerprint: [0; 32],
    }
}

pub(super) async fn create(store: &Store, new: NewBatch) -> BatchRecord {
    match store.create_batch(new).await.unwrap() {
        CreateOutcome::Created(record) => record,
        other => panic!("not created: {other:?}"),
    }
}

/// What a worker asks for that has room for so many segments.
pub(super) fn claim(batch: &BatchRecord, from: u32, most: usize) -> Claim {
    let (model, file) = (Arc::from("m"), batch.file);
    Claim { batch: batch.key, file, model, from, most, alone: false, closing: false }
}

/// Claims segments from that one on, and leases them where only that makes them one's own; their numbers.
pub(super) async fn take(store: &Store, batch: &BatchRecord, from: u32, most: usize) -> Vec<u32> {
    let claimed = store.claim(claim(batch, from, most)).await.unwrap();
    let lease = |segment: ClaimedSegment| {
        store.lease(batch.key, &segment.head);
        segment.head.no
    };
    claimed.segments.into_iter().map(lease).collect()
}

/// A running batch over a fresh upload of `total` items.
pub(super) async fn batch_of(store: &Store, total: u32) -> BatchRecord {
    let (file, _) = items(store, FileSource::Upload, total).await;
    create(store, new_batch(file, total)).await
}

/// The result of one line: its payload is a response where it succeeded, else an error.
pub(super) fn result(batch: BatchKey, line: u32, status: ItemStatus) -> NewResult {
    let error = |code| Payload::Error { code, message: format!("why line {line} did not") };
    let payload = match status {
        ItemStatus::Succeeded => Payload::Response {
            status: 200,
            request_id: format!("req-{line}"),
            body: Bytes::from(format!("{{\"line\":{line}}}")),
        },
        ItemStatus::Failed => error(ErrorCode::ConnectionError),
        ItemStatus::Cancelled => error(ErrorCode::BatchCancelled),
        ItemStatus::Expired => error(ErrorCode::BatchExpired),
    };
    let sent = matches!(status, ItemStatus::Succeeded | ItemStatus::Failed);
    NewResult {
        batch,
        line,
        custom_id: Some(format!("id-{line}")),
        status,
        attempts: u32::from(sent),
        started_at: sent.then(|| at(20)),
        finished_at: at(20 + i64::from(line)),
        usage: Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() },
        payload,
    }
}

pub(super) fn succeeded(batch: BatchKey, lines: impl IntoIterator<Item = u32>) -> Vec<NewResult> {
    lines.into_iter().map(|line| result(batch, line, ItemStatus::Succeeded)).collect()
}

/// Records results and waits until they are durable.
pub(super) async fn record(store: &Store, results: Vec<NewResult>) -> Recorded {
    flush(store, Flush { results, ..Flush::default() }).await
}

pub(super) async fn flush(store: &Store, flush: Flush) -> Recorded {
    store.record(flush).await.unwrap().unwrap()
}
