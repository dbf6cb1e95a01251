//! Two lanes of one route, one of which fails for a minute; and an upstream with few slots that nobody configured.
//!
//! ```text
//! cargo bench --bench two_lanes
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};

use harness::api::Api;
use harness::input::Input;
use harness::law::{Law, limits};
use harness::oracle::Reading;
use harness::say;
use harness::service::Service;
use harness::setting::{self, Setting, sleep_until};
use harness::upstream::Upstream;

/// Answers in five seconds are a few more or less than the calls, by how long they took.
const NOISE: f64 = 0.03;

/// Failures of one lane, and of too many calls at once.
#[derive(Debug, Parser)]
struct Arguments {
    /// Requests per minute of each lane
    #[arg(long, default_value_t = 3_000)]
    limit: u64,
    /// What the failing lane answers with, written as the upstream's markers are
    #[arg(long, default_value = "500")]
    fault: String,
    /// Seconds before, and after, the lane fails
    #[arg(long, default_value_t = 30)]
    beside: u64,
    /// Seconds for which it fails
    #[arg(long, default_value_t = 60)]
    fails: u64,
    /// Slots of the upstream that nobody configured
    #[arg(long, default_value_t = 8)]
    slots: u32,
    /// Minutes for which that one is used, the first of which is for finding out
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// How long answers take
    #[arg(long, default_value = "50ms..450ms")]
    latency: String,
    /// Only this part: lanes or slots
    #[arg(long)]
    only: Option<String>,
    /// Whether every second is shown
    #[arg(long)]
    looks: bool,
    #[command(flatten)]
    setting: Setting,
}

fn main() -> anyhow::Result<()> {
    setting::run(measure)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    for part in setting::chosen(&["lanes", "slots"], arguments.only.as_deref()) {
        let folder = arguments.setting.folder()?;
        if part == "lanes" {
            one_lane_fails(arguments, folder.path()).await?;
        } else {
            few_slots(arguments, folder.path()).await?;
        }
    }
    Ok(())
}

async fn one_lane_fails(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let Arguments { limit, latency, beside, fails, .. } = arguments;
    let script = format!(
        "latency = \"{latency}\"\nlog = \"counts\"\n{}",
        limits(&[Law::per_minute("sliding", "requests", *limit)])
    );
    let lanes = [Upstream::start(&script)?, Upstream::start(&script)?];
    let provider = |name: &str, lane: &Upstream| {
        format!(
            "[providers.{name}]\nbase_url = \"{}\"\nlimits.requests = [\"{limit}/min\"]\n\
             [[providers.{name}.lanes]]\nmatch = \"bench\"\n",
            lane.base_url()
        )
    };
    let text = provider("healthy", &lanes[0]) + &provider("failing", &lanes[1]);
    let mut service = Service::configure(folder, &text)?;
    let api = service.start_ready().await?;
    let seconds = beside * 2 + fails;
    let items = (limit * 2 * (seconds + 30) / 60) as usize;
    let batch = api.submit(Input::chat(items, "bench", 200).file).await?;
    let started = Instant::now();
    let mut looks = Vec::new();
    for second in 0..=seconds {
        sleep_until(started + Duration::from_secs(second)).await;
        looks.push([Reading::of(&lanes[0]).await?, Reading::of(&lanes[1]).await?]);
        if second == *beside {
            lanes[1].set(&json!({"faults": {"probability": 1.0, "kinds": [arguments.fault]}})).await?;
        } else if second == beside + fails {
            lanes[1].set(&json!({"faults": null})).await?;
        }
    }
    show_lanes(arguments, &looks);
    end(&api, &batch, service).await
}

