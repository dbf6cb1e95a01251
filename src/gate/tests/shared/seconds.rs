//! Limits of a few seconds, within which what a worker tells of its calls may come too late.

use super::*;

/// Workers and a limit that a seed stands for, run for a minute: the most tokens within any period of so many seconds, and
/// the limit. A lost exchange is waited for so many milliseconds.
fn most_within(seed: u64, seconds: u64, patience: u64) -> (u64, u64) {
    let mut dice = Dice(seed);
    let amount = [1_000, 10_000, 100_000, 33_333, 500_000][dice.below(5) as usize];
    let largest = amount / (1 + dice.below(12));
    let items = items(largest / (1 + dice.below(12)), largest);
    let period = Duration::from_secs(seconds);
    let mut limits = tokens(amount, period);
    if dice.below(3) == 0 {
        limits.requests = vec![Rate { amount: 1 + dice.below(60), period }];
    }
    let count = 1 + dice.below(6) as usize;
    let mut world = World::new(&limits, Accounting::Admission, count, seed);
    (world.runs, world.spread) = (20 + dice.below(1_000), 30);
    // Drawn for nothing: the seeds below were found with it.
    dice.below(71);
    (world.delay, world.late) = (dice.below(60_000), 1 + dice.below(20_000));
    (world.lost, world.never_sent) = (dice.below(2) * dice.below(200), dice.below(40));
    world.patience = patience;
    batches(&mut world, 1 + dice.below(count as u64) as usize, &items);
    world.live = items[..20].to_vec();
    for worker in &mut world.workers {
        let live = dice.below(120);
        let mut live: Vec<Timestamp> = (0..live).map(|_| START + millis(dice.below(60_000))).collect();
        live.sort();
        worker.interactive(live);
    }
    for _ in 0..dice.below(12) {
        world.run(world.now + millis(dice.below(4_000)));
        let number = dice.below(count as u64) as usize;
        match dice.below(2) {
            0 => world.workers[number].frozen_until = world.now + millis(dice.below(3_000)),
            _ => world.turn(number, &items),
        }
    }
    world.run(START + MINUTE);
    (world.most_within(period + millis(20)), amount)
}

/// Seeds with which a limit was exceeded by up to 13 %: heads counted from the first slot reused with them, what they left
/// over was taken from what counts later, calls that were never sent counted twice as late, and what lost exchanges were
/// to tell came too late.
const EXCEEDED: [u64; 45] = [
    136, 184, 303, 324, 348, 368, 428, 543, 880, 892, 1006, 1008, 1114, 1262, 1473, 1482, 2222, 2518, 2686,
    2755, 2756, 2886, 2919, 3064, 3108, 3124, 3367, 3406, 3413, 3448, 3570, 3905, 4063, 4397, 4407, 4757,
    4979, 5014, 5085, 5143, 5233, 5766, 5856, 5950, 5953,
];

#[test]
fn no_second_has_more_than_the_limit_whatever_is_late_or_lost() {
    let once_exceeded = EXCEEDED.into_iter().map(|seed| (seed, 1, 500));
    let others =
        (0..40).flat_map(|seed| [(seed, 1, 500), (seed, 1, 2_000), (seed, 2, 2_000), (seed, 4, 2_000)]);
    for (seed, seconds, patience) in once_exceeded.chain(others) {
        let (most, limit) = most_within(seed, seconds, patience);
        assert!(most <= limit, "{most} of {limit} in {seconds} s with seed {seed}");
    }
}
