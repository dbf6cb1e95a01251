//! How fast results become durable, and what that writes: `cargo bench --bench store [-- FOLDER]`.
//!
//! Each line records 1 KiB results in groups of a size, one group after another as a recorder with that
//! many answers at hand would, or with many single results on their way at once, as a busy engine does.
//! The bytes are those handed to the system's write calls, log, checkpoints and all.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use sluicegate::clock::Clock;
use sluicegate::domain::batch::{BatchOptions, Usage};
use sluicegate::domain::file::{FileSource, FileSummary};
use sluicegate::domain::ids::{AppKey, BatchId, BatchKey, FileId};
use sluicegate::domain::result::{ItemStatus, NewResult, Payload};
use sluicegate::domain::time::Timestamp;
use sluicegate::metrics::Metrics;
use sluicegate::store::{
    CreateOutcome, Flush, NewBatch, NewFile, Store, StoreLocation, StoreSettings, WorkerSettings,
};

const PAYLOAD_BYTES: usize = 1_024;
const LONGEST: Duration = Duration::from_secs(5);
const MOST: u32 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from).join("sluicegate-bench");
    let mut out = std::io::stdout();
    writeln!(out, "{:>24} {:>12} {:>14} {:>12}", "", "results/s", "bytes/result", "CPU us/result")?;
    for group in [1, 16, 64, 256] {
        let line = measure(&folder, group, 1).await?;
        writeln!(out, "{:>24} {line}", format!("groups of {group}"))?;
    }
    for flushes in [64, 256, 1_024] {
        let line = measure(&folder, 1, flushes).await?;
        writeln!(out, "{:>24} {line}", format!("{flushes} singles on their way"))?;
    }
    Ok(())
}

/// Records groups with so many flushes on their way at once; a line of the table.
async fn measure(folder: &PathBuf, group: u32, flushes: usize) -> Result<String> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    let settings = StoreSettings {
        location: StoreLocation::Sqlite(folder.join("store.db")),
        worker: WorkerSettings::default(),
        min_free: 0,
        files_retention: None,
        results_retention: None,
    };
    let store = Store::open(settings, Clock::start(), Metrics::new("bench")?.store().clone()).await?;
    let batch = make_batch(&store).await?;
    let (written_before, cpu_before, began) = (written()?, cpu()?, Instant::now());
    let mut waiting = VecDeque::new();
    let mut line = 0;
    while line < MOST && began.elapsed() < LONGEST {
        let results = (line + 1..=line + group).map(|line| result(batch, line)).collect();
        line += group;
        waiting.push_back(store.record(Flush { results, ..Flush::default() }));
        if waiting.len() >= flushes
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.await??;
        }
    }
    for answer in waiting {
        answer.await??;
    }
    let took = began.elapsed();
    store.close().await;
    let rows = f64::from(line);
    let (bytes, cpu) = ((written()? - written_before) as f64, (cpu()? - cpu_before).as_secs_f64());
    std::fs::remove_dir_all(folder)?;
    Ok(format!("{:>12.0} {:>14.0} {:>12.1}", rows / took.as_secs_f64(), bytes / rows, cpu * 1e6 / rows))
}

fn result(batch: BatchKey, line: u32) -> NewResult {
    let mut body = format!("{{\"id\":\"chatcmpl-{line:08}\",\"text\":\"").into_bytes();
    body.resize(PAYLOAD_BYTES - 2, b'x');
    body.extend_from_slice(b"\"}");
    NewResult {
        batch,
        line,
        custom_id: Some(format!("request-{line}")),
        status: ItemStatus::Succeeded,
        attempts: 1,
        started_at: Some(Timestamp::from_seconds(1_700_000_000)),
        finished_at: Timestamp::from_seconds(1_700_000_001),
        usage: Usage { input_tokens: 300, output_tokens: 200, ..Usage::default() },
        payload: Payload::Response {
            status: 200,
            request_id: format!("req_{line:024x}"),
            body: Bytes::from(body),
        },
    }
}

async fn make_batch(store: &Store) -> Result<BatchKey> {
    let file = store
        .begin_file(NewFile {
            app: AppKey::DEFAULT,
            id: FileId::from_random([1; 16]),
            source: FileSource::Upload,
            filename: "bench.jsonl".to_owned(),
            created_at: Timestamp::ZERO,
            expires_at: None,
            salt: 0,
        })
        .await?;
    store.finish_file(file, FileSummary::default(), None).await?;
    let outcome = store
        .create_batch(NewBatch {
            app: AppKey::DEFAULT,
            id: BatchId::from_random([2; 16]),
            file,
            endpoint: None,
            model: None,
            completion_window: "24h".to_owned(),
            window: Duration::from_secs(86_400),
            created_at: Timestamp::ZERO,
            options: BatchOptions::default(),
            metadata: Vec::new(),
            total: u64::from(MOST) * 2,
            models: Vec::new(),
            problems: Vec::new(),
            idempotency: None,
            fingerprint: [0; 32],
        })
        .await?;
    match outcome {
        CreateOutcome::Created(record) => Ok(record.key),
        other => bail!("the batch was not made: {other:?}"),
    }
}

/// Bytes that this process handed to write calls.
fn written() -> Result<u64> {
    let counters = std::fs::read_to_string("/proc/self/io")?;
    let line = counters.lines().find_map(|line| line.strip_prefix("wchar: ")).context("no wchar")?;
    Ok(line.parse()?)
}

/// CPU time of this process, all threads.
fn cpu() -> Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}
