//! How much of a limit is used that nobody configured: the service goes by what the upstream says of it.
//!
//! Every provider of one service is an upstream with the same limit that speaks `x-ratelimit-*`. One stays as it is; at
//! the change, one's quota is halved, one's doubled, and somebody else begins to use the keys of two more: a bucket,
//! whose credit lasts for minutes first, and a sliding window.
//!
//! ```text
//! cargo bench --bench learned -- --minutes 6
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use harness::api::Api;
use harness::input::Input;
use harness::law::{Law, limits};
use harness::oracle::Reading;
use harness::say;
use harness::service::Service;
use harness::setting::{self, Setting, sleep_until};
use harness::upstream::Upstream;

/// Seconds between two looks.
const STEP: u64 = 5;

/// Use of limits that are learned.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long the whole run takes
    #[arg(long, default_value_t = 6.0)]
    minutes: f64,
    /// Seconds from the batches' creation to the change; a multiple of 5
    #[arg(long, default_value_t = 60)]
    change: u64,
    /// Requests per minute that each upstream allows at first
    #[arg(long, default_value_t = 3_000)]
    limit: u64,
    /// The share of the limit that somebody else uses
    #[arg(long, default_value_t = 0.3)]
    foreign: f64,
    /// How long answers take
    #[arg(long, default_value = "50ms..450ms")]
    latency: String,
    /// Whether every look is shown
    #[arg(long)]
    looks: bool,
    #[command(flatten)]
    setting: Setting,
}

/// What happens to a place's limit at the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Halved,
    Doubled,
    ForeignAtBucket,
    ForeignAtWindow,
}

impl Change {
    const ALL: [Self; 5] =
        [Self::None, Self::Halved, Self::Doubled, Self::ForeignAtBucket, Self::ForeignAtWindow];

    fn law(self) -> &'static str {
        if self == Self::ForeignAtWindow { "sliding" } else { "bucket" }
    }
}

/// One upstream with its batch.
struct Place {
    change: Change,
    upstream: Upstream,
    batch: String,
    looks: Vec<Look>,
    foreign: Arc<Foreign>,
}

/// What a place was like at a moment.
struct Look {
    reading: Reading,
    foreign_good: f64,
    foreign_refused: f64,
}

/// Somebody else's calls.
#[derive(Debug, Default)]
struct Foreign {
    good: AtomicU64,
    refused: AtomicU64,
}

/// Calls of the service's own in a span of time.
#[derive(Clone, Copy, Debug)]
struct Span {
    per_minute: f64,
    refused_share: f64,
}

fn main() -> anyhow::Result<()> {
    setting::run(measure)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = arguments.setting.folder()?;
    let seconds = (arguments.minutes * 60.0) as u64;
    anyhow::ensure!(seconds >= arguments.change + 65, "the minute after the change must fit in");
    let (mut service, api, mut places) = start(arguments, folder.path(), seconds).await?;
    let started = Instant::now();
    for at in (0..=seconds).step_by(STEP as usize) {
        sleep_until(started + Duration::from_secs(at)).await;
        for place in &mut places {
            let look = look(place).await?;
            place.looks.push(look);
        }
        if at == arguments.change {
            change(arguments, &places).await?;
        }
    }
    for place in &places {
        show(arguments, place);
        let batch = api.unended(&place.batch, &format!("{:?}", place.change)).await?;
        say(format!("  {}", batch["request_counts"]));
    }
    say(format!("logged:\n{}", service.log()?));
    service.kill()
}

async fn start(
    arguments: &Arguments,
    folder: &std::path::Path,
    seconds: u64,
) -> anyhow::Result<(Service, Api, Vec<Place>)> {
    let (mut places, mut text) = (Vec::new(), String::new());
    for change in Change::ALL {
        let index = places.len();
        let upstream = Upstream::start(&format!(
            "latency = \"{}\"\nlog = \"off\"\nratelimit_headers = true\n{}",
            arguments.latency,
            limits(&[Law::per_minute(change.law(), "requests", arguments.limit)])
        ))?;
        let base_url = upstream.base_url();
        write!(
            text,
            "[providers.p{index}]\nbase_url = \"{base_url}\"\n[[providers.p{index}.lanes]]\nmatch = \"p{index}\"\n"
        )?;
        places.push(Place {
            change,
            upstream,
            batch: String::new(),
            looks: Vec::new(),
            foreign: Arc::default(),
        });
    }
    let mut service = Service::configure(folder, &text)?;
    let api = service.start_ready().await?;
    let mut files = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let times = if place.change == Change::Doubled { 2 } else { 1 };
        // What the bucket holds at first comes on top.
        let items = arguments.limit * times * (seconds + 120) / 60 + arguments.limit * 2;
        files.push(api.upload(Input::chat(items as usize, &format!("p{index}"), 200).file).await?);
    }
    for (place, file) in places.iter_mut().zip(files) {
        place.batch = api.create(&file).await?;
    }
    Ok((service, api, places))
}

