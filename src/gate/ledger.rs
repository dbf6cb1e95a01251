//! What survives a restart.
//!
//! The law: what a level has charged beyond its last durable save never exceeds 500 ms of its pace, and
//! a restart resumes at the later of the saved arrival time and the present, plus 500 ms, with a last
//! period taken as full. So whatever was charged and not saved lies within what the restart waits, and
//! the pace goes on as if nothing had happened.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Gate;
use super::budget::{Budget, BudgetState};
use super::learning::LearnedLimit;
use super::level::{Level, LevelId, LevelKind};
use super::overload::Overload;
use super::rate_factor::RateFactor;
use super::reason::{PauseReason, StopReason};
use super::registry::Boot;
use super::silent::Silent;
use crate::domain::limits::{Dimension, Rate};
use crate::domain::time::Timestamp;

/// A level as it is saved; its kind and name are its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelState {
    /// What the level stands for.
    pub kind: LevelKind,
    /// Its name.
    pub name: String,
    /// The share of its limits in use, in ten-thousandths.
    pub rate_factor: u16,
    /// Until when it is closed, in microseconds since the epoch.
    pub closed_until_us: Option<i64>,
    /// Whether an operator paused it.
    #[serde(default)]
    pub paused: bool,
    /// Its budgets.
    pub budgets: Vec<BudgetState>,
    /// The most calls in flight that its upstream was found to bear; `None`: no fewer than configured.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
    /// The limits that it learned.
    #[serde(default)]
    pub learned: Vec<LearnedLimit>,
    /// Why it is stopped, if its key or its quota is refused.
    #[serde(default)]
    pub stopped: Option<StopReason>,
}

/// States to save together, and the number to confirm them with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// For [`Gate::saved`] or [`Gate::save_failed`].
    pub version: u64,
    /// What to write over what was saved under the same kind and name.
    pub states: Vec<LevelState>,
}

/// How urgently a snapshot should be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SaveNeed {
    /// Nothing changed since the last one.
    Nothing,
    /// Something did: put one into the next commit.
    Ride,
    /// A head waits for it or soon will: commit one now.
    Now,
}

/// How much a level had charged in a snapshot, by budget.
#[derive(Debug)]
struct Marks {
    level: LevelId,
    charged: Vec<((Dimension, Rate), u64)>,
}

/// Which levels changed, and what is on its way to the disk.
#[derive(Debug)]
pub(super) struct Ledger {
    kept: bool,
    /// When the process started and what it knew, unless it was the first ever.
    booted: Option<Timestamp>,
    saved: HashMap<(LevelKind, String), LevelState>,
    /// What other workers saved since of levels that are not known here.
    heard: HashMap<(LevelKind, String), LevelState>,
    changed: Vec<LevelId>,
    urgent: bool,
    version: u64,
    under_way: VecDeque<(u64, Vec<Marks>)>,
}

