//! Several replicas on one PostgreSQL server: how much of one budget they use together, whether it is ever exceeded, what
//! sharing it costs the database, and what a live call waits at one of them.
//!
//! ```text
//! cargo bench --bench replicas -- --part use --minutes 10
//! cargo bench --bench replicas -- --part use --limit 600 --shape batches
//! cargo bench --bench replicas -- --part tokens --minutes 10
//! cargo bench --bench replicas -- --part tokens --beside 550 --shape batches
//! cargo bench --bench replicas -- --part idle --part backlog
//! ```

mod budget_shared;
mod cluster;
#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
#[path = "../harness/mod.rs"]
mod harness;
mod live_waits;
mod shape;

use clap::Parser;

use harness::setting::{self, Setting, Watch};
use shape::Shape;

/// What is measured.
const PARTS: [&str; 4] = ["use", "tokens", "idle", "backlog"];

/// Several replicas with one budget.
#[derive(Debug, Parser)]
struct Arguments {
    /// Replicas
    #[arg(long, default_value_t = 4)]
    replicas: usize,
    /// What is measured, all of it without: `use` of a limit of requests, or of `tokens`; what live calls take longer at an
    /// `idle` cluster, and how long they wait in front of a `backlog`; may be repeated
    #[arg(long)]
    part: Vec<String>,
    /// Requests per minute
    #[arg(long, default_value_t = 6_000)]
    limit: u64,
    /// Tokens per minute
    #[arg(long, default_value_t = 2_000_000)]
    tokens: u64,
    /// Requests per minute that are limited beside tokens
    #[arg(long)]
    beside: Option<u64>,
    /// How the provider counts: `bucket`, `fixed` or `sliding`
    #[arg(long, default_value = "sliding")]
    law: String,
    /// Who gets the load: `batches`, claimed by whoever is free, or live calls at each replica in percent of the limit, or
    /// both, as batches+100/100/10/0; may be repeated
    #[arg(long, default_values_t = ["batches", "100/100/10/0", "60/60/60/60", "batches+100/100/10/0"].map(str::to_owned))]
    shape: Vec<String>,
    /// How long answers take
    #[arg(long, default_value = "50ms..450ms")]
    latency: String,
    /// Runs of each shape, of which each is shown
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Prints the statements that took longest on the server
    #[arg(long)]
    statements: bool,
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    setting: Setting,
}

fn main() -> anyhow::Result<()> {
    setting::run(measure)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    for part in &arguments.part {
        anyhow::ensure!(PARTS.contains(&part.as_str()), "`{part}` is none of {PARTS:?}");
    }
    let is_asked = |part: &str| arguments.part.is_empty() || arguments.part.iter().any(|asked| asked == part);
    for unit in ["requests", "tokens"] {
        if is_asked(if unit == "requests" { "use" } else { unit }) {
            budget_shared::show_head();
            for text in &arguments.shape {
                let shape: Shape = text.parse()?;
                for _ in 0..arguments.runs {
                    budget_shared::measure(arguments, unit, text, &shape).await?;
                }
            }
        }
    }
    if is_asked("idle") {
        live_waits::idle(arguments).await?;
    }
    if is_asked("backlog") {
        live_waits::backlog(arguments).await?;
    }
    Ok(())
}
