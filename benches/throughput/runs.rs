//! One run of each kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::Arguments;
use crate::harness::database::{Server, Work};
use crate::harness::input::Input;
use crate::harness::measures::Usage;
use crate::harness::service::{Provider, Service};
use crate::harness::upstream::Upstream;

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A client that keeps nothing.
    Bare,
    /// The service on its embedded database.
    Sqlite,
    /// The service on a server of its own.
    Postgres,
    /// The same while somebody else holds a snapshot open.
    Held,
}

impl Kind {
    /// How it is called in the output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::Sqlite => "service",
            Self::Postgres => "postgres",
            Self::Held => "held",
        }
    }

    /// Whether its store is on a server.
    const fn has_server(self) -> bool {
        matches!(self, Self::Postgres | Self::Held)
    }
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    pub(crate) items_per_second: f64,
    pub(crate) upload_seconds: f64,
    pub(crate) usage: Usage,
    pub(crate) upstream_cpu: f64,
    /// Bytes of every answer's body; only the bare loop counts them.
    pub(crate) answer_bytes: f64,
    /// What the database's server did for the upload, and for the run after it.
    pub(crate) server: Option<(Work, Work)>,
}

/// One run.
pub(crate) async fn run(
    kind: Kind,
    arguments: &Arguments,
    input: &Input,
    latency: &str,
) -> anyhow::Result<Run> {
    match kind {
        Kind::Bare => bare_loop(arguments, input, latency).await,
        Kind::Sqlite | Kind::Postgres | Kind::Held => service(kind, arguments, input, latency).await,
    }
}

/// The provider of one run.
pub(crate) fn upstream(arguments: &Arguments, latency: &str) -> anyhow::Result<Upstream> {
    Upstream::start(&format!(
        "latency = \"{latency}\"\nanswer_bytes = {}\nlog = \"counts\"\n",
        arguments.answer
    ))
}

/// Every body sent once and every answer read, as fast as a client can that keeps nothing.
async fn bare_loop(arguments: &Arguments, input: &Input, latency: &str) -> anyhow::Result<Run> {
    let upstream = upstream(arguments, latency)?;
    let client = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).build()?;
    let url: Arc<str> = format!("{}/chat/completions", upstream.base_url()).into();
    let (input, next) = (Arc::new(input.clone()), Arc::new(AtomicUsize::new(0)));
    let before = Usage::of(std::process::id())?;
    let started = Instant::now();
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..arguments.in_flight {
        let (client, url, input, next) =
            (client.clone(), Arc::clone(&url), Arc::clone(&input), Arc::clone(&next));
        loops.spawn(async move {
            let mut answered = 0;
            while let Some(body) = input.body(next.fetch_add(1, Ordering::Relaxed)) {
                let call = client.post(&*url).header("content-type", "application/json").body(body);
                answered += call.send().await?.error_for_status()?.bytes().await?.len();
            }
            anyhow::Ok(answered)
        });
    }
    let mut answered = 0;
    while let Some(ended) = loops.join_next().await {
        answered += ended??;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Run {
        items_per_second: input.items() as f64 / seconds,
        usage: Usage::of(std::process::id())?.since(before),
        upstream_cpu: Usage::of(upstream.process_id())?.cpu_seconds,
        answer_bytes: answered as f64,
        ..Run::default()
    })
}

/// The same bodies as a batch: from its creation until every result is durable.
async fn service(kind: Kind, arguments: &Arguments, input: &Input, latency: &str) -> anyhow::Result<Run> {
    let upstream = upstream(arguments, latency)?;
    let folder = arguments.setting.folder()?;
    let provider = Provider::only(upstream.base_url(), arguments.in_flight);
    // A new one for each run, as the embedded database is.
    let server = if kind.has_server() { Some(Server::start().await?) } else { None };
    let mut service = match &server {
        Some(server) => Service::prepare_on(folder.path(), server.url(), &[provider])?,
        None => Service::prepare(folder.path(), &[provider])?,
    };
    let api = service.start_ready().await?;
    let held = match &server {
        Some(server) if kind == Kind::Held => Some(server.hold_snapshot().await?),
        _ => None,
    };
    let work_at_start = work(server.as_ref()).await?;
    let uploading = Instant::now();
    let file = api.upload(input.file.clone()).await?;
    let upload_seconds = uploading.elapsed().as_secs_f64();
    let work_before = work(server.as_ref()).await?;
    let before = Usage::of(service.process_id()?)?;
    let started = Instant::now();
    let batch = api.create(&file).await?;
    let batch = api.ended(&batch, Duration::from_millis(50), Duration::from_secs(3_600)).await?;
    let seconds = started.elapsed().as_secs_f64();
    let usage = Usage::of(service.process_id()?)?.since(before);
    let work_after = work(server.as_ref()).await?;
    drop(held);
    if let Some(server) = server.as_ref().filter(|_| arguments.statements) {
        server.show_statements().await?;
    }
    let completed = batch["request_counts"]["completed"].as_u64().context("no counts")?;
    anyhow::ensure!(completed == input.items() as u64, "not every item succeeded: {batch}");
    let lines = memchr::memchr_iter(b'\n', &api.content(&batch["output_file_id"]).await?).count();
    anyhow::ensure!(lines == input.items(), "{lines} lines of output for {} items", input.items());
    Ok(Run {
        items_per_second: input.items() as f64 / seconds,
        upload_seconds,
        usage,
        upstream_cpu: Usage::of(upstream.process_id())?.cpu_seconds,
        answer_bytes: 0.0,
        server: server.map(|_| (work_before.since(work_at_start), work_after.since(work_before))),
    })
}

async fn work(server: Option<&Server>) -> anyhow::Result<Work> {
    match server {
        Some(server) => server.work().await,
        None => Ok(Work::default()),
    }
}
