//! Never above a limit, and never below what it allows.

use proptest::prelude::*;

use super::*;

fn periods() -> impl Strategy<Value = (u64, Duration)> {
    prop_oneof![
        (1_u64..40).prop_map(|amount| (amount, Duration::from_secs(1))),
        (5_u64..300).prop_map(|amount| (amount, Duration::from_secs(10))),
        (5_u64..900).prop_map(|amount| (amount, MINUTE)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Late timers, jittered ways, a burst or none: no window of the provider ever holds more than the limit.
    #[test]
    fn no_window_is_ever_over(
        (amount, period) in periods(),
        burst in proptest::option::of(1_u32..50),
        lateness in proptest::collection::vec(0_u64..30_000, 16),
        jitter in proptest::collection::vec(0_u64..=20_000, 64),
    ) {
        let limits = Limits { burst, ..per(amount, period) };
        let (mut gate, _, path) = one_lane(limits);
        let mut turn = lateness.iter().cycle();
        let late = || Duration::from_micros(*turn.next().unwrap());
        let sent = send(&mut gate, path, START, START + period * 4, late);
        let mut arrived: Vec<Timestamp> = sent
            .iter()
            .zip(jitter.iter().cycle())
            .map(|(moment, jitter)| *moment + Duration::from_micros(*jitter))
            .collect();
        arrived.sort();
        let most = most_within(&arrived, period) as u64;
        prop_assert!(most <= amount, "{most} of {amount} in {period:?}");
    }

    /// A limit that changes while it is used causes no burst: no window is over the larger of the two, and
    /// none that began a period after the change over the new one.
    #[test]
    fn a_changed_limit_bursts_nowhere(before in 5_u64..400, after in 5_u64..400, at in 0_u64..20_000) {
        let period = Duration::from_secs(10);
        let (mut gate, lane, path) = one_lane(per(before, period));
        let change = START + millis(at);
        let mut sent = send(&mut gate, path, START, change, || Duration::ZERO);
        gate.set_limits(lane, &per(after, period), change);
        sent.extend(send(&mut gate, path, change, change + period * 3, || Duration::ZERO));
        prop_assert!(most_within(&sent, period) as u64 <= before.max(after));
        let later: Vec<Timestamp> = sent.iter().copied().filter(|moment| *moment >= change).collect();
        prop_assert!(most_within(&later, period) as u64 <= after);
    }

    /// Limits that change again and again, up and down, away and back, with another period beside them that stays: no
    /// window holds more than the highest limit that was in force within it.
    #[test]
    fn limits_that_flap_burst_nowhere(
        first in 5_u64..200,
        changes in proptest::collection::vec((200_u64..6_000, proptest::option::weighted(0.8, 5_u64..200)), 1..12),
    ) {
        let (period, second) = (Duration::from_secs(10), Duration::from_secs(1));
        let limits = |amount: Option<u64>| {
            let rates = amount.map(|amount| Rate { amount, period });
            Limits { requests: rates.into_iter().chain([Rate { amount: 30, period: second }]).collect(), ..Limits::default() }
        };
        let (mut gate, lane, path) = one_lane(limits(Some(first)));
        let (mut now, mut sent, mut in_force) = (START, Vec::new(), vec![(START, Some(first))]);
        for (after, amount) in changes {
            let until = now + millis(after);
            sent.extend(send(&mut gate, path, now, until, || Duration::ZERO));
            now = until;
            gate.set_limits(lane, &limits(amount), now);
            in_force.push((now, amount));
        }
        sent.extend(send(&mut gate, path, now, now + period * 2, || Duration::ZERO));
        prop_assert!(most_within(&sent, second) <= 30);
        for (place, from) in sent.iter().enumerate() {
            let count = sent[place..].iter().take_while(|moment| moment.since(*from) < period).count() as u64;
            let before = in_force.iter().rposition(|(at, _)| at <= from).unwrap();
            let held = in_force[before..].iter().take_while(|(at, _)| *at < *from + period);
            let most = held.map(|(_, amount)| amount.unwrap_or(u64::MAX)).max().unwrap();
            prop_assert!(count <= most, "{count} of {most} from {from:?}");
        }
    }

    /// A level without any rate that gets one starts at its pace, as if it had been used before.
    #[test]
    fn a_new_limit_starts_at_its_pace(amount in 1_u64..400) {
        let period = Duration::from_secs(10);
        let (mut gate, lane, path) = one_lane(Limits::default());
        gate.set_limits(lane, &per(amount, period), START);
        let sent = send(&mut gate, path, START, START + period, || Duration::ZERO);
        prop_assert!(sent.len() as u64 <= amount);
        prop_assert!(sent.len() as u64 + 2 >= amount * 98 / 100);
    }
}

#[test]
fn a_backlog_uses_the_minute() {
    for amount in [60_u64, 600, 6_000] {
        let (mut gate, _, path) = one_lane(per(amount, MINUTE));
        let sent = send(&mut gate, path, START, START + MINUTE * 10, || millis(1));
        let used = sent.len() as f64 / (amount * 10) as f64;
        assert!(used >= 0.994, "{used} of {amount} per minute");
        assert!(most_within(&sent, MINUTE + millis(20)) as u64 <= amount);
    }
}

#[test]
fn a_late_timer_moves_no_later_send() {
    let (mut punctual, _, path) = one_lane(per(600, MINUTE));
    let exact = send(&mut punctual, path, START, START + MINUTE, || Duration::ZERO);
    let (mut lazy, _, path) = one_lane(per(600, MINUTE));
    let mut calls = 0_u64;
    let late = send(&mut lazy, path, START, START + MINUTE, || {
        calls += 1;
        millis(calls * 7 % 24)
    });
    assert!(exact.len().abs_diff(late.len()) <= 1, "{} and {}", exact.len(), late.len());
}

#[test]
fn a_burst_leaves_at_once_and_the_rest_at_the_pace() {
    let limits = Limits { burst: Some(10), ..per(60, MINUTE) };
    let (mut gate, _, path) = one_lane(limits);
    let sent = send(&mut gate, path, START, START + Duration::from_secs(5), || Duration::ZERO);
    assert_eq!(sent.iter().filter(|moment| **moment == START).count(), 10);
    assert!((14..=15).contains(&sent.len()), "{}", sent.len());
}

#[test]
fn a_heavy_call_waits_for_its_room_and_holds_its_turn() {
    let full = START + Duration::from_secs(10);
    let (mut gate, lane, path) = one_lane(per(100, Duration::from_secs(10)));
    send(&mut gate, path, START, full, || Duration::ZERO);
    let other = gate.add_level(level(LevelKind::App, "a", Limits::default()), START);
    let second = gate.add_path(&[lane, other]).unwrap();
    let heavy = Head { cost: Cost { requests: 20, memory: 0, ..Cost::default() }, ..head(second, 1) };
    let heavy = gate.enqueue(heavy, full).unwrap();
    // Small ones look in at every moment and would take each piece of room as it appears.
    let mut now = full;
    let left = loop {
        let small = gate.enqueue(head(path, 2), now).unwrap();
        let admitted: Vec<Admitted> = std::iter::from_fn(|| gate.poll(now)).collect();
        if admitted.iter().any(|admitted| admitted.head == heavy) {
            break now;
        }
        gate.withdraw(small, now);
        for admitted in admitted {
            gate.recorded(admitted.grant, now);
        }
        now = now + millis(1);
        assert!(now < full + MINUTE, "it never gets its room");
    };
    assert!(left.since(full) < Duration::from_millis(2_500), "{:?}", left.since(full));
}

#[test]
fn limits_that_stay_are_not_touched() {
    let limits = Limits { burst: Some(5), ..per(60, MINUTE) };
    let (mut gate, lane, path) = one_lane(limits.clone());
    send(&mut gate, path, START, START + MINUTE, || Duration::ZERO);
    let now = START + MINUTE;
    let before = (gate.view(lane, now), gate.next_at(now), gate.save_need());
    assert!(!gate.set_limits(lane, &limits, now));
    assert_eq!((gate.view(lane, now), gate.next_at(now), gate.save_need()), before);
    assert!(gate.set_limits(lane, &per(60, MINUTE), now));
}

#[test]
fn a_long_period_that_was_taken_away_is_not_new_when_it_comes_back() {
    let hour = Duration::from_secs(3_600);
    let hourly = Limits {
        requests: vec![
            Rate { amount: 100, period: hour },
            Rate { amount: 10, period: Duration::from_secs(1) },
        ],
        ..Limits::default()
    };
    let (mut gate, lane, path) = one_lane(hourly.clone());
    assert_eq!(send(&mut gate, path, START, START + MINUTE, || Duration::ZERO).len(), 100);
    let paced = per(10, Duration::from_secs(1));
    gate.set_limits(lane, &paced, START + MINUTE);
    let between =
        send(&mut gate, path, START + MINUTE, START + MINUTE + Duration::from_secs(2), || Duration::ZERO);
    assert!(between.len() >= 15, "{}", between.len());
    gate.set_limits(lane, &hourly, START + MINUTE * 2);
    assert!(send(&mut gate, path, START + MINUTE * 2, START + MINUTE * 59, || Duration::ZERO).is_empty());
    assert_eq!(
        gate.view(lane, START + MINUTE * 59)
            .unwrap()
            .budgets
            .iter()
            .find(|it| it.period == hour)
            .unwrap()
            .used,
        100
    );
}

#[test]
fn who_waits_behind_others_at_a_level_hears_of_the_next_chance_and_not_of_the_last() {
    let mut gate = Gate::new(GateOptions::default(), START);
    let lane = gate.add_level(level(LevelKind::Lane, "p/a", per(60, Duration::from_secs(60))), START);
    let apps = ["a", "b"].map(|name| gate.add_level(level(LevelKind::App, name, Limits::default()), START));
    let paths = apps.map(|app| gate.add_path(&[lane, app]).unwrap());
    for turn in 0..4 {
        gate.enqueue(head(paths[0], turn), START).unwrap();
        gate.enqueue(head(paths[1], turn), START).unwrap();
    }
    let mut sent = 0;
    while let Some(now) = gate.next_at(START).filter(|_| sent < 8) {
        while gate.poll(now).is_some() {
            sent += 1;
        }
        for path in paths {
            let Some(waiting) = gate.waiting(path, now) else { continue };
            assert_eq!((waiting.level, waiting.reason), (lane, Reason::Rate));
            assert_eq!(waiting.until, gate.next_at(now), "after {sent} left");
        }
    }
    assert_eq!(sent, 8);
}
