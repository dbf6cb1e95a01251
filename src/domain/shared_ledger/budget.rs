//! One budget's row of the ledger, and the laws that it goes by.

use std::collections::BTreeMap;

use super::day::Day;
use super::pace::Pace;
use super::window::{Layout, Window};
use crate::domain::exchange::{BudgetAsk, BudgetGrant, HORIZON, Settled, Slots, Spending};

/// How far back a grant may start, so that an exchange that comes late costs nothing.
const LATE: i64 = 50_000;
/// How long after its moment a slot that was given back may still be handed out.
const REUSABLE: i64 = 200_000;
/// The furthest ahead that any moment of a paced budget lies; also never more than two periods.
const FURTHEST: i64 = 120_000_000;
/// The most that one wait for the sum is made up for, as a part of the period.
const CAUGHT_UP_PART: i64 = 10;
/// How far apart the end of a run and the arrival time may be by rounding, and still be the same.
const ROUNDING: i64 = 2;
/// The most units that one number may say.
const MOST_UNITS: u64 = 1_000_000_000_000;
/// The longest that a period may be stretched to.
const LONGEST: u64 = 10_000_000_000;

/// What was charged.
#[derive(Clone, Debug)]
enum Charged {
    Window(Window),
    Day(Day),
}

/// A budget as all workers share it.
#[derive(Clone, Debug)]
pub(super) struct SharedBudget {
    /// The theoretical arrival time: when the next new slot is due.
    time: i64,
    /// How far the arrival time may lie behind a grant and be made up for.
    credit: i64,
    /// Since when only the sum keeps a grant back.
    held: Option<i64>,
    charged: Charged,
    /// Slots given back that are still usable: the first one's moment, and how many.
    returned: BTreeMap<i64, i64>,
}

/// What an ask comes to.
#[derive(Clone, Copy, Debug)]
struct Terms {
    limit: i64,
    need: i64,
    want: i64,
    pace: Pace,
    period: i64,
    /// Whether its calls weigh differently and are settled later.
    weighs: bool,
}

impl Terms {
    fn of(ask: &BudgetAsk) -> Self {
        let (limit, need) = (units(ask.limit).max(1), units(ask.need));
        let stretched = match ask.spending {
            Spending::Paced { stretched_us } => stretched_us.clamp(1, LONGEST).cast_signed(),
            Spending::Rolling | Spending::Daily { .. } => 1,
        };
        let pace = Pace { limit, stretched };
        let weighs = ask.name.dimension.is_settled();
        Self { limit, need, want: units(ask.want).max(need), pace, period: ask.name.period_us, weighs }
    }

    /// What may count so that a head of `need` fits; one above the limit waits for an empty window.
    fn target(&self) -> i64 {
        self.limit - self.need.min(self.limit)
    }
}

impl SharedBudget {
    /// One that nothing is known of. A paced one goes on as if it had been used evenly: nothing bursts, and an even
    /// use is not slowed down. Requests are held by the pace alone, so that their sum may begin empty.
    pub(super) fn new(ask: &BudgetAsk, now: i64) -> Self {
        let terms = Terms::of(ask);
        let mut charged = Charged::new(ask, terms.limit, now);
        if let (Charged::Window(window), Spending::Paced { .. }) = (&mut charged, ask.spending)
            && terms.weighs
        {
            window.fill(terms.limit, now);
        }
        Self { time: now, credit: 0, held: None, charged, returned: BTreeMap::new() }
    }

    /// One exchange. `is_new`: its `unused` and `settled` were not taken before.
    pub(super) fn exchange(&mut self, ask: &BudgetAsk, is_new: bool, now: i64) -> BudgetGrant {
        let terms = Terms::of(ask);
        let is_paced = matches!(ask.spending, Spending::Paced { .. });
        self.advance(ask, &terms, now);
        if is_new {
            let mut unused = ask.unused.clone();
            // Runs that follow each other move the arrival time back one by one.
            unused.sort_by_key(|slots| std::cmp::Reverse(slots.at_us));
            for slots in &unused {
                self.give_back(*slots, &terms, is_paced, now);
            }
            for settled in &ask.settled {
                self.settle(*settled, &terms, is_paced, now);
            }
        }
        let mut grant = match (terms.need, is_paced) {
            (0, _) => BudgetGrant::default(),
            (_, true) => self.grant_paced(&terms, now),
            (_, false) => self.grant_counted(&terms, now),
        };
        grant.used = u64::try_from(self.charged.sum()).unwrap_or(0);
        grant
    }

