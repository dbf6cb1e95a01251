//! When calls that were not let through are told to come back.
//!
//! What the gate says holds for whoever is first. Those refused within one moment would all hear the same and come
//! back together, so each stands behind those refused before it, as those that go on waiting stand in a line.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::interactive::Refusal;
use crate::domain::time::Timestamp;
use crate::engine::dispatcher::Dispatcher;
use crate::engine::item::LaneId;
use crate::gate::{Cost, LaneState, LevelId, LevelKind, PathId, Reason, Waiting as HeldBack};

use super::Asking;
use super::desk::{Desk, Waiting};

/// When to come back where only another call's end can open the way, and the soonest to a closed lane.
const SOON: Duration = Duration::from_secs(1);
/// When to come back to a lane that opens when somebody says so.
const UNTOLD: Duration = Duration::from_secs(5);
/// When a stopped lane is tried again, at the earliest, while nothing better is known.
const PROBE: Duration = Duration::from_secs(60);
/// Those refused within this time of the first are told to come back one after the other; then a new line begins, or
/// it would grow without end of calls that may never come back.
const MOMENT: Duration = Duration::from_secs(1);
/// The longest line in time: what an unlikely pace says beyond it is no use to anybody.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Calls that one level refused within a moment.
#[derive(Debug)]
struct Line {
    began_at: Timestamp,
    last_at: Timestamp,
    /// When the first of them may go, as the first of them heard.
    first: Timestamp,
    /// What they ask of the limits.
    refused: Cost,
    /// The place behind the last of them, as what is asked before it.
    end: Cost,
}

/// Calls that were refused just now, by the level that held them back.
#[derive(Debug, Default)]
pub(super) struct Lines(HashMap<LevelId, Line>);

impl Lines {
    /// When the first of a call's line may go: one moment for all of them, unless a later one is known.
    fn turn_of_first(&self, held: &HeldBack, since: Timestamp, now: Timestamp) -> Timestamp {
        let own = now + turn_of_first(held, now);
        let goes_on = |line: &&Line| since <= line.last_at && now.since(line.began_at) < MOMENT;
        match self.0.get(&held.level).filter(goes_on) {
            Some(line) if line.first > now && held.until.is_none() => line.first,
            Some(line) => own.max(line.first),
            None => own,
        }
    }

    /// Puts a call that waited since then at the end of its level's line; tells what is asked before its turn comes,
    /// with what those ask that still wait before it.
    fn join(
        &mut self,
        level: LevelId,
        (since, now, first): (Timestamp, Timestamp, Timestamp),
        (cost, waiting): (Cost, Cost),
    ) -> Cost {
        self.0.retain(|_, line| now.since(line.began_at) < MOMENT);
        let nobody = Cost::default();
        let new = Line { began_at: now, last_at: now, first, refused: nobody, end: nobody };
        let line = self.0.entry(level).or_insert(new);
        // One that began to wait after the others were refused may be one of them again.
        if since > line.last_at {
            return waiting;
        }
        // Not the sum with the end: one that waits now may be refused next, and would be counted twice.
        let place = line.end.or_larger(line.refused.with(waiting));
        (line.refused, line.end, line.last_at) = (line.refused.with(cost), place.with(cost), now);
        place
    }
}

/// The soonest that a call may be told to come back, whatever moment is known.
const fn least(reason: Reason) -> Duration {
    match reason {
        Reason::Rate | Reason::Tokens | Reason::Concurrency | Reason::Memory => Duration::ZERO,
        // A closed lane opens for a probe first, and slowly.
        Reason::Cooldown
        | Reason::Quota
        | Reason::Credential
        | Reason::Breaker
        | Reason::Paused
        | Reason::Disk => SOON,
    }
}

/// When the first in line may go, by what the gate says.
fn turn_of_first(held: &HeldBack, now: Timestamp) -> Duration {
    let known = held.until.map(|until| until.since(now).max(least(held.reason)));
    known.unwrap_or(if held.reason == Reason::Paused { UNTOLD } else { SOON })
}

impl Desk {
    /// What waiting calls ask of the limits, of those that stand before another one.
    fn asked_by(&self, stands_before: impl Fn(u64, &Waiting) -> bool) -> Cost {
        let before = self.waiting.iter().filter(|(number, waiting)| stands_before(**number, waiting));
        before.fold(Cost::default(), |all, (_, waiting)| all.with(waiting.cost))
    }
}

impl Dispatcher {
    /// The lane that would let a call through first, and what it is held back by there.
    fn nearest(&self, number: u64, now: Timestamp) -> Option<(LaneId, HeldBack)> {
        let heads = &self.interactive.waiting.get(&number)?.heads;
        let held = heads.iter().filter_map(|(lane, head)| Some((*lane, self.gate.head_waiting(*head, now)?)));
        held.min_by_key(|(_, held)| held.until.unwrap_or(now + SOON))
    }

