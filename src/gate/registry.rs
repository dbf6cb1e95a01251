//! The gate's levels and paths: set up, changed and removed while it works.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::budget::Budget;
use super::cost::Accounting;
use super::exchanges::Exchanges;
use super::grant::{Permit, Releases};
use super::lease::Lease;
use super::ledger::{Ledger, LevelState};
use super::level::{Change, Level, LevelId, LevelKind, LevelSpec};
use super::micros::micros_of;
use super::path::{LevelList, Path, PathId, PathState, WaitingHead};
use super::shares::Ordinals;
use super::slots::Slots;
use super::turns::{Places, TurnHeap};
use super::{GateError, Grant};
use crate::domain::limits::Limits;
use crate::domain::time::Timestamp;
use crate::wakeup::Wakeup;

/// What limits of our own count: what was used.
const OWN_ACCOUNTING: Accounting = Accounting::Actual { cached_input_free: false };

/// What this start of the process knows of the ones before.
#[derive(Clone, Debug, Default)]
pub enum Boot {
    /// The very first on this store: nothing was ever sent.
    #[default]
    First,
    /// Not the first; what was saved, which may be nothing.
    Again(Vec<LevelState>),
}

/// How a gate is set up.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// How much the time from here to a provider varies; 20 ms in one process.
    pub jitter: Duration,
    /// Whether charges wait for their snapshots to be saved. Without it a restart forgets.
    pub ledger: bool,
    /// The part of a level's budget up to which interactive calls go before others.
    pub interactive_share: f64,
    /// What is known of earlier runs.
    pub boot: Boot,
    /// Whether several workers share the limits: this one admits only from slots that a ledger hands out.
    pub shared: bool,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            jitter: Duration::from_millis(20),
            ledger: false,
            interactive_share: 0.5,
            boot: Boot::First,
            shared: false,
        }
    }
}

/// The one admission for everything that leaves the service.
///
/// Owned by one task, which polls it when something is enqueued or given back and at [`Gate::next_at`].
/// Nothing in it waits, reads a clock or does I/O.
#[derive(Debug)]
pub struct Gate {
    pub(super) levels: Slots<Level>,
    pub(super) paths: Slots<Path>,
    pub(super) heads: Slots<WaitingHead>,
    pub(super) by_levels: HashMap<(LevelList, bool), u32>,
    pub(super) path_places: Places,
    pub(super) head_places: Places,
    pub(super) timer_places: Places,
    /// Paths about to try.
    pub(super) ready: TurnHeap,
    /// Levels by the moment at which they let somebody pass.
    pub(super) timers: TurnHeap,
    pub(super) sequence: u64,
    /// Counts up with every call admitted.
    pub(super) admissions: u64,
    /// The round of the last path that tried.
    pub(super) round: u64,
    pub(super) interactive_share: f64,
    pub(super) apps: Ordinals,
    /// The latest moment seen: time never goes back in here.
    pub(super) now: Timestamp,
    pub(super) jitter: i64,
    pub(super) releases: Arc<Releases>,
    pub(super) ledger: Ledger,
    /// The exchanges with the ledger that workers share, if they do.
    pub(super) exchanges: Option<Box<Exchanges>>,
}

impl Gate {
    /// A gate without levels.
    pub fn new(options: GateOptions, now: Timestamp) -> Self {
        Self {
            levels: Slots::default(),
            paths: Slots::default(),
            heads: Slots::default(),
            by_levels: HashMap::new(),
            path_places: Places::default(),
            head_places: Places::default(),
            timer_places: Places::default(),
            ready: TurnHeap::default(),
            timers: TurnHeap::default(),
            sequence: 0,
            admissions: 0,
            round: 0,
            interactive_share: options.interactive_share,
            apps: Ordinals::default(),
            now,
            jitter: micros_of(options.jitter),
            releases: Arc::default(),
            ledger: Ledger::new(options.ledger, options.boot, now),
            exchanges: options.shared.then(Box::default),
        }
    }

