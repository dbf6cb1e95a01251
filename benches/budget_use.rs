//! How much of a budget is used while there is a backlog, and whether it is ever exceeded.
//!
//! Every provider of one service is an upstream with a law of its own, all at the same time.
//!
//! ```text
//! cargo bench --bench budget_use -- --minutes 10
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;

use harness::api::Api;
use harness::input::Input;
use harness::say;
use harness::service::{Provider, Service};
use harness::upstream::Upstream;

/// Use of the budget under laws of every kind, side by side.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long the whole run takes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How much of its start is left out
    #[arg(long, default_value_t = 1.0)]
    skip: f64,
    /// How long answers take
    #[arg(long, default_value = "50ms..450ms")]
    latency: String,
    /// Laws as kind:limit/period; may be repeated
    #[arg(long, default_values_t = [
        "bucket:600/60s", "fixed:600/60s", "sliding:600/60s", "bucket:6000/60s", "fixed:6000/60s", "sliding:6000/60s",
        "fixed:100/10s", "sliding:100/10s", "fixed:1000/10s", "sliding:1000/10s",
    ].map(str::to_owned))]
    law: Vec<String>,
    /// Upstreams without a rate, by their slots; answers take 50 ms; may be repeated
    #[arg(long, default_values_t = [1, 4, 16])]
    slots: Vec<u32>,
    /// Where the store is made; a temporary folder without it
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What holds a provider back.
#[derive(Clone, Debug)]
enum Bound {
    Rate { kind: String, limit: u64, period: Duration, written: String },
    Slots(u32),
}

impl Bound {
    fn parse(law: &str) -> anyhow::Result<Self> {
        let parts = || {
            let (kind, rate) = law.split_once(':')?;
            let (limit, period) = rate.split_once('/')?;
            Some((
                kind,
                rate,
                limit.parse().ok()?,
                sluicegate::domain::quantity::parse_duration(period).ok()?,
            ))
        };
        let (kind, rate, limit, period) =
            parts().ok_or_else(|| anyhow::anyhow!("`{law}` is no kind:limit/period"))?;
        Ok(Self::Rate { kind: kind.to_owned(), limit, period, written: rate.to_owned() })
    }

    fn label(&self) -> String {
        match self {
            Self::Rate { kind, written, .. } => format!("{kind} {written}"),
            Self::Slots(slots) => format!("{slots} slots"),
        }
    }

    fn script(&self, latency: &str) -> String {
        match self {
            Self::Rate { kind, limit, period, .. } => format!(
                "latency = \"{latency}\"\n[[limits]]\nlaw = \"{kind}\"\nlimit = {limit}\nperiod = \"{}s\"\nenforce = true\n",
                period.as_secs()
            ),
            Self::Slots(slots) => format!("latency = \"50ms\"\nslots = {slots}\n"),
        }
    }

    /// Calls in flight that the service may have; more than enough where a rate binds.
    fn max_concurrent(&self) -> u32 {
        match self {
            Self::Rate { .. } => 128,
            Self::Slots(slots) => *slots,
        }
    }

    /// Items that outlast the run.
    fn items(&self, time: Duration) -> usize {
        let per_second = match self {
            Self::Rate { limit, period, .. } => *limit as f64 / period.as_secs_f64(),
            Self::Slots(slots) => f64::from(*slots) / 0.05,
        };
        (per_second * (time.as_secs_f64() + 60.0) * 1.05) as usize
    }
}

/// One upstream with its batch.
struct Place {
    bound: Bound,
    upstream: Upstream,
    batch: String,
}

/// What an upstream's oracle and log say at a moment.
struct Reading {
    at: Instant,
    oracle: Value,
    log: Value,
}

fn main() -> anyhow::Result<()> {
    if harness::upstream::serve_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let time = Duration::from_secs_f64(arguments.minutes * 60.0);
    let skip = Duration::from_secs_f64(arguments.skip * 60.0);
    anyhow::ensure!(skip < time, "nothing is left of {time:?} after {skip:?}");
    let mut bounds = Vec::new();
    for law in &arguments.law {
        bounds.push(Bound::parse(law)?);
    }
    bounds.extend(arguments.slots.iter().map(|slots| Bound::Slots(*slots)));

    let folder = match &arguments.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let (mut service, places) = start(arguments, bounds, folder.path(), time).await?;
    tokio::time::sleep(skip).await;
    let early = read_all(&places).await?;
    tokio::time::sleep(time - skip).await;
    let late = read_all(&places).await?;
    say(format!(
        "{:<20} {:>8} {:>8} {:>8} {:>9} {:>6} {:>12}",
        "bound", "used", "calls/s", "429s", "429 share", "peak", "windows over"
    ));
    let one_slot = throughput_of_one_slot(&places, &early, &late);
    for ((place, early), late) in places.iter().zip(&early).zip(&late) {
        show(&place.bound, early, late, one_slot);
    }
    still_running(&service.ready().await?, &places).await?;
    service.kill()
}

