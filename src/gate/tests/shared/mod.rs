//! Several workers and one ledger: never over a limit, hardly anything unused, live calls first.

mod befalling;
mod gossip;
mod joined;
mod live;
mod places;
mod seconds;
mod shares;
mod world;

use proptest::prelude::*;

use super::*;
use crate::domain::exchange::{Answer, Ask};
use crate::domain::shared_ledger::SharedLedger;
use crate::domain::worker::WorkerKey;
use world::{Dice, World};

/// The first of all workers get a backlog of items.
fn batches(world: &mut World, count: usize, items: &[Cost]) {
    for worker in &mut world.workers[..count] {
        worker.backlog = items.to_vec();
    }
}

/// Items of so many tokens.
fn items(least: u64, most: u64) -> Vec<Cost> {
    let mut dice = Dice(most);
    let mut item = || {
        let all = least + dice.below(most - least + 1);
        Cost { input_tokens: all / 4, output_tokens: all - all / 4, ..CALL }
    };
    (0..500).map(|_| item()).collect()
}

fn tokens(amount: u64, period: Duration) -> Limits {
    Limits { tokens: vec![Rate { amount, period }], ..Limits::default() }
}

/// The part of the limit that workers with a backlog use after the first two minutes, and the most exchanges a second
/// that one of them makes.
fn use_of(limits: &Limits, amount: u64, active: usize, items: &[Cost]) -> (f64, f64) {
    let mut world = World::new(limits, Accounting::Admission, 4, 7);
    batches(&mut world, active, items);
    let (from, end) = (START + MINUTE * 2, START + MINUTE * 6);
    world.run(end);
    assert!(world.most_within(MINUTE + millis(20)) <= amount);
    let most = world.workers.iter().map(|worker| worker.exchanges).max().unwrap();
    (world.units_between(from, end) as f64 / (amount * 4) as f64, most as f64 / 360.0)
}

#[test]
fn requests_are_used_up_and_never_over() {
    for (amount, least) in [(6_000, 0.985), (600, 0.97), (60, 0.97)] {
        for active in [1, 2, 4] {
            let (used, exchanges) = use_of(&per(amount, MINUTE), amount, active, &[CALL]);
            println!("{amount}/min on {active}: {used:.4} used, {exchanges:.1} exchanges/s");
            assert!(used >= least && exchanges <= 5.0, "{amount} on {active}: {used}, {exchanges}/s");
        }
    }
}

#[test]
fn tokens_are_used_up_and_never_over() {
    for (least, most) in [(200, 8_000), (20, 200)] {
        for active in [1, 2, 4] {
            let limits = tokens(2_000_000, MINUTE);
            let (used, exchanges) = use_of(&limits, 2_000_000, active, &items(least, most));
            println!("items up to {most} on {active}: {used:.4} used, {exchanges:.1} exchanges/s");
            assert!(used >= 0.98 && exchanges <= 5.0, "{most} on {active}: {used}, {exchanges}/s");
        }
    }
}

#[test]
fn workers_with_the_same_backlog_get_the_same() {
    let mut world = World::new(&per(600, MINUTE), Accounting::Admission, 4, 7);
    batches(&mut world, 4, &[CALL]);
    world.run(START + MINUTE * 10);
    let of = |number| world.left.iter().filter(|left| left.worker == number).count() as f64;
    let all = world.left.len() as f64;
    for number in 0..4 {
        assert!((0.2..0.3).contains(&(of(number) / all)), "{number}: {}", of(number) / all);
    }
}

#[test]
fn at_no_time_one_of_them_has_most() {
    for (active, most) in [(2, 0.63), (4, 0.33)] {
        let mut world = World::new(&per(6_000, MINUTE), Accounting::Admission, 4, 3);
        batches(&mut world, active, &[CALL]);
        world.run(START + MINUTE * 5);
        let second = |left: &world::Left| left.at.since(START).as_secs();
        let mut parts = Vec::new();
        for calls in world.left.chunk_by(|one, next| second(one) == second(next)).skip(60) {
            let of = |worker| calls.iter().filter(|left| left.worker == worker).count();
            parts.push((0..4).map(of).max().unwrap() as f64 / calls.len() as f64);
        }
        let mean = parts.iter().sum::<f64>() / parts.len() as f64;
        println!("within a second one of {active} has {mean:.3} of the calls");
        assert!(mean <= most, "{mean} of {active}");
    }
}

#[test]
fn what_calls_do_not_use_is_used_by_others() {
    let limits = tokens(1_000_000, MINUTE);
    let actual = Accounting::Actual { cached_input_free: true };
    let mut world = World::new(&limits, actual, 2, 7);
    (world.uses, world.runs) = (40, 2_000);
    batches(&mut world, 2, &items(100, 2_000));
    let end = START + MINUTE * 6;
    world.run(end);
    let used = world.units_between(START + MINUTE * 2, end) as f64 * 0.4 / 4_000_000.0;
    println!("{used:.4} used where calls use two fifths of what they reserve");
    assert!((0.93..=1.0).contains(&used), "{used}");
}

#[test]
fn no_slot_is_used_without_an_answer() {
    let mut world = World::new(&per(6_000, MINUTE), Accounting::Admission, 1, 7);
    batches(&mut world, 1, &[CALL]);
    world.run(START + MINUTE);
    let before = world.left.len();
    assert!(before > 5_000);
    // From here on every exchange is lost.
    world.lost = 1_000;
    world.run(START + MINUTE * 2);
    let last = world.left.last().unwrap().at.since(START + MINUTE);
    assert!(last <= millis(600), "{last:?}");
    world.lost = 0;
    world.run(START + MINUTE * 3);
    assert!(world.left.len() > before + 5_000);
}
