//! Calls that need units of several limits.

use super::*;

/// The part of what one limit bears in a minute that workers with a backlog use, as the mean of five runs. The lane is
/// one of a provider that has limits of its own.
fn use_of_one(lane: &Limits, provider: &Limits, items: &[Cost], bears: u64, active: usize) -> f64 {
    let (from, end) = (START + MINUTE * 2, START + MINUTE * 6);
    let used = (1..=5).map(|seed| {
        let mut world = World::new(lane, Accounting::Admission, 4, seed);
        (world.runs, world.spread) = (800, 30);
        for worker in &mut world.workers {
            let spec = level(LevelKind::Provider, "p", provider.clone());
            let provider = worker.gate.add_level(spec, worker.local(START));
            worker.path = worker.gate.add_path(&[provider, worker.lane]).unwrap();
        }
        batches(&mut world, active, items);
        world.run(end);
        let limits = [lane, provider].into_iter().flat_map(|limits| &limits.requests);
        for limit in limits.filter(|limit| limit.period == MINUTE) {
            assert!(world.most_calls_within(MINUTE + millis(20)) <= limit.amount);
        }
        if let Some(limit) = lane.tokens.first() {
            assert!(world.most_within(MINUTE + millis(20)) <= limit.amount);
        }
        world.units_between(from, end) as f64 / (bears * 4) as f64
    });
    let used = used.sum::<f64>() / 5.0;
    println!("{used:.4} used on {active} of {lane:?} and {provider:?}");
    used
}

fn requests(amount: u64, seconds: u64) -> Rate {
    Rate { amount, period: Duration::from_secs(seconds) }
}

#[test]
fn requests_over_two_periods_are_used_as_those_over_one() {
    let limits = Limits { requests: vec![requests(6_000, 60), requests(1_000, 10)], ..Limits::default() };
    for active in [1, 2, 4] {
        // The shorter period binds: its calls are kept apart for 10.3 s, since the way to the provider varies by 0.3 s.
        let used = use_of_one(&limits, &Limits::default(), &[CALL], 6_000, active);
        assert!(used >= 0.965, "{used} on {active}");
    }
}

#[test]
fn requests_and_tokens_that_bind_alike_are_both_used() {
    for (calls, least) in [(450, 0.89), (550, 0.92), (600, 0.96), (1_000, 0.98)] {
        let limits = Limits { requests: vec![requests(calls, 60)], ..tokens(2_000_000, MINUTE) };
        for active in [1, 2, 4] {
            let bears = 2_000_000.min(calls * 4_100);
            let used = use_of_one(&limits, &Limits::default(), &super::items(200, 8_000), bears, active);
            assert!(used >= least, "{used} of {calls} on {active}");
        }
    }
}

#[test]
fn limits_of_a_lane_and_of_its_provider_are_used_as_one() {
    for (lane, provider) in [(6_000, 6_000), (6_000, 8_000), (8_000, 6_000)] {
        for active in [2, 4] {
            let used = use_of_one(&per(lane, MINUTE), &per(provider, MINUTE), &[CALL], 6_000, active);
            assert!(used >= 0.985, "{used} on {active} of {lane} and {provider}");
        }
    }
}

#[test]
fn tokens_of_a_lane_are_used_up_beside_requests_of_its_provider() {
    let items = super::items(200, 8_000);
    for active in [2, 4] {
        let used = use_of_one(&tokens(2_000_000, MINUTE), &per(1_000, MINUTE), &items, 2_000_000, active);
        assert!(used >= 0.95, "{used} on {active}");
    }
}

#[test]
fn limits_whose_slots_are_further_apart_than_they_live_are_used_by_several_workers() {
    // Each worker could hold what the other one's call lacks until that is too old, and take it again.
    let items = super::items(200, 8_000);
    for active in [1, 2, 4] {
        for tokens in [60_000, 246_000] {
            let limits = Limits { requests: vec![requests(60, 60)], ..super::tokens(tokens, MINUTE) };
            let used = use_of_one(&limits, &Limits::default(), &items, tokens, active);
            assert!(used >= 0.84, "{used} of {tokens} tokens on {active}");
        }
        let used = use_of_one(&tokens(60_000, MINUTE), &per(60, MINUTE), &items, 60_000, active);
        assert!(used >= 0.84, "{used} beside the provider's calls on {active}");
    }
}

#[test]
fn slots_that_last_longer_or_shorter_after_a_reload_break_no_limit() {
    let alone = per(6_000, MINUTE);
    let paired = Limits { tokens: vec![requests(1_000_000_000, 60)], ..alone.clone() };
    let mut world = World::new(&alone, Accounting::Admission, 4, 1);
    batches(&mut world, 4, &[CALL]);
    for reload in 0..24 {
        let is_paired = reload % 2 == 0;
        for worker in &mut world.workers {
            let now = worker.local(world.now);
            worker.gate.set_limits(worker.lane, if is_paired { &paired } else { &alone }, now);
        }
        // Slots that may be used late are, and those after them are not.
        world.late = if is_paired { 400_000 } else { 1_000 };
        world.run(world.now + Duration::from_secs(20 + 31 * (reload % 3)));
    }
    // The way to the provider varies by 50 ms, which the calls of this world don't.
    let most = world.most_calls_within(MINUTE + millis(70));
    assert!(most <= 6_000, "{most}");
}