    /// How long a path takes to let pass what is asked of it.
    fn time_for(&mut self, path: PathId, asked: Cost, now: Timestamp) -> Duration {
        let mut longest = 0.0_f64;
        for (dimension, units) in asked.by_dimension() {
            let pace = self.gate.pace_in(path, dimension, now).filter(|pace| *pace > 0.0);
            longest = longest.max(pace.map_or(0.0, |pace| units as f64 / pace));
        }
        Duration::from_secs_f64(longest.min(LONGEST.as_secs_f64()))
    }

    /// What held a call back, and when it would go: what the gate says for the first one in line, and what those
    /// before this one take of the pace of requests or of tokens. The call joins the line of those refused.
    pub(super) fn waited_for(&mut self, number: u64, now: Timestamp) -> Refusal {
        let Some(waiting) = self.interactive.waiting.get(&number) else { return Refusal::Draining };
        let (app, route, since, cost) = (waiting.asking.app, waiting.route, waiting.since, waiting.cost);
        let Some((lane, held)) = self.nearest(number, now) else {
            return Refusal::Waited { reason: Reason::Concurrency.as_str(), retry_after: SOON };
        };
        // Others' calls take nothing of a limit that is the app's own.
        let of_app = held.kind == LevelKind::App;
        let ahead = self.interactive.asked_by(|other, waiting| {
            other < number && waiting.route == route && (!of_app || waiting.asking.app == app)
        });
        let first = self.interactive.lines.turn_of_first(&held, since, now);
        let before = self.interactive.lines.join(held.level, (since, now, first), (cost, ahead));
        let level = self.apps.level(app, &mut self.gate, now);
        let path = self.lanes.path(lane, level, &mut self.gate);
        let line = path.map_or(Duration::ZERO, |path| self.time_for(path, before, now));
        Refusal::Waited { reason: held.reason.as_str(), retry_after: first.since(now) + line }
    }

    /// What a call is told that finds too many waiting: it would go after those for its model.
    pub(super) fn crowded(&mut self, asking: &Asking, now: Timestamp) -> Refusal {
        let Some(route) = self.lanes.resolve(&asking.model, &mut self.gate, now) else {
            return Refusal::NoLane;
        };
        let ahead = self.interactive.asked_by(|_, waiting| waiting.route == route);
        let paths: Vec<PathId> =
            self.lanes.route(route).lanes().map(|lane| self.lanes.get(lane).path).collect();
        let lines = paths.into_iter().map(|path| self.time_for(path, ahead, now));
        let retry_after = lines.min().unwrap_or_default().max(SOON);
        Refusal::Waited { reason: Reason::Concurrency.as_str(), retry_after }
    }

    /// Why a call can't go before an operator acts: every lane that would take it is stopped.
    pub(super) fn stopped_for(&self, number: u64, now: Timestamp) -> Option<Refusal> {
        let waiting = self.interactive.waiting.get(&number)?;
        let stopped =
            |lane: LaneId| self.gate.lane_state(self.lanes.get(lane).level, now) == LaneState::Stopped;
        if !self.lanes.route(waiting.route).lanes().all(stopped) {
            return None;
        }
        let (lane, held) = self.nearest(number, now)?;
        Some(Refusal::LaneStopped {
            lane: self.lanes.get(lane).name.as_str().into(),
            reason: held.reason.as_str(),
            retry_after: held.until.map_or(PROBE, |until| until.since(now).max(SOON)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Gate, GateOptions, LevelSpec};

    const START: Timestamp = Timestamp::from_seconds(100_000);

    fn at(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    #[test]
    fn only_those_that_waited_together_stand_in_one_line() {
        let mut gate = Gate::new(GateOptions::default(), START);
        let level = gate.add_level(LevelSpec::default(), START);
        let another = gate.add_level(LevelSpec::default(), START);
        let call = Cost { requests: 1, input_tokens: 5, ..Cost::default() };
        let mut lines = Lines::default();
        let mut join = |level, since, now| {
            lines.join(level, (at(since), at(now), at(now)), (call, Cost::default())).requests
        };
        assert_eq!((join(level, 0, 1_000), join(level, 0, 1_000), join(level, 500, 1_400)), (0, 1, 2));
        assert_eq!(join(another, 0, 1_000), 0, "another level's line");
        assert_eq!(join(level, 1_500, 1_600), 0, "it began to wait after the last one was refused");
        assert_eq!((join(level, 0, 1_999), join(level, 0, 2_000)), (3, 0), "a line lasts a moment");
    }

    #[test]
    fn one_that_waits_before_another_and_is_refused_after_it_has_a_place_of_its_own() {
        let mut gate = Gate::new(GateOptions::default(), START);
        let level = gate.add_level(LevelSpec::default(), START);
        let calls = |requests| Cost { requests, ..Cost::default() };
        let mut lines = Lines::default();
        let mut join =
            |waiting| lines.join(level, (START, START, START), (calls(1), calls(waiting))).requests;
        assert_eq!((join(0), join(1), join(0)), (0, 2, 3));
        assert_eq!((join(9), join(9)), (12, 13), "those that go on waiting count once");
    }
}
