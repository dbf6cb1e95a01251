//! What a budget has to tell the ledger that workers share: slots that it will not use, charges that changed.

use crate::domain::exchange::{Settled, Slots};
use crate::domain::time::Timestamp;

use super::slot_pool::Run;

/// Units that were used late.
#[derive(Clone, Copy, Debug)]
struct Late {
    /// The earliest slot of them, by the database.
    first: i64,
    units: u64,
    /// When the last of them was used.
    used_at: Timestamp,
}

/// What was not told yet, and what was without an answer.
#[derive(Debug, Default)]
pub(super) struct Report {
    unused: Vec<Run>,
    settled: Vec<Settled>,
    /// Whether calls that were over changed any of these.
    has_settled: bool,
    /// Units used that no slot stands for.
    debt: u64,
    late: Option<Late>,
    /// When the first of these came.
    since: Option<Timestamp>,
    sent: Option<(Vec<Slots>, Vec<Settled>)>,
}

impl Report {
    /// Slots will not be used.
    ///
    /// What counts at another time than its slots are due is told as a changed charge: the ledger looks for slots where
    /// they are due, and would find others' units there, which count longer.
    pub(super) fn give_back(&mut self, run: Run, now: Timestamp) {
        if run.counts_apart() {
            return self.discharge(run.slots().at_us, run.units(), now);
        }
        self.since.get_or_insert(now);
        if !self.unused.last_mut().is_some_and(|last| last.join(&run)) {
            self.unused.push(run);
        }
    }

    /// Units of a call that is over were not used.
    pub(super) fn settle_down(&mut self, at_us: i64, units: u64, now: Timestamp) {
        self.has_settled = true;
        self.discharge(at_us, units, now);
    }

    fn discharge(&mut self, at_us: i64, units: u64, now: Timestamp) {
        self.since.get_or_insert(now);
        let change = i64::try_from(units).map_or(i64::MIN, |units| -units);
        match self.settled.last_mut() {
            Some(last) if last.at_us == at_us => last.change = last.change.saturating_add(change),
            _ => self.settled.push(Settled { at_us, change }),
        }
    }

    /// Units were used later than they were due: they count from then on.
    pub(super) fn move_on(&mut self, slots: Slots, now: Timestamp) {
        self.since.get_or_insert(now);
        let late = self.late.get_or_insert(Late { first: slots.at_us, units: 0, used_at: now });
        late.first = late.first.min(slots.at_us);
        late.units = late.units.saturating_add(slots.units);
        late.used_at = now;
    }

    /// Units were used that no slot stands for.
    pub(super) fn charge(&mut self, units: u64, now: Timestamp) {
        if units > 0 {
            self.since.get_or_insert(now);
            self.debt = self.debt.saturating_add(units);
        }
    }

    /// Whether charges are to be told that changed when their calls were over.
    pub(super) fn has_settled(&self) -> bool {
        self.has_settled
    }

    /// Since when something waits to be told.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// What to tell. `again`: what the exchange told that was not answered. `offset`: how far the time here is ahead
    /// of the database's, once that is known.
    pub(super) fn tell(
        &mut self,
        again: bool,
        offset: Option<i64>,
        now: Timestamp,
    ) -> (Vec<Slots>, Vec<Settled>) {
        if again {
            return self.sent.clone().unwrap_or_default();
        }
        let unused = self.unused.drain(..).map(|run| run.slots()).collect::<Vec<_>>();
        let mut settled = Vec::new();
        (self.since, self.has_settled) = (None, false);
        // First, since what is given back of these counts later by then, and so no others' units are taken for it that
        // count longer.
        if let Some(late) = self.late.take() {
            let units = i64::try_from(late.units).unwrap_or(i64::MAX);
            let used_at = late.used_at.micros().saturating_sub(offset.unwrap_or(0));
            settled.push(Settled { at_us: late.first, change: -units });
            settled.push(Settled { at_us: used_at, change: units });
        }
        settled.append(&mut self.settled);
        if let Some(offset) = offset.filter(|_| self.debt > 0) {
            let at_us = now.micros().saturating_sub(offset);
            let change = i64::try_from(std::mem::take(&mut self.debt)).unwrap_or(i64::MAX);
            settled.push(Settled { at_us, change });
        } else if self.debt > 0 {
            self.since = Some(now);
        }
        if !unused.is_empty() || !settled.is_empty() {
            self.sent = Some((unused.clone(), settled.clone()));
        }
        (unused, settled)
    }

    /// Nothing of this is to be told any more, but for debts: rather twice than never.
    pub(super) fn start_over(&mut self) {
        let (_, sent) = self.sent.take().unwrap_or_default();
        let charged = sent.iter().filter_map(|settled| u64::try_from(settled.change).ok());
        let debt = charged.fold(self.debt, u64::saturating_add);
        let since = self.since.filter(|_| debt > 0);
        *self = Self { debt, since, ..Self::default() };
    }

    /// What was told has arrived.
    pub(super) fn confirm(&mut self) {
        self.sent = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot_pool::Interval;
    use super::*;

    const AT: i64 = 1_000_000;
    const NOW: Timestamp = Timestamp::from_micros(AT + 100_000);

    fn late_run(units: u64) -> Run {
        let mut run = Run::granted(Slots { at_us: AT, units }, 0, Interval { micros: 1, units: 1_000 });
        run.split_late(NOW.micros()).unwrap()
    }

    fn told(report: &mut Report) -> (Vec<Slots>, Vec<(i64, i64)>) {
        let (unused, settled) = report.tell(false, Some(0), NOW);
        (unused, settled.iter().map(|settled| (settled.at_us, settled.change)).collect())
    }

    #[test]
    fn what_was_late_is_told_before_what_is_given_back_of_it() {
        // The other way round the ledger would take it from what others were charged later.
        let mut report = Report::default();
        report.move_on(late_run(9).slots(), NOW);
        report.settle_down(AT, 4, NOW);
        let late_then_less = vec![(AT, -9), (NOW.micros(), 9), (AT, -4)];
        assert_eq!(told(&mut report), (Vec::new(), late_then_less));
        // Never sent, and given back before it was told.
        report.move_on(late_run(9).slots(), NOW);
        report.give_back(late_run(9), NOW);
        assert_eq!(told(&mut report), (Vec::new(), vec![(AT, -9), (NOW.micros(), 9), (AT, -9)]));
        assert!(!report.has_settled());
    }
}