/// One exchange of a gate whose clock is the ledger's; tells the units that each of its lines gave back.
fn exchange(gate: &mut Gate, ledger: &mut SharedLedger, now: Timestamp) -> Vec<u64> {
    let ask = gate.ask(now);
    let answer = ledger.exchange(WorkerKey(1), &ask, now.micros());
    gate.exchanged(&answer, 0, now);
    ask.budgets.iter().map(|line| line.unused.iter().map(|slots| slots.units).sum()).collect()
}

#[test]
fn slots_in_hand_go_back_when_slots_last_longer() {
    let alone = per(6_000, MINUTE);
    let paired = Limits { tokens: vec![requests(1_000_000_000, 60)], ..alone.clone() };
    // They were granted as far apart as their shorter life allows: used later, they would come too close to those after.
    for (before, after, goes_back) in [(&alone, &paired, true), (&paired, &alone, false)] {
        let mut ledger = SharedLedger::default();
        let options = GateOptions { shared: true, jitter: millis(300), ..GateOptions::default() };
        let mut gate = Gate::new(options, START);
        let lane = gate.add_level(level(LevelKind::Lane, "p/m", before.clone()), START);
        let path = gate.add_path(&[lane]).unwrap();
        gate.enqueue(Head { interactive: true, ..head(path, 0) }, START).unwrap();
        assert!(gate.poll(START).is_none());
        exchange(&mut gate, &mut ledger, START);
        assert!(gate.poll(START + millis(1)).is_some());
        exchange(&mut gate, &mut ledger, START + millis(60));
        // Some are kept for the next call.
        gate.set_limits(lane, after, START + millis(61));
        let unused = exchange(&mut gate, &mut ledger, START + millis(120));
        assert_eq!(unused.iter().sum::<u64>() > 0, goes_back, "{unused:?} of {before:?}");
    }
}

#[test]
fn what_one_lane_lacks_keeps_no_call_of_another_one_back() {
    let mut ledger = SharedLedger::default();
    let options = GateOptions { shared: true, jitter: millis(300), ..GateOptions::default() };
    let mut gate = Gate::new(options, START);
    let provider = gate.add_level(level(LevelKind::Provider, "p", per(600, MINUTE)), START);
    let narrow = gate.add_level(level(LevelKind::Lane, "p/narrow", per(1, MINUTE)), START);
    let wide = gate.add_level(level(LevelKind::Lane, "p/wide", per(600, MINUTE)), START);
    let narrow = gate.add_path(&[provider, narrow]).unwrap();
    let wide = gate.add_path(&[provider, wide]).unwrap();
    let mut now = START;
    for turn in 0..2 {
        gate.enqueue(head(narrow, turn), now).unwrap();
        assert!(gate.poll(now).is_none());
        exchange(&mut gate, &mut ledger, now);
        now = now + millis(100);
        assert_eq!(gate.poll(now).is_some(), turn == 0, "the second one waits for a minute");
    }
    gate.enqueue(head(wide, 2), now).unwrap();
    assert!(gate.poll(now).is_none());
    assert!(gate.exchange_due(now).is_some_and(|due| due <= now + millis(300)));
    now = now + millis(300);
    exchange(&mut gate, &mut ledger, now);
    let leaves = (0..10).find_map(|step| gate.poll(now + millis(20 * step)));
    assert_eq!(leaves.map(|admitted| admitted.tag), Some(2));
}

#[test]
fn a_higher_limit_is_asked_for_at_once() {
    let hourly = |amount| per(amount, Duration::from_secs(3_600));
    let mut world = World::new(&hourly(50), Accounting::Admission, 1, 1);
    batches(&mut world, 1, &[CALL]);
    world.run(START + MINUTE);
    assert_eq!(world.left.len(), 50);
    let now = world.workers[0].local(world.now);
    let lane = world.workers[0].lane;
    world.workers[0].gate.set_limits(lane, &hourly(80), now);
    world.run(START + MINUTE * 2);
    assert_eq!(world.left.len(), 80, "the ledger refused more for most of an hour");
}

#[test]
fn what_settled_calls_leave_of_a_long_period_is_used_at_once() {
    let limits = Limits { requests: vec![requests(600, 60)], ..tokens(10_000, Duration::from_secs(3_600)) };
    let actual = Accounting::Actual { cached_input_free: true };
    let mut world = World::new(&limits, actual, 1, 1);
    (world.runs, world.uses) = (5_000, 40);
    batches(&mut world, 1, &[Cost { input_tokens: 900, output_tokens: 100, ..CALL }]);
    world.run(START + MINUTE);
    // Ten of them reserve all there is, and use less than half of it.
    let calls = world.left.len();
    assert!(calls >= 20, "{calls}");
}