    /// Adds a level. After a restart it resumes where its name's last save left off.
    pub fn add_level(&mut self, spec: LevelSpec, now: Timestamp) -> LevelId {
        let now = self.move_clock(now);
        let ordinal = if spec.kind == LevelKind::App { self.apps.next() } else { 0 };
        let shared = self.exchanges.is_some() && spec.kind.is_durable();
        let lease = shared.then(|| Box::new(Lease::new(&spec)));
        let mut level = Level {
            ordinal,
            weight: spec.weight.max(1),
            kind: spec.kind,
            name: spec.name.into(),
            parent: spec.parent,
            memory_limit: spec.memory,
            accounting: if spec.kind.is_upstream() { spec.accounting } else { OWN_ACCOUNTING },
            ledger: self.ledger.is_kept() && spec.kind.is_durable() && self.exchanges.is_none(),
            lease,
            ..Level::default()
        };
        level.learning.configured = spec.limits;
        self.recall_lowest(&mut level);
        self.ledger.recall(&mut level);
        level.apply_limits(self.jitter, None);
        self.ledger.resume(&mut level, now);
        self.adopt_heard(&mut level, now);
        let unsaved = level.budgets.iter().any(Budget::has_news);
        let key = self.levels.insert(level);
        if unsaved {
            self.mark_changed(key.index);
            self.want_save();
        }
        LevelId(key)
    }

    /// Removes a level. It goes once no path, head or grant names it; until then it holds its limits.
    pub fn remove_level(&mut self, id: LevelId) {
        if let Some(level) = self.levels.find(id.0) {
            self.levels[level].removed = true;
            self.drop_unused_level(level);
        }
    }

    /// Changes a level's limits; tells whether they are others. What was charged stays charged, so a change never causes
    /// a burst, and limits that are the same touch nothing.
    pub fn set_limits(&mut self, id: LevelId, limits: &Limits, now: Timestamp) -> bool {
        let now = self.move_clock(now);
        let level = self.levels.find(id.0).filter(|level| self.levels[*level].learning.configured != *limits);
        if let Some(level) = level {
            let change = Change { now, number: self.admissions };
            self.levels[level].learning.configured = limits.clone();
            self.levels[level].apply_limits(self.jitter, Some(change));
            self.mark_changed(level);
            self.offer(level, now);
            self.hasten_exchange(level);
        }
        level.is_some()
    }

    /// Changes whether workers on one store share a level's calls in flight. Those in flight count either way.
    pub fn share_places(&mut self, id: LevelId, shared: bool, now: Timestamp) {
        let now = self.move_clock(now);
        let Some(level) = self.levels.find(id.0) else { return };
        if self.levels[level].lease.as_mut().is_some_and(|lease| lease.share_places(shared)) {
            self.offer(level, now);
            self.hasten_exchange(level);
        }
    }

    /// Changes how a provider's or a lane's upstream charges tokens; tells whether it is another way. Calls in flight are
    /// settled by the new one.
    pub fn set_accounting(&mut self, id: LevelId, accounting: Accounting) -> bool {
        let Some(level) = self.levels.find(id.0).map(|index| &mut self.levels[index]) else { return false };
        level.kind.is_upstream() && std::mem::replace(&mut level.accounting, accounting) != accounting
    }

    /// Changes the part of a level's budget up to which interactive calls go before others.
    pub fn set_interactive_share(&mut self, share: f64) {
        self.interactive_share = share;
    }

    /// Changes how many bytes of bodies a level may hold.
    pub fn set_memory(&mut self, id: LevelId, memory: Option<u64>, now: Timestamp) {
        let now = self.move_clock(now);
        if let Some(level) = self.levels.find(id.0) {
            self.levels[level].memory_limit = memory;
            self.offer(level, now);
        }
    }

