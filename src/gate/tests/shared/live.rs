//! Calls that clients wait for.

use super::*;

/// Moments 0.3 to 1.3 s apart, from one on.
fn moments(count: u64, from: Timestamp, seed: u64) -> Vec<Timestamp> {
    let (mut at, mut dice) = (from, Dice(seed));
    let mut next = || {
        at = at + millis(300 + dice.below(1_000));
        at
    };
    (0..count).map(|_| next()).collect()
}

/// Moments at random, so many a second.
fn at_random(per_second: f64, from: Timestamp, until: Timestamp, seed: u64) -> Vec<Timestamp> {
    let (mut at, mut dice, mut moments) = (from, Dice(seed), Vec::new());
    while at < until {
        moments.push(at);
        let part = (dice.below(1_000_000) + 1) as f64 / 1e6;
        at = at + Duration::from_secs_f64(-part.ln() / per_second);
    }
    moments
}

/// How long live calls waited, the longest last.
fn waits(world: &World) -> Vec<Duration> {
    let live = world.left.iter().filter(|left| left.interactive);
    let mut waits: Vec<Duration> = live.map(|left| left.waited).collect();
    waits.sort();
    waits
}

#[test]
fn on_an_idle_budget_it_leaves_at_once_while_a_slot_is_kept() {
    for amount in [60_000, 6_000, 600] {
        let mut world = World::new(&per(amount, MINUTE), Accounting::Admission, 2, 5);
        world.workers[0].interactive(moments(200, START, amount));
        world.run(START + MINUTE * 4);
        let waits = waits(&world);
        assert_eq!(waits.len(), 200);
        assert!(waits[199] <= millis(65), "the first call makes an exchange: {:?}", waits[199]);
        assert_eq!(waits[198], Duration::ZERO, "all others find a slot");
        assert!(world.workers[0].exchanges <= 8 * 180, "{} exchanges", world.workers[0].exchanges);
        // Nobody has come for a while: nothing is kept, and nothing exchanged.
        let exchanges = world.workers[0].exchanges;
        world.run(START + MINUTE * 10);
        assert_eq!(world.workers[0].exchanges, exchanges);
    }
}

#[test]
fn the_next_slot_is_asked_for_a_moment_after_the_call_and_not_beside_it() {
    let mut world = World::new(&per(6_000, MINUTE), Accounting::Admission, 2, 5);
    (world.late, world.delay) = (0, 2_000);
    let (first, second) = (START, START + Duration::from_secs(1));
    world.workers[0].interactive([first, second]);
    world.run(second);
    let exchanges = world.workers[0].exchanges;
    world.run(second + millis(4));
    assert_eq!(world.left.last().map(|left| left.at), Some(second), "it finds a slot");
    assert_eq!(world.workers[0].exchanges, exchanges, "it has the processors for itself");
    world.run(second + millis(6));
    assert_eq!(world.workers[0].exchanges, exchanges + 1);
}

#[test]
fn under_a_backlog_it_waits_for_two_intervals_at_most() {
    for (amount, active) in [(6_000, 1), (6_000, 4), (600, 1), (600, 4)] {
        let mut world = World::new(&per(amount, MINUTE), Accounting::Admission, 4, 5);
        batches(&mut world, active, &[CALL]);
        world.workers[0].interactive(moments(300, START + MINUTE, amount));
        let end = START + MINUTE * 5;
        world.run(end);
        // The first one finds no slot kept.
        let waits = waits(&world);
        let (late, interval) = (waits[waits.len() * 99 / 100 - 1], MINUTE / u32::try_from(amount).unwrap());
        assert!(late <= interval * 2, "{amount} on {active}: {late:?}");
        let used = world.units_between(START + MINUTE, end) as f64 / (amount * 4) as f64;
        assert!(used >= 0.97, "{amount} on {active}: {used}");
        assert!(world.most_within(MINUTE + millis(20)) <= amount);
    }
}

