//! The laws of the ledger.

use std::sync::Arc;

use proptest::prelude::*;

use super::SharedLedger;
use super::script::{Habits, Script, Subject, fullest, steps};
use crate::domain::exchange::{
    Ask, BudgetAsk, BudgetGrant, BudgetName, HORIZON, PlacesAsk, Settled, Slots, Spending,
};
use crate::domain::limits::Dimension;
use crate::domain::worker::WorkerKey;

const START: i64 = 1_700_000_000_000_000;
const SECOND: i64 = 1_000_000;

fn name(dimension: Dimension, period_us: i64) -> BudgetName {
    BudgetName { level: Arc::from("lane/a/b"), dimension, period_us }
}

fn paced(period_us: i64) -> Spending {
    let period = period_us.unsigned_abs();
    Spending::Paced { stretched_us: (period + 325_000).max(period * 10_000 / 9_950) }
}

fn ask(name: BudgetName, limit: u64, spending: Spending, need: u64, want: u64) -> BudgetAsk {
    BudgetAsk { name, limit, spending, need, want, unused: Vec::new(), settled: Vec::new() }
}

/// A ledger with one budget, and its worker's numbers.
struct Desk {
    ledger: SharedLedger,
    number: u64,
}

impl Desk {
    fn new() -> Self {
        Self { ledger: SharedLedger::default(), number: 0 }
    }

    fn exchange(&mut self, budget: &BudgetAsk, now: i64) -> BudgetGrant {
        self.number += 1;
        let ask = Ask { number: self.number, budgets: vec![budget.clone()], ..Ask::default() };
        self.ledger.exchange(WorkerKey(1), &ask, now).budgets.remove(0)
    }
}

fn units(grant: &BudgetGrant) -> u64 {
    grant.slots.iter().map(|slots| slots.units).sum()
}

fn subjects() -> impl Strategy<Value = Vec<Subject>> {
    let periods = prop_oneof![Just(SECOND), Just(3 * SECOND), Just(10 * SECOND)];
    let requests = (5_u64..3_000, periods.clone());
    let requests = requests.prop_map(|(limit, period)| Subject {
        name: name(Dimension::Requests, period),
        limit,
        spending: paced(period),
        heaviest: 1,
    });
    let tokens = (100_u64..2_000_000, periods);
    let tokens = tokens.prop_map(|(limit, period)| Subject {
        name: name(Dimension::Tokens, period),
        limit,
        spending: paced(period),
        heaviest: limit / 5,
    });
    let rolling = (10_u64..1_000, Just(20 * SECOND)).prop_map(|(limit, period)| Subject {
        name: name(Dimension::Tokens, period),
        limit,
        spending: Spending::Rolling,
        heaviest: limit / 5,
    });
    prop_oneof![requests, tokens, rolling].prop_map(|subject| vec![subject])
}

proptest! {
    /// Whoever asks, gives back and settles, and however late the calls arrive.
    #[test]
    fn no_period_holds_more_than_the_limit(
        subjects in subjects(),
        steps in steps(4, 400),
        changes in any::<bool>(),
    ) {
        let habits = Habits { grows: false, changes };
        let mut script = Script::new(subjects.clone(), 4, habits);
        let (mut ledger, mut now) = (SharedLedger::default(), START);
        let mut changed = START;
        for step in &steps {
            now += step.pause;
            let limit = script.subjects[0].limit;
            let ask = script.ask(*step);
            if script.subjects[0].limit != limit {
                changed = now;
            }
            let answer = ledger.exchange(WorkerKey(step.worker as i64), &ask, now);
            script.take(*step, &ask, &answer);
        }
        let period = subjects[0].name.period_us;
        // A lower limit holds a period after everybody knows it.
        let since = if changed > START { changed + HORIZON + period } else { START };
        let most = fullest(&script.arrived[0], period, since);
        prop_assert!(most <= script.subjects[0].limit, "{most} of {}", script.subjects[0].limit);
        let most = fullest(&script.arrived[0], period, START);
        prop_assert!(most <= subjects[0].limit, "{most} of {}", subjects[0].limit);
    }

    #[test]
    fn places_are_never_more_than_there_are(
        limit in 1_u32..40,
        asks in proptest::collection::vec((0_i64..5, 0_u32..30, 0_u32..30), 1..200),
    ) {
        let mut ledger = SharedLedger::default();
        let mut held = [0_u32; 5];
        for (worker, used, more) in asks {
            // Nobody uses more than it holds.
            let used = used.min(held[worker as usize]);
            let places = vec![PlacesAsk { level: Arc::from("l"), limit, used, want: used + more }];
            let ask = Ask { places, ..Ask::default() };
            held[worker as usize] = ledger.exchange(WorkerKey(worker), &ask, START).places[0];
            prop_assert!(held.iter().sum::<u32>() <= limit, "{held:?} of {limit}");
        }
    }
}

