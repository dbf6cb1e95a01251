//! How much of a budget is used while there is a backlog, and whether it is ever exceeded.
//!
//! Every provider of one service is an upstream with a law of its own, all at the same time.
//!
//! ```text
//! cargo bench --bench budget_use -- --minutes 10
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use harness::input::Input;
use harness::law::{Law, Rate, limits};
use harness::oracle::{Reading, read_all};
use harness::say;
use harness::service::{Provider, Service};
use harness::setting::{self, Setting, Watch};
use harness::upstream::Upstream;

/// Use of the budget under laws of every kind, side by side.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    watch: Watch,
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
    #[command(flatten)]
    setting: Setting,
}

/// What holds a provider back.
#[derive(Clone, Debug)]
enum Bound {
    Rate { kind: String, rate: Rate },
    Slots(u32),
}

impl Bound {
    fn parse(law: &str) -> anyhow::Result<Self> {
        let (kind, rate) = law.split_once(':').with_context(|| format!("`{law}` is no kind:limit/period"))?;
        Ok(Self::Rate { kind: kind.to_owned(), rate: rate.parse()? })
    }

    fn label(&self) -> String {
        match self {
            Self::Rate { kind, rate } => format!("{kind} {rate}"),
            Self::Slots(slots) => format!("{slots} slots"),
        }
    }

    fn script(&self, latency: &str) -> String {
        match self {
            Self::Rate { kind, rate } => {
                format!("latency = \"{latency}\"\n") + &limits(&[Law::enforced(kind, "requests", rate)])
            }
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
            Self::Rate { rate, .. } => rate.per_second(),
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

fn main() -> anyhow::Result<()> {
    setting::run(measure)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let (time, skip) = arguments.watch.times()?;
    let mut bounds = Vec::new();
    for law in &arguments.law {
        bounds.push(Bound::parse(law)?);
    }
    bounds.extend(arguments.slots.iter().map(|slots| Bound::Slots(*slots)));

    let folder = arguments.setting.folder()?;
    let (mut service, places) = start(arguments, bounds, folder.path(), time).await?;
    tokio::time::sleep(skip).await;
    let early = read_all(places.iter().map(|place| &place.upstream)).await?;
    tokio::time::sleep(time - skip).await;
    let late = read_all(places.iter().map(|place| &place.upstream)).await?;
    say(format!(
        "{:<20} {:>8} {:>8} {:>8} {:>9} {:>6} {:>12}",
        "bound", "used", "calls/s", "429s", "429 share", "peak", "windows over"
    ));
    let one_slot = throughput_of_one_slot(&places, &early, &late);
    for ((place, early), late) in places.iter().zip(&early).zip(&late) {
        show(&place.bound, early, late, one_slot);
    }
    let api = service.ready().await?;
    for place in &places {
        api.unended(&place.batch, &place.bound.label()).await?;
    }
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
            Bound::Rate { rate, .. } => vec![rate.to_string()],
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

fn throughput_of_one_slot(places: &[Place], early: &[Reading], late: &[Reading]) -> f64 {
    let one = places.iter().position(|place| matches!(place.bound, Bound::Slots(1)));
    one.map_or(0.0, |index| late[index].pace_since(&early[index], 200))
}

fn show(bound: &Bound, early: &Reading, late: &Reading, one_slot: f64) {
    let refused = late.answered(429);
    let share = refused / late.arrived().max(1.0);
    let speed = late.pace_since(early, 200);
    let (used, peak, over) = match bound {
        Bound::Rate { .. } => {
            (late.used_since(early), late.law("peak"), late.law("windows_over").to_string())
        }
        Bound::Slots(slots) => {
            let scaled = format!("{:.3}× of one", speed / one_slot.max(f64::MIN_POSITIVE));
            (late.busy_since(early, *slots), late.max_in_flight(), scaled)
        }
    };
    say(format!(
        "{:<20} {:>8.4} {speed:>8.2} {refused:>8} {:>8.4}% {peak:>6} {over:>12}",
        bound.label(),
        used,
        share * 100.0
    ));
}
