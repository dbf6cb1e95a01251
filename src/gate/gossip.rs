//! What workers on one store tell each other of their levels, and which limits they have configured.

use std::sync::Arc;

use super::Gate;
use super::exchanges::SharedLimit;
use super::lease::name_of;
use super::ledger::LevelState;
use super::level::{Change, Level, LevelId, LevelKind};
use super::micros::micros_of;
use super::rate_factor::RateFactor;
use super::reason::PauseReason;
use crate::domain::limits::Dimension;
use crate::domain::time::Timestamp;

impl Gate {
    /// Takes over what other workers saved of levels. A closure holds until the later end. Of the rest the newest
    /// holds, so that a level with news of its own keeps those until they are saved. The calls in flight that an
    /// upstream was found to bear are not taken over: every worker finds out what is left of it. Nothing of it is
    /// news to be saved again. What is said of a provider or lane that is not known here is kept for when it is met.
    pub fn adopt(&mut self, states: &[LevelState], now: Timestamp) {
        let now = self.move_clock(now);
        for state in states {
            let known = self.leased_levels(&name_of(state.kind, &state.name));
            if known.is_empty() && state.kind.is_upstream() {
                self.ledger.hear(state);
            }
            for index in known {
                let own_news = self.has_news(index);
                let level = &mut self.levels[index];
                if let Some(until) = state.closed_until_us {
                    level.closure.cooldown.close_until(Timestamp::from_micros(until), now);
                }
                if !own_news {
                    level.adopt_state(state, now);
                    self.adopt_limits(index, state, now);
                }
                self.offer(index, now);
                self.hasten_exchange(index);
            }
        }
    }

    fn adopt_limits(&mut self, index: u32, state: &LevelState, now: Timestamp) {
        let change = Change { now, number: self.admissions };
        let level = &mut self.levels[index];
        if level.learning.learned != state.learned {
            level.learning.learned.clone_from(&state.learned);
            level.apply_limits(self.jitter, Some(change));
        }
    }

    /// Limits that other workers have configured lower than this one, all of them: the lower ones hold.
    pub fn set_shared_limits(&mut self, lowest: &[SharedLimit], now: Timestamp) {
        let now = self.move_clock(now);
        let Some(exchanges) = &mut self.exchanges else { return };
        if exchanges.lowest == lowest {
            return;
        }
        exchanges.lowest = lowest.to_vec();
        let change = Change { now, number: self.admissions };
        for index in self.levels.indices().collect::<Vec<u32>>() {
            let lowest = lowest_of(lowest, &self.levels[index]);
            let level = &mut self.levels[index];
            if level.learning.lowest != lowest {
                level.learning.lowest = lowest;
                level.apply_limits(self.jitter, Some(change));
                self.offer(index, now);
                self.hasten_exchange(index);
            }
        }
    }

    /// The limits of those shared levels that are wanted, as they are configured here.
    pub fn shared_limits(&self, is_wanted: impl Fn(LevelId, LevelKind) -> bool) -> Vec<SharedLimit> {
        let indices = self.levels.indices();
        let wanted =
            indices.filter(|&index| is_wanted(LevelId(self.levels.key(index)), self.levels[index].kind));
        let levels = wanted.map(|index| &self.levels[index]);
        let mut limits: Vec<SharedLimit> = levels
            .filter_map(|level| Some((level.lease.as_ref()?, level)))
            .flat_map(|(lease, level)| {
                level.learning.configured_rates().map(|(dimension, rate)| {
                    (Arc::clone(&lease.name), dimension, micros_of(rate.period), rate.amount)
                })
            })
            .collect();
        limits.sort();
        limits.dedup();
        limits
    }

    /// A level that is new has the lower limits of other workers from the start.
    pub(super) fn recall_lowest(&self, level: &mut Level) {
        if let Some(exchanges) = &self.exchanges {
            level.learning.lowest = lowest_of(&exchanges.lowest, level);
        }
    }

    /// A level that is new is as the others left it, whatever was saved before this worker's start; but what stopped
    /// it may be mended, as after a restart.
    pub(super) fn adopt_heard(&mut self, level: &mut Level, now: Timestamp) {
        let Some(heard) = self.ledger.take_heard(level) else { return };
        if let Some(until) = heard.closed_until_us {
            level.closure.cooldown.close_until(Timestamp::from_micros(until), now);
        }
        level.adopt_state(&LevelState { stopped: None, ..heard }, now);
    }

    fn leased_levels(&self, name: &str) -> Vec<u32> {
        let named =
            |index: &u32| self.levels[*index].lease.as_ref().is_some_and(|lease| *lease.name == *name);
        self.levels.indices().filter(named).collect()
    }
}

fn lowest_of(lowest: &[SharedLimit], level: &Level) -> Vec<(Dimension, i64, u64)> {
    let Some(lease) = &level.lease else { return Vec::new() };
    let of_it = lowest.iter().filter(|(name, ..)| *name == lease.name);
    of_it.map(|(_, dimension, period_us, amount)| (*dimension, *period_us, *amount)).collect()
}

impl Level {
    /// Takes over what another worker saved, but for closures by time and for limits.
    fn adopt_state(&mut self, state: &LevelState, now: Timestamp) {
        if self.factor.value(now) != state.rate_factor {
            self.factor = RateFactor::restored(state.rate_factor, now);
        }
        match (state.paused, self.closure.is_paused_by_operator()) {
            (true, false) => self.closure.pause(PauseReason::Paused, now),
            (false, true) => self.closure.unpause(),
            _ => {}
        }
        match (state.stopped, self.closure.stopped()) {
            (Some(reason), None) => self.closure.stop(reason, now, now),
            (None, Some(_)) => self.closure.resume(),
            _ => {}
        }
    }
}