/// What eager workers get in ten minutes after the first, as a part of the pace.
fn steady_use(workers: i64, limit: u64, dimension: Dimension, need: u64) -> f64 {
    let (spending, mut ledger) = (paced(60 * SECOND), SharedLedger::default());
    let mut granted = 0;
    let step = 200_000 / workers;
    for turn in 0..(660 * SECOND / step) {
        let budget = ask(name(dimension, 60 * SECOND), limit, spending, need, need.max(limit));
        let ask = Ask { budgets: vec![budget], ..Ask::default() };
        // No two exchanges take the same time.
        let now = START + turn * step + turn * 7_919 % 3_001;
        let grant = ledger.exchange(WorkerKey(turn % workers), &ask, now).budgets.remove(0);
        if turn * step >= 60 * SECOND {
            granted += units(&grant);
        }
    }
    let Spending::Paced { stretched_us } = spending else { return 0.0 };
    granted as f64 / (limit as f64 * 600e6 / stretched_us as f64)
}

#[test]
fn who_asks_in_time_gets_the_whole_pace() {
    for workers in [1, 4, 16] {
        for (limit, dimension, need) in [
            (60, Dimension::Requests, 1),
            (6_000, Dimension::Requests, 1),
            (600_000, Dimension::Requests, 1),
            (60_000, Dimension::Tokens, 20),
            (2_000_000, Dimension::Tokens, 1_000),
        ] {
            let used = steady_use(workers, limit, dimension, need);
            println!("{workers} workers, {limit} {dimension:?}: {used:.4}");
            assert!((0.99..=1.001).contains(&used), "{workers} workers, {limit} {dimension:?}: {used:.4}");
        }
    }
}

#[test]
fn the_same_number_is_taken_once() {
    let mut desk = Desk::new();
    let budget = ask(name(Dimension::Tokens, 3_600 * SECOND), 100, Spending::Rolling, 60, 60);
    let grant = desk.exchange(&budget, START);
    assert_eq!((units(&grant), grant.used), (60, 60));
    let again = BudgetAsk { need: 0, want: 0, unused: vec![Slots { units: 20, ..grant.slots[0] }], ..budget };
    assert_eq!(desk.exchange(&again, START).used, 40);
    desk.number -= 1;
    assert_eq!(desk.exchange(&again, START).used, 40);
    desk.ledger.restart(WorkerKey(1));
    desk.number = 0;
    assert_eq!(desk.exchange(&again, START).used, 20, "a new start counts from 1");
}

#[test]
fn what_is_given_back_in_order_moves_the_arrival_time() {
    let mut desk = Desk::new();
    let budget = ask(name(Dimension::Requests, 60 * SECOND), 6_000, paced(60 * SECOND), 1, 100);
    let first = desk.exchange(&budget, START);
    let second = desk.exchange(&budget, START + 100_000);
    let unused = vec![first.slots[0], second.slots[0]];
    let third = desk.exchange(&BudgetAsk { unused, ..budget.clone() }, START + 100_000);
    assert_eq!(third.slots.len(), 1, "{third:?}");
    assert_eq!(third.slots[0].at_us, START + 50_000);
    assert_eq!(third.used, units(&third));
}

