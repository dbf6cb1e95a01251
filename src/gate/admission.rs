//! Who leaves next: the first head in turn that every level lets pass.
//!
//! A path whose first head is refused waits at exactly one level, the one that holds it back longest,
//! in that level's order of turns. When a level opens it lends its first path to the `ready` heap;
//! once that path has left or waits elsewhere, the level looks at its next one. So a release touches
//! the heads that can use it and no others.

use super::Gate;
use super::grant::Grant;
use super::level::{Cost, LevelId};
use super::path::{Head, HeadId, PathState, Wait, WaitingHead};
use super::reason::{Blocked, Reason};
use super::turns::Turn;
use super::{Admitted, GateError};
use crate::domain::time::Timestamp;

impl Gate {
    /// Lets a head wait for its turn.
    ///
    /// # Errors
    /// A path or a level that is gone.
    pub fn enqueue(&mut self, head: Head, now: Timestamp) -> Result<HeadId, GateError> {
        self.move_clock(now);
        let path = self.paths.find(head.path.0).ok_or(GateError::UnknownPath)?;
        let own = self.own_level(head.own, path)?;
        if let Some(own) = own {
            self.levels[own].uses += 1;
        }
        self.sequence += 1;
        let turn = Turn { key: head.turn, sequence: self.sequence };
        let key = self.heads.insert(WaitingHead {
            tag: head.tag,
            path,
            own,
            cost: head.cost,
            turn,
            own_wait: None,
        });
        self.paths[path].members += 1;
        self.join_path(path, key.index);
        Ok(HeadId(key))
    }

    /// Takes a waiting head back; false if it has left already.
    pub fn withdraw(&mut self, id: HeadId, now: Timestamp) -> bool {
        let now = self.move_clock(now);
        let Some(index) = self.heads.find(id.0) else { return false };
        let head = self.heads.remove(index);
        if let Some(own) = head.own {
            self.levels[own].own_waiting.retain(|waiting| *waiting != index);
            self.release_use(own);
        }
        let was_first = self.paths[head.path].heads.first().is_some_and(|(_, first)| first == index);
        self.paths[head.path].heads.remove(index, &mut self.head_places);
        self.paths[head.path].members -= 1;
        if was_first {
            self.first_changed(head.path, now);
        } else {
            self.drop_unused_path(head.path);
        }
        true
    }

    /// The next call that may leave now, with everything it takes already taken. Call until `None`.
    pub fn poll(&mut self, now: Timestamp) -> Option<Admitted> {
        let now = self.move_clock(now);
        self.wake_due(now);
        while let Some((_, path)) = self.ready.pop(&mut self.path_places) {
            if let Some(admitted) = self.try_path(path, now) {
                return Some(admitted);
            }
        }
        None
    }