async fn start(
    arguments: &Arguments,
    bounds: Vec<Bound>,
    folder: &std::path::Path,
    time: Duration,
) -> anyhow::Result<(Service, Vec<Place>)> {
    let mut upstreams = Vec::new();
    let mut providers = Vec::new();
    for (index, bound) in bounds.into_iter().enumerate() {
        let upstream = Upstream::start(&bound.script(&arguments.latency))?;
        let requests = match &bound {
            Bound::Rate { written, .. } => vec![written.clone()],
            Bound::Slots(_) => Vec::new(),
        };
        providers.push(Provider {
            name: format!("p{index}"),
            base_url: upstream.base_url(),
            max_concurrent: bound.max_concurrent(),
            requests,
        });
        upstreams.push((bound, upstream));
    }
    let mut service = Service::prepare(folder, &providers)?;
    let api = service.start_ready().await?;
    let mut files = Vec::new();
    for ((bound, _), provider) in upstreams.iter().zip(&providers) {
        files.push(api.upload(Input::chat(bound.items(time), &provider.name, 200).file).await?);
    }
    let mut places = Vec::new();
    for ((bound, upstream), file) in upstreams.into_iter().zip(files) {
        let batch = api.create(&file).await?;
        places.push(Place { bound, upstream, batch });
    }
    Ok((service, places))
}

async fn read_all(places: &[Place]) -> anyhow::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for place in places {
        let oracle = place.upstream.ask("oracle").await?;
        readings.push(Reading { at: Instant::now(), oracle, log: place.upstream.ask("log").await? });
    }
    Ok(readings)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn calls_per_second(early: &Reading, late: &Reading) -> f64 {
    let good = |reading: &Reading| number(&reading.log["answered"]["200"]);
    (good(late) - good(early)) / (late.at - early.at).as_secs_f64()
}

fn throughput_of_one_slot(places: &[Place], early: &[Reading], late: &[Reading]) -> f64 {
    let one = places.iter().position(|place| matches!(place.bound, Bound::Slots(1)));
    one.map_or(0.0, |index| calls_per_second(&early[index], &late[index]))
}

fn show(bound: &Bound, early: &Reading, late: &Reading, one_slot: f64) {
    let seconds = number(&late.oracle["clock_seconds"]) - number(&early.oracle["clock_seconds"]);
    let refused = number(&late.log["answered"]["429"]);
    let share = refused / number(&late.log["arrived"]).max(1.0);
    let speed = calls_per_second(early, late);
    let (used, peak, over) = match bound {
        Bound::Rate { limit, period, .. } => {
            let law = |reading: &Reading, key: &str| number(&reading.oracle["laws"][0][key]);
            let accepted = law(late, "accepted") - law(early, "accepted");
            let budget = *limit as f64 * seconds / period.as_secs_f64();
            (accepted / budget, law(late, "peak"), law(late, "windows_over").to_string())
        }
        Bound::Slots(slots) => {
            let busy = number(&late.oracle["busy_slot_seconds"]) - number(&early.oracle["busy_slot_seconds"]);
            let scaled = format!("{:.3}× of one", speed / one_slot.max(f64::MIN_POSITIVE));
            (busy / (f64::from(*slots) * seconds), number(&late.oracle["max_in_flight"]), scaled)
        }
    };
    say(format!(
        "{:<20} {:>8.4} {speed:>8.2} {refused:>8} {:>8.4}% {peak:>6} {over:>12}",
        bound.label(),
        used,
        share * 100.0
    ));
}

/// Without a backlog to the end the use means nothing.
async fn still_running(api: &Api, places: &[Place]) -> anyhow::Result<()> {
    for place in places {
        let batch = api.batch(&place.batch).await?;
        anyhow::ensure!(batch["status"] == "in_progress", "{} ran dry: {batch}", place.bound.label());
    }
    Ok(())
}
