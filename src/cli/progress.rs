//! Showing how batches move: a bar on a terminal, plain lines otherwise.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use super::arguments::Global;
use super::client::Batch;
use super::say;
use super::show::{count, seconds};

/// How often a plain line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What a person sees of the progress of one batch or of several that belong together.
#[derive(Debug)]
pub(super) struct Progress {
    form: Form,
    /// Items of all the batches.
    total: u64,
    /// Items of the batches that came before the one that is shown.
    before: u64,
}

#[derive(Debug)]
enum Form {
    Bar(ProgressBar),
    Lines { last: Instant },
    Nothing,
}

impl Progress {
    /// Of batches that hold this many items together.
    pub(super) fn of(total: u64, global: &Global) -> Self {
        let form = if global.quiet || global.no_progress || global.json {
            Form::Nothing
        } else if std::io::stderr().is_terminal() {
            Form::Bar(bar(total))
        } else {
            Form::Lines { last: Instant::now() }
        };
        Self { form, total, before: 0 }
    }

    /// Shows how a batch stands.
    pub(super) fn show(&mut self, batch: &Batch) {
        let done = self.before + batch.done();
        match &mut self.form {
            Form::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(describe(batch));
            }
            Form::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                say(&format!("{}/{} {}", count(done), count(self.total), describe(batch)));
            }
            Form::Lines { .. } | Form::Nothing => {}
        }
    }

    /// Says something without breaking a bar.
    pub(super) fn note(&self, text: &str) {
        match &self.form {
            Form::Bar(bar) => bar.suspend(|| say(text)),
            Form::Lines { .. } => say(text),
            Form::Nothing => {}
        }
    }

    /// A batch has ended; the next one follows.
    pub(super) fn passed(&mut self, batch: &Batch) {
        self.before += batch.request_counts.total;
        if let Form::Bar(bar) = &self.form {
            bar.set_position(self.before);
        }
    }
}

fn bar(total: u64) -> ProgressBar {
    // However its owner ends: what is said next must not stand behind it.
    let bar = ProgressBar::new(total).with_finish(ProgressFinish::AndClear);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Rate, time left and why it waits, as far as they are known.
fn describe(batch: &Batch) -> String {
    let details = &batch.sluicegate;
    let mut parts = Vec::new();
    if let Some(rate) = details.items_per_second {
        parts.push(format!("{rate:.1} items/s"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    if let Some(at) = details.estimated_completion_at {
        parts.push(format!("about {} left", seconds((at - now).max(0.0))));
    }
    if let Some(waiting) = details.waiting.first() {
        parts.push(format!("waits for {}", waiting.described()));
    }
    if details.counts.failed > 0 {
        parts.push(format!("{} failed", count(details.counts.failed)));
    }
    parts.join(", ")
}
