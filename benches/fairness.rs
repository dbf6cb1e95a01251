//! How apps share one provider: by weight, a small batch beside a mountain, and huge items beside tiny ones.
//!
//! ```text
//! cargo bench --bench fairness
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;

use harness::api::Api;
use harness::input::Input;
use harness::law::{Law, limits};
use harness::oracle::Reading;
use harness::service::Service;
use harness::setting::{self, Setting, sleep_until};
use harness::tokens::TokenMix;
use harness::upstream::Upstream;
use harness::{quantile, say};

/// How often a small batch is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a small batch may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Shares of apps.
#[derive(Debug, Parser)]
struct Arguments {
    /// Requests per minute of the provider
    #[arg(long, default_value_t = 6_000)]
    limit: u64,
    /// Tokens per minute where items of different sizes meet
    #[arg(long, default_value_t = 2_000_000)]
    tokens: u64,
    /// Seconds over which shares are taken
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Items of the batch that a small one is submitted behind
    #[arg(long, default_value_t = 1_000_000)]
    mountain: usize,
    /// How often a small batch is submitted
    #[arg(long, default_value_t = 10)]
    times: usize,
    /// How long answers take
    #[arg(long, default_value = "50ms..450ms")]
    latency: String,
    /// Only this part: weights, small or sizes
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    setting: Setting,
}

fn main() -> anyhow::Result<()> {
    setting::run(measure)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    for part in setting::chosen(&["weights", "small", "sizes"], arguments.only.as_deref()) {
        let folder = arguments.setting.folder()?;
        match part {
            "weights" => weights(arguments, folder.path()).await?,
            "small" => small_batches(arguments, folder.path()).await?,
            _ => sizes(arguments, folder.path()).await?,
        }
    }
    Ok(())
}

