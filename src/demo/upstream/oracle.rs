//! The oracle: what arrived, held against laws of its own.
//!
//! It counts in whole units on the upstream's own clock and shares no code with the gate, so a
//! mistake in one can't hide in the other.

use std::collections::VecDeque;

use serde::Serialize;

use super::script::{Law, LawKind, Unit};

/// Windows that a report still lists; the totals never forget.
const WINDOWS_KEPT: usize = 4_096;

/// What one law has seen.
#[derive(Clone, Debug, Serialize)]
pub struct LawReport {
    /// The law's name.
    pub name: String,
    /// Its kind.
    pub law: LawKind,
    /// What it counts.
    pub unit: Unit,
    /// Units per period.
    pub limit: u64,
    /// The period in seconds.
    pub period_seconds: f64,
    /// Whether it refuses.
    pub enforce: bool,
    /// Units that arrived.
    pub arrived: u64,
    /// Units that were let in.
    pub accepted: u64,
    /// Units that were refused, by this law or for another reason.
    pub refused: u64,
    /// Calls that did not fit when they arrived.
    pub over: u64,
    /// Aligned windows in which at least one call did not fit.
    pub windows_over: u64,
    /// The most units that were ever charged at once: in a window, or drawn from the bucket.
    pub peak: u64,
    /// The last windows, each a period long, from the phase on; for every kind of law.
    pub windows: VecDeque<WindowReport>,
}

/// One window of a law.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WindowReport {
    /// When it started, in seconds since the upstream did.
    pub start_seconds: f64,
    /// Units that arrived in it.
    pub arrived: u64,
    /// Units that were let in.
    pub accepted: u64,
    /// Calls that did not fit.
    pub over: u64,
}

/// One law and what it has counted.
#[derive(Clone, Debug)]
pub(super) struct Book {
    law: Law,
    period: u64,
    count: Count,
    window: Option<u64>,
    report: LawReport,
}

#[derive(Clone, Debug)]
enum Count {
    /// Credit in units × µs of a period: exact, where a fraction of a unit would round.
    Bucket { credit: i128, at: u64 },
    /// What the present window holds.
    Fixed { used: u64 },
    /// What the last period holds.
    Sliding { used: u64, charges: VecDeque<(u64, u64)> },
}

impl Book {
    /// An empty book at the upstream's start.
    pub(super) fn open(law: &Law) -> Self {
        let period = law.period.micros().max(1);
        let count = match law.law {
            LawKind::Bucket => Count::Bucket { credit: size(law) * i128::from(period), at: 0 },
            LawKind::Fixed => Count::Fixed { used: 0 },
            LawKind::Sliding => Count::Sliding { used: 0, charges: VecDeque::new() },
        };
        let report = LawReport {
            name: law.label(),
            law: law.law,
            unit: law.unit,
            limit: law.limit,
            period_seconds: law.period.0.as_secs_f64(),
            enforce: law.enforce,
            arrived: 0,
            accepted: 0,
            refused: 0,
            over: 0,
            windows_over: 0,
            peak: 0,
            windows: VecDeque::new(),
        };
        Self { law: law.clone(), period, count, window: None, report }
    }

    /// The law.
    pub(super) fn law(&self) -> &Law {
        &self.law
    }

    /// What it has seen.
    pub(super) fn report(&self) -> &LawReport {
        &self.report
    }

    /// Whether `cost` units would fit at `now` (µs since the start): 0, or the µs until they would.
    pub(super) fn wait(&mut self, now: u64, cost: u64) -> u64 {
        self.advance(now);
        let limit = self.law.limit;
        match &self.count {
            Count::Bucket { credit, .. } => {
                let lacking = i128::from(cost) * i128::from(self.period) - credit;
                let wait = lacking.max(0).unsigned_abs().div_ceil(u128::from(limit.max(1)));
                u64::try_from(wait).unwrap_or(u64::MAX)
            }
            Count::Fixed { used } if used.saturating_add(cost) <= limit => 0,
            Count::Fixed { .. } => self.period - self.since_phase(now) % self.period,
            Count::Sliding { used, charges } => {
                let mut lacking = used.saturating_add(cost).saturating_sub(limit);
                let mut wait = 0;
                for (at, charged) in charges {
                    if lacking == 0 {
                        break;
                    }
                    lacking = lacking.saturating_sub(*charged);
                    wait = at + self.period - now;
                }
                // Nothing that ages can make room for what is above the limit itself.
                if lacking == 0 { wait } else { self.period }
            }
        }
    }

