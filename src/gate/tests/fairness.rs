//! Who goes first: weights, sizes, absences, interactive calls.

use proptest::prelude::*;

use super::*;

/// One app with a backlog on a shared lane.
struct App {
    path: PathId,
    cost: Cost,
    taken: u64,
    sent: Vec<Timestamp>,
}

fn apps(gate: &mut Gate, lane: LevelId, weights: &[u32], costs: &[Cost]) -> Vec<App> {
    let pairs = weights.iter().zip(costs.iter().cycle());
    pairs
        .map(|(weight, cost)| {
            let spec = LevelSpec { weight: *weight, ..level(LevelKind::App, "a", Limits::default()) };
            let app = gate.add_level(spec, START);
            let path = gate.add_path(&[lane, app]).unwrap();
            App { path, cost: *cost, taken: 0, sent: Vec::new() }
        })
        .collect()
}

fn enqueue(gate: &mut Gate, apps: &[App], number: usize, now: Timestamp) {
    let app = &apps[number];
    let head = Head { tag: number as u64, cost: app.cost, ..head(app.path, 0) };
    gate.enqueue(head, now).unwrap();
}

/// Everyone backlogged from one moment to another; each call runs for a while.
fn backlog(gate: &mut Gate, apps: &mut [App], from: Timestamp, until: Timestamp, runs: Duration) {
    let mut now = from;
    let mut running: std::collections::VecDeque<(Timestamp, Grant)> = std::collections::VecDeque::new();
    for number in 0..apps.len() {
        enqueue(gate, apps, number, now);
    }
    while now < until {
        while running.front().is_some_and(|(ends, _)| *ends <= now) {
            gate.recorded(running.pop_front().unwrap().1, now);
        }
        while let Some(admitted) = gate.poll(now) {
            let number = usize::try_from(admitted.tag).unwrap();
            let app = &mut apps[number];
            app.taken += app.cost.input_tokens.max(1);
            app.sent.push(now);
            running.push_back((now + runs, admitted.grant));
            enqueue(gate, apps, number, now);
        }
        let next = gate.next_at(now).into_iter().chain(running.front().map(|(ends, _)| *ends)).min();
        now = next.unwrap_or(until).max(now + Duration::from_micros(1));
    }
    for (_, grant) in running {
        gate.recorded(grant, until);
    }
}

fn shares(apps: &[App]) -> Vec<f64> {
    let all: u64 = apps.iter().map(|app| app.taken).sum();
    apps.iter().map(|app| app.taken as f64 / all as f64).collect()
}

fn tokens(amount: u64) -> Limits {
    Limits { tokens: vec![Rate { amount, period: MINUTE }], ..Limits::default() }
}

fn item(tokens: u64) -> Cost {
    Cost { input_tokens: tokens, ..CALL }
}

#[test]
fn weights_are_met_in_requests_tokens_and_slots() {
    let limits = [per(6_000, MINUTE), tokens(2_000_000), slots(7)];
    for limits in limits {
        let (mut gate, lane, _) = one_lane(limits.clone());
        let mut apps = apps(&mut gate, lane, &[1, 1, 2], &[item(500)]);
        backlog(&mut gate, &mut apps, START, START + MINUTE, millis(50));
        for (share, wanted) in shares(&apps).iter().zip([0.25, 0.25, 0.5]) {
            assert!((share - wanted).abs() <= 0.02 * wanted + 0.005, "{share} of {wanted} in {limits:?}");
        }
    }
}

#[test]
fn a_weight_can_be_changed() {
    let (mut gate, lane, _) = one_lane(per(6_000, MINUTE));
    let mut apps = apps(&mut gate, lane, &[1, 1], &[CALL]);
    let heavier = gate.level_ids()[1];
    gate.set_weight(heavier, 3);
    backlog(&mut gate, &mut apps, START, START + MINUTE, millis(50));
    assert!((shares(&apps)[0] - 0.75).abs() < 0.02, "{:?}", shares(&apps));
}

#[test]
fn huge_and_tiny_items_get_the_same_tokens() {
    let limits = Limits { requests: vec![Rate { amount: 60_000, period: MINUTE }], ..tokens(2_000_000) };
    let (mut gate, lane, _) = one_lane(limits);
    let mut apps = apps(&mut gate, lane, &[1, 1], &[item(8_000), item(200)]);
    backlog(&mut gate, &mut apps, START, START + MINUTE * 2, millis(200));
    assert!((shares(&apps)[0] - 0.5).abs() <= 0.025, "{:?}", shares(&apps));
}

