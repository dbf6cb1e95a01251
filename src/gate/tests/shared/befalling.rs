//! Whatever is lost, dies or freezes.

use super::*;

/// What befalls a worker at some moment.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// It dies.
    Dies,
    /// It does nothing for so many milliseconds.
    Freezes(u64),
    /// It dies, and the same worker is there again.
    Restarts,
    /// It goes on as another life of itself.
    Rejoins,
    /// It has a backlog, or none any more.
    Turns,
}

fn blows() -> impl Strategy<Value = Vec<(u64, usize, Blow)>> {
    let blow = prop_oneof![
        1 => Just(Blow::Dies),
        2 => (0_u64..3_000).prop_map(Blow::Freezes),
        1 => Just(Blow::Restarts),
        1 => Just(Blow::Rejoins),
        3 => Just(Blow::Turns),
    ];
    proptest::collection::vec((0_u64..4_000, 0_usize..4, blow), 0..20)
}

fn budgets() -> impl Strategy<Value = (Limits, u64)> {
    let period = prop_oneof![Just(Duration::from_secs(2)), Just(Duration::from_secs(10)), Just(MINUTE)];
    let requests = (1_u64..3_000, period.clone()).prop_map(|(amount, period)| (per(amount, period), 0));
    let of_tokens = (1_000_u64..1_000_000, period, 1_u64..300);
    let of_tokens =
        of_tokens.prop_map(|(amount, period, part)| (super::tokens(amount, period), (amount / part).max(1)));
    prop_oneof![requests, of_tokens]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// No window is over, no place is taken twice, and no slot leaks.
    #[test]
    fn no_window_is_over_and_nothing_leaks(
        (limits, largest) in budgets(),
        blows in blows(),
        seed in any::<u64>(),
        (delay, lost) in (0_u64..30_000, prop_oneof![Just(0_u64), 0_u64..300]),
        live in proptest::collection::vec(0_u64..60_000, 0..30),
        places in proptest::option::of(1_u32..40),
    ) {
        let items = if largest == 0 { vec![CALL] } else { items(1, largest) };
        let limits = Limits { max_concurrent: places, ..limits };
        let mut world = World::new(&limits, Accounting::Admission, 4, seed);
        (world.delay, world.lost, world.never_sent) = (delay, lost, 20);
        (world.runs, world.live) = (40, items[..1].to_vec());
        batches(&mut world, 3, &items);
        let mut live: Vec<Timestamp> = live.iter().map(|after| START + millis(*after)).collect();
        live.sort();
        world.workers[3].interactive(live);
        let (mut now, mut is_whole, mut rejoins) = (START, true, false);
        for (after, number, blow) in blows {
            now = now + millis(after);
            world.run(now);
            is_whole &= matches!(blow, Blow::Turns);
            rejoins |= matches!(blow, Blow::Rejoins);
            match blow {
                Blow::Dies => world.workers[number].dead = true,
                Blow::Freezes(time) => world.workers[number].frozen_until = now + millis(time),
                Blow::Restarts => world.restart(number, &limits),
                Blow::Rejoins => world.rejoin(number),
                Blow::Turns => world.turn(number, &items),
            }
        }
        world.run(now + Duration::from_secs(20));
        let rate = limits.requests.first().or_else(|| limits.tokens.first()).unwrap();
        let most = world.most_within(rate.period + millis(20));
        prop_assert!(most <= rate.amount, "{most} of {}", rate.amount);
        // Whoever was taken for dead still has its calls in flight, and others their places.
        if let Some(places) = places.filter(|_| !rejoins) {
            prop_assert!(world.most_in_flight <= places as usize, "{} of {places}", world.most_in_flight);
        }
        world.drain();
        // What a worker held when it died is lost with it; of all else, each unit was used or given back.
        let left: u64 = world.left.iter().map(|left| left.units).sum();
        let given_back = world.unused.checked_add_signed(-world.settled).unwrap();
        prop_assert!(!is_whole || world.granted == left + given_back);
    }
}