/// A provider with a limit on requests or tokens that its upstream enforces.
async fn provider(
    arguments: &Arguments,
    folder: &Path,
    (unit, limit): (&'static str, u64),
) -> anyhow::Result<(Upstream, Service, Api)> {
    let upstream = Upstream::start(&format!(
        "latency = \"{}\"\nlog = \"off\"\n{}",
        arguments.latency,
        limits(&[Law::per_minute("sliding", unit, limit)])
    ))?;
    let mut service = Service::configure(
        folder,
        &format!(
            "[providers.bench]\nbase_url = \"{}\"\nlimits.{unit} = [\"{limit}/min\"]\n\
             [[providers.bench.lanes]]\nmatch = \"bench\"\n",
            upstream.base_url()
        ),
    )?;
    let api = service.start_ready().await?;
    Ok((upstream, service, api))
}

/// Three apps with a backlog each, whose weights are 1, 1 and 2.
async fn weights(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let (upstream, mut service, api) = provider(arguments, folder, ("requests", arguments.limit)).await?;
    let weights = [("one", 1), ("other", 1), ("double", 2)];
    let apps = api.apps(&weights).await?;
    let items = (arguments.limit * (arguments.seconds + 60) / 60) as usize;
    let mut files = Vec::new();
    for app in &apps {
        files.push(app.upload(Input::chat(items, "bench", 200).file).await?);
    }
    let mut batches = Vec::new();
    for (app, file) in apps.iter().zip(&files) {
        batches.push((app, app.create(file).await?, 1.0));
    }
    let before = Reading::of(&upstream).await?;
    let shares = shares(arguments, &batches).await?;
    say(format!("weights 1:1:2 at {}/min over {} s", arguments.limit, arguments.seconds));
    for ((name, weight), share) in weights.iter().zip(&shares) {
        let due = f64::from(*weight) / 4.0;
        say(format!(
            "  {name:<8} share {share:.4}, due {due:.2}, off by {:+.2} %",
            (share / due - 1.0) * 100.0
        ));
    }
    show_upstream(&upstream, &before).await?;
    service.kill()
}

/// One app with huge items and one with tiny ones, where tokens bind.
async fn sizes(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let (upstream, mut service, api) = provider(arguments, folder, ("tokens", arguments.tokens)).await?;
    let apps = api.apps(&[("huge", 1), ("tiny", 1)]).await?;
    let mut files = Vec::new();
    let sizes = [8_000_u64, 200];
    for (app, size) in apps.iter().zip(sizes) {
        let mix = TokenMix { size: size..=size, input: 0.25..=0.25, output: 0.5..=0.5 };
        let items = arguments.tokens * (arguments.seconds + 60) / 60 / size;
        files.push(app.upload(mix.file(items as usize, "bench", "/v1/chat/completions", 7)).await?);
    }
    let mut batches = Vec::new();
    for ((app, file), size) in apps.iter().zip(&files).zip(sizes) {
        batches.push((app, app.create(file).await?, size as f64));
    }
    let before = Reading::of(&upstream).await?;
    let shares = shares(arguments, &batches).await?;
    say(format!(
        "items of 8,000 tokens beside items of 200, {} tokens/min over {} s",
        arguments.tokens, arguments.seconds
    ));
    for (name, share) in ["huge", "tiny"].iter().zip(&shares) {
        say(format!("  {name:<8} share of tokens {share:.4}, off by {:+.2} %", (share / 0.5 - 1.0) * 100.0));
    }
    show_upstream(&upstream, &before).await?;
    service.kill()
}

/// What each batch completed, times what its items weigh, of all of it.
async fn shares(arguments: &Arguments, batches: &[(&Api, String, f64)]) -> anyhow::Result<Vec<f64>> {
    // The first answers, and the windows' filling, are left out.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut done = vec![0.0; batches.len()];
    let started = Instant::now();
    for sign in [-1.0, 1.0] {
        for (done, (app, batch, size)) in done.iter_mut().zip(batches) {
            *done += sign * size * app.completed(batch).await?;
        }
        if sign < 0.0 {
            sleep_until(started + Duration::from_secs(arguments.seconds)).await;
        }
    }
    for (app, batch, _) in batches {
        app.unended(batch, "an app").await?;
    }
    let all: f64 = done.iter().sum();
    Ok(done.iter().map(|done| done / all).collect())
}

async fn show_upstream(upstream: &Upstream, before: &Reading) -> anyhow::Result<()> {
    let after = Reading::of(upstream).await?;
    say(format!(
        "  used {:.4} of the limit since the batches were there, 429s {}, windows over {}",
        after.used_since(before),
        after.answered(429),
        after.law("windows_over")
    ));
    Ok(())
}

/// Ten items: alone, behind another app's mountain, and behind the same app's with a shorter window.
async fn small_batches(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let (upstream, mut service, api) = provider(arguments, folder, ("requests", arguments.limit)).await?;
    let apps = api.apps(&[("large", 1), ("small", 1)]).await?;
    let [large, small] = &apps[..] else { anyhow::bail!("two apps were asked for") };
    let alone = small_times(arguments, small, "24h").await?;
    show_times("10 items alone", &alone);
    let mountain = large.submit(Input::chat(arguments.mountain, "bench", 200).file).await?;
    large.until_completed(std::slice::from_ref(&mountain), 100.0, LOOK).await?;
    let before = Reading::of(&upstream).await?;
    let behind = small_times(arguments, small, "24h").await?;
    show_times(&format!("10 items behind {} of another app", arguments.mountain), &behind);
    let urgent = small_times(arguments, large, "10m").await?;
    show_times("10 items with a shorter window behind the same app's", &urgent);
    large.unended(&mountain, "the mountain").await?;
    show_upstream(&upstream, &before).await?;
    service.kill()
}

/// Seconds that a batch of ten takes from its creation to its end, again and again.
async fn small_times(arguments: &Arguments, app: &Api, window: &str) -> anyhow::Result<Vec<f64>> {
    let file = app.upload(Input::chat(10, "bench", 200).file).await?;
    let mut times = Vec::new();
    for _ in 0..arguments.times {
        let started = Instant::now();
        let batch = app.create_for(&file, "/v1/chat/completions", window).await?;
        app.ended(&batch, LOOK, PATIENCE).await?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(times)
}

fn show_times(name: &str, seconds: &[f64]) {
    say(format!("{name}: median {:.3} s, most {:.3} s", quantile(seconds, 0.5), quantile(seconds, 1.0)));
}