async fn change(arguments: &Arguments, places: &[Place]) -> anyhow::Result<()> {
    for (index, place) in places.iter().enumerate() {
        // A bucket that starts anew is full: no fuller than one whose use was paced before.
        let laws =
            |limit| json!({"limits": [{"law": "bucket", "limit": limit, "period": "60s", "enforce": true}]});
        match place.change {
            Change::None => {}
            Change::Halved => place.upstream.set(&laws(arguments.limit / 2)).await?,
            Change::Doubled => place.upstream.set(&laws(arguments.limit * 2)).await?,
            Change::ForeignAtBucket | Change::ForeignAtWindow => {
                let pace = arguments.limit as f64 * arguments.foreign / 60.0;
                let url = format!("{}/chat/completions", place.upstream.base_url());
                let model = format!("p{index}");
                tokio::spawn(use_key(url, model, pace, Arc::clone(&place.foreign)));
            }
        }
    }
    Ok(())
}

/// Makes calls at even distances, as somebody who knows nothing of the service.
async fn use_key(url: String, model: String, per_second: f64, foreign: Arc<Foreign>) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body =
        json!({"model": model, "messages": [{"role": "user", "content": "foreign"}], "max_tokens": 16});
    loop {
        ticks.tick().await;
        let request = client.post(&url).json(&body);
        let foreign = Arc::clone(&foreign);
        tokio::spawn(async move {
            let count = match request.send().await {
                Ok(answer) if answer.status().is_success() => &foreign.good,
                Ok(_) => &foreign.refused,
                Err(_) => return,
            };
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
}

async fn look(place: &Place) -> anyhow::Result<Look> {
    let reading = Reading::of(&place.upstream).await?;
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
    let Foreign { good, refused } = &*place.foreign;
    Ok(Look { reading, foreign_good: count(good), foreign_refused: count(refused) })
}

/// From one second of the run to another; both are moments of a look.
fn span(place: &Place, from: u64, to: u64) -> Span {
    let at = |second: u64| place.looks.get((second / STEP) as usize).or_else(|| place.looks.last());
    let (Some(first), Some(last)) = (at(from), at(to)) else {
        return Span { per_minute: 0.0, refused_share: 0.0 };
    };
    let seconds = (last.reading.at - first.reading.at).as_secs_f64();
    let good =
        last.reading.answered(200) - first.reading.answered(200) - (last.foreign_good - first.foreign_good);
    let refused = last.reading.answered(429)
        - first.reading.answered(429)
        - (last.foreign_refused - first.foreign_refused);
    Span { per_minute: good / seconds * 60.0, refused_share: refused / (good + refused).max(1.0) }
}

fn show(arguments: &Arguments, place: &Place) {
    let (limit, change) = (arguments.limit as f64, arguments.change);
    let end = (place.looks.len() as u64 - 1) * STEP;
    say(format!("{:?}", place.change));
    let line = |name: &str, (from, to): (u64, u64), limit: f64| {
        let Span { per_minute, refused_share } = span(place, from, to);
        say(format!(
            "  {name:<28} {from:>4}–{to:<4} s  used {:>7.4}  429s {:>8.4} %",
            per_minute / limit,
            refused_share * 100.0
        ));
    };
    line("from the start", (0, 20), limit);
    line("then", (20, change), limit);
    match place.change {
        Change::None => line("to the end", (change, end), limit),
        Change::Halved => {
            line("5 s after, of the new limit", (change + 5, change + 10), limit / 2.0);
            line("the minute after", (change, change + 60), limit / 2.0);
            line("to the end", (change + 60, end), limit / 2.0);
        }
        Change::Doubled => {
            line("30 s after, of the new limit", (change + 30, change + 60), limit * 2.0);
            line("to the end", (change + 60, end), limit * 2.0);
        }
        Change::ForeignAtBucket | Change::ForeignAtWindow => {
            let rest = limit * (1.0 - arguments.foreign);
            line("the minute after, of the rest", (change, change + 60), rest);
            if end > change + 120 {
                line("then", (change + 60, end - 60), rest);
            }
            line("the last minute", (end - 60, end), rest);
            let last = &place.looks[place.looks.len() - 1];
            say(format!("  somebody else: {} good, {} refused", last.foreign_good, last.foreign_refused));
        }
    }
    if arguments.looks {
        for at in (0..end).step_by(STEP as usize) {
            line("", (at, at + STEP), limit);
        }
    }
}
