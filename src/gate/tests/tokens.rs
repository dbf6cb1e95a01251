//! Token budgets: reserved, settled, never over, hardly anything unused.

use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;

fn tokens(amount: u64, period: Duration) -> Limits {
    Limits { tokens: vec![Rate { amount, period }], ..Limits::default() }
}

fn token_lane(limits: Limits, accounting: Accounting) -> (Gate, LevelId, PathId) {
    let mut gate = Gate::new(GateOptions::default(), START);
    let spec = LevelSpec { accounting, ..level(LevelKind::Lane, "p/m", limits) };
    let lane = gate.add_level(spec, START);
    let path = gate.add_path(&[lane]).unwrap();
    (gate, lane, path)
}

fn item(path: PathId, input: u64, output: u64) -> Head {
    Head { cost: Cost { input_tokens: input, output_tokens: output, ..CALL }, ..head(path, 0) }
}

/// A call that runs: when it ends, what it used, and its grant.
struct Running {
    ends: Timestamp,
    used: TokensUsed,
    grant: Grant,
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.ends == other.ends
    }
}
impl Eq for Running {}
impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Running {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.ends.cmp(&self.ends)
    }
}

/// Sends a backlog of items, each (input, reserved output, used output, milliseconds that it runs).
/// Tells when each left, with its reservation and its use.
fn run(
    gate: &mut Gate,
    path: PathId,
    items: &[(u64, u64, u64, u64)],
    until: Timestamp,
) -> Vec<(Timestamp, u64, u64)> {
    let mut sent = Vec::new();
    let mut running: BinaryHeap<Running> = BinaryHeap::new();
    let mut next = items.iter().cycle();
    let mut now = START;
    let mut waits = *next.next().unwrap();
    gate.enqueue(item(path, waits.0, waits.1), now).unwrap();
    while now < until {
        while running.peek().is_some_and(|call| call.ends <= now) {
            let mut call = running.pop().unwrap();
            gate.finish_call(&mut call.grant, now);
            gate.settle(&mut call.grant, call.used, now);
            gate.recorded(call.grant, now);
        }
        if let Some(admitted) = gate.poll(now) {
            let (input, reserved, output, runs) = waits;
            sent.push((now, input + reserved, input + output));
            let used = TokensUsed { input, output, cached: 0 };
            running.push(Running { ends: now + millis(runs), used, grant: admitted.grant });
            waits = *next.next().unwrap();
            gate.enqueue(item(path, waits.0, waits.1), now).unwrap();
            continue;
        }
        let ends = running.peek().map(|call| call.ends);
        let next = gate.next_at(now).into_iter().chain(ends).min();
        now = next.unwrap_or(until).max(now + Duration::from_micros(1));
    }
    sent
}

