//! Who leaves next: the first head in turn that every level lets pass.
//!
//! A path whose first head is refused waits at exactly one level, the one that holds it back longest,
//! in that level's order of turns. When a level opens it lends its first path to the `ready` heap;
//! once that path has left or waits elsewhere, the level looks at its next one. So a release touches
//! the heads that can use it and no others.

use super::Gate;
use super::cost::Cost;
use super::grant::Grant;
use super::level::{Call, LevelId, LevelKind};
use super::path::{Head, HeadId, Path, PathState, Wait, WaitingHead};
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
        let path = if head.interactive { self.interactive_path(path) } else { path };
        if let Some(own) = own {
            self.levels[own].uses += 1;
        }
        self.sequence += 1;
        let turn = Turn { served: 0, key: head.turn, sequence: self.sequence };
        let key = self.heads.insert(WaitingHead {
            tag: head.tag,
            path,
            own,
            cost: head.cost,
            turn,
            own_wait: None,
        });
        if self.paths[path].members == 0 && self.now > self.paths[path].left_at {
            self.lift(path, None);
        }
        if self.exchanges.is_some() && self.paths[path].members == 0 {
            self.reopen(path);
        }
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
        self.paths[head.path].left_at = now;
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
        if self.exchanges.is_some() {
            self.check_exchange_due(now);
        }
        while let Some(path) = self.pop_ready() {
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
        Some(moment_of(due).max(now))
    }

    /// When a level asks its waiters again, if time alone decides.
    pub(super) fn next_of(&self, index: u32) -> Option<Timestamp> {
        self.timers.turn_of(index, &self.timer_places).map(moment_of)
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
                    self.push_ready(path, turn);
                }
            }
            PathState::Trying => {}
            PathState::Ready { .. } => {
                // An emptied one stays, so that the level that lent it is asked again.
                if let Some((turn, _)) = first {
                    self.ready.remove(path, &mut self.path_places);
                    self.push_ready(path, turn);
                }
            }
            PathState::Waiting { level } => {
                self.remove_waiting(level, path);
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
            let turn = Turn { served: 0, key: next.micros().unsigned_abs(), sequence: u64::from(index) };
            self.timers.push(turn, index, &mut self.timer_places);
        }
    }

    fn offer_shared(&mut self, index: u32, now: Timestamp) -> Option<Timestamp> {
        if self.levels[index].lent.is_some() {
            // It asks again once that path has left or waits elsewhere.
            return None;
        }
        let (_, path) = self.first_waiting(index, now)?;
        let (turn, head) = self.paths[path].heads.first()?;
        let interactive = self.paths[path].interactive;
        if let Err(blocked) = self.levels[index].probe(self.heads[head].cost, interactive, now) {
            self.note_refusal(index, blocked);
            return blocked.until;
        }
        self.levels[index].lent = Some(path);
        self.remove_waiting(index, path);
        self.paths[path].state = PathState::Ready { from: Some(index) };
        self.push_ready(path, turn);
        None
    }

    /// Heads that wait here as their own level go back to their paths. All that could pass do, since
    /// each waits for another lane and nobody knows which of them opens first.
    fn offer_own(&mut self, index: u32, now: Timestamp) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        let mut at = 0;
        while let Some(head) = self.levels[index].own_waiting.get(at).copied() {
            let interactive = self.paths[self.heads[head].path].interactive;
            if let Err(blocked) = self.levels[index].probe(self.heads[head].cost, interactive, now) {
                next = next.into_iter().chain(blocked.until).min();
                at += 1;
                continue;
            }
            self.levels[index].own_waiting.swap_remove(at);
            self.heads[head].own_wait = None;
            self.lift(self.heads[head].path, None);
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
        if from.is_some() {
            self.lift(path, from);
        }
        let admitted = self.try_first(path, now);
        if self.paths[path].state == PathState::Trying {
            self.paths[path].state = PathState::Idle;
        }
        if let Some(from) = from {
            self.levels[from].lent = None;
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
            if let Some((level, blocked)) = self.probe_shared(path, turn, cost) {
                self.wait_at(path, turn, level, blocked);
                return None;
            }
            return Some(self.admit(path, head, now));
        }
    }

    /// Moves a head to its own level if that refuses it, so that it holds its path up for nobody.
    fn waits_at_own(&mut self, path: u32, head: u32, now: Timestamp) -> bool {
        let Some(own) = self.heads[head].own else { return false };
        let (cost, interactive) = (self.heads[head].cost, self.paths[path].interactive);
        let Err(blocked) = self.levels[own].probe(cost, interactive, now) else { return false };
        self.paths[path].heads.remove(head, &mut self.head_places);
        self.heads[head].own_wait =
            Some(Wait { level: own, reason: blocked.reason, since: now, until: blocked.until });
        self.levels[own].own_waiting.push(head);
        self.offer(own, now);
        true
    }

    /// The shared level that holds a head back longest, if any does. Among equals the innermost, so that
    /// what is blocked by a level of its own stands in nobody's way.
    fn probe_shared(&mut self, path: u32, turn: Turn, cost: Cost) -> Option<(u32, Blocked)> {
        let mut worst: Option<(u32, Blocked)> = None;
        let Path { levels, interactive, .. } = self.paths[path];
        for index in levels.as_slice() {
            let blocked = match self.levels[*index].probe(cost, interactive, self.now) {
                Err(blocked) => Some(blocked),
                // It would let this one pass, but keeps its room for one before it in turn.
                Ok(()) => self.kept_for_another(*index, path, turn, self.now),
            };
            if let Some(blocked) = blocked {
                self.note_refusal(*index, blocked);
            }
            if let Some(blocked) = blocked
                && worst.is_none_or(|(_, worst)| blocked.outlasts(worst))
            {
                worst = Some((*index, blocked));
            }
        }
        worst
    }

    /// A level that needs a save before it lets a head pass gets one: for a head too heavy to go unsaved
    /// while that still waits for its time, for others once only that keeps them back. One that lacks slots
    /// gets an exchange.
    fn note_refusal(&mut self, index: u32, blocked: Blocked) {
        if self.exchanges.is_some() {
            self.hasten_exchange(index);
            return;
        }
        let unsaved = blocked.until.is_none() && matches!(blocked.reason, Reason::Rate | Reason::Tokens);
        if self.levels[index].take_asks() || (unsaved && self.levels[index].ledger) {
            self.mark_changed(index);
            self.want_save();
        }
    }

    fn wait_at(&mut self, path: u32, turn: Turn, level: u32, blocked: Blocked) {
        let since = match self.paths[path].wait {
            Some(wait) if wait.level == level && wait.reason == blocked.reason => wait.since,
            _ => self.now,
        };
        self.paths[path].wait = Some(Wait { level, reason: blocked.reason, since, until: blocked.until });
        self.paths[path].state = PathState::Waiting { level };
        self.push_waiting(level, path, turn);
        if self.first_waiting(level, self.now).is_some_and(|(_, first)| first == path) {
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
        let (levels, app) = (self.paths[path].levels, self.paths[path].app);
        let interactive = self.paths[path].interactive;
        let weight = self.paths[path].app_level.map_or(1, |app| self.levels[app].weight);
        let (mut probe, mut among) = (false, 0);
        for index in levels.as_slice() {
            let level = &mut self.levels[*index];
            let in_order = !interactive || !level.interactive_first(self.interactive_share, now);
            let share = level.share_of(&taken.cost) / u64::from(weight.max(1));
            level.shares.take(app, share, in_order);
        }
        let call = Call { interactive, number: self.admissions + 1 };
        for level in levels.as_slice().iter().chain(taken.own.iter()) {
            probe |= self.levels[*level].take(taken.cost, call, now);
            if self.levels[*level].kind == LevelKind::Lane {
                among = self.levels[*level].in_flight;
            }
            self.note_charge(*level, now);
        }
        self.admissions += 1;
        self.paths[path].members -= 1;
        self.paths[path].grants += 1;
        self.paths[path].left_at = now;
        self.end_round(path, weight);
        if let Some((turn, _)) = self.paths[path].heads.first() {
            self.paths[path].state = PathState::Ready { from: None };
            self.push_ready(path, turn);
        }
        let grant = Grant {
            path,
            own: taken.own,
            cost: taken.cost,
            at: now,
            among,
            number: self.admissions,
            interactive,
            settled: false,
            in_flight: true,
            probe,
        };
        Admitted { head: id, tag: taken.tag, grant }
    }
}

/// The moment that a timer's turn stands for.
fn moment_of(due: Turn) -> Timestamp {
    Timestamp::from_micros(i64::try_from(due.key).unwrap_or(i64::MAX))
}