    /// When to poll again if nothing is enqueued, given back or saved before; `None`: time alone changes nothing.
    pub fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        let (due, _) = self.timers.first()?;
        Some(Timestamp::from_micros(i64::try_from(due.key).unwrap_or(i64::MAX)).max(now))
    }

    fn own_level(&self, own: Option<LevelId>, path: u32) -> Result<Option<u32>, GateError> {
        let Some(id) = own else { return Ok(None) };
        let level = self.levels.find(id.0).ok_or(GateError::UnknownLevel)?;
        let shared = self.paths[path].levels.as_slice().contains(&level);
        Ok((!shared).then_some(level))
    }

    /// A head takes its place on its path.
    fn join_path(&mut self, path: u32, head: u32) {
        let turn = self.heads[head].turn;
        self.paths[path].heads.push(turn, head, &mut self.head_places);
        if self.paths[path].heads.first().is_some_and(|(_, first)| first == head) {
            self.first_changed(path, self.now);
        }
    }

    /// A path's first head is another one: whatever held the old one back may not hold the new one.
    fn first_changed(&mut self, path: u32, now: Timestamp) {
        let first = self.paths[path].heads.first();
        match self.paths[path].state {
            PathState::Idle => {
                if let Some((turn, _)) = first {
                    self.paths[path].state = PathState::Ready { from: None };
                    self.ready.push(turn, path, &mut self.path_places);
                }
            }
            PathState::Trying => {}
            PathState::Ready { .. } => {
                // An emptied one stays, so that the level that lent it is asked again.
                if let Some((turn, _)) = first {
                    self.ready.remove(path, &mut self.path_places);
                    self.ready.push(turn, path, &mut self.path_places);
                }
            }
            PathState::Waiting { level } => {
                self.levels[level].waiting.remove(path, &mut self.path_places);
                self.paths[path].state = PathState::Idle;
                self.first_changed(path, now);
                self.offer(level, now);
                if self.paths[path].state == PathState::Idle {
                    self.rest(path);
                }
            }
        }
    }

    /// Nobody waits on a path any more.
    fn rest(&mut self, path: u32) {
        self.paths[path].state = PathState::Idle;
        self.paths[path].wait = None;
        self.drop_unused_path(path);
    }

    fn wake_due(&mut self, now: Timestamp) {
        while let Some((due, level)) = self.timers.first() {
            if due.key > now.micros().unsigned_abs() {
                break;
            }
            self.timers.pop(&mut self.timer_places);
            self.offer(level, now);
        }
    }

    /// Lets a level's waiters try if it is open for its first one, else notes when it will be.
    pub(super) fn offer(&mut self, index: u32, now: Timestamp) {
        let own = self.offer_own(index, now);
        let shared = self.offer_shared(index, now);
        self.set_timer(index, own.into_iter().chain(shared).min());
    }

    fn set_timer(&mut self, index: u32, next: Option<Timestamp>) {
        self.timers.remove(index, &mut self.timer_places);
        if let Some(next) = next {
            let turn = Turn { key: next.micros().unsigned_abs(), sequence: u64::from(index) };
            self.timers.push(turn, index, &mut self.timer_places);
        }
    }

    fn offer_shared(&mut self, index: u32, now: Timestamp) -> Option<Timestamp> {
        let level = &mut self.levels[index];
        if level.lent {
            // It asks again once that path has left or waits elsewhere.
            return None;
        }
        let (turn, path) = level.waiting.first()?;
        let (_, head) = self.paths[path].heads.first()?;
        if let Err(blocked) = level.probe(self.heads[head].cost, now) {
            return blocked.until;
        }
        level.lent = true;
        level.waiting.pop(&mut self.path_places);
        self.paths[path].state = PathState::Ready { from: Some(index) };
        self.ready.push(turn, path, &mut self.path_places);
        None
    }

    /// Heads that wait here as their own level go back to their paths. All that could pass do, since
    /// each waits for another lane and nobody knows which of them opens first.
    fn offer_own(&mut self, index: u32, now: Timestamp) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        let mut at = 0;
        while let Some(head) = self.levels[index].own_waiting.get(at).copied() {
            if let Err(blocked) = self.levels[index].probe(self.heads[head].cost, now) {
                next = next.into_iter().chain(blocked.until).min();
                at += 1;
                continue;
            }
            self.levels[index].own_waiting.swap_remove(at);
            self.heads[head].own_wait = None;
            self.join_path(self.heads[head].path, head);
        }
        next
    }

    /// Tries the first head of a path that was taken out of `ready`.
    fn try_path(&mut self, path: u32, now: Timestamp) -> Option<Admitted> {
        let from = match self.paths[path].state {
            PathState::Ready { from } => from,
            PathState::Idle | PathState::Trying | PathState::Waiting { .. } => None,
        };
        self.paths[path].state = PathState::Trying;
        let admitted = self.try_first(path, now);
        if self.paths[path].state == PathState::Trying {
            self.paths[path].state = PathState::Idle;
        }
        if let Some(from) = from {
            self.levels[from].lent = false;
            self.offer(from, now);
        }
        if self.paths[path].state == PathState::Idle {
            self.rest(path);
        }
        admitted
    }

    fn try_first(&mut self, path: u32, now: Timestamp) -> Option<Admitted> {
        loop {
            let (turn, head) = self.paths[path].heads.first()?;
            let cost = self.heads[head].cost;
            if self.waits_at_own(path, head, now) {
                continue;
            }
            if let Some((level, blocked)) = self.probe_shared(path, turn, cost, now) {
                self.wait_at(path, turn, level, blocked);
                return None;
            }
            return Some(self.admit(path, head, now));
        }
    }

    /// Moves a head to its own level if that refuses it, so that it holds its path up for nobody.
    fn waits_at_own(&mut self, path: u32, head: u32, now: Timestamp) -> bool {
        let Some(own) = self.heads[head].own else { return false };
        let Err(blocked) = self.levels[own].probe(self.heads[head].cost, now) else { return false };
        self.paths[path].heads.remove(head, &mut self.head_places);
        self.heads[head].own_wait =
            Some(Wait { level: own, reason: blocked.reason, since: now, until: blocked.until });
        self.levels[own].own_waiting.push(head);
        self.offer(own, now);
        true
    }

    /// The shared level that holds a head back longest, if any does. Among equals the innermost, so that
    /// what is blocked by a level of its own stands in nobody's way.
    fn probe_shared(&mut self, path: u32, turn: Turn, cost: Cost, now: Timestamp) -> Option<(u32, Blocked)> {
        let mut worst: Option<(u32, Blocked)> = None;
        for index in self.paths[path].levels.as_slice() {
            let level = &mut self.levels[*index];
            let blocked = match level.probe(cost, now) {
                Err(blocked) => Some(blocked),
                // It would let this one pass, but keeps its room for one before it in turn.
                Ok(()) => match level.waiting.first() {
                    Some((first, waiting)) if first < turn => self.paths[waiting]
                        .wait
                        .map(|wait| Blocked { until: wait.until, reason: wait.reason }),
                    _ => None,
                },
            };
            if let Some(blocked) = blocked
                && worst.is_none_or(|(_, worst)| blocked.outlasts(worst))
            {
                worst = Some((*index, blocked));
            }
        }
        worst
    }

    fn wait_at(&mut self, path: u32, turn: Turn, level: u32, blocked: Blocked) {
        // Only charges that are not saved hold a rate back without a time.
        if blocked == (Blocked { until: None, reason: Reason::Rate }) {
            self.want_save();
        }
        let since = match self.paths[path].wait {
            Some(wait) if wait.level == level && wait.reason == blocked.reason => wait.since,
            _ => self.now,
        };
        self.paths[path].wait = Some(Wait { level, reason: blocked.reason, since, until: blocked.until });
        self.paths[path].state = PathState::Waiting { level };
        self.levels[level].waiting.push(turn, path, &mut self.path_places);
        if self.levels[level].waiting.first().is_some_and(|(_, first)| first == path) {
            // The probe has just said when; asking again is for levels that heads wait at as their own.
            if self.levels[level].own_waiting.is_empty() {
                self.set_timer(level, blocked.until);
            } else {
                self.offer(level, self.now);
            }
        }
    }

    /// Takes every level for a head that all of them let pass.
    fn admit(&mut self, path: u32, head: u32, now: Timestamp) -> Admitted {
        let id = HeadId(self.heads.key(head));
        self.paths[path].heads.pop(&mut self.head_places);
        let taken = self.heads.remove(head);
        let levels = self.paths[path].levels;
        let mut probe = false;
        for level in levels.as_slice().iter().chain(taken.own.iter()) {
            probe |= self.levels[*level].take(taken.cost, now);
            self.note_charge(*level, now);
        }
        self.paths[path].members -= 1;
        self.paths[path].grants += 1;
        if let Some((turn, _)) = self.paths[path].heads.first() {
            self.paths[path].state = PathState::Ready { from: None };
            self.ready.push(turn, path, &mut self.path_places);
        }
        let grant = Grant { path, own: taken.own, cost: taken.cost, at: now, in_flight: true, probe };
        Admitted { head: id, tag: taken.tag, grant }
    }
}