/// The largest sum within any window of a length.
fn heaviest(charges: &[(Timestamp, u64)], window: Duration) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (moment, amount) in charges {
        sum += amount;
        while moment.since(charges[first].0) >= window {
            sum -= charges[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

fn reservations(sent: &[(Timestamp, u64, u64)]) -> Vec<(Timestamp, u64)> {
    sent.iter().map(|(moment, reserved, _)| (*moment, *reserved)).collect()
}

/// Items up to a share of the limit, a hundred of them, as a scripted mix.
fn mix(limit: u64, largest: f64) -> Vec<(u64, u64, u64, u64)> {
    let most = (limit as f64 * largest) as u64;
    (0..100_u64)
        .map(|number| {
            let total = (most * ((number * 37) % 100 + 1) / 100).max(2);
            (total / 4, total - total / 4, total / 3, 50 + number * 4)
        })
        .collect()
}

#[test]
fn admission_charging_uses_the_budget_and_is_never_over() {
    let limit = 2_000_000;
    for (largest, wanted) in [(0.004, 0.99), (0.05, 0.96), (0.2, 0.88)] {
        let (mut gate, _, path) = token_lane(tokens(limit, MINUTE), Accounting::Admission);
        let sent = run(&mut gate, path, &mix(limit, largest), START + MINUTE * 20);
        let charges = reservations(&sent);
        let used = charges.iter().map(|(_, amount)| amount).sum::<u64>() as f64 / (limit * 20) as f64;
        assert!(used >= wanted, "{used} with items up to {largest}");
        assert!(heaviest(&charges, MINUTE + millis(20)) <= limit);
    }
}

#[test]
fn actual_charging_gives_back_what_is_not_used() {
    let limit = 2_000_000;
    let (mut gate, lane, path) =
        token_lane(tokens(limit, MINUTE), Accounting::Actual { cached_input_free: true });
    let sent = run(&mut gate, path, &mix(limit, 0.004), START + MINUTE * 20);
    let actual: Vec<(Timestamp, u64)> = sent.iter().map(|(moment, _, used)| (*moment, *used)).collect();
    let used = actual.iter().map(|(_, amount)| amount).sum::<u64>() as f64 / (limit * 20) as f64;
    assert!(used >= 0.99, "{used}");
    assert!(heaviest(&actual, MINUTE) <= limit);
    let view = gate.view(lane, START + MINUTE * 20).unwrap();
    assert_eq!(view.budgets[0].dimension, Dimension::Tokens);
    assert!(view.budgets[0].reserved > 0, "calls still run");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the mix: no window holds more reservations than the limit where they are what counts.
    #[test]
    fn no_window_of_reservations_is_over(
        limit in 1_000_u64..100_000,
        items in proptest::collection::vec((0_u64..5_000, 0_u64..5_000, 0_u64..5_000, 1_u64..3_000), 1..30),
    ) {
        let period = Duration::from_secs(10);
        let (mut gate, _, path) = token_lane(tokens(limit, period), Accounting::Admission);
        let items: Vec<_> = items
            .into_iter()
            .map(|(input, reserved, output, runs)| (input % (limit / 3), reserved % (limit / 3), output % (reserved % (limit / 3) + 1), runs))
            .filter(|(input, reserved, _, _)| input + reserved > 0)
            .collect();
        prop_assume!(!items.is_empty());
        let sent = run(&mut gate, path, &items, START + period * 4);
        prop_assert!(heaviest(&reservations(&sent), period) <= limit);
        prop_assert!(!sent.is_empty());
    }

    /// Where actuals count, use above the reservations is a debt: over several periods the sum holds, but
    /// for what was in flight.
    #[test]
    fn excess_is_paid_back(
        items in proptest::collection::vec((1_u64..200, 1_u64..200, 1_u64..1_000, 1_u64..2_000), 1..30),
    ) {
        let (limit, period) = (10_000, Duration::from_secs(10));
        let (mut gate, _, path) = token_lane(tokens(limit, period), Accounting::Actual { cached_input_free: false });
        let sent = run(&mut gate, path, &items, START + period * 6);
        let actual: u64 = sent.iter().map(|(_, _, used)| used).sum();
        // What ran at the end had no chance to be settled.
        let open: u64 = sent.iter().filter(|(at, _, _)| *at + millis(2_000) >= START + period * 6).map(|(_, _, used)| used).sum();
        prop_assert!(actual <= limit * 6 + limit + open, "{actual}");
    }
}

#[test]
fn what_can_never_fit_is_told_with_its_figures() {
    let limits = Limits {
        tokens: vec![Rate { amount: 1_000, period: MINUTE }],
        output_tokens: vec![Rate { amount: 300, period: MINUTE }],
        ..Limits::default()
    };
    let certain = Cost { input_tokens: 700, output_tokens: 400, ..CALL };
    let (gate, _, path) = token_lane(limits.clone(), Accounting::Admission);
    let misfit = gate.never_fits(path, None, certain).unwrap();
    assert_eq!((misfit.dimension, misfit.limit, misfit.needed), (Dimension::OutputTokens, 300, 400));
    assert_eq!(&*misfit.level, "p/m");
    let (gate, _, path) = token_lane(limits, Accounting::Actual { cached_input_free: false });
    assert_eq!(gate.never_fits(path, None, certain), None, "what is allowed need not be used");
    assert!(gate.never_fits(path, None, Cost { input_tokens: 1_001, ..CALL }).is_some());
}

#[test]
fn what_may_fit_is_let_in_alone() {
    let (mut gate, lane, path) =
        token_lane(tokens(1_000, MINUTE), Accounting::Actual { cached_input_free: false });
    gate.enqueue(item(path, 900, 5_000), START).unwrap();
    let mut grant = gate.poll(START).unwrap().grant;
    gate.enqueue(item(path, 1, 0), START).unwrap();
    assert!(gate.poll(START + millis(1)).is_none());
    assert_eq!(gate.waiting(path, START).unwrap().reason, Reason::Tokens);
    let end = START + Duration::from_secs(1);
    gate.finish_call(&mut grant, end);
    gate.settle(&mut grant, TokensUsed { input: 100, output: 50, cached: 0 }, end);
    gate.settle(&mut grant, TokensUsed { input: 9_000, output: 50, cached: 0 }, end);
    assert_eq!(gate.view(lane, end).unwrap().budgets[0].used, 150, "settled once");
    gate.recorded(grant, end);
    assert!(gate.poll(START + Duration::from_secs(10)).is_some());
}

#[test]
fn a_provider_that_charges_on_admission_keeps_its_charge() {
    let limits = tokens(10_000, MINUTE);
    let (mut gate, lane, _) = token_lane(limits.clone(), Accounting::Admission);
    let app = gate.add_level(level(LevelKind::App, "a", limits), START);
    let path = gate.add_path(&[lane, app]).unwrap();
    gate.enqueue(item(path, 100, 400), START).unwrap();
    let mut grant = gate.poll(START).unwrap().grant;
    let used = |gate: &mut Gate, id| gate.view(id, START).unwrap().budgets[0].used;
    gate.settle(&mut grant, TokensUsed { input: 100, output: 50, cached: 80 }, START);
    assert_eq!((used(&mut gate, lane), used(&mut gate, app)), (500, 150));
    gate.recorded(grant, START);
    gate.enqueue(item(path, 100, 0), START + Duration::from_secs(10)).unwrap();
    let mut grant = gate.poll(START + Duration::from_secs(10)).unwrap().grant;
    gate.settle(&mut grant, TokensUsed { input: 170, output: 0, cached: 0 }, START);
    assert_eq!((used(&mut gate, lane), used(&mut gate, app)), (670, 320));
    let view = gate.view(lane, START).unwrap();
    assert_eq!(view.budgets[0].reserved, 0);
    gate.recorded(grant, START);
}

#[test]
fn a_call_never_sent_gives_its_tokens_back() {
    let (mut gate, lane, path) = token_lane(tokens(10_000, MINUTE), Accounting::Admission);
    gate.enqueue(item(path, 100, 400), START).unwrap();
    let grant = gate.poll(START).unwrap().grant;
    gate.unused(grant, START);
    let view = gate.view(lane, START).unwrap();
    assert_eq!((view.budgets[0].used, view.budgets[0].reserved, view.budgets[0].debt), (0, 0, 0));
}

/// One life of a process that saves as the gate asks, until it is killed; tells what left.
fn live_and_die(
    gate: &mut Gate,
    path: PathId,
    disk: &mut Vec<LevelState>,
    (from, until): (Timestamp, Timestamp),
    sizes: &[u64],
) -> Vec<(Timestamp, u64)> {
    let mut sent = Vec::new();
    let mut writing: Option<(Timestamp, Snapshot)> = None;
    let mut now = from;
    let mut sizes = sizes.iter().cycle();
    let mut size = *sizes.next().unwrap();
    gate.enqueue(item(path, size, 0), now).unwrap();
    while now < until {
        if let Some((_, snapshot)) = writing.take_if(|(done, _)| *done <= now) {
            disk.clone_from(&snapshot.states);
            gate.saved(snapshot.version, now);
        }
        if writing.is_none() && gate.save_need() == SaveNeed::Now {
            writing = gate.snapshot_dirty(now).map(|snapshot| (now + millis(15), snapshot));
        }
        if let Some(admitted) = gate.poll(now) {
            sent.push((now, size));
            gate.recorded(admitted.grant, now);
            size = *sizes.next().unwrap();
            gate.enqueue(item(path, size, 0), now).unwrap();
            continue;
        }
        if writing.is_none() && gate.save_need() == SaveNeed::Now {
            // The head that has just been tried asks for it.
            continue;
        }
        let written = writing.as_ref().map(|(done, _)| *done);
        let next = gate.next_at(now).into_iter().chain(written).min();
        now = next.unwrap_or(until).max(now + Duration::from_micros(1));
    }
    sent
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Killed at any moment, with items up to a fifth of the limit: no window over all lives is over.
    #[test]
    fn no_window_of_tokens_is_over_across_kills(
        sizes in proptest::collection::vec(prop_oneof![1_u64..100, 1_u64..2_000], 1..20),
        lives in proptest::collection::vec((0_u64..15_000, 0_u64..3_000), 1..15),
        period in prop_oneof![Just(Duration::from_secs(10)), Just(Duration::from_secs(300))],
    ) {
        let limits = tokens(10_000, period);
        let mut disk = Vec::new();
        let mut sent = Vec::new();
        let mut now = START;
        let mut boot = Boot::First;
        for (length, pause) in lives {
            let mut gate = Gate::new(GateOptions { ledger: true, boot, ..GateOptions::default() }, now);
            let lane = gate.add_level(level(LevelKind::Lane, "p/m", limits.clone()), now);
            let path = gate.add_path(&[lane]).unwrap();
            let end = now + millis(length);
            sent.extend(live_and_die(&mut gate, path, &mut disk, (now, end), &sizes));
            now = end + millis(pause);
            boot = Boot::Again(disk.clone());
        }
        prop_assert!(heaviest(&sent, period) <= 10_000, "{}", heaviest(&sent, period));
    }
}

#[test]
fn restarts_cost_no_tokens_beyond_their_first_two_seconds() {
    let limits = tokens(1_000_000, MINUTE);
    let sizes: Vec<u64> = (0..61).map(|item| 400 + item * 37 % 61 * 10).collect();
    let (mut disk, mut boot, mut now) = (Vec::new(), Boot::First, START);
    let (mut used, mut seconds) = (0, 0.0);
    // Three windows of restarts come before what is counted: what they cost may add up.
    for life in 0..30 {
        let mut gate = Gate::new(GateOptions { ledger: true, boot, ..GateOptions::default() }, now);
        let lane = gate.add_level(level(LevelKind::Lane, "p/m", limits.clone()), now);
        let path = gate.add_path(&[lane]).unwrap();
        let (settled, end) = (now + Duration::from_secs(2), now + millis(19_700));
        let sent = live_and_die(&mut gate, path, &mut disk, (now, end), &sizes);
        if life >= 9 {
            used += sent.iter().filter(|(at, _)| *at >= settled).map(|(_, amount)| amount).sum::<u64>();
            seconds += end.since(settled).as_secs_f64();
        }
        now = end + millis(20);
        boot = Boot::Again(disk.clone());
    }
    let share = used as f64 / (1_000_000.0 / 60.0 * seconds);
    assert!(share >= 0.97, "{share}");
}

#[test]
fn restarts_keep_no_charge_for_longer_and_longer() {
    let limits = tokens(1_000_000, MINUTE);
    let (mut boot, mut now, mut used) = (Boot::First, START, Vec::new());
    for _ in 0..7 {
        let mut gate = Gate::new(GateOptions { ledger: true, boot, ..GateOptions::default() }, now);
        let lane = gate.add_level(level(LevelKind::Lane, "p/m", limits.clone()), now);
        let path = gate.add_path(&[lane]).unwrap();
        used.push(gate.view(lane, now).unwrap().budgets[0].used);
        if now == START {
            let sent = live_and_die(&mut gate, path, &mut Vec::new(), (now, now + MINUTE), &[500]);
            assert!(sent.len() > 1_900);
            now = now + MINUTE;
        }
        boot = Boot::Again(gate.snapshot_dirty(now).map(|snapshot| snapshot.states).unwrap_or_default());
        now = now + Duration::from_secs(10);
    }
    // What was charged is a minute old, to within a part; what each restart takes for charged and not saved is not.
    assert!(used[6] <= 6 * 8_334 + 16_000, "{used:?}");
}

#[test]
fn saving_costs_no_tokens() {
    let mut gate = Gate::new(GateOptions { ledger: true, ..GateOptions::default() }, START);
    let lane = gate.add_level(level(LevelKind::Lane, "p/m", tokens(2_000_000, MINUTE)), START);
    let path = gate.add_path(&[lane]).unwrap();
    let sizes: Vec<u64> =
        mix(2_000_000, 0.05).iter().map(|(input, reserved, _, _)| input + reserved).collect();
    let sent = live_and_die(&mut gate, path, &mut Vec::new(), (START, START + MINUTE * 5), &sizes);
    let used = sent.iter().map(|(_, amount)| amount).sum::<u64>() as f64 / 10_000_000.0;
    assert!(used >= 0.96, "{used}");
}

#[test]
fn several_periods_hold_at_once() {
    let limits = Limits {
        tokens: vec![
            Rate { amount: 10_000, period: MINUTE },
            Rate { amount: 60_000, period: Duration::from_secs(3_600) },
        ],
        ..Limits::default()
    };
    let (mut gate, _, path) = token_lane(limits, Accounting::Admission);
    let sent = run(&mut gate, path, &[(100, 100, 100, 10)], START + MINUTE * 90);
    let charges = reservations(&sent);
    assert!(heaviest(&charges, MINUTE) <= 10_000);
    assert!(heaviest(&charges, MINUTE * 60) <= 60_000);
    let first_hour: u64 =
        charges.iter().filter(|(at, _)| at.since(START) < MINUTE * 60).map(|(_, amount)| amount).sum();
    assert!(first_hour >= 58_000, "{first_hour}");
}

#[test]
fn a_head_that_only_a_save_keeps_back_asks_for_it() {
    let mut gate = Gate::new(GateOptions { ledger: true, ..GateOptions::default() }, START);
    let lane = gate.add_level(level(LevelKind::Lane, "p/m", tokens(2_000_000, MINUTE)), START);
    let path = gate.add_path(&[lane]).unwrap();
    gate.enqueue(item(path, 3_000, 0), START).unwrap();
    let first = gate.poll(START).unwrap();
    gate.enqueue(item(path, 15_000, 0), START).unwrap();
    assert!(gate.poll(START).is_none());
    assert_eq!(gate.save_need(), SaveNeed::Ride, "its time has not come");
    let due = gate.next_at(START).unwrap();
    assert!(gate.poll(due).is_none());
    assert_eq!(gate.save_need(), SaveNeed::Now);
    let snapshot = gate.snapshot_dirty(due).unwrap();
    gate.saved(snapshot.version, due);
    assert!(gate.poll(due).is_some());
    gate.recorded(first.grant, due);
}
