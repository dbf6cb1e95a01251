//! Live calls beside a batch that alone would use all of the rate: how long they wait in the gate, and what they cost
//! the batch.
//!
//! ```text
//! cargo bench --bench live_backlog
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::time::{Duration, Instant};

use clap::Parser;

use harness::api::Api;
use harness::input::Input;
use harness::law::{Law, limits};
use harness::live::{Caller, chat_body};
use harness::oracle::Reading;
use harness::service::Service;
use harness::setting::{self, Setting, sleep_until};
use harness::upstream::Upstream;
use harness::{quantile, say};

/// Live calls under a backlog.
#[derive(Debug, Parser)]
struct Arguments {
    /// Requests per minute of the provider
    #[arg(long, default_value_t = 6_000)]
    limit: u64,
    /// Live calls, as a share of the limit
    #[arg(long, default_value_t = 0.05)]
    live: f64,
    /// Seconds that count with the batch alone, and then with live calls beside it
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Seconds before, for the start to be over
    #[arg(long, default_value_t = 20)]
    skip: u64,
    /// How long answers take
    #[arg(long, default_value = "50ms..450ms")]
    latency: String,
    #[command(flatten)]
    setting: Setting,
}

fn main() -> anyhow::Result<()> {
    setting::run(measure)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = arguments.setting.folder()?;
    let limit = arguments.limit;
    let upstream = Upstream::start(&format!(
        "latency = \"{}\"\n{}",
        arguments.latency,
        limits(&[Law::per_minute("sliding", "requests", limit)])
    ))?;
    let mut service = Service::configure(
        folder.path(),
        &format!(
            "[providers.bench]\nbase_url = \"{}\"\nlimits.requests = [\"{limit}/min\"]\n\
             [[providers.bench.lanes]]\nmatch = \"bench\"\n",
            upstream.base_url()
        ),
    )?;
    let api = service.start_ready().await?;
    let items = limit * (2 * arguments.seconds + arguments.skip + 30) / 60;
    let batch = api.submit(Input::chat(items as usize, "bench", 200).file).await?;

    let span = Duration::from_secs(arguments.seconds);
    let start = Instant::now() + Duration::from_secs(arguments.skip);
    sleep_until(start).await;
    let (before, alone) = items_in(&api, &upstream, &batch, start + span).await?;
    let caller = Caller::of(service.address(), chat_body())?;
    let per_second = limit as f64 / 60.0 * arguments.live;
    let live = tokio::spawn(async move { caller.at_random(per_second, start + span * 2).await });
    let (between, beside) = items_in(&api, &upstream, &batch, start + span * 2).await?;
    let waits = live.await??;
    let after = Reading::of(&upstream).await?;
    api.unended(&batch, "the batch").await?;

    say(format!(
        "a batch at {limit}/min for {} s alone, then with {} live calls beside it",
        arguments.seconds,
        waits.len()
    ));
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("most", 1.0)] {
        let wait = quantile(&waits, share);
        say(format!(
            "  wait {name:<5} {wait:>6.0} ms = {:.2} send intervals",
            wait * limit as f64 / 60_000.0
        ));
    }
    let seconds = span.as_secs_f64();
    say(format!(
        "  batch: {:.2} items/s alone, {:.2} beside them: {:.2} % less, {:.2} % of the lane were live calls",
        alone / seconds,
        beside / seconds,
        (1.0 - beside / alone) * 100.0,
        waits.len() as f64 / seconds * 6_000.0 / limit as f64,
    ));
    say(format!(
        "  used {:.4} alone, {:.4} with them; refused {} of {}",
        between.used_since(&before),
        after.used_since(&between),
        after.answered(429),
        after.arrived(),
    ));
    service.kill()
}

/// Items of the batch that succeed until a moment, and what the upstream said at the start.
async fn items_in(
    api: &Api,
    upstream: &Upstream,
    batch: &str,
    until: Instant,
) -> anyhow::Result<(Reading, f64)> {
    let (reading, first) = (Reading::of(upstream).await?, api.completed(batch).await?);
    sleep_until(until).await;
    Ok((reading, api.completed(batch).await? - first))
}
