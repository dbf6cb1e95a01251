//! What providers and operators say about a level, and what follows from it.

use super::Gate;
use super::cooldown::Refusal;
use super::level::LevelId;
use super::reason::{PauseReason, StopReason};
use crate::domain::time::Timestamp;

impl Gate {
    /// Takes a rate-429: closes the level, and lowers the pace of whoever has one, the level or its
    /// parent. Tells until when it is closed.
    pub fn rate_limited(&mut self, id: LevelId, refusal: Refusal, now: Timestamp) -> Timestamp {
        let now = self.move_clock(now);
        let Some(index) = self.levels.find(id.0) else { return now };
        let level = &mut self.levels[index];
        let loss = level.closure.cooldown.refused(refusal, now);
        let until = level.closure.cooldown.closed(now).unwrap_or(now);
        let parent = level.parent.and_then(|parent| self.levels.find(parent.0));
        let paced = match parent {
            Some(parent) if !self.levels[index].is_paced() => parent,
            _ => index,
        };
        if loss > 0 {
            self.levels[paced].factor.lose(loss, now);
            self.mark_changed(paced);
        }
        self.mark_changed(index);
        self.offer(index, now);
        until
    }

    /// Closes a level until a moment, at most an hour away, without blame.
    pub fn close_until(&mut self, id: LevelId, until: Timestamp, now: Timestamp) {
        self.change(id, now, |closure, now| closure.cooldown.close_until(until, now));
    }

    /// Stops a level whose key or quota is refused. `sent_at`: when the refused call was admitted. One
    /// call is let through as a probe after 60 s, doubling to 10 min while probes end here again.
    pub fn stop(&mut self, id: LevelId, reason: StopReason, sent_at: Timestamp, now: Timestamp) {
        self.change(id, now, |closure, now| closure.stop(reason, sent_at, now));
    }

    /// Opens a stopped level: a probe succeeded.
    pub fn resume(&mut self, id: LevelId, now: Timestamp) {
        self.change(id, now, |closure, _| closure.resume());
    }

    /// Lets a stopped level's next probe go at once: its key or configuration changed.
    pub fn probe_now(&mut self, id: LevelId, now: Timestamp) {
        self.change(id, now, super::closure::Closure::probe_now);
    }

    /// Lets nothing more through a level until [`Gate::unpause`].
    pub fn pause(&mut self, id: LevelId, reason: PauseReason, now: Timestamp) {
        self.change(id, now, |closure, now| closure.pause(reason, now));
    }

    /// Ends a pause.
    pub fn unpause(&mut self, id: LevelId, now: Timestamp) {
        self.change(id, now, |closure, _| closure.unpause());
    }

    fn change(
        &mut self,
        id: LevelId,
        now: Timestamp,
        change: impl FnOnce(&mut super::closure::Closure, Timestamp),
    ) {
        let now = self.move_clock(now);
        if let Some(index) = self.levels.find(id.0) {
            change(&mut self.levels[index].closure, now);
            self.mark_changed(index);
            self.offer(index, now);
        }
    }
}