impl Ledger {
    pub(super) fn new(kept: bool, boot: Boot, now: Timestamp) -> Self {
        let (booted, states) = match boot {
            Boot::First => (None, Vec::new()),
            Boot::Again(states) => (Some(now), states),
        };
        let saved = states.into_iter().map(|state| ((state.kind, state.name.clone()), state)).collect();
        Self {
            kept,
            booted,
            saved,
            heard: HashMap::new(),
            changed: Vec::new(),
            urgent: false,
            version: 0,
            under_way: VecDeque::new(),
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Keeps what another worker saved of a level until that is met here.
    pub(super) fn hear(&mut self, state: &LevelState) {
        self.heard.insert((state.kind, state.name.clone()), state.clone());
    }

    /// What was heard of a level that is met now.
    pub(super) fn take_heard(&mut self, level: &Level) -> Option<LevelState> {
        self.heard.remove(&(level.kind, level.name.to_string()))
    }

    /// What a new level had learned when the process before ended, or what others learned since.
    pub(super) fn recall(&self, level: &mut Level) {
        let key = (level.kind, level.name.to_string());
        if let Some(saved) = self.heard.get(&key).or_else(|| self.saved.get(&key)) {
            level.learning.learned.clone_from(&saved.learned);
            if let Some(probed) = saved.learned.iter().find(|learned| learned.probed) {
                level.silent = Silent::resumed(probed.rate());
            }
        }
    }

    /// A new level goes on where the process before left it, whether that is known or not.
    pub(super) fn resume(&self, level: &mut Level, now: Timestamp) {
        let Some(booted) = self.booted.filter(|_| level.kind.is_durable()) else { return };
        let saved = self.saved.get(&(level.kind, level.name.to_string()));
        for budget in &mut level.budgets {
            let state = saved.and_then(|saved| saved.budgets.iter().find(|state| budget.is_of(state)));
            budget.resume(state, booted);
        }
        let Some(saved) = saved else { return };
        level.factor = RateFactor::restored(saved.rate_factor, booted);
        level.overload = Overload::resumed(saved.max_concurrent);
        if saved.paused {
            level.closure.pause(PauseReason::Paused, now);
        }
        if let Some(until) = saved.closed_until_us {
            level.closure.cooldown.close_until(Timestamp::from_micros(until), now);
        }
    }
}

impl Gate {
    /// Whether a snapshot should be saved, and how soon.
    pub fn save_need(&self) -> SaveNeed {
        match (self.ledger.kept, self.ledger.changed.is_empty()) {
            (false, _) | (_, true) => SaveNeed::Nothing,
            _ if self.ledger.urgent => SaveNeed::Now,
            _ => SaveNeed::Ride,
        }
    }

    /// Every level that changed since the last snapshot; `None` if none did.
    pub fn snapshot_dirty(&mut self, now: Timestamp) -> Option<Snapshot> {
        let now = self.move_clock(now);
        if self.save_need() == SaveNeed::Nothing {
            return None;
        }
        let mut states = Vec::new();
        let mut marks = Vec::new();
        for id in std::mem::take(&mut self.ledger.changed) {
            let Some(level) = self.levels.find(id.0).map(|index| &mut self.levels[index]) else { continue };
            level.dirty = false;
            let (budgets, charged) = level
                .budgets
                .iter_mut()
                .chain(&mut level.dormant)
                .filter(|budget| !budget.is_leased())
                .map(|budget| {
                    let (state, mark) = budget.snapshot();
                    (state, (budget.rate(), mark))
                })
                .unzip();
            marks.push(Marks { level: id, charged });
            states.push(LevelState {
                kind: level.kind,
                name: level.name.to_string(),
                rate_factor: level.factor.value(now),
                closed_until_us: level.closure.cooldown.closed(now).map(Timestamp::micros),
                paused: level.closure.is_paused_by_operator(),
                budgets,
                max_concurrent: level.overload.limit(),
                learned: level.learning.learned.clone(),
                stopped: level.closure.stopped(),
            });
        }
        self.ledger.urgent = false;
        self.ledger.version += 1;
        self.ledger.under_way.push_back((self.ledger.version, marks));
        Some(Snapshot { version: self.ledger.version, states })
    }

    /// A snapshot is durable, and so is every earlier one: heads that waited for it may leave.
    pub fn saved(&mut self, version: u64, now: Timestamp) {
        let now = self.move_clock(now);
        while self.ledger.under_way.front().is_some_and(|(first, _)| *first <= version) {
            let Some((_, marks)) = self.ledger.under_way.pop_front() else { return };
            for mark in marks {
                let Some(index) = self.levels.find(mark.level.0) else { continue };
                // By name, not by place: the limits may have changed meanwhile.
                for ((dimension, rate), charged) in mark.charged {
                    let mut budgets = self.levels[index].budgets.iter_mut();
                    if let Some(budget) = budgets.find(|budget| budget.has_period(dimension, rate.period)) {
                        budget.saved(charged);
                    }
                }
                self.offer_waiters(index, now);
            }
        }
    }

    /// A snapshot was not saved: its levels belong into the next one.
    pub fn save_failed(&mut self, version: u64) {
        let Some(place) = self.ledger.under_way.iter().position(|(held, _)| *held == version) else {
            return;
        };
        let Some((_, marks)) = self.ledger.under_way.remove(place) else { return };
        for mark in marks {
            let Some(index) = self.levels.find(mark.level.0) else { continue };
            self.levels[index].budgets.iter_mut().for_each(Budget::save_failed);
            self.mark_changed(index);
        }
        self.ledger.urgent = true;
    }

    /// A level charged its budgets.
    pub(super) fn note_charge(&mut self, index: u32, now: Timestamp) {
        if self.exchanges.is_some() {
            // What is charged is the business of the ledger that workers share.
            self.hasten_exchange(index);
            return;
        }
        if !self.ledger.kept || self.levels[index].budgets.is_empty() {
            return;
        }
        self.mark_changed(index);
        if !self.ledger.urgent {
            let level = &mut self.levels[index];
            let speed = level.speed(now);
            self.ledger.urgent =
                level.ledger && level.budgets.iter().any(|budget| budget.wants_snapshot(speed));
        }
    }

    /// A head waits for a save.
    pub(super) fn want_save(&mut self) {
        self.ledger.urgent = true;
    }

    /// Whether a level has changes that are not known to be saved.
    pub(super) fn has_news(&self, index: u32) -> bool {
        let id = LevelId(self.levels.key(index));
        let mut under_way = self.ledger.under_way.iter().flat_map(|(_, marks)| marks);
        self.levels[index].dirty || under_way.any(|mark| mark.level == id)
    }

    /// A level's state is news to other workers: it belongs into a snapshot of its own.
    pub(super) fn mark_news(&mut self, index: u32) {
        self.mark_changed(index);
        if self.exchanges.is_some() && self.levels[index].dirty {
            self.ledger.urgent = true;
        }
    }

    /// A level's state belongs into the next snapshot.
    pub(super) fn mark_changed(&mut self, index: u32) {
        let level = &mut self.levels[index];
        if self.ledger.kept && !level.dirty && level.kind.is_durable() {
            level.dirty = true;
            self.ledger.changed.push(LevelId(self.levels.key(index)));
        }
    }
}
