//! Slots that a budget holds of the ledger that workers share, in the order in which they are due.

use std::collections::VecDeque;

use crate::domain::exchange::Slots;

/// How far apart units are: so many microseconds for so many of them; nothing where all are due at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) micros: u64,
    pub(super) units: u64,
}

impl Interval {
    /// How long so many units take.
    fn of(self, units: u64) -> i64 {
        let span = (u128::from(units) * u128::from(self.micros)).div_ceil(u128::from(self.units.max(1)));
        i64::try_from(span).unwrap_or(i64::MAX)
    }

    /// How many units are due within a span from the first on, that one included.
    fn within(self, span: i64) -> u64 {
        let Ok(span) = u128::try_from(span) else { return 0 };
        if self.micros == 0 {
            return u64::MAX;
        }
        let after = span * u128::from(self.units.max(1)) / u128::from(self.micros);
        u64::try_from(after).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// Units that become due one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// When its first unit was due when it was granted: here, and by the database.
    at: i64,
    at_us: i64,
    interval: Interval,
    /// Whether all of it counts from its first unit on: granted for a head that takes it at once.
    together: bool,
    /// Whether there is room for it before its first unit is due, for a call that takes other units too.
    early: bool,
    /// Whether its charge was moved, or is to be, to when a call took it late.
    moved: bool,
    /// Units gone from its front, and those that are left.
    gone: u64,
    units: u64,
}

impl Run {
    /// Slots as granted; `offset`: how far the time here is ahead of the database's.
    pub(super) fn granted(slots: Slots, offset: i64, interval: Interval) -> Self {
        let (at_us, at) = (slots.at_us, slots.at_us.saturating_add(offset));
        Self { at, at_us, interval, together: false, early: false, moved: false, gone: 0, units: slots.units }
    }

    /// The same, with room for it since it was granted.
    pub(super) fn early(self) -> Self {
        Self { early: true, ..self }
    }

    /// Takes off the units that count together from the first on.
    pub(super) fn split_head(&mut self, units: u64) -> Self {
        Self { together: true, ..self.split(units) }
    }

    /// Takes off the units that were due up to a moment, unless their charge was moved already.
    pub(super) fn split_late(&mut self, moment: i64) -> Option<Self> {
        let late = if self.moved { 0 } else { self.due_by(moment) };
        (late > 0).then(|| Self { moved: true, ..self.split(late) })
    }

    /// How many units it has.
    pub(super) fn units(&self) -> u64 {
        self.units
    }

    /// The units by the database's time, from the moment on from which they count.
    pub(super) fn slots(&self) -> Slots {
        let gone = if self.together { 0 } else { self.gone };
        Slots { at_us: self.at_us.saturating_add(self.interval.of(gone)), units: self.units }
    }

    /// Whether it counts at another time than its slots are due: a head left it over, with which it counted together, or
    /// its charge was moved.
    pub(super) fn counts_apart(&self) -> bool {
        self.together && self.gone > 0 || self.moved
    }

    /// When a unit is due, counted from 0.
    fn due(&self, unit: u64) -> i64 {
        if self.together { self.at } else { self.paced(unit) }
    }

    /// When a unit would be due at the pace.
    fn paced(&self, unit: u64) -> i64 {
        self.at.saturating_add(self.interval.of(self.gone.saturating_add(unit)))
    }

    fn end(&self) -> i64 {
        self.paced(self.units.saturating_sub(1))
    }

    /// Takes units off its front.
    pub(super) fn split(&mut self, units: u64) -> Self {
        let units = units.min(self.units);
        let front = Self { units, ..*self };
        self.gone += units;
        self.units -= units;
        front
    }

    /// How many units of a run without end would be due up to a moment.
    fn due_until(&self, moment: i64) -> u64 {
        match (self.together, moment >= self.at) {
            (true, true) => u64::MAX,
            (true, false) => 0,
            (false, _) => self.interval.within(moment.saturating_sub(self.at)).saturating_sub(self.gone),
        }
    }

    /// How many of its units were due up to a moment.
    pub(super) fn due_by(&self, moment: i64) -> u64 {
        self.due_until(moment).min(self.units)
    }

    /// Takes off the units that were due up to a moment.
    pub(super) fn split_due(&mut self, moment: i64) -> Self {
        self.split(self.due_until(moment))
    }

    /// Takes another run in if that goes on where this one ends.
    pub(super) fn join(&mut self, next: &Self) -> bool {
        let same = (self.at_us, self.interval, self.together) == (next.at_us, next.interval, next.together);
        let follows = same && self.gone.saturating_add(self.units) == next.gone;
        if follows {
            self.units += next.units;
        }
        follows
    }
}

/// Runs of slots, the earliest first.
#[derive(Debug, Default)]
pub(super) struct SlotPool {
    runs: VecDeque<Run>,
    held: u64,
}

impl SlotPool {
    /// Units that are held.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Adds units.
    pub(super) fn add(&mut self, run: Run) {
        if run.units > 0 {
            self.held = self.held.saturating_add(run.units);
            self.insert(run);
        }
    }

    fn insert(&mut self, run: Run) {
        let place = self.runs.partition_point(|held| held.due(0) <= run.due(0));
        self.runs.insert(place, run);
    }

    /// When a unit is due, counted from 0; `None` if there are fewer.
    pub(super) fn due(&self, unit: u64) -> Option<i64> {
        let mut before = unit;
        for run in &self.runs {
            if before < run.units {
                return Some(run.due(before));
            }
            before -= run.units;
        }
        None
    }

    /// When so many may be used with the first of them, and there is room for all; `None` if there are fewer.
    pub(super) fn room(&self, units: u64) -> Option<i64> {
        let (mut moment, mut before) = (self.due(0).filter(|_| units <= self.held)?, 0);
        for run in &self.runs {
            if before >= units {
                break;
            }
            before += run.units;
            moment = if run.early { moment } else { moment.max(run.at) };
        }
        Some(moment)
    }

    /// Units that are not due yet at a moment.
    pub(super) fn later_than(&self, now: i64) -> u64 {
        let later = |run: &Run| run.units - run.due_by(now);
        self.runs.iter().map(later).fold(0, u64::saturating_add)
    }

    /// When the last unit is due.
    pub(super) fn end(&self) -> Option<i64> {
        self.runs.iter().map(Run::end).max()
    }

    /// Takes units, the earliest first.
    pub(super) fn take(&mut self, units: u64, mut taken: impl FnMut(Run)) {
        let mut left = units;
        while let Some(mut run) = self.runs.pop_front_if(|_| left > 0) {
            let front = run.split(left);
            left -= front.units;
            self.held -= front.units;
            taken(front);
            if run.units > 0 {
                self.insert(run);
            }
        }
    }

    /// Takes out the units that may not be used any more; `life`: for how long after their moment they may.
    pub(super) fn expire(&mut self, now: i64, life: i64, mut expired: impl FnMut(Run)) {
        let latest = now.saturating_sub(life).saturating_sub(1);
        while let Some(mut run) = self.runs.pop_front_if(|run| run.due(0) <= latest) {
            let front = run.split_due(latest);
            self.held -= front.units;
            expired(front);
            if run.units > 0 {
                self.insert(run);
            }
        }
    }
}