#[test]
fn heavy_live_calls_at_several_workers_use_the_limit() {
    let heavy = Cost { input_tokens: 1_000, output_tokens: 3_100, ..CALL };
    let mut world = World::new(&tokens(2_000_000, MINUTE), Accounting::Admission, 4, 5);
    world.live = vec![heavy];
    let end = START + MINUTE * 5;
    // As many as the limit bears, twice over, and a few more at a third worker.
    for (number, every) in [(0, 123), (1, 123), (2, 1_230)] {
        world.workers[number].interactive((1..300_000 / every).map(|count| START + millis(count * every)));
    }
    world.run(end);
    let used = world.units_between(START + MINUTE, end) as f64 / 8_000_000.0;
    println!("{used:.4} used by live calls");
    assert!(used >= 0.985, "{used}");
    assert!(world.most_within(MINUTE + millis(20)) <= 2_000_000);
}

#[test]
fn workers_that_make_few_calls_leave_the_others_what_they_do_not_need() {
    let end = START + MINUTE * 5;
    for shares in [[1.0, 1.0, 0.1, 0.1], [0.6, 0.6, 0.6, 0.6]] {
        let mut world = World::new(&tokens(2_000_000, MINUTE), Accounting::Admission, 4, 5);
        world.live = items(200, 8_000);
        for (number, share) in shares.iter().enumerate() {
            let per_second = share * 2_000_000.0 / 60.0 / 4_100.0;
            world.workers[number].interactive(at_random(per_second, START, end, number as u64 + 3));
        }
        world.run(end);
        let used = world.units_between(START + MINUTE, end) as f64 / 8_000_000.0;
        println!("{used:.4} used by live calls of {shares:?}");
        assert!(used >= 0.985, "{used} of {shares:?}");
        assert!(world.most_within(MINUTE + millis(20)) <= 2_000_000);
    }
}

#[test]
fn batches_leave_the_slot_that_is_kept_until_it_is_nearly_too_old() {
    let mut world = World::new(&per(60, MINUTE), Accounting::Admission, 1, 5);
    batches(&mut world, 1, &[CALL]);
    world.workers[0].interactive(moments(60, START, 1));
    let end = START + MINUTE * 2;
    world.run(end);
    // Slots are a second apart: none is due when the next one is, and yet batches go on.
    let used = world.units_between(START, end);
    assert!(used >= 115, "{used}");
    assert!(world.left.iter().filter(|left| !left.interactive).count() >= 50);
}

#[test]
fn calls_that_come_together_wait_for_no_new_slots() {
    let mut world = World::new(&per(6_000, MINUTE), Accounting::Admission, 4, 5);
    batches(&mut world, 4, &[CALL]);
    // One of five comes less than 45 ms after another.
    let (start, end) = (START + MINUTE, START + MINUTE * 7);
    world.workers[0].interactive(at_random(5.0, start, end, 7));
    world.run(end + MINUTE);
    let waits = waits(&world);
    let (late, used) = (waits[waits.len() * 99 / 100], world.units_between(start, end));
    assert!(late <= millis(20), "two intervals: {late:?}");
    let used = used as f64 / (100.0 * end.since(start).as_secs_f64());
    assert!(used >= 0.99, "{used}");
}

#[test]
fn what_is_kept_for_calls_that_come_together_is_not_taken_from_others() {
    let end = START + MINUTE * 3;
    // Of limits so low that a slot kept in vain is a large part, too.
    for (amount, sparse) in [(600, 0.1), (600, 1.0), (3_000, 1.0), (6_000, 0.3), (6_000, 10.0), (24_000, 4.0)]
    {
        let all = amount as f64 / 60.0;
        for per_second in [[all, all, sparse, 0.0], [all, all, sparse, sparse], [all * 0.6; 4]] {
            let mut world = World::new(&per(amount, MINUTE), Accounting::Admission, 4, 5);
            for (number, per_second) in per_second.iter().enumerate().filter(|(_, calls)| **calls > 0.0) {
                world.workers[number].interactive(at_random(*per_second, START, end, number as u64 + 3));
            }
            world.run(end);
            let used = world.units_between(START + MINUTE, end) as f64 / (amount * 2) as f64;
            println!("{used:.4} of {amount} used by live calls, {per_second:?} a second");
            assert!(used >= 0.985, "{used} of {amount} by {per_second:?} a second");
            assert!(world.most_within(MINUTE + millis(20)) <= amount);
        }
    }
}
