//! Who is before whom at a level: interactive calls within their share, then the apps' counters, then
//! the heads' own turns.

use super::Gate;
use super::leased::Waits;
use super::level::Level;
use super::path::Path;
use super::reason::{Blocked, Reason};
use super::slots::Slots;
use super::turns::{Places, Turn, TurnHeap};
use crate::domain::time::Timestamp;

/// How long a path that has left lets others try first, for an app of weight 1.
const ROUND: u64 = 1 << 20;

/// Paths that wait at a level, interactive ones apart: whether those go first changes with time.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) batch: TurnHeap,
    pub(super) interactive: TurnHeap,
}

impl Waiters {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.interactive.is_empty()
    }

    /// All paths, in no order.
    pub(super) fn paths(&self) -> impl Iterator<Item = u32> + '_ {
        self.batch.ids().chain(self.interactive.ids())
    }

    /// The heap for a path.
    pub(super) fn of(&mut self, path: &Path) -> &mut TurnHeap {
        if path.interactive { &mut self.interactive } else { &mut self.batch }
    }
}

impl Level {
    /// Who is next of a heap, once those whose app took something elsewhere since have their new places.
    fn first_of(
        &mut self,
        interactive: bool,
        paths: &Slots<Path>,
        places: &mut Places,
    ) -> Option<(Turn, u32)> {
        let heap = if interactive { &mut self.waiting.interactive } else { &mut self.waiting.batch };
        loop {
            let (turn, path) = heap.first()?;
            let served = self.shares.served(paths[path].app);
            if served <= turn.served {
                return Some((turn, path));
            }
            heap.remove(path, places);
            heap.push(Turn { served, ..turn }, path, places);
        }
    }
}

impl Gate {
    /// The path that is next at a level.
    pub(super) fn first_waiting(&mut self, index: u32, now: Timestamp) -> Option<(Turn, u32)> {
        let (paths, places) = (&self.paths, &mut self.path_places);
        let level = &mut self.levels[index];
        let batch = level.first_of(false, paths, places);
        let interactive = level.first_of(true, paths, places);
        match (batch, interactive) {
            (Some(batch), Some(interactive)) => {
                let first = interactive < batch || level.interactive_first(self.interactive_share, now);
                Some(if first { interactive } else { batch })
            }
            (batch, interactive) => batch.or(interactive),
        }
    }

    /// Who waits for what the first path at a level lacks.
    pub(super) fn who_waits(&self, index: u32, first: u32) -> Waits {
        let (path, waiting) = (&self.paths[first], &self.levels[index].waiting);
        if !path.interactive {
            return Waits::Batch;
        }
        let calls = waiting.interactive.ids().map(|path| self.paths[path].heads.len()).sum();
        Waits::Live { calls, alone: waiting.batch.is_empty() }
    }

    /// A path's place in the order of a level, by a head's turn.
    pub(super) fn turn_at(&self, level: u32, path: u32, turn: Turn) -> Turn {
        Turn { served: self.levels[level].shares.served(self.paths[path].app), ..turn }
    }

    /// Whether somebody at a level, waiting or about to try, is before a path whose first head has this
    /// turn; and what holds that one back.
    pub(super) fn kept_for_another(
        &mut self,
        index: u32,
        path: u32,
        turn: Turn,
        now: Timestamp,
    ) -> Option<Blocked> {
        let lent = self.levels[index].lent.filter(|lent| *lent != path);
        if lent.is_none() && self.levels[index].waiting.is_empty() {
            return None;
        }
        let mine = self.turn_at(index, path, turn);
        let lent = lent.and_then(|lent| {
            let (turn, _) = self.paths[lent].heads.first()?;
            Some((self.turn_at(index, lent, turn), lent))
        });
        let waiting = self.first_waiting(index, now);
        let (_, other) = lent.into_iter().chain(waiting).find(|(turn, other)| {
            match (self.paths[path].interactive, self.paths[*other].interactive) {
                (true, false) if self.levels[index].interactive_first(self.interactive_share, now) => false,
                (false, true) if self.levels[index].interactive_first(self.interactive_share, now) => true,
                _ => *turn < mine,
            }
        })?;
        let wait = self.paths[other].wait;
        Some(wait.map_or(Blocked { until: None, reason: Reason::Concurrency }, |wait| Blocked {
            until: wait.until,
            reason: wait.reason,
        }))
    }

    /// A path that did not compete at its levels, but for one, starts where the others there are.
    pub(super) fn lift(&mut self, path: u32, but: Option<u32>) {
        let levels = self.paths[path].levels;
        for index in levels.as_slice().iter().filter(|index| Some(**index) != but) {
            self.levels[*index].shares.lift(self.paths[path].app);
        }
    }

    /// A path waits at a level.
    pub(super) fn push_waiting(&mut self, level: u32, path: u32, turn: Turn) {
        let turn = self.turn_at(level, path, turn);
        self.levels[level].waiting.of(&self.paths[path]).push(turn, path, &mut self.path_places);
    }

    /// A path waits at a level no more.
    pub(super) fn remove_waiting(&mut self, level: u32, path: u32) {
        self.levels[level].waiting.of(&self.paths[path]).remove(path, &mut self.path_places);
    }

    /// A path is about to try. Those that have just left let the others try before they do again.
    pub(super) fn push_ready(&mut self, path: u32, turn: Turn) {
        let held = &self.paths[path];
        let round = held.round.max(self.round);
        let served = if held.interactive { round.saturating_sub(ROUND) } else { round };
        self.ready.push(Turn { served, ..turn }, path, &mut self.path_places);
    }

    /// The path that tries next.
    pub(super) fn pop_ready(&mut self) -> Option<u32> {
        self.ready.pop(&mut self.path_places).map(|(_, path)| path)
    }

    /// A path's head leaves: its next one tries after those of other paths that are about to.
    pub(super) fn end_round(&mut self, path: u32, weight: u32) {
        let held = &mut self.paths[path];
        let start = held.round.max(self.round);
        held.round = start + ROUND / u64::from(weight.max(1));
        if !held.interactive {
            self.round = start;
        }
    }
}