fn show_lanes(arguments: &Arguments, looks: &[[Reading; 2]]) {
    let per_second = arguments.limit as f64 / 60.0;
    let (beside, recovery) = (arguments.beside as usize, (arguments.beside + arguments.fails) as usize);
    // What a healthy lane let in is even; its answers come as they like.
    let healthy = |from: usize, to: usize| {
        let seconds = looks[to][0].clock() - looks[from][0].clock();
        (looks[to][0].law("accepted") - looks[from][0].law("accepted")) / seconds / per_second
    };
    let good = |from: usize, to: usize| looks[to][1].pace_since(&looks[from][1], 200) / per_second;
    let least = (beside + 5..=recovery).map(|at| healthy(at - 5, at)).fold(f64::INFINITY, f64::min);
    say(format!("before: {:.4} and {:.4} of the limit", healthy(5, beside), good(5, beside)));
    say(format!(
        "while one fails: {:.4}, the least in any 5 s {least:.4}; the other {:.4}",
        healthy(beside, recovery),
        good(beside + 1, recovery)
    ));
    let full = (recovery + 1..looks.len() - 5).find(|from| good(*from, from + 5) >= 0.98 - NOISE);
    match full {
        Some(second) => say(format!("full speed from {} s after the recovery on", second - recovery)),
        None => say("full speed was not reached after the recovery"),
    }
    let failed = looks[recovery][1].arrived() - looks[beside][1].arrived();
    say(format!("calls to the failing lane meanwhile: {failed}"));
    for (name, lane) in [("healthy", 0), ("failing", 1)] {
        let last = &looks[looks.len() - 1][lane];
        let (refused, over) = (last.answered(429), last.law("windows_over"));
        say(format!("{name}: 429s {refused}, windows over {over}, peak {}", last.law("peak")));
    }
    if arguments.looks {
        for second in 1..looks.len() {
            let pace = |lane: usize| looks[second][lane].pace_since(&looks[second - 1][lane], 200);
            say(format!("  {second:>4} s  {:>7.1}/s {:>7.1}/s", pace(0), pace(1)));
        }
    }
}

async fn few_slots(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let (slots, latency) = (arguments.slots, &arguments.latency);
    let script = format!("latency = \"{latency}\"\nlog = \"off\"\nslots = {slots}\nslots_status = 503\n");
    let upstream = Upstream::start(&script)?;
    let text = format!(
        "[providers.local]\nbase_url = \"{}\"\n[[providers.local.lanes]]\nmatch = \"bench\"\n",
        upstream.base_url()
    );
    let mut service = Service::configure(folder, &text)?;
    let api = service.start_ready().await?;
    let time = Duration::from_secs_f64(arguments.minutes * 60.0);
    // Answers take 50 ms at least.
    let items = (f64::from(slots) * (time.as_secs_f64() + 10.0) * 20.0) as usize;
    let batch = api.submit(Input::chat(items, "bench", 200).file).await?;
    let started = Instant::now();
    let first = Reading::of(&upstream).await?;
    sleep_until(started + Duration::from_secs(60).min(time / 2)).await;
    let early = Reading::of(&upstream).await?;
    let mut in_flight: BTreeMap<u64, u32> = BTreeMap::new();
    while started.elapsed() < time {
        *in_flight.entry(lane_in_flight(&api.budget().await?)).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let late = Reading::of(&upstream).await?;
    say(format!(
        "{slots} slots, nothing configured; the first minute: 503s {:.4} %",
        early.share_since(&first, 503) * 100.0
    ));
    let (busy, looks) = (late.busy_since(&early, slots), in_flight.values().sum::<u32>());
    say(format!(
        "then: 503s {:.4} %, slots busy {busy:.4}, {:.2} answers/s",
        late.share_since(&early, 503) * 100.0,
        late.pace_since(&early, 200)
    ));
    for (calls, times) in in_flight {
        say(format!(
            "  {calls:>3} in flight in {:>5.1} % of the looks",
            f64::from(times) / f64::from(looks) * 100.0
        ));
    }
    end(&api, &batch, service).await
}

/// Calls in flight, as the lane's row for concurrency says.
fn lane_in_flight(budget: &Value) -> u64 {
    let rows = budget["data"].as_array().map_or(&[][..], Vec::as_slice);
    let lanes = rows.iter().filter(|row| row["level"] == "lane");
    lanes.filter_map(|row| row["in_flight"].as_u64()).max().unwrap_or(0)
}

/// Shows what became of the batch and what the service logged, and ends it.
async fn end(api: &Api, batch: &str, mut service: Service) -> anyhow::Result<()> {
    let object = api.batch(batch).await?;
    say(format!("items: {}, retries {}", object["request_counts"], object["sluicegate"]["retries"]));
    say(format!("logged:\n{}", service.log()?));
    api.unended(batch, "it").await?;
    service.kill()
}
