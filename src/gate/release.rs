//! Giving back what calls took.

use super::Gate;
use super::grant::Grant;
use super::level::LevelId;
use super::path::LevelList;
use crate::domain::time::Timestamp;

impl Gate {
    /// The call's last byte arrived, or it was aborted: its place in flight is free. Doing it twice changes nothing.
    pub fn finish_call(&mut self, grant: &mut Grant, now: Timestamp) {
        let now = self.move_clock(now);
        if !grant.in_flight {
            return;
        }
        grant.in_flight = false;
        for level in self.levels_of(grant) {
            let probe = grant.probe;
            let held = &mut self.levels[level];
            held.in_flight -= 1;
            held.interactive -= u32::from(grant.interactive);
            if probe {
                held.closure.probe_ended(now);
            }
            self.offer_waiters(level, now);
        }
    }

    /// The call's result is durable, or will never be: everything that it still holds is free. What it
    /// charged stays charged.
    pub fn recorded(&mut self, mut grant: Grant, now: Timestamp) {
        self.finish_call(&mut grant, now);
        let now = self.move_clock(now);
        for level in self.levels_of(&grant) {
            let held = &mut self.levels[level];
            if !grant.settled {
                held.unreserve(&grant);
            }
            if held.lease.is_some() {
                held.forget(grant.number);
            }
            held.held -= 1;
            held.free(grant.cost.memory);
            self.offer_waiters(level, now);
        }
        if let Some(own) = grant.own {
            self.release_use(own);
        }
        self.paths[grant.path].grants -= 1;
        self.drop_unused_path(grant.path);
    }

    /// The call was never sent: all that it took is free again, what it charged included.
    pub fn unused(&mut self, grant: Grant, now: Timestamp) {
        let now = self.move_clock(now);
        for level in self.levels_of(&grant) {
            self.levels[level].refund(&grant, now);
            let share = self.levels[level].share_of(&grant.cost);
            let path = &self.paths[grant.path];
            let weight = path.app_level.map_or(1, |app| self.levels[app].weight);
            self.levels[level].shares.settle(path.app, -share.cast_signed(), weight);
        }
        self.recorded(grant, now);
    }

    /// Holds more bytes for a call's reply if they fit.
    pub fn try_grow(&mut self, grant: &mut Grant, bytes: u64) -> bool {
        if !self.levels_of(grant).all(|level| self.levels[level].has_room(bytes)) {
            return false;
        }
        self.grow(grant, bytes);
        true
    }

    /// Holds more bytes for a call's reply whether they fit or not.
    pub fn grow(&mut self, grant: &mut Grant, bytes: u64) {
        for level in self.levels_of(grant) {
            self.levels[level].hold(bytes);
        }
        grant.cost.memory = grant.cost.memory.saturating_add(bytes);
    }

    /// Gives back bytes that a call needs no more, such as its request's once that is sent.
    pub fn shrink(&mut self, grant: &mut Grant, bytes: u64, now: Timestamp) {
        let now = self.move_clock(now);
        let bytes = bytes.min(grant.cost.memory);
        grant.cost.memory -= bytes;
        for level in self.levels_of(grant) {
            self.levels[level].free(bytes);
            self.offer_waiters(level, now);
        }
    }

    /// Holds bytes that belong to no call yet, such as a body loaded ahead, if they fit.
    pub fn try_hold(&mut self, id: LevelId, bytes: u64) -> bool {
        let Some(level) = self.levels.find(id.0) else { return false };
        let fits = self.levels[level].has_room(bytes);
        if fits {
            self.levels[level].hold(bytes);
        }
        fits
    }

    /// Gives back what [`Gate::try_hold`] held.
    pub fn release_held(&mut self, id: LevelId, bytes: u64, now: Timestamp) {
        let now = self.move_clock(now);
        if let Some(level) = self.levels.find(id.0) {
            self.levels[level].free(bytes);
            self.offer_waiters(level, now);
        }
    }

    /// Takes back the grants of permits that were dropped; tells how many.
    pub fn collect_releases(&mut self, now: Timestamp) -> usize {
        let dropped = self.releases.take();
        let count = dropped.len();
        for grant in dropped {
            self.recorded(grant, now);
        }
        count
    }

    pub(super) fn offer_waiters(&mut self, index: u32, now: Timestamp) {
        let level = &self.levels[index];
        if !level.waiting.is_empty() || !level.own_waiting.is_empty() {
            self.offer(index, now);
        }
    }

    /// The levels of a grant, as a value: giving back changes the gate while they are walked.
    pub(super) fn levels_of(&self, grant: &Grant) -> GrantLevels {
        GrantLevels { shared: self.paths[grant.path].levels, own: grant.own, at: 0 }
    }
}

/// The levels of one grant.
pub(super) struct GrantLevels {
    shared: LevelList,
    own: Option<u32>,
    at: usize,
}

impl Iterator for GrantLevels {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if let Some(level) = self.shared.as_slice().get(self.at) {
            self.at += 1;
            return Some(*level);
        }
        self.own.take()
    }
}