    /// Forgets what is over, and what a clock that was set back left in the future.
    fn advance(&mut self, ask: &BudgetAsk, terms: &Terms, now: i64) {
        match (&mut self.charged, ask.spending) {
            (Charged::Day(day), Spending::Daily { starts }) => day.advance(starts, now),
            (Charged::Window(window), spending) if window.layout.is_of(ask, terms.limit) => {
                debug_assert!(!matches!(spending, Spending::Daily { .. }));
                window.advance(now);
            }
            // Spent in another way from now on: what counted counts as charged now.
            _ => {
                let sum = self.charged.sum();
                self.charged = Charged::new(ask, terms.limit, now);
                self.charged.add(now, sum);
            }
        }
        let furthest = now + FURTHEST.min(2 * terms.period);
        self.time = self.time.min(furthest);
        self.held = self.held.map(|since| since.min(now));
        self.returned
            .retain(|at, units| *at + terms.pace.span_of(*units) > now - REUSABLE && *at <= furthest);
    }

    /// Takes slots back: they were not used.
    fn give_back(&mut self, slots: Slots, terms: &Terms, is_paced: bool, now: i64) {
        let (at, units) = (slots.at_us, units(slots.units));
        if units == 0 {
            return;
        }
        let end = if is_paced { at + terms.pace.span_of(units) } else { at };
        self.charged.take_back(at, end, units);
        if !is_paced {
            return;
        }
        if (end - self.time).abs() <= ROUNDING {
            self.time = at;
        } else if end > now - REUSABLE {
            *self.returned.entry(at).or_default() += units;
        }
    }

    /// A call used more or less than it was charged.
    fn settle(&mut self, settled: Settled, terms: &Terms, is_paced: bool, now: i64) {
        let change = units(settled.change.unsigned_abs());
        if settled.change < 0 {
            let refund = terms.pace.refund_of(change);
            let until = if is_paced { settled.at_us + refund } else { settled.at_us };
            self.charged.take_back(settled.at_us, until, change);
            // A request is over with its start: what is given back of it later is no room for another one, for the
            // pace alone holds their limit.
            if is_paced && terms.weighs {
                let before = (now - self.time).max(0);
                self.time -= refund;
                let gained = (now - self.time).max(0) - before;
                self.credit = (self.credit + gained).min(terms.period);
            }
        } else if change > 0 {
            self.charged.add(now, change);
            if is_paced {
                let cost = terms.pace.span_of(change);
                let covered = cost.min(self.credit);
                self.credit -= covered;
                self.time += covered;
                if cost > covered {
                    self.time = self.time.max(now) + (cost - covered);
                }
            }
        }
    }

    /// As many as fit at once.
    fn grant_counted(&mut self, terms: &Terms, now: i64) -> BudgetGrant {
        let at = match &mut self.charged {
            Charged::Window(window) => window.when_at_most(terms.target(), now),
            Charged::Day(day) if day.sum <= terms.target() && !day.is_closing(now) => now,
            Charged::Day(day) => return BudgetGrant::refused(day.end()),
        };
        if at > now + HORIZON {
            return BudgetGrant::refused(at - HORIZON);
        }
        let room = terms.limit - self.charged.sum_at(at);
        let granted = terms.want.min(room).max(terms.need);
        self.charged.add(at, granted);
        BudgetGrant { slots: vec![slots(at, granted)], ..BudgetGrant::default() }
    }

    /// Slots that were given back, then new ones.
    ///
    /// Requests are alike, so their slots are never closer together than the pace has it, and a limit's worth of them
    /// never falls within a period: their sum need not bind. Calls that weigh differently are bound by the sum too,
    /// and all that is granted is looked at as if it were used with the first of it.
    fn grant_paced(&mut self, terms: &Terms, now: i64) -> BudgetGrant {
        let latest = now + HORIZON;
        let (mut start, mut reused, mut room) = (self.time.max(now - LATE), i64::MAX, i64::MAX);
        if terms.weighs {
            let fits = self.charged.when_at_most(terms.target(), now);
            let due = self.time.max(now);
            if fits > due {
                self.held = Some(self.held.map_or(due, |since| since.min(due)));
            }
            if fits > now {
                start = start.max(fits);
            }
            reused = if fits > now { 0 } else { terms.limit - self.charged.sum() };
            room = terms.limit - self.charged.sum_at(start);
        }
        reused = self.returned_until(latest, terms.pace, now).min(reused).min(terms.want);
        let rest = (terms.need - reused).max(0);
        if rest > 0 && start > latest {
            return BudgetGrant::refused(start - HORIZON);
        }
        let due = terms.pace.due_before(latest - start + 1);
        let new = due.min(room.saturating_sub(reused)).min(terms.want - reused).max(rest);
        // What may be used early, with the first of its call, must not count from a moment that is over as well.
        let earliest = if terms.weighs { now } else { i64::MIN };
        let mut granted = self.reuse(reused, terms.pace, (now, earliest));
        if new > 0 {
            self.take(start, new, terms);
            // A head's units count together; the others not before they are due.
            let (heavy, counts) = (if terms.weighs { rest } else { 0 }, start.max(earliest));
            self.charged.add(counts, heavy);
            self.charged.spread(counts + terms.pace.span_of(heavy), new - heavy, terms.pace);
            granted.push(slots(start, new));
        }
        BudgetGrant { slots: granted, ..BudgetGrant::default() }
    }