#[test]
fn absence_earns_nothing() {
    let (mut gate, lane, _) = one_lane(per(6_000, MINUTE));
    let mut both = apps(&mut gate, lane, &[1, 1], &[CALL]);
    let late = both.pop().unwrap();
    backlog(&mut gate, &mut both, START, START + MINUTE, millis(10));
    let before = both[0].taken;
    both.push(late);
    // The first one's last head still waits: its path has two from here on.
    backlog(&mut gate, &mut both, START + MINUTE, START + MINUTE * 2, millis(10));
    let (first, second) = (both[0].taken - before, both[1].taken);
    assert!(first.abs_diff(second) * 50 <= first, "{first} and {second}");
}

#[test]
fn one_app_does_not_starve_behind_the_many_lanes_of_another() {
    let mut gate = Gate::new(GateOptions::default(), START);
    let provider = gate.add_level(level(LevelKind::Provider, "p", per(6_000, MINUTE)), START);
    let [many, single] =
        ["many", "single"].map(|name| gate.add_level(level(LevelKind::App, name, Limits::default()), START));
    let mut apps: Vec<App> = Vec::new();
    for number in 0..10 {
        let lane = gate.add_level(level(LevelKind::Lane, &format!("p/{number}"), Limits::default()), START);
        let app = if number == 0 { single } else { many };
        let path = gate.add_path(&[provider, lane, app]).unwrap();
        apps.push(App { path, cost: CALL, taken: 0, sent: Vec::new() });
    }
    backlog(&mut gate, &mut apps, START, START + MINUTE, millis(50));
    assert!((shares(&apps)[0] - 0.5).abs() <= 0.02, "{:?}", shares(&apps));
}

#[test]
fn interactive_calls_go_first_within_their_share() {
    for (limits, share) in [(per(6_000, MINUTE), 0.5), (tokens(2_000_000), 0.5)] {
        let (mut gate, lane, _) = one_lane(limits);
        let mut apps = apps(&mut gate, lane, &[1, 1], &[item(300)]);
        let mut interactive = 0_u64;
        let mut now = START;
        enqueue(&mut gate, &apps, 0, now);
        let live = Head { tag: 9, cost: item(300), interactive: true, ..head(apps[1].path, 0) };
        gate.enqueue(live, now).unwrap();
        let mut first_ten = Vec::new();
        while now < START + MINUTE * 3 {
            while let Some(admitted) = gate.poll(now) {
                first_ten.push(admitted.tag);
                if admitted.tag == 9 {
                    interactive += 1;
                    gate.enqueue(live, now).unwrap();
                } else {
                    apps[0].taken += 1;
                    enqueue(&mut gate, &apps, 0, now);
                }
                gate.recorded(admitted.grant, now);
            }
            now = gate.next_at(now).unwrap().max(now + Duration::from_micros(1));
        }
        assert!(first_ten[2..30].iter().all(|tag| *tag == 9), "{:?}", &first_ten[..30]);
        let part = interactive as f64 / (interactive + apps[0].taken) as f64;
        assert!((part - share).abs() < 0.1, "{part}");
    }
}

#[test]
fn a_few_interactive_calls_wait_for_nobody() {
    let (mut gate, lane, _) = one_lane(per(6_000, MINUTE));
    let apps = apps(&mut gate, lane, &[1, 1], &[CALL]);
    let mut now = START;
    for _ in 0..50 {
        enqueue(&mut gate, &apps, 0, now);
    }
    let mut waits = Vec::new();
    let mut since = None;
    while now < START + Duration::from_secs(10) {
        if since.is_none() {
            let live = Head { tag: 9, interactive: true, ..head(apps[1].path, u64::MAX) };
            gate.enqueue(live, now).unwrap();
            since = Some(now);
        }
        now = gate.next_at(now).unwrap().max(now);
        while let Some(admitted) = gate.poll(now) {
            if admitted.tag == 9 {
                waits.push(now.since(since.take().unwrap()));
            } else {
                enqueue(&mut gate, &apps, 0, now);
            }
            gate.recorded(admitted.grant, now);
        }
        now = now + millis(7);
    }
    assert!(waits.iter().all(|wait| *wait <= millis(20)), "{waits:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the weights and sizes: everyone backlogged gets its share of the tokens, within one item.
    #[test]
    fn shares_follow_weights(
        setup in proptest::collection::vec((1_u32..5, 100_u64..5_000), 2..6),
    ) {
        let (mut gate, lane, _) = one_lane(tokens(2_000_000));
        let weights: Vec<u32> = setup.iter().map(|(weight, _)| *weight).collect();
        let costs: Vec<Cost> = setup.iter().map(|(_, tokens)| item(*tokens)).collect();
        let mut apps = apps(&mut gate, lane, &weights, &costs);
        backlog(&mut gate, &mut apps, START, START + MINUTE, millis(100));
        let all: u32 = weights.iter().sum();
        for (share, weight) in shares(&apps).iter().zip(&weights) {
            let wanted = f64::from(*weight) / f64::from(all);
            prop_assert!((share - wanted).abs() <= 0.02, "{} of {}", share, wanted);
        }
    }
}
