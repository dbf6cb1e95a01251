//! Showing how batches move: a bar on a terminal, plain lines otherwise.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use rustix::termios::tcgetwinsize;

use super::arguments::Global;
use super::client::Batch;
use super::say;
use super::show::{count, seconds};

/// How often a plain line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Of what does not fit in a line, that much at least is shown, or nothing.
const LEAST_OF_PART: usize = 12;

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
        // However its owner ends: what is said next must not stand beside it.
        let bar = ProgressBar::new(total).with_finish(ProgressFinish::AndClear);
        let form = if global.quiet || global.no_progress || global.json {
            Form::Nothing
        } else if bar.is_hidden() {
            // No terminal, or one that can't draw over a line.
            Form::Lines { last: Instant::now() }
        } else {
            Form::Bar(bar)
        };
        Self { form, total, before: 0 }
    }

    /// Shows how a batch stands.
    pub(super) fn show(&mut self, batch: &Batch) {
        let done = self.before + batch.done();
        let counts = format!("{}/{}", count(done), count(self.total));
        match &mut self.form {
            Form::Bar(bar) => {
                let columns = columns();
                let meter = (columns / 5).clamp(8, 24);
                if let Ok(style) = ProgressStyle::with_template(&format!("{{bar:{meter}}} {{msg}}")) {
                    bar.set_style(style);
                }
                bar.set_position(done);
                bar.set_message(fitted(counts, &describe(batch), columns.saturating_sub(meter + 2)));
            }
            Form::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                say(&fitted(counts, &describe(batch), usize::MAX));
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

/// Columns of the terminal now: it may be made narrower or wider meanwhile.
fn columns() -> usize {
    match tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => 80,
    }
}

/// The counts, and as much of the rest as there is room for: a line that is broken in two can't be drawn over.
fn fitted(counts: String, parts: &[String], room: usize) -> String {
    let mut text = counts;
    for (part, before) in parts.iter().zip([" "].into_iter().chain(std::iter::repeat(", "))) {
        let left = room.saturating_sub(text.chars().count() + before.len());
        if part.chars().count() <= left {
            text.push_str(before);
            text.push_str(part);
            continue;
        }
        if left >= LEAST_OF_PART {
            text.push_str(before);
            text.extend(part.chars().take(left - 1).chain(['…']));
        }
        break;
    }
    text
}

/// Time left, rate, what failed and why it waits, as far as they are known: the first are what is shown where there is
/// little room.
fn describe(batch: &Batch) -> Vec<String> {
    let details = &batch.sluicegate;
    let mut parts = Vec::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    if let Some(at) = details.estimated_completion_at {
        parts.push(match at - now {
            // An estimate has no tenths of a second.
            left @ ..9.5 => format!("about {:.0} s left", left.max(1.0)),
            left => format!("about {} left", seconds(left)),
        });
    }
    if let Some(rate) = details.items_per_second {
        parts.push(match rate {
            0.1.. => format!("{rate:.1} items/s"),
            rate if rate * 60.0 >= 1.0 => format!("{:.0} items/min", rate * 60.0),
            rate => format!("{:.0} items/h", rate * 3_600.0),
        });
    }
    if details.counts.failed > 0 {
        parts.push(format!("{} failed", count(details.counts.failed)));
    }
    if let Some(waiting) = details.waiting.first() {
        parts.push(format!("waits for {}", waiting.described()));
    }
    parts
}