    /// Gives a level the name that was not known yet when it was added.
    pub fn name_level(&mut self, id: LevelId, name: &str) {
        if let Some(level) = self.levels.find(id.0).map(|index| &mut self.levels[index])
            && *level.name != *name
        {
            level.name = name.into();
            let kind = level.kind;
            if let Some(lease) = &mut level.lease {
                lease.rename(kind, name);
            }
        }
    }

    /// Changes an app's weight: what it took so far stays as it was charged.
    pub fn set_weight(&mut self, id: LevelId, weight: u32) {
        if let Some(level) = self.levels.find(id.0) {
            self.levels[level].weight = weight.max(1);
        }
    }

    /// The path over levels that heads share, outermost first. The same list gives the same path.
    ///
    /// # Errors
    /// A level that is gone, or more than [`super::MOST_LEVELS`] of them.
    pub fn add_path(&mut self, levels: &[LevelId]) -> Result<PathId, GateError> {
        let mut list = LevelList::default();
        for id in levels {
            let level = self.levels.find(id.0).ok_or(GateError::UnknownLevel)?;
            if !list.as_slice().contains(&level) && !list.push(level) {
                return Err(GateError::PathTooLong);
            }
        }
        let path = self.path_over(list, false);
        self.paths[path].added += 1;
        Ok(PathId(self.paths.key(path)))
    }

    /// The path of the interactive heads beside another one.
    pub(super) fn interactive_path(&mut self, path: u32) -> u32 {
        self.path_over(self.paths[path].levels, true)
    }

    fn path_over(&mut self, levels: LevelList, interactive: bool) -> u32 {
        if let Some(path) = self.by_levels.get(&(levels, interactive)).copied() {
            return path;
        }
        for level in levels.as_slice() {
            self.levels[*level].uses += 1;
        }
        let apps = levels.as_slice().iter().copied();
        let app_level = apps.rev().find(|level| self.levels[*level].kind == LevelKind::App);
        let app = app_level.map_or(0, |level| self.levels[level].ordinal);
        let path = Path { levels, interactive, app, app_level, ..Path::default() };
        let index = self.paths.insert(path).index;
        self.by_levels.insert((levels, interactive), index);
        index
    }

    /// Takes one [`Gate::add_path`] back. The path goes once nothing waits on it or is in flight.
    pub fn remove_path(&mut self, id: PathId) {
        if let Some(path) = self.paths.find(id.0) {
            self.paths[path].added = self.paths[path].added.saturating_sub(1);
            self.drop_unused_path(path);
        }
    }

    /// Wraps a grant so that it comes back even if its task dies.
    pub fn permit(&self, grant: Grant) -> Permit {
        Permit::new(grant, Arc::clone(&self.releases))
    }

    /// Rings when a permit was dropped; [`Gate::collect_releases`] then takes its grant back.
    pub fn release_bell(&self) -> Wakeup {
        self.releases.bell()
    }

    pub(super) fn move_clock(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    pub(super) fn drop_unused_path(&mut self, index: u32) {
        let path = &self.paths[index];
        let idle = path.state == PathState::Idle && path.members == 0;
        if path.added > 0 || path.grants > 0 || !idle {
            return;
        }
        let path = self.paths.remove(index);
        self.by_levels.remove(&(path.levels, path.interactive));
        for level in path.levels.as_slice() {
            self.release_use(*level);
        }
    }

    /// One path, head or grant less names a level.
    pub(super) fn release_use(&mut self, index: u32) {
        self.levels[index].uses -= 1;
        self.drop_unused_level(index);
    }

    fn drop_unused_level(&mut self, index: u32) {
        if self.levels[index].removed && self.levels[index].uses == 0 {
            self.timers.remove(index, &mut self.timer_places);
            let gone = self.levels.remove(index);
            if gone.ordinal > 0 {
                for level in self.levels.indices().collect::<Vec<u32>>() {
                    self.levels[level].shares.forget(gone.ordinal);
                }
                self.apps.release(gone.ordinal);
            }
        }
    }
}
