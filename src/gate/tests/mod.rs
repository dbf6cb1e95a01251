//! Properties of the whole gate, on scripted time.

mod actuals;
mod closures;
mod fairness;
mod feedback;
mod ledger;
mod limits;
mod providers;
mod room;
mod shared;
mod tokens;

use std::time::Duration;

use super::*;
use crate::domain::limits::{Dimension, Limits, Rate};
use crate::domain::time::Timestamp;

/// Some moment that is not zero.
const START: Timestamp = Timestamp::from_seconds(1_700_000_000);
const CALL: Cost = Cost { requests: 1, input_tokens: 0, output_tokens: 0, memory: 0 };
const MINUTE: Duration = Duration::from_secs(60);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn per(amount: u64, period: Duration) -> Limits {
    Limits { requests: vec![Rate { amount, period }], ..Limits::default() }
}

fn slots(count: u32) -> Limits {
    Limits { max_concurrent: Some(count), ..Limits::default() }
}

fn level(kind: LevelKind, name: &str, limits: Limits) -> LevelSpec {
    LevelSpec { kind, name: name.to_owned(), limits, ..LevelSpec::default() }
}

fn head(path: PathId, turn: u64) -> Head {
    Head { tag: turn, path, own: None, cost: CALL, turn, interactive: false }
}

/// A gate of one lane with such limits, and its path.
fn one_lane(limits: Limits) -> (Gate, LevelId, PathId) {
    let mut gate = Gate::new(GateOptions::default(), START);
    let lane = gate.add_level(level(LevelKind::Lane, "p/m", limits), START);
    let path = gate.add_path(&[lane]).unwrap();
    (gate, lane, path)
}

/// Sends heads of one path, each as soon as it may and `late` returns later than asked; the calls end at once.
fn send(
    gate: &mut Gate,
    path: PathId,
    from: Timestamp,
    until: Timestamp,
    mut late: impl FnMut() -> Duration,
) -> Vec<Timestamp> {
    let mut sent = Vec::new();
    let mut now = from;
    gate.enqueue(head(path, 0), now).unwrap();
    while now < until {
        if let Some(admitted) = gate.poll(now) {
            sent.push(now);
            gate.recorded(admitted.grant, now);
            gate.enqueue(head(path, 0), now).unwrap();
            continue;
        }
        now = gate.next_at(now).unwrap().max(now) + late();
    }
    sent
}

/// The most of the moments within any window of a length, at any phase.
fn most_within(moments: &[Timestamp], window: Duration) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, moment) in moments.iter().enumerate() {
        while moment.since(moments[first]) >= window {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}
