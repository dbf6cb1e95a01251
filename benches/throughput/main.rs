//! Durable throughput beside that of a bare client loop, in the same run on the same cores.
//!
//! ```text
//! cargo bench --bench throughput -- --items 100000 --latency 0ms --latency 50ms
//! cargo bench --bench throughput -- --items 100000 --latency 0ms --postgres --held-snapshot
//! cargo bench --bench throughput -- --items 10000 --latency 0ms --runs 100 --against path/to/another/sluicegate
//! ```

mod against;
#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
#[path = "../harness/mod.rs"]
mod harness;
mod runs;

use std::path::PathBuf;

use clap::Parser;

use harness::input::{Filling, Input};
use harness::setting::Setting;
use harness::{median, say};
use runs::{Kind, Run};

/// Durable throughput as a ratio to a bare client loop.
#[derive(Debug, Parser)]
struct Arguments {
    /// Items of one run
    #[arg(long, default_value_t = 100_000)]
    items: usize,
    /// Bytes of a request's body
    #[arg(long, default_value_t = 1_024)]
    body: usize,
    /// Prompts of random base64, which hardly compresses, instead of words
    #[arg(long)]
    noise: bool,
    /// Bytes of an answer's text
    #[arg(long, default_value_t = 700)]
    answer: usize,
    /// Calls in flight
    #[arg(long, default_value_t = 256)]
    in_flight: u32,
    /// Latencies of the upstream; may be repeated
    #[arg(long, default_values_t = ["0ms".to_owned(), "50ms".to_owned()])]
    latency: Vec<String>,
    /// Runs of each kind, of which the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Runs the bare loop alone
    #[arg(long)]
    bare_only: bool,
    /// Runs on a PostgreSQL server too, a new and durable one for each run
    #[arg(long)]
    postgres: bool,
    /// And on one where somebody else holds a snapshot open from before the upload to the end
    #[arg(long, requires = "postgres")]
    held_snapshot: bool,
    /// Compares with another build instead, in as many pairs of batches as there are runs
    #[arg(long, conflicts_with_all = ["bare_only", "postgres"])]
    against: Option<PathBuf>,
    /// Prints the statements that took longest on the server
    #[arg(long)]
    statements: bool,
    #[command(flatten)]
    setting: Setting,
}

impl Arguments {
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let asked = [
            (Kind::Bare, true),
            (Kind::Sqlite, !self.bare_only),
            (Kind::Postgres, self.postgres),
            (Kind::Held, self.held_snapshot),
        ];
        asked.into_iter().filter_map(|(kind, is_asked)| is_asked.then_some(kind))
    }
}

fn main() -> anyhow::Result<()> {
    if harness::upstream::serve_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(compare(&arguments))
}

async fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    let filling = if arguments.noise { Filling::Noise } else { Filling::Words };
    let input = Input::filled(0, arguments.items, "bench", arguments.body, filling);
    say(format!("{} items, {} B in all, {} in flight", input.items(), input.file.len(), arguments.in_flight));
    for latency in &arguments.latency {
        if let Some(other) = &arguments.against {
            against::compare(other, arguments, &input, latency).await?;
            continue;
        }
        let mut done: Vec<(Kind, Run)> = Vec::new();
        for _ in 0..arguments.runs {
            for kind in arguments.kinds() {
                let run = runs::run(kind, arguments, &input, latency).await?;
                done.push((kind, run));
                show(kind, latency, &input, &run);
                show_server(&input, &run, &done);
            }
        }
        show_medians(arguments, latency, &done);
    }
    Ok(())
}

fn show(kind: Kind, latency: &str, input: &Input, run: &Run) {
    let per_item = |amount: f64| amount / input.items() as f64;
    say(format!(
        "{latency:>6} {:<9} {:>8.0} items/s   cpu {:>6.1} µs/item (upstream {:>5.1})   written {:>6.0} B/item   \
         peak {:>5.1} MB   upload {:.2} s",
        kind.name(),
        run.items_per_second,
        per_item(run.usage.cpu_seconds) * 1e6,
        per_item(run.upstream_cpu) * 1e6,
        per_item(run.usage.written_bytes),
        run.usage.peak_rss_bytes / 1e6,
        run.upload_seconds,
    ));
}

/// What the database's server did for an item, from its upload to its result.
fn show_server(input: &Input, run: &Run, done: &[(Kind, Run)]) {
    let Some((upload, after)) = run.server else { return };
    let per_item = |amount: f64| amount / input.items() as f64;
    let bodies: usize = (0..input.items()).filter_map(|item| input.body(item)).map(|body| body.len()).sum();
    // The bare loop comes first, so it has counted them.
    let answers = done.iter().map(|(_, run)| run.answer_bytes).fold(0.0, f64::max);
    let raw = bodies as f64 + answers;
    let log_bytes = upload.log_bytes + after.log_bytes;
    say(format!(
        "       log {:.0} B/item (upload {:.0}, run {:.0}): {:.3} of {:.0} B of request and reply   \
         statements {:.3}/item (upload {:.3})   commits {:.4}/item   whole pages {:.4}/item",
        per_item(log_bytes),
        per_item(upload.log_bytes),
        per_item(after.log_bytes),
        log_bytes / raw,
        per_item(raw),
        per_item(upload.statements + after.statements),
        per_item(upload.statements),
        per_item(upload.commits + after.commits),
        per_item(upload.full_pages + after.full_pages),
    ));
}

fn show_medians(arguments: &Arguments, latency: &str, done: &[(Kind, Run)]) {
    let middle = |wanted: Kind| {
        let of_kind = done.iter().filter(|(kind, _)| *kind == wanted);
        median(&of_kind.map(|(_, run)| run.items_per_second).collect::<Vec<_>>())
    };
    let bare = middle(Kind::Bare);
    for kind in arguments.kinds() {
        let (name, speed) = (kind.name(), middle(kind));
        say(match kind {
            Kind::Bare => format!("median at {latency}: bare {speed:.0} items/s"),
            Kind::Sqlite | Kind::Postgres => {
                format!("median at {latency}: {name} {speed:.0} items/s, ratio {:.3}", speed / bare)
            }
            Kind::Held => format!(
                "median at {latency}: {name} {speed:.0} items/s, {:.3} of postgres",
                speed / middle(Kind::Postgres)
            ),
        });
    }
}
