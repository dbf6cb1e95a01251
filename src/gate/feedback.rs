//! What providers and operators say about a level, and what follows from it.

use super::Gate;
use super::budget::Budget;
use super::cooldown::Refusal;
use super::learning::LearnedLimit;
use super::level::{Level, LevelId};
use super::micros::micros_of;
use super::overload::Sent;
use super::reason::{PauseReason, StopReason};
use crate::domain::limits::{Dimension, Rate};
use crate::domain::time::Timestamp;

/// So few calls at once, and the upstream still refuses: it is more than overloaded.
const FEWEST: u32 = 2;

impl Gate {
    /// Takes a rate-429: closes the level, and lowers the pace of whoever has one, the level or its
    /// parent. Tells until when it is closed.
    pub fn rate_limited(&mut self, id: LevelId, refusal: Refusal, now: Timestamp) -> Timestamp {
        let now = self.move_clock(now);
        let Some(index) = self.levels.find(id.0) else { return now };
        if let Some(until) = self.refused_silently(index, refusal, now) {
            return until;
        }
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
            self.mark_news(paced);
        }
        self.mark_news(index);
        self.offer(index, now);
        until
    }

    /// A refusal without a time, by a level that no rate is known for: finds out what it takes. Once that
    /// is known, going a little slower is all that follows.
    fn refused_silently(&mut self, index: u32, refusal: Refusal, now: Timestamp) -> Option<Timestamp> {
        let counts = |budget: &Budget| budget.dimension == Dimension::Requests;
        let level = &self.levels[index];
        let parent = level.parent.and_then(|parent| self.levels.find(parent.0));
        let paced = parent.is_some_and(|parent| self.levels[parent].budgets.iter().any(counts));
        let learning = &level.learning;
        let told = learning.learned.iter().any(|held| held.dimension == Dimension::Requests && !held.probed);
        if refusal.retry_after.is_some() || paced || told || !learning.may_learn(Dimension::Requests) {
            return None;
        }
        let level = &mut self.levels[index];
        let found = level.silent.is_found();
        if let Some(rate) = level.silent.refused(refusal.sent_at, now) {
            self.probe_rate(index, rate, now);
        }
        found.then_some(now)
    }

    fn probe_rate(&mut self, index: u32, rate: Rate, now: Timestamp) {
        let (dimension, period_us) = (Dimension::Requests, micros_of(rate.period));
        let learned = LearnedLimit { dimension, period_us, amount: rate.amount, probed: true };
        if self.levels[index].learning.learn(learned) {
            self.apply_learned(index, now);
        }
    }

    /// A call was answered, well or with a fault of its own. `sent`: see [`super::Grant::sent`]. Call it as the
    /// call ends, before or after [`Gate::finish_call`].
    pub fn answered(&mut self, id: LevelId, sent: Sent, now: Timestamp) {
        let now = self.move_clock(now);
        let Some(index) = self.levels.find(id.0) else { return };
        let level = &mut self.levels[index];
        level.closure.breaker.answered(sent.at, now);
        let before = level.overload.limit();
        level.overload.answered(sent, level.max_concurrent);
        let changed = level.overload.limit() != before;
        if let Some(rate) = level.silent.answered(now) {
            self.probe_rate(index, rate, now);
        }
        if changed {
            self.mark_changed(index);
        }
        self.offer_waiters(index, now);
    }

    /// A call was refused because the upstream is overloaded (503, 529), or ran into a timeout: fewer go at
    /// once from now on, and the lane is parked if that is no help.
    pub fn overloaded(&mut self, id: LevelId, sent: Sent, now: Timestamp) {
        let now = self.move_clock(now);
        let Some(index) = self.levels.find(id.0) else { return };
        let level = &mut self.levels[index];
        let few = |level: &Level| level.overload.limit().is_some_and(|limit| limit <= FEWEST);
        let (before, was_few) = (level.overload.limit(), few(level));
        level.overload.refused(sent, level.in_flight, level.max_concurrent, now);
        let changed = level.overload.limit() != before;
        // With more calls at once that is what refusals are about, and not whether it is alive. From here
        // on it is: the many answers of before would keep it open for half a minute.
        if few(level) {
            if !was_few {
                level.closure.breaker.start_over();
            }
            level.closure.breaker.failed(sent.at, false, now);
        }
        if changed {
            self.mark_changed(index);
        }
        self.offer_waiters(index, now);
    }

    /// A call failed for a fault of the upstream that has nothing to do with its load (another 5xx).
    pub fn failed(&mut self, id: LevelId, sent_at: Timestamp, now: Timestamp) {
        self.change(id, now, |closure, now| closure.breaker.failed(sent_at, false, now));
    }

    /// A call never reached the upstream.
    pub fn unreachable(&mut self, id: LevelId, sent_at: Timestamp, now: Timestamp) {
        self.change(id, now, |closure, now| closure.breaker.failed(sent_at, true, now));
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
            let before = self.levels[index].closure.told(now);
            change(&mut self.levels[index].closure, now);
            if self.exchanges.is_none() || before != self.levels[index].closure.told(now) {
                self.mark_news(index);
            }
            self.offer(index, now);
        }
    }
}