    /// Books a call of `cost` units that was found to be over the limit or not, and then let in
    /// or refused.
    pub(super) fn record(&mut self, now: u64, cost: u64, call: Call) {
        self.advance(now);
        let report = &mut self.report;
        report.arrived += cost;
        let share = if call.refused { &mut report.refused } else { &mut report.accepted };
        *share += cost;
        if let Some(window) = report.windows.back_mut() {
            window.arrived += cost;
            window.accepted += if call.refused { 0 } else { cost };
            report.windows_over += u64::from(call.over && window.over == 0);
            window.over += u64::from(call.over);
        }
        report.over += u64::from(call.over);
        if !call.refused || self.law.count_refused || !self.law.enforce {
            self.charge(now, cost);
        }
    }

    /// Units left at `now`, and µs until all are back.
    pub(super) fn remaining(&mut self, now: u64) -> (u64, u64) {
        self.advance(now);
        let used = self.used();
        let full_again = match &self.count {
            Count::Bucket { .. } => {
                let micros = u128::from(used) * u128::from(self.period) / u128::from(self.law.limit.max(1));
                u64::try_from(micros).unwrap_or(u64::MAX)
            }
            Count::Fixed { .. } => self.period - self.since_phase(now) % self.period,
            Count::Sliding { charges, .. } => charges.back().map_or(0, |(at, _)| at + self.period - now),
        };
        (self.law.limit.saturating_sub(used), full_again)
    }

    fn used(&self) -> u64 {
        match &self.count {
            Count::Bucket { credit, .. } => {
                let drawn = size(&self.law) * i128::from(self.period) - credit;
                u64::try_from(drawn.max(0).unsigned_abs().div_ceil(u128::from(self.period)))
                    .unwrap_or(u64::MAX)
            }
            Count::Fixed { used } | Count::Sliding { used, .. } => *used,
        }
    }

    fn charge(&mut self, now: u64, cost: u64) {
        match &mut self.count {
            Count::Bucket { credit, .. } => *credit -= i128::from(cost) * i128::from(self.period),
            Count::Fixed { used } => *used += cost,
            Count::Sliding { used, charges } => {
                *used += cost;
                charges.push_back((now, cost));
            }
        }
        self.report.peak = self.report.peak.max(self.used());
    }

    fn advance(&mut self, now: u64) {
        let period = self.period;
        let index = self.since_phase(now) / period;
        let turned = self.window != Some(index);
        if turned {
            self.window = Some(index);
            self.start_window(index);
        }
        match &mut self.count {
            Count::Bucket { credit, at } => {
                let filled = i128::from(now.saturating_sub(*at)) * i128::from(self.law.limit);
                *credit = (*credit + filled).min(size(&self.law) * i128::from(period));
                *at = now.max(*at);
            }
            Count::Fixed { used } if turned => *used = 0,
            Count::Fixed { .. } => {}
            Count::Sliding { used, charges } => {
                while let Some((_, cost)) = charges.pop_front_if(|(at, _)| *at + period <= now) {
                    *used -= cost;
                }
            }
        }
    }

    fn start_window(&mut self, index: u64) {
        // The first window is the one before the phase, so that nothing comes before it.
        let start = (index * self.period) as f64 - (self.period - self.phase()) as f64;
        let windows = &mut self.report.windows;
        if windows.len() == WINDOWS_KEPT {
            windows.pop_front();
        }
        windows.push_back(WindowReport { start_seconds: start / 1e6, arrived: 0, accepted: 0, over: 0 });
    }

    fn phase(&self) -> u64 {
        self.law.phase.micros() % self.period
    }