#[test]
fn what_is_given_back_between_others_is_handed_out_first() {
    let mut desk = Desk::new();
    let budget = ask(name(Dimension::Requests, 60 * SECOND), 6_000, paced(60 * SECOND), 1, 10);
    let first = desk.exchange(&budget, START);
    let second = desk.exchange(&budget, START);
    assert_eq!((units(&first), units(&second)), (10, 10));
    let mut again = BudgetAsk { need: 0, want: 0, unused: first.slots, ..budget.clone() };
    desk.exchange(&again, START + 20_000);
    again = BudgetAsk { need: 1, want: 4, unused: Vec::new(), ..budget };
    let third = desk.exchange(&again, START + 30_000);
    assert_eq!(third.slots, [Slots { at_us: START, units: 4 }]);
    let late = desk.exchange(&again, START + 260_000);
    assert_eq!(late.slots[0].units, 4, "three of them are 200 ms past by now: {late:?}");
    assert!(late.slots[0].at_us >= START + 60_000, "{late:?}");
}

#[test]
fn a_heavy_head_passes_whole_and_is_paid_off_later() {
    let mut desk = Desk::new();
    let minute = 60 * SECOND;
    let budget = ask(name(Dimension::Tokens, minute), 60_000, paced(minute), 6_000, 6_000);
    // Nothing is known of the minute before: it is taken as full.
    let refused = desk.exchange(&budget, START);
    let until = refused.not_before_us.unwrap();
    assert!(refused.slots.is_empty() && (5..7).contains(&((until - START) / SECOND)), "{refused:?}");
    let granted = desk.exchange(&budget, until);
    assert_eq!(granted.slots, [Slots { at_us: until + HORIZON, units: 6_000 }]);
    let next = desk.exchange(&budget, until + HORIZON);
    assert!(next.not_before_us.unwrap() >= until + 5 * SECOND, "{next:?}");
}

#[test]
fn what_was_not_used_may_be_made_up_for() {
    let mut desk = Desk::new();
    let minute = 60 * SECOND;
    let budget = ask(name(Dimension::Tokens, minute), 60_000, paced(minute), 1, 1);
    let asked = |need, settled| BudgetAsk { need, want: need, settled, ..budget.clone() };
    desk.exchange(&asked(1, Vec::new()), START);
    let now = START + 61 * SECOND;
    let slot = desk.exchange(&asked(6_000, Vec::new()), now).slots[0];
    let settled = vec![Settled { at_us: slot.at_us, change: -6_000 }];
    desk.exchange(&asked(0, settled), now + 10 * SECOND);
    // Ten seconds behind, of which six are made up for.
    for _ in 0..6 {
        let grant = desk.exchange(&asked(1_000, Vec::new()), now + 10 * SECOND);
        assert_eq!(units(&grant), 1_000, "{grant:?}");
    }
    desk.exchange(&asked(1_000, Vec::new()), now + 10 * SECOND);
    let over = desk.exchange(&asked(1_000, Vec::new()), now + 10 * SECOND);
    assert!(over.slots.is_empty(), "{over:?}");
}

