//! Whether a batch that is not made yet would end within its window.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::progress::{Completion, WindowQuestion, WouldFit};
use crate::domain::time::Timestamp;

use super::super::dispatcher::Dispatcher;
use super::super::item::RouteId;
use super::super::leasing::standing;
use super::super::order::{Standing, turn};
use super::{Outlet, Queued};

/// A window in which everything of the same priority goes first.
const LAST: Duration = Duration::from_secs(400 * 86_400);
/// Windows up to this long are told to the second, longer ones to the minute.
const TO_THE_SECOND: Duration = Duration::from_secs(600);

/// The batch, or a part of it, with one window or another.
#[derive(Clone, Copy)]
struct Variant<'a> {
    question: &'a WindowQuestion,
    total: u64,
    /// Of these, so many.
    items: u64,
    window: Duration,
}

/// A route that the batch would need.
struct Need {
    outlet: Outlet,
    items: u64,
    /// What waits there already, with the turn that each has.
    line: Vec<(Queued, u64)>,
}

impl Dispatcher {
    /// What the batch could have instead; `None` if it would end within its window or if nobody can know.
    pub(in crate::engine) fn would_fit(
        &mut self,
        question: &WindowQuestion,
        now: Timestamp,
    ) -> Option<WouldFit> {
        let total = question.models.iter().map(|(_, items)| items).sum();
        let needs = self.needs(question, now)?;
        let whole = Variant { question, total, items: total, window: question.window };
        let end = self.end_of(whole, &needs, now)?;
        if end <= now + question.window {
            return None;
        }
        // A longer window puts it behind those with less slack: what is told holds even behind all of them.
        let window = self.end_of(Variant { window: LAST, ..whole }, &needs, now);
        let window = window.map(|end| rounded_up(end.since(now)));
        let (mut fits, mut fails) = (0, total);
        while fits + 1 < fails {
            let items = fits + (fails - fits) / 2;
            let end = self.end_of(Variant { items, ..whole }, &needs, now);
            if end.is_some_and(|end| end <= now + question.window) { fits = items } else { fails = items }
        }
        Some(WouldFit { window, items: fits })
    }

    /// What the batch needs of each route; `None` if nothing is known of one.
    fn needs(&mut self, question: &WindowQuestion, now: Timestamp) -> Option<Vec<Need>> {
        let mut items: HashMap<RouteId, u64> = HashMap::new();
        for (model, of_model) in &question.models {
            // Items that nothing serves fail at once.
            if let Some(route) = self.lanes.resolve(&model.as_str().into(), &mut self.gate, now) {
                *items.entry(route).or_default() += of_model;
            }
        }
        let running = self.running_by_feed();
        let mut needs = Vec::with_capacity(items.len());
        for (route, items) in items {
            let line = self.line(route, &running).into_iter().map(|queued| {
                let batch = queued.batch.and_then(|batch| self.batches.batches.get(&batch));
                (queued, batch.map_or(u64::MAX, |batch| turn(&standing(batch, now))))
            });
            let line = line.collect();
            needs.push(Need { outlet: self.outlet(route, now)?, items, line });
        }
        Some(needs)
    }

    /// When so many of all of its items would be done nine times out of ten; `None` if that is too far away.
    fn end_of(&mut self, variant: Variant<'_>, needs: &[Need], now: Timestamp) -> Option<Timestamp> {
        let Variant { question, total, items, window } = variant;
        let part = items as f64 / total.max(1) as f64;
        let mut last = now;
        for need in needs {
            let slots =
                question.max_concurrency.map(|slots| f64::from(slots) * need.items as f64 / total as f64);
            let items = need.items as f64 * part;
            let asked = Queued { batch: None, app: question.app, items, running: 0.0, slots };
            // While it runs its slack stays and that of those behind it shrinks: before it ends, all whose slack is
            // less than its whole window may have gone before it.
            let standing = Standing {
                priority: question.priority,
                total: items as u64,
                hopeless: false,
                slack: window,
                submission: i64::MAX,
            };
            let (line, place) = with(&need.line, asked, turn(&standing));
            let completion: Completion = self.completions(&need.outlet, &line, now)[place]?;
            last = last.max(completion.p90);
        }
        Some(last)
    }
}

/// A line with one more in its place among those of its app, and that place.
fn with(line: &[(Queued, u64)], asked: Queued, turn: u64) -> (Vec<Queued>, usize) {
    let behind = |(queued, other): &(Queued, u64)| queued.app == asked.app && *other > turn;
    let place = line.iter().position(behind).unwrap_or(line.len());
    let mut all: Vec<Queued> = line.iter().map(|(queued, _)| *queued).collect();
    all.insert(place, asked);
    (all, place)
}

/// A window that people would write, at least as long.
fn rounded_up(window: Duration) -> Duration {
    let unit = if window <= TO_THE_SECOND { 1 } else { 60 };
    let seconds = window.as_secs() + u64::from(window.subsec_nanos() > 0);
    Duration::from_secs(seconds.next_multiple_of(unit))
}
