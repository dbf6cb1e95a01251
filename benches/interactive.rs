//! What a live call pays for going through the gate: its time beside that of calling the upstream directly,
//! and through the least that a proxy can be, one call at a time, turn by turn in the same run; and the memory of
//! many streams at once.
//!
//! ```text
//! cargo bench --bench interactive -- --calls 5000 --streams 1000
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::time::Instant;

use clap::Parser;
use reqwest::Client;

use harness::bare_proxy::BareProxy;
use harness::measures::{Usage, forget_peak, resident_bytes};
use harness::service::{Provider, Service};
use harness::upstream::Upstream;
use harness::{quantile, say};

/// Live calls through the gate beside direct ones.
#[derive(Debug, Parser)]
struct Arguments {
    /// Calls of each kind, made in turn
    #[arg(long, default_value_t = 5_000)]
    calls: usize,
    /// Bytes of an answer's text
    #[arg(long, default_value_t = 700)]
    answer: usize,
    /// The upstream's latency
    #[arg(long, default_value = "0ms")]
    latency: String,
    /// Streams open at once; 0 leaves that part out
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is called, and until when a call is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A whole answer, to its last byte.
    Answer,
    /// A stream, to its answer's first byte: its head, as `curl` counts it.
    FirstByte,
    /// A stream, to the first piece of its text.
    FirstPiece,
}

fn main() -> anyhow::Result<()> {
    if harness::upstream::serve_if_asked()? || harness::bare_proxy::serve_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        latency(&arguments).await?;
        if arguments.streams > 0 { memory(&arguments).await } else { Ok(()) }
    })
}

/// Times calls in turn: direct, through the gate, direct, …
async fn latency(arguments: &Arguments) -> anyhow::Result<()> {
    let upstream = Upstream::start(&format!(
        "latency = \"{}\"\nanswer_bytes = {}\nlog = \"off\"\n",
        arguments.latency, arguments.answer
    ))?;
    let (_folder, service, address) = service(&upstream).await?;
    let client = Client::builder().no_proxy().retry(reqwest::retry::never()).build()?;
    let bare = BareProxy::start(upstream.base_url().trim_end_matches("/v1"))?;
    let urls = [
        format!("{}/chat/completions", upstream.base_url()),
        format!("{}/v1/chat/completions", bare.root()),
        format!("{address}/v1/chat/completions"),
    ];
    for what in [What::Answer, What::FirstByte, What::FirstPiece] {
        for url in &urls {
            // Connections and lanes are made by the first calls.
            for _ in 0..50 {
                timed(&client, url, what).await?;
            }
        }
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..arguments.calls {
            for (url, times) in urls.iter().zip(&mut times) {
                times.push(timed(&client, url, what).await?);
            }
        }
        let name = match what {
            What::Answer => "answer",
            What::FirstByte => "first byte",
            What::FirstPiece => "first piece",
        };
        for (quantile_name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let [direct, bare, gate] = times.each_ref().map(|times| quantile(times, share) * 1e3);
            say(format!(
                "{name:<11} {quantile_name:<6} direct {direct:>7.3} ms   through the gate {gate:>7.3} ms   added {:>6.3} ms   \
                 a bare proxy adds {:>6.3} ms",
                gate - direct,
                bare - direct,
            ));
        }
    }
    let metrics = client.get(format!("{address}/metrics")).send().await?.text().await?;
    let mean = |name: &str| {
        let sum = |part: &str| {
            let series = metrics.lines().filter(|line| {
                line.starts_with(&format!("sluicegate_{name}_{part}{{")) && line.contains("interactive")
            });
            series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
        };
        sum("sum") / sum("count") * 1e3
    };
    say(format!(
        "inside: {:.3} ms from the asking to the admission, {:.3} ms from there to the last byte, on average",
        mean("queue_wait_seconds"),
        mean("request_duration_seconds")
    ));
    drop(service);
    Ok(())
}

async fn timed(client: &Client, url: &str, what: What) -> anyhow::Result<f64> {
    let stream = what != What::Answer;
    let body = format!(
        r#"{{"model":"bench","stream":{stream},"messages":[{{"role":"user","content":"Say something of some length."}}]}}"#
    );
    let request = client.post(url).header("content-type", "application/json").body(body);
    let started = Instant::now();
    let mut answer = request.send().await?.error_for_status()?;
    let mut seconds = started.elapsed().as_secs_f64();
    let first = answer.chunk().await?;
    if what == What::FirstPiece {
        seconds = started.elapsed().as_secs_f64();
    }
    anyhow::ensure!(first.is_some(), "{url} answered nothing");
    while answer.chunk().await?.is_some() {}
    if what == What::Answer {
        seconds = started.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

/// Opens streams side by side, reads them to their ends, and looks at the service's memory.
async fn memory(arguments: &Arguments) -> anyhow::Result<()> {
    let upstream = Upstream::start(&format!(
        "stream_pieces = 100\nstream_pause = \"50ms\"\nanswer_bytes = {}\nlog = \"off\"\n",
        arguments.answer * 10
    ))?;
    let (_folder, service, address) = service(&upstream).await?;
    let process = service.process_id()?;
    let before = resident_bytes(process)?;
    forget_peak(process)?;
    let client = Client::builder().no_proxy().retry(reqwest::retry::never()).build()?;
    let url = format!("{address}/v1/chat/completions");
    let started = Instant::now();
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..arguments.streams {
        let (client, url) = (client.clone(), url.clone());
        streams.spawn(async move { timed(&client, &url, What::FirstPiece).await });
    }
    let mut first_pieces = Vec::new();
    while let Some(ended) = streams.join_next().await {
        first_pieces.push(ended??);
    }
    let usage = Usage::of(process)?;
    say(format!(
        "{} streams at once: resident {:.1} MB before, {:.1} MB at most, {:.1} KB a stream; first piece p50 {:.0} ms, \
         p99 {:.0} ms; {:.1} s in all",
        arguments.streams,
        before / 1e6,
        usage.peak_rss_bytes / 1e6,
        (usage.peak_rss_bytes - before) / 1e3 / arguments.streams as f64,
        quantile(&first_pieces, 0.5) * 1e3,
        quantile(&first_pieces, 0.99) * 1e3,
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A service in front of an upstream, ready; its folder goes with the first value.
async fn service(upstream: &Upstream) -> anyhow::Result<(tempfile::TempDir, Service, String)> {
    let folder = tempfile::tempdir()?;
    let provider = Provider::only(upstream.base_url(), 1_024);
    let mut service = Service::prepare(folder.path(), &[provider])?;
    service.start_ready().await?;
    let root = format!("http://{}", service.address());
    Ok((folder, service, root))
}