    fn since_phase(&self, now: u64) -> u64 {
        now + self.period - self.phase()
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// It did not fit under this law.
    pub(super) over: bool,
    /// It was refused, by this law or for another reason.
    pub(super) refused: bool,
}

fn size(law: &Law) -> i128 {
    i128::from(law.burst.unwrap_or(law.limit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::span::Span;
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Brings calls at these moments, and tells which were let in.
    fn bring(law: &Law, calls: &[(u64, u64)]) -> (Vec<bool>, LawReport) {
        let mut book = Book::open(law);
        let mut let_in = Vec::new();
        for (at, cost) in calls {
            let over = book.wait(*at, *cost) > 0;
            let refused = over && law.enforce;
            book.record(*at, *cost, Call { over, refused });
            let_in.push(!refused);
        }
        (let_in, book.report().clone())
    }

    fn law(kind: LawKind, limit: u64, seconds: u64) -> Law {
        Law::requests(kind, limit, Span::from_secs(seconds))
    }

    #[test]
    fn a_bucket_starts_full_and_fills_evenly() {
        let law = law(LawKind::Bucket, 2, 10);
        let at = [0, 0, 0, 5 * SECOND - 1, 5 * SECOND, 60 * SECOND, 60 * SECOND, 60 * SECOND];
        let (let_in, report) = bring(&law, &at.map(|at| (at, 1)));
        assert_eq!(let_in, [true, true, false, false, true, true, true, false]);
        assert_eq!((report.arrived, report.accepted, report.over, report.windows_over), (8, 5, 3, 2));
        assert_eq!(Book::open(&law).wait(0, 3), 5 * SECOND);
    }

    #[test]
    fn fixed_windows_start_at_their_phase() {
        let law = Law { phase: Span::from_secs(3), ..law(LawKind::Fixed, 1, 10) };
        let at = [2, 3, 12, 13].map(|at| (at * SECOND, 1));
        let (let_in, report) = bring(&law, &at);
        assert_eq!(let_in, [true, true, false, true]);
        let starts: Vec<f64> = report.windows.iter().map(|window| window.start_seconds).collect();
        assert_eq!(starts, [-7.0, 3.0, 13.0]);
        let mut book = Book::open(&law);
        book.record(4 * SECOND, 1, Call { over: false, refused: false });
        assert_eq!(book.wait(5 * SECOND, 1), 8 * SECOND);
    }

    #[test]
    fn a_sliding_window_forgets_after_its_period() {
        let law = law(LawKind::Sliding, 2, 10);
        let at = [0, 4 * SECOND, 9 * SECOND, 10 * SECOND - 1, 10 * SECOND, 14 * SECOND];
        let (let_in, report) = bring(&law, &at.map(|at| (at, 1)));
        assert_eq!(let_in, [true, true, false, false, true, true]);
        assert_eq!(report.peak, 2);
    }

    #[test]
    fn a_watching_law_charges_everything() {
        let law = law(LawKind::Sliding, 2, 10).watching();
        let (let_in, report) = bring(&law, &[(0, 1), (1, 1), (2, 1), (3, 1)]);
        assert_eq!(let_in, [true; 4]);
        assert_eq!((report.over, report.peak, report.windows_over), (2, 4, 1));
    }

    #[test]
    fn what_is_left_is_told() {
        for (kind, back) in [(LawKind::Bucket, 15), (LawKind::Fixed, 56), (LawKind::Sliding, 60)] {
            let mut book = Book::open(&law(kind, 4, 60));
            book.record(4 * SECOND, 1, Call { over: false, refused: false });
            assert_eq!(book.remaining(4 * SECOND), (3, back * SECOND), "{kind:?}");
        }
    }

    proptest! {
        /// Whatever arrives, an enforced law lets in no more than its definition allows, and
        /// what it says to wait is exactly enough.
        #[test]
        fn no_law_is_ever_exceeded(
            kind in prop_oneof![Just(LawKind::Bucket), Just(LawKind::Fixed), Just(LawKind::Sliding)],
            limit in 1_u64..20,
            gaps in prop::collection::vec((0_u64..2 * SECOND, 1_u64..5), 1..120),
        ) {
            let law = law(kind, limit, 10);
            let mut book = Book::open(&law);
            let (mut now, mut accepted) = (0, Vec::new());
            for (gap, cost) in gaps {
                now += gap;
                let wait = book.wait(now, cost);
                let refused = wait > 0;
                book.record(now, cost, Call { over: refused, refused });
                if !refused {
                    accepted.push((now, cost));
                } else if cost <= limit {
                    prop_assert!(book.clone().wait(now + wait - 1, cost) > 0);
                    prop_assert_eq!(book.clone().wait(now + wait, cost), 0);
                }
            }
            for (index, (start, _)) in accepted.iter().enumerate() {
                let within = |length: u64| -> u64 {
                    accepted[index..].iter().filter(|(at, _)| at - start < length).map(|(_, cost)| cost).sum()
                };
                match kind {
                    LawKind::Sliding => prop_assert!(within(10 * SECOND) <= limit),
                    LawKind::Bucket => for seconds in [1, 5, 10, 40] {
                        prop_assert!(within(seconds * SECOND) <= limit + limit * seconds / 10 + 1);
                    },
                    LawKind::Fixed => {
                        let window = start / (10 * SECOND);
                        let sum: u64 = accepted.iter().filter(|(at, _)| at / (10 * SECOND) == window).map(|(_, cost)| cost).sum();
                        prop_assert!(sum <= limit);
                    }
                }
            }
        }
    }
}
