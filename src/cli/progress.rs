//! Following a batch to its end: a bar on a terminal, plain lines otherwise.

use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};

use super::arguments::Global;
use super::client::{Batch, Client};
use super::error::CliError;
use super::say;

/// How often the batch is asked for.
const EVERY: Duration = Duration::from_millis(200);
/// How often a plain line is written at most.
const LINE_EVERY: u32 = 25;

/// Polls until the batch has ended.
pub(super) async fn follow(client: &Client, batch: Batch, global: &Global) -> Result<Batch, CliError> {
    let quiet = global.quiet || global.no_progress || global.json;
    let bar = (!quiet && std::io::stderr().is_terminal()).then(|| bar(batch.request_counts.total));
    let (mut batch, mut polls) = (batch, 0_u32);
    while !batch.has_ended() {
        tokio::time::sleep(EVERY).await;
        batch = client.batch(&batch.id).await?;
        polls += 1;
        match &bar {
            Some(bar) => {
                bar.set_position(batch.done());
                bar.set_message(describe(&batch));
            }
            None if !quiet && polls.is_multiple_of(LINE_EVERY) => {
                say(&format!("{}/{} {}", batch.done(), batch.request_counts.total, describe(&batch)));
            }
            None => {}
        }
    }
    if let Some(bar) = bar {
        bar.set_position(batch.done());
        bar.finish_with_message(batch.status.clone());
    }
    Ok(batch)
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Rate, time left and why it waits, as far as they are known.
fn describe(batch: &Batch) -> String {
    let details = &batch.sluicegate;
    let mut text = details.items_per_second.map(|rate| format!("{rate:.1} items/s")).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    if let Some(at) = details.estimated_completion_at {
        text.push_str(&format!(", about {:.0} s left", (at - now).max(0.0)));
    }
    if let Some(waiting) = details.waiting.first() {
        text.push_str(&format!(", waits for {}", waiting.reason));
    }
    if details.counts.failed > 0 {
        text.push_str(&format!(", {} failed", details.counts.failed));
    }
    text
}
