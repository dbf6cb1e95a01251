//! Taking in large files and running them: speed from memory, polling beside the work, and memory.
//!
//! ```text
//! cargo bench --bench intake
//! cargo bench --bench intake -- --shape text:50000x4000 --shape noise:60x8000000
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;

use harness::api::Api;
use harness::input::{Filling, Input};
use harness::measures::{Usage, forget_peak, resident_bytes};
use harness::service::{Provider, Service};
use harness::setting::Setting;
use harness::upstream::Upstream;
use harness::{quantile, say};

/// How often the batch is looked at while it runs.
const POLL: Duration = Duration::from_millis(20);
/// How long a service that does nothing is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Intake, polling and memory of large files.
#[derive(Debug, Parser)]
struct Arguments {
    /// FILLING:ITEMSxBYTES, the filling being `text` or `noise`; may be repeated
    #[arg(long, default_values_t = [
        "text:50000x4000".to_owned(), "noise:50000x4000".to_owned(), "text:1000000x300".to_owned(),
        "noise:60x8000000".to_owned(),
    ])]
    shape: Vec<String>,
    /// Bytes of an answer's text
    #[arg(long, default_value_t = 700)]
    answer: usize,
    /// Latency of the upstream
    #[arg(long, default_value = "0ms")]
    latency: String,
    /// Calls in flight
    #[arg(long, default_value_t = 256)]
    in_flight: u32,
    /// Takes files in without running them
    #[arg(long)]
    upload_only: bool,
    #[command(flatten)]
    setting: Setting,
}

/// A file to take in.
#[derive(Clone, Copy, Debug)]
struct Shape {
    filling: Filling,
    items: usize,
    bytes: usize,
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (filling, size) = text.split_once(':').context("a shape is FILLING:ITEMSxBYTES")?;
        let (items, bytes) = size.split_once('x').context("a shape is FILLING:ITEMSxBYTES")?;
        let filling = match filling {
            "text" => Filling::Words,
            "noise" => Filling::Noise,
            other => anyhow::bail!("no filling is called {other}"),
        };
        Ok(Self { filling, items: items.parse()?, bytes: bytes.parse()? })
    }
}

fn main() -> anyhow::Result<()> {
    if harness::upstream::serve_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        for shape in &arguments.shape {
            measure(&arguments, shape).await.with_context(|| shape.clone())?;
        }
        Ok(())
    })
}

async fn measure(arguments: &Arguments, name: &str) -> anyhow::Result<()> {
    let shape: Shape = name.parse()?;
    let input = Input::filled(0, shape.items, "bench", shape.bytes, shape.filling);
    let upstream = Upstream::start(&format!(
        "latency = \"{}\"\nanswer_bytes = {}\nlog = \"off\"\n",
        arguments.latency, arguments.answer
    ))?;
    let folder = arguments.setting.folder()?;
    let provider = Provider::only(upstream.base_url(), arguments.in_flight);
    let mut service = Service::prepare(folder.path(), &[provider])?;
    let api = service.start_ready().await?;
    let process = service.process_id()?;
    tokio::time::sleep(SETTLE).await;
    say(format!("{name}: idle {:.1} MB", megabytes(resident_bytes(process)?)));
    let file = upload(&api, &input, process).await?;
    if !arguments.upload_only {
        run(&api, &file, &input, process).await?;
    }
    tokio::time::sleep(SETTLE).await;
    say(format!("  idle again {:.1} MB", megabytes(resident_bytes(process)?)));
    Ok(())
}

async fn upload(api: &Api, input: &Input, process: u32) -> anyhow::Result<String> {
    let before = Usage::of(process)?;
    let started = Instant::now();
    let file = api.upload(input.file.clone()).await?;
    let seconds = started.elapsed().as_secs_f64();
    let used = Usage::of(process)?.since(before);
    let bytes = input.file.len() as f64;
    say(format!(
        "  upload  {:>7.1} MB in {seconds:.2} s: {:.0} MB/s   cpu {:.2} s   written {:.1} MB   peak {:.1} MB",
        megabytes(bytes),
        megabytes(bytes) / seconds,
        used.cpu_seconds,
        megabytes(used.written_bytes),
        megabytes(used.peak_rss_bytes),
    ));
    Ok(file)
}

/// Runs the file, looking at its batch all the while as an impatient client would.
async fn run(api: &Api, file: &str, input: &Input, process: u32) -> anyhow::Result<()> {
    forget_peak(process)?;
    let before = Usage::of(process)?;
    let started = Instant::now();
    let id = api.create(file).await?;
    let mut waits = Vec::new();
    let batch = loop {
        let asked = Instant::now();
        let batch = api.batch(&id).await?;
        waits.push(asked.elapsed().as_secs_f64() * 1e3);
        if batch["completed_at"].is_number() {
            break batch;
        }
        tokio::time::sleep(POLL).await;
    };
    let seconds = started.elapsed().as_secs_f64();
    let completed = batch["request_counts"]["completed"].as_u64().context("no counts")?;
    anyhow::ensure!(completed == input.items() as u64, "not every item succeeded: {batch}");
    let used = Usage::of(process)?.since(before);
    let items = input.items() as f64;
    say(format!(
        "  run     {:.0} items/s   GET p50 {:.2} ms p99 {:.2} ms of {}   cpu {:.1} µs/item   \
         written {:.0} B/item   peak {:.1} MB",
        items / seconds,
        quantile(&waits, 0.5),
        quantile(&waits, 0.99),
        waits.len(),
        used.cpu_seconds / items * 1e6,
        used.written_bytes / items,
        megabytes(used.peak_rss_bytes),
    ));
    Ok(())
}

fn megabytes(bytes: f64) -> f64 {
    bytes / 1e6
}
