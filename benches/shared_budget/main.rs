//! One budget shared by all: five client processes, three apps, two providers, requests and tokens, while the
//! service is killed and started again.
//!
//! The upstream outlives the service, refuses what is above its laws and is the judge. Batches of light items, with
//! which requests bind, and of heavy ones, with which tokens do, take turns.
//!
//! ```text
//! cargo bench --bench shared_budget -- --restarts 100 --side-by-side 4
//! ```

mod client;
#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
#[path = "../harness/mod.rs"]
mod harness;
mod instance;
mod live;
mod report;

use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use futures_util::future::try_join_all;
use sluicegate::domain::quantity::parse_duration;

use harness::setting::{self, Setting};

/// A shared budget while the service is killed again and again.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often a service is killed, in all
    #[arg(long, default_value_t = 100)]
    restarts: usize,
    /// Services side by side, each with an upstream, a folder and clients of its own
    #[arg(long, default_value_t = 1)]
    side_by_side: usize,
    /// What the moments and the items depend on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// From one start to the next kill
    #[arg(long, default_value = "10s..30s", value_parser = parse_span)]
    every: (Duration, Duration),
    /// How the upstream counts: bucket, fixed or sliding
    #[arg(long, default_value = "sliding")]
    law: String,
    /// Requests per minute
    #[arg(long, default_value_t = 3_000)]
    requests: u64,
    /// Tokens per minute
    #[arg(long, default_value_t = 1_000_000)]
    tokens: u64,
    /// How long answers take
    #[arg(long, default_value = "50ms..450ms")]
    latency: String,
    /// Whether every restart is shown
    #[arg(long)]
    looks: bool,
    #[command(flatten)]
    setting: Setting,
}

fn parse_span(text: &str) -> anyhow::Result<(Duration, Duration)> {
    let (least, most) = text.split_once("..").context("a span such as 10s..30s")?;
    let (least, most) = (parse_duration(least)?, parse_duration(most)?);
    anyhow::ensure!(least < most, "{least:?} is not before {most:?}");
    anyhow::ensure!(least > instance::LEFT_OUT, "{:?} after each start are left out", instance::LEFT_OUT);
    Ok((least, most))
}

fn main() -> anyhow::Result<()> {
    if client::run_if_asked()? {
        return Ok(());
    }
    setting::run(measure)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let places = arguments.side_by_side.max(1);
    // What does not divide evenly goes to the first ones.
    let restarts = (0..places).map(|place| (arguments.restarts + places - 1 - place) / places);
    let runs = restarts.enumerate().map(|(place, restarts)| instance::run(arguments, place, restarts));
    report::show(arguments, &try_join_all(runs).await?)
}
