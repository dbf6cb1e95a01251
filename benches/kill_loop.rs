//! A service killed again and again in the middle of a batch: nothing lost, nothing twice, no window over.
//!
//! ```text
//! cargo bench --bench kill_loop -- --kills 50
//! cargo bench --bench kill_loop -- --items 1000000 --beside 900000 --done-first 900000 --unfinished --kills 5 \
//!     --rate none --latency 0ms --in-flight 256
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use harness::api::Api;
use harness::input::Input;
use harness::law::{Law, Rate, limits};
use harness::oracle::count;
use harness::output;
use harness::say;
use harness::service::{Provider, Service};
use harness::setting::{self, Setting};
use harness::upstream::{Upstream, first_call_after, show_first_calls};

/// How long the end of the batch may take after the last kill.
const END_WITHIN: Duration = Duration::from_secs(3_600);

/// Kills a service at random moments of a batch and checks what comes out.
#[derive(Debug, Parser)]
struct Arguments {
    /// Items of the batch
    #[arg(long, default_value_t = 9_000)]
    items: usize,
    /// How often the service is killed
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// What the moments depend on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Calls in flight
    #[arg(long, default_value_t = 64)]
    in_flight: u32,
    /// How long answers take
    #[arg(long, default_value = "300ms..1900ms")]
    latency: String,
    /// Rates that hold, each watched by a sliding and a fixed window and a bucket; `none` for none
    #[arg(long, default_values_t = ["3600/60s".to_owned(), "600/10s".to_owned()])]
    rate: Vec<String>,
    /// The earliest kill after a start, in seconds
    #[arg(long, default_value_t = 0.05)]
    least: f64,
    /// The latest kill after a start, in seconds
    #[arg(long, default_value_t = 3.0)]
    most: f64,
    /// Items of all batches that are done before the first kill
    #[arg(long, default_value_t = 0)]
    done_first: u64,
    /// Items of a second batch beside the first
    #[arg(long, default_value_t = 0)]
    beside: usize,
    /// Whether the run stops after the kills, with the batches unfinished
    #[arg(long)]
    unfinished: bool,
    #[command(flatten)]
    setting: Setting,
}

/// What one kill did.
#[derive(Clone, Copy, Debug)]
struct Kill {
    /// Calls in flight when it struck.
    in_flight: u64,
    /// Second calls of an item until the next kill, or the end.
    extra: u64,
    /// Seconds from the process's start to its first call; none if it was killed before.
    first_call: Option<f64>,
}

fn main() -> anyhow::Result<()> {
    setting::run(run)
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = arguments.setting.folder()?;
    let upstream = Upstream::start(&script(arguments)?)?;
    let provider = Provider {
        requests: rates(arguments).map(str::to_owned).collect(),
        ..Provider::only(upstream.base_url(), arguments.in_flight)
    };
    let mut service = Service::prepare(folder.path(), &[provider])?;
    let api = service.start_ready().await?;
    let batch = api.submit(Input::chat(arguments.items, "bench", 300).file).await?;
    let mut batches = vec![batch.clone()];
    if arguments.beside > 0 {
        let beside = Input::chat_from(arguments.items, arguments.beside, "bench", 300);
        batches.push(api.submit(beside.file).await?);
    }
    api.until_completed(&batches, arguments.done_first as f64, Duration::from_millis(100)).await?;

    let kills = kill_often(arguments, &mut service, &upstream).await?;
    let api = service.ready().await?;
    show(arguments, &kills);
    let mut faults = Vec::new();
    if arguments.unfinished {
        say(format!("left unfinished: {}", api.batch(&batch).await?["request_counts"]));
    } else {
        let ended = api.ended(&batch, Duration::from_millis(200), END_WITHIN).await?;
        faults.extend(check_output(arguments, &api, &ended).await?);
    }
    faults.extend(check_calls(arguments, &upstream, &kills).await?);
    service.kill()?;
    faults.extend(check_store(&service)?);
    for fault in &faults {
        say(format!("FAULT {fault}"));
    }
    anyhow::ensure!(faults.is_empty(), "{} faults, seed {}", faults.len(), arguments.seed);
    say("nothing wrong");
    Ok(())
}

fn rates(arguments: &Arguments) -> impl Iterator<Item = &str> {
    arguments.rate.iter().map(String::as_str).filter(|rate| *rate != "none")
}

