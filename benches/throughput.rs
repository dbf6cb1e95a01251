//! Durable throughput beside that of a bare client loop, in the same run on the same cores.
//!
//! ```text
//! cargo bench --bench throughput -- --items 100000 --latency 0ms --latency 50ms
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;

use harness::input::Input;
use harness::measures::Usage;
use harness::service::{Provider, Service};
use harness::setting::Setting;
use harness::upstream::Upstream;
use harness::{median, say};

/// Durable throughput as a ratio to a bare client loop.
#[derive(Debug, Parser)]
struct Arguments {
    /// Items of one run
    #[arg(long, default_value_t = 100_000)]
    items: usize,
    /// Bytes of a request's body
    #[arg(long, default_value_t = 1_024)]
    body: usize,
    /// Bytes of an answer's text
    #[arg(long, default_value_t = 700)]
    answer: usize,
    /// Calls in flight
    #[arg(long, default_value_t = 256)]
    in_flight: u32,
    /// Latencies of the upstream; may be repeated
    #[arg(long, default_values_t = ["0ms".to_owned(), "50ms".to_owned()])]
    latency: Vec<String>,
    /// Runs of each kind, of which the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Runs the bare loop alone
    #[arg(long)]
    bare_only: bool,
    #[command(flatten)]
    setting: Setting,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    items_per_second: f64,
    upload_seconds: f64,
    usage: Usage,
    upstream_cpu: f64,
}

fn main() -> anyhow::Result<()> {
    if harness::upstream::serve_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(compare(&arguments))
}

async fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    let input = Input::chat(arguments.items, "bench", arguments.body);
    say(format!("{} items, {} B in all, {} in flight", input.items(), input.file.len(), arguments.in_flight));
    for latency in &arguments.latency {
        let (mut bare, mut durable) = (Vec::new(), Vec::new());
        for _ in 0..arguments.runs {
            bare.push(bare_loop(arguments, &input, latency).await?);
            show("bare loop", latency, &input, bare.last());
            if !arguments.bare_only {
                durable.push(service(arguments, &input, latency).await?);
                show("service", latency, &input, durable.last());
            }
        }
        let middle = |runs: &[Run]| median(&runs.iter().map(|run| run.items_per_second).collect::<Vec<_>>());
        let bare = middle(&bare);
        say(format!("median at {latency}: bare {bare:.0} items/s"));
        if !durable.is_empty() {
            let durable = middle(&durable);
            say(format!("median at {latency}: service {durable:.0} items/s, ratio {:.3}", durable / bare));
        }
    }
    Ok(())
}

fn show(kind: &str, latency: &str, input: &Input, run: Option<&Run>) {
    let Some(run) = run else { return };
    let per_item = |amount: f64| amount / input.items() as f64;
    say(format!(
        "{latency:>6} {kind:<9} {:>8.0} items/s   cpu {:>6.1} µs/item (upstream {:>5.1})   written {:>6.0} B/item   \
         peak {:>5.1} MB   upload {:.2} s",
        run.items_per_second,
        per_item(run.usage.cpu_seconds) * 1e6,
        per_item(run.upstream_cpu) * 1e6,
        per_item(run.usage.written_bytes),
        run.usage.peak_rss_bytes / 1e6,
        run.upload_seconds,
    ));
}

fn upstream(arguments: &Arguments, latency: &str) -> anyhow::Result<Upstream> {
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
            while let Some(body) = input.body(next.fetch_add(1, Ordering::Relaxed)) {
                let call = client.post(&*url).header("content-type", "application/json").body(body);
                call.send().await?.error_for_status()?.bytes().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Run {
        items_per_second: input.items() as f64 / seconds,
        upload_seconds: 0.0,
        usage: Usage::of(std::process::id())?.since(before),
        upstream_cpu: Usage::of(upstream.process_id())?.cpu_seconds,
    })
}

/// The same bodies as a batch: from its creation until every result is durable.
async fn service(arguments: &Arguments, input: &Input, latency: &str) -> anyhow::Result<Run> {
    let upstream = upstream(arguments, latency)?;
    let folder = arguments.setting.folder()?;
    let provider = Provider::only(upstream.base_url(), arguments.in_flight);
    let mut service = Service::prepare(folder.path(), &[provider])?;
    let api = service.start_ready().await?;
    let uploading = Instant::now();
    let file = api.upload(input.file.clone()).await?;
    let upload_seconds = uploading.elapsed().as_secs_f64();
    let before = Usage::of(service.process_id()?)?;
    let started = Instant::now();
    let batch = api.create(&file).await?;
    let batch = api.ended(&batch, Duration::from_millis(50), Duration::from_secs(3_600)).await?;
    let seconds = started.elapsed().as_secs_f64();
    let usage = Usage::of(service.process_id()?)?.since(before);
    let completed = batch["request_counts"]["completed"].as_u64().context("no counts")?;
    anyhow::ensure!(completed == input.items() as u64, "not every item succeeded: {batch}");
    let lines = memchr::memchr_iter(b'\n', &api.content(&batch["output_file_id"]).await?).count();
    anyhow::ensure!(lines == input.items(), "{lines} lines of output for {} items", input.items());
    Ok(Run {
        items_per_second: input.items() as f64 / seconds,
        upload_seconds,
        usage,
        upstream_cpu: Usage::of(upstream.process_id())?.cpu_seconds,
    })
}
