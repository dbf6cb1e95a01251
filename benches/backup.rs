//! A backup of a large store under load: what it costs the load, and whether a restore of it is whole.
//!
//! ```text
//! cargo bench --bench backup -- --gigabytes 2
//! ```
//!
//! A store is filled with uploads that don't compress, then a batch runs. What is recorded in a second is counted
//! before, during and after each backup. At last the newest backup is put into a new folder, checked with
//! `store check`, run on to the end of its batch, and checked again.

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;

use harness::api::Api;
use harness::input::{Filling, Input};
use harness::output;
use harness::service::{Checked, Provider, Service};
use harness::setting::{self, Setting};
use harness::upstream::Upstream;
use harness::{median, say};

/// Bytes of one upload.
const UPLOAD: usize = 64 << 20;
/// Bytes of one line of it.
const LINE: usize = 16 << 10;
/// What base64 takes once it is compressed.
const STORED: f64 = 0.75;
/// How long the restored batch may take.
const END_WITHIN: Duration = Duration::from_secs(3_600);

/// Takes backups of a large store under load.
#[derive(Debug, Parser)]
struct Arguments {
    /// Size of the store
    #[arg(long, default_value_t = 2.0)]
    gigabytes: f64,
    /// Backups taken
    #[arg(long, default_value_t = 3)]
    backups: usize,
    /// How long the load is watched before and after each backup, in seconds
    #[arg(long, default_value_t = 20.0)]
    watch: f64,
    /// How long answers take
    #[arg(long, default_value = "50ms..150ms")]
    latency: String,
    /// Calls in flight
    #[arg(long, default_value_t = 64)]
    in_flight: u32,
    /// Items of the batch that runs meanwhile
    #[arg(long, default_value_t = 300_000)]
    items: usize,
    #[command(flatten)]
    setting: Setting,
}

fn main() -> anyhow::Result<()> {
    setting::run(run)
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = arguments.setting.folder()?;
    let upstream = Upstream::start(&format!("latency = \"{}\"\nanswer_bytes = 1000", arguments.latency))?;
    let provider = Provider::only(upstream.base_url(), arguments.in_flight);
    let mut service = Service::prepare(folder.path(), std::slice::from_ref(&provider))?;
    let api = service.start_ready().await?;
    fill(arguments, &api).await?;
    let size = std::fs::metadata(service.store())?.len();
    say(format!("the store has {:.2} GB", size as f64 / 1e9));
    let batch = api.submit(Input::chat(arguments.items, "bench", 1_000).file).await?;
    api.until_completed(std::slice::from_ref(&batch), 1_000.0, Duration::from_millis(50)).await?;

    let (mut ratios, mut newest) = (Vec::new(), String::new());
    let mut before = rate(&api, &batch, tokio::time::sleep(watch(arguments))).await?.0;
    for number in 1..=arguments.backups {
        let (during, made) = rate(&api, &batch, api.back_up()).await?;
        let made = made?;
        let after = rate(&api, &batch, tokio::time::sleep(watch(arguments))).await?.0;
        let ratio = during / ((before + after) / 2.0);
        say(format!(
            "backup {number}: {:.2} GB in {:.1} s; {before:.0}, {during:.0}, {after:.0} results/s before, during, after: \
             {ratio:.3}",
            made["bytes"].as_f64().unwrap_or(0.0) / 1e9,
            made["seconds"].as_f64().unwrap_or(0.0),
        ));
        ratios.push(ratio);
        newest = made["file"].as_str().unwrap_or_default().to_owned();
        before = after;
    }
    api.unended(&batch, "the load").await?;
    say(format!("throughput during a backup: {:.3} of before and after (median)", median(&ratios)));
    service.kill()?;
    restore(arguments, &folder.path().join(newest), &provider, &batch).await
}

const fn watch(arguments: &Arguments) -> Duration {
    Duration::from_millis((arguments.watch * 1_000.0) as u64)
}

/// Uploads until the store has its size.
async fn fill(arguments: &Arguments, api: &Api) -> anyhow::Result<()> {
    let uploads = (arguments.gigabytes * 1e9 / (UPLOAD as f64 * STORED)).ceil() as usize;
    let input = Input::filled(0, UPLOAD / LINE, "bench", LINE, Filling::Noise).file;
    for _ in 0..uploads {
        api.upload(input.clone()).await?;
    }
    Ok(())
}

/// Results recorded in a second while something goes on, and what came of that.
async fn rate<T>(api: &Api, batch: &str, meanwhile: impl Future<Output = T>) -> anyhow::Result<(f64, T)> {
    let (began, before) = (Instant::now(), api.completed(batch).await?);
    let came = meanwhile.await;
    let after = api.completed(batch).await?;
    Ok(((after - before) / began.elapsed().as_secs_f64(), came))
}

/// Puts a backup into a new folder, checks it, lets its batch run to the end, and checks it again.
async fn restore(
    arguments: &Arguments,
    backup: &Path,
    provider: &Provider,
    batch: &str,
) -> anyhow::Result<()> {
    let folder = arguments.setting.folder()?;
    let mut service = Service::prepare(folder.path(), std::slice::from_ref(provider))?;
    std::fs::copy(backup, service.store())?;
    check(&service)?;
    let api = service.start_ready().await?;
    let had = api.completed(batch).await?;
    let ended = api.ended(batch, Duration::from_millis(200), END_WITHIN).await?;
    let content = api.content(&ended["output_file_id"]).await?;
    let found = output::check(&content, 0..arguments.items)?;
    say(format!(
        "restored with {had} of {} results, ended with {}: {} lost, {} twice",
        arguments.items, ended["request_counts"], found.lost, found.twice
    ));
    service.kill()?;
    check(&service)?;
    anyhow::ensure!(found.faults.is_empty(), "{} faults: {:?}", found.faults.len(), found.faults.first());
    Ok(())
}

/// Runs `store check`, which says what it looked at.
fn check(service: &Service) -> anyhow::Result<()> {
    let began = Instant::now();
    let Checked { is_whole, said } = service.check_store()?;
    anyhow::ensure!(is_whole, "store check: {said}");
    let last = said.lines().last().unwrap_or_default();
    say(format!("store check in {:.1} s: {last}", began.elapsed().as_secs_f64()));
    Ok(())
}