fn script(arguments: &Arguments) -> anyhow::Result<String> {
    // Rows of single calls are needed for the time to the first call after a start.
    let mut laws = Vec::new();
    for written in rates(arguments) {
        let rate: Rate = written.parse()?;
        for kind in ["bucket", "fixed", "sliding"] {
            let law = Law::enforced(kind, "requests", &rate).watching();
            laws.push(law.named(format!("{kind} {written}")));
        }
    }
    Ok(format!("latency = \"{}\"\nlog = \"full\"\n{}", arguments.latency, limits(&laws)))
}

async fn kill_often(
    arguments: &Arguments,
    service: &mut Service,
    upstream: &Upstream,
) -> anyhow::Result<Vec<Kill>> {
    let mut dice = StdRng::seed_from_u64(arguments.seed);
    let mut kills: Vec<Kill> = Vec::new();
    let mut repeats_before = count(&upstream.ask("log").await?["repeats"]);
    for _ in 0..arguments.kills {
        let lived = dice.random_range(arguments.least..arguments.most);
        tokio::time::sleep(Duration::from_secs_f64(lived)).await;
        let in_flight = count(&upstream.ask("oracle").await?["in_flight"]);
        service.kill()?;
        // What the dead process had written may still be on its way to the upstream.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let log = upstream.ask("log").await?;
        let (arrived, repeats) = (count(&log["arrived"]), count(&log["repeats"]));
        if let Some(last) = kills.last_mut() {
            last.extra = repeats - repeats_before;
        }
        repeats_before = repeats;
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        service.start()?;
        let first_call = first_call_after(upstream, arrived, started_at, arguments.most).await?;
        kills.push(Kill { in_flight, extra: 0, first_call });
    }
    service.ready().await?;
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until && count(&upstream.ask("oracle").await?["in_flight"]) > 0 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    if let Some(last) = kills.last_mut() {
        last.extra = count(&upstream.ask("log").await?["repeats"]) - repeats_before;
    }
    Ok(kills)
}

fn show(arguments: &Arguments, kills: &[Kill]) {
    let first: Vec<f64> = kills.iter().filter_map(|kill| kill.first_call).collect();
    let extra: u64 = kills.iter().map(|kill| kill.extra).sum();
    let most = kills.iter().map(|kill| kill.extra).max().unwrap_or(0);
    let in_flight: u64 = kills.iter().map(|kill| kill.in_flight).sum();
    say(format!("{} kills of {} items, seed {}", kills.len(), arguments.items, arguments.seed));
    show_first_calls(&first, kills.len());
    say(format!("extra calls: {extra}, most for one kill {most}; in flight at the kills: {in_flight}"));
}

/// Every line once, with the answer to its own question.
async fn check_output(arguments: &Arguments, api: &Api, batch: &Value) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    if batch["status"] != "completed"
        || count(&batch["request_counts"]["completed"]) != arguments.items as u64
    {
        faults.push(format!("the batch ended as {} with {}", batch["status"], batch["request_counts"]));
    }
    let output = api.content(&batch["output_file_id"]).await?;
    faults.extend(output::check(&output, 0..arguments.items)?.faults);
    Ok(faults)
}

/// No more second calls than were started and not durable, and no law broken.
async fn check_calls(
    arguments: &Arguments,
    upstream: &Upstream,
    kills: &[Kill],
) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    // Beside what is in flight, as much again may wait for its commit.
    let most = u64::from(arguments.in_flight) * 2;
    for (number, kill) in kills.iter().enumerate().filter(|(_, kill)| kill.extra > most) {
        faults.push(format!(
            "{} extra calls after kill {number}, {} in flight at it",
            kill.extra, kill.in_flight
        ));
    }
    for repeated in upstream.ask("log?repeated=1&limit=10").await?.as_array().into_iter().flatten() {
        if count(&repeated["calls"]) > 1 + kills.len() as u64 {
            faults.push(format!("called more often than the service was killed: {repeated}"));
        }
    }
    for law in upstream.ask("oracle").await?["laws"].as_array().into_iter().flatten() {
        say(format!("{}: peak {} of {}, calls over {}", law["name"], law["peak"], law["limit"], law["over"]));
        if count(&law["over"]) > 0 {
            faults.push(format!("{} was exceeded by {} calls", law["name"], law["over"]));
        }
    }
    Ok(faults)
}

fn check_store(service: &Service) -> anyhow::Result<Vec<String>> {
    let checked = service.check_store()?;
    Ok(if checked.is_whole { Vec::new() } else { vec![format!("the store: {}", checked.said)] })
}