    /// Moves the arrival time for new slots.
    fn take(&mut self, start: i64, new: i64, terms: &Terms) {
        if let Some(since) = self.held.take() {
            // Waiting for the sum is no reason to go slower afterwards: the sum is the limit.
            self.credit += (start - since).clamp(0, terms.period / CAUGHT_UP_PART);
        }
        let behind = (start - self.time).max(0);
        let made_up = if behind <= terms.period { self.credit.min(behind) } else { 0 };
        self.time = start + terms.pace.span_of(new) - made_up;
        // A light call does not use it up.
        self.credit = self.credit.min((start - self.time).max(0));
    }

    /// How many of the slots given back are due up to a moment and usable still.
    fn returned_until(&self, latest: i64, pace: Pace, now: i64) -> i64 {
        let usable = |(at, units): (&i64, &i64)| {
            let past = pace.due_before(now - REUSABLE - *at);
            let from = *at + pace.span_of(past);
            pace.due_before(latest - from + 1).min(units - past).max(0)
        };
        self.returned.iter().map(usable).sum()
    }

    /// Hands out so many of the slots given back, the earliest first; they count from `earliest` on at the earliest.
    fn reuse(&mut self, units: i64, pace: Pace, (now, earliest): (i64, i64)) -> Vec<Slots> {
        let (mut left, mut granted) = (units, Vec::new());
        let latest = now + HORIZON;
        for (at, held) in std::mem::take(&mut self.returned) {
            let past = pace.due_before(now - REUSABLE - at).min(held);
            let from = at + pace.span_of(past);
            let taken = pace.due_before(latest - from + 1).min(held - past).min(left).max(0);
            if taken == 0 {
                *self.returned.entry(at).or_default() += held;
                continue;
            }
            left -= taken;
            self.charged.spread(from.max(earliest), taken, pace);
            granted.push(slots(from, taken));
            if held - past > taken {
                *self.returned.entry(from + pace.span_of(taken)).or_default() += held - past - taken;
            }
        }
        granted
    }
}

impl Charged {
    fn new(ask: &BudgetAsk, limit: i64, now: i64) -> Self {
        match (Layout::of(&ask.name, limit, ask.spending), ask.spending) {
            (Some(layout), _) => Self::Window(Window::new(layout, now)),
            (None, Spending::Daily { starts }) => Self::Day(Day::new(starts, now)),
            (None, _) => Self::Day(Day::new(0, now)),
        }
    }

    fn sum(&self) -> i64 {
        match self {
            Self::Window(window) => window.sum(),
            Self::Day(day) => day.sum,
        }
    }

    fn sum_at(&mut self, moment: i64) -> i64 {
        match self {
            Self::Window(window) => window.sum_at(moment),
            Self::Day(day) => day.sum,
        }
    }

    fn when_at_most(&mut self, target: i64, now: i64) -> i64 {
        match self {
            Self::Window(window) => window.when_at_most(target, now),
            Self::Day(_) => now,
        }
    }

    fn add(&mut self, at: i64, units: i64) {
        match self {
            Self::Window(window) => window.add(at, units),
            Self::Day(day) => day.sum += units,
        }
    }

    fn spread(&mut self, at: i64, units: i64, pace: Pace) {
        match self {
            Self::Window(window) => window.spread(at, units, pace),
            Self::Day(day) => day.sum += units,
        }
    }

    fn take_back(&mut self, at: i64, until: i64, units: i64) {
        match self {
            Self::Window(window) => window.take_back(at, until, units),
            Self::Day(day) if day.holds(at) => day.sum = (day.sum - units).max(0),
            Self::Day(_) => {}
        }
    }
}

impl BudgetGrant {
    fn refused(until: i64) -> Self {
        Self { not_before_us: Some(until), ..Self::default() }
    }
}

fn units(count: u64) -> i64 {
    count.min(MOST_UNITS).cast_signed()
}

fn slots(at_us: i64, units: i64) -> Slots {
    Slots { at_us, units: units.unsigned_abs() }
}