#[test]
fn new_units_of_a_head_count_from_the_first_of_them_on() {
    let mut desk = Desk::new();
    let budget = ask(name(Dimension::Tokens, SECOND), 1_000, paced(SECOND), 1, 1);
    let asked = |need, unused| BudgetAsk { need, want: need, unused, ..budget.clone() };
    desk.exchange(&asked(0, Vec::new()), START);
    let now = START + 5 * SECOND;
    let slots = desk.exchange(&asked(100, Vec::new()), now).slots;
    // It is not the last run any more when it is given back.
    desk.exchange(&asked(100, Vec::new()), now);
    let granted = desk.exchange(&asked(400, slots.clone()), now).slots;
    assert_eq!((granted[0], granted[1].units, granted.len()), (slots[0], 300, 2));
    assert!(granted[1].at_us > now + SECOND / 10, "{granted:?}");
    // The new ones may be used as long after that as others, so they count as long as others that are due then.
    let nearly_over = granted[1].at_us + SECOND + 290_000;
    assert_eq!(desk.exchange(&asked(0, Vec::new()), nearly_over).used, 300);
}

#[test]
fn what_was_used_beyond_the_charge_is_a_debt() {
    let mut desk = Desk::new();
    let budget = ask(name(Dimension::Tokens, 60 * SECOND), 60_000, paced(60 * SECOND), 1, 1);
    desk.exchange(&budget, START);
    let now = START + 61 * SECOND;
    let settled = vec![Settled { at_us: now, change: 3_000 }];
    let over = desk.exchange(&BudgetAsk { settled, ..budget }, now);
    assert!((2 * SECOND..4 * SECOND).contains(&(over.not_before_us.unwrap() - now)), "{over:?}");
}

#[test]
fn a_day_starts_anew_at_its_hour_and_not_before() {
    let day = 86_400 * SECOND;
    let mut desk = Desk::new();
    let midnight = START - START % day;
    let budget = ask(name(Dimension::Requests, day), 10, Spending::Daily { starts: 7 * 3_600 }, 4, 20);
    let evening = midnight + 20 * 3_600 * SECOND;
    assert_eq!(desk.exchange(&budget, evening).slots, [Slots { at_us: evening, units: 10 }]);
    let next = midnight + day + 7 * 3_600 * SECOND;
    assert_eq!(desk.exchange(&budget, evening).not_before_us, Some(next));
    let unused = vec![Slots { at_us: evening, units: 10 }];
    let closing = desk.exchange(&BudgetAsk { unused, ..budget.clone() }, next - 200_000);
    assert_eq!((closing.not_before_us, closing.used), (Some(next), 0));
    assert_eq!(units(&desk.exchange(&budget, next)), 10);
}

#[test]
fn a_clock_that_was_set_back_stops_nothing_for_long() {
    for (dimension, limit) in [(Dimension::Requests, 600), (Dimension::Tokens, 60_000)] {
        let mut desk = Desk::new();
        let budget = ask(name(dimension, 60 * SECOND), limit, paced(60 * SECOND), 1, limit);
        for turn in 0..500 {
            desk.exchange(&budget, START + turn * 200_000);
        }
        for back in [30, 100, 3_600, 86_400 * 30] {
            let now = START + 100 * SECOND - back * SECOND;
            let mut desk = Desk { ledger: desk.ledger.clone(), number: desk.number };
            let until = desk.exchange(&budget, now).not_before_us.unwrap_or(now);
            assert!(until <= now + 121 * SECOND, "{dimension:?} {back}: {}", until - now);
            assert!(units(&desk.exchange(&budget, until)) > 0, "{dimension:?} {back}");
        }
    }
}

#[test]
fn the_way_a_budget_is_spent_may_change() {
    let mut desk = Desk::new();
    let day = 86_400 * SECOND;
    let rolling = ask(name(Dimension::Tokens, day), 100, Spending::Rolling, 60, 60);
    assert_eq!(units(&desk.exchange(&rolling, START)), 60);
    let daily = BudgetAsk { spending: Spending::Daily { starts: 0 }, need: 0, ..rolling };
    assert_eq!(desk.exchange(&daily, START).used, 60);
    let huge = BudgetAsk { limit: 5_000_000_000, spending: Spending::Rolling, ..daily };
    assert_eq!(desk.exchange(&huge, START).used, 60);
}
