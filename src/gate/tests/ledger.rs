//! Killed at any moment: no burst, no debt forgotten, little time lost.

use proptest::prelude::*;

use super::*;

/// A disk that makes snapshots durable some time after they were taken.
#[derive(Default)]
struct Disk {
    commit: Duration,
    durable: Vec<LevelState>,
    writing: Option<(Timestamp, Snapshot)>,
}

impl Disk {
    fn keep(&mut self, states: Vec<LevelState>) {
        for state in states {
            // Through its text, as a store would.
            let state: LevelState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
            self.durable.retain(|held| (held.kind, &held.name) != (state.kind, &state.name));
            self.durable.push(state);
        }
    }
}

/// One life of the process: sends as fast as it may until it is killed at `until`.
fn live(gate: &mut Gate, path: PathId, disk: &mut Disk, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let mut sent = Vec::new();
    let mut now = from;
    gate.enqueue(head(path, 0), now).unwrap();
    while now < until {
        if let Some((done, snapshot)) = disk.writing.take_if(|(done, _)| *done <= now) {
            disk.keep(snapshot.states);
            gate.saved(snapshot.version, done.max(now));
        }
        if disk.writing.is_none() && gate.save_need() == SaveNeed::Now {
            disk.writing = gate.snapshot_dirty(now).map(|snapshot| (now + disk.commit, snapshot));
        }
        if let Some(admitted) = gate.poll(now) {
            sent.push(now);
            gate.recorded(admitted.grant, now);
            gate.enqueue(head(path, 0), now).unwrap();
            continue;
        }
        let written = disk.writing.as_ref().map(|(done, _)| *done);
        let next = gate.next_at(now).into_iter().chain(written).min();
        now = next.unwrap_or(until).max(now + Duration::from_micros(1));
    }
    disk.writing = None;
    sent
}

fn boot(limits: &Limits, boot: Boot, now: Timestamp) -> (Gate, LevelId, PathId) {
    let mut gate = Gate::new(GateOptions { ledger: true, boot, ..GateOptions::default() }, now);
    let lane = gate.add_level(level(LevelKind::Lane, "p/m", limits.clone()), now);
    let path = gate.add_path(&[lane]).unwrap();
    (gate, lane, path)
}

fn limits() -> impl Strategy<Value = (u64, Duration)> {
    prop_oneof![
        (1_u64..30).prop_map(|amount| (amount, Duration::from_secs(1))),
        (1_u64..200).prop_map(|amount| (amount, Duration::from_secs(10))),
        (1_u64..900).prop_map(|amount| (amount, MINUTE)),
        (1_u64..300).prop_map(|amount| (amount, Duration::from_secs(300))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Lives of any length, pauses of any length, a slow disk: no window over all of them is over the limit.
    #[test]
    fn no_window_is_over_across_kills(
        (amount, period) in limits(),
        burst in proptest::option::of(1_u32..200),
        lives in proptest::collection::vec((prop_oneof![0_u64..20_000, 0_u64..1_000], 0_u64..3_000), 1..30),
        commit in prop_oneof![1_u64..100, 1_u64..3_000],
    ) {
        let limits = Limits { burst, ..per(amount, period) };
        let mut disk = Disk { commit: millis(commit), ..Disk::default() };
        let mut sent = Vec::new();
        let mut now = START;
        let mut start = Boot::First;
        for (length, pause) in lives {
            let (mut gate, _, path) = boot(&limits, start, now);
            let end = now + millis(length);
            sent.extend(live(&mut gate, path, &mut disk, now, end));
            now = end + millis(pause);
            start = Boot::Again(disk.durable.clone());
        }
        let most = most_within(&sent, period) as u64;
        prop_assert!(most <= amount, "{most} of {amount} in {period:?}");
    }

    /// A slow disk does not slow the pace.
    #[test]
    fn saving_costs_no_pace(amount in 60_u64..6_000, commit in 1_u64..100) {
        let (mut gate, _, path) = boot(&per(amount, MINUTE), Boot::First, START);
        let mut disk = Disk { commit: millis(commit), ..Disk::default() };
        let sent = live(&mut gate, path, &mut disk, START, START + MINUTE);
        prop_assert!(sent.len() as u64 * 100 >= amount * 99 - 100, "{} of {amount}", sent.len());
    }
}

#[test]
fn an_idle_service_sends_its_first_call_without_a_save() {
    for amount in [1, 10, 600, 6_000] {
        let (mut gate, _, path) = boot(&per(amount, MINUTE), Boot::First, START);
        gate.enqueue(head(path, 0), START).unwrap();
        assert!(gate.poll(START).is_some());
        assert_ne!(gate.save_need(), SaveNeed::Nothing);
    }
}

#[test]
fn without_saves_no_more_than_half_a_second_leaves() {
    let (mut gate, _, path) = boot(&per(6_000, MINUTE), Boot::First, START);
    let mut now = START;
    let mut sent = 0;
    for turn in 0..200 {
        gate.enqueue(head(path, turn), now).unwrap();
        while let Some(admitted) = gate.poll(now) {
            sent += 1;
            gate.recorded(admitted.grant, now);
        }
        now = now + millis(20);
    }
    assert!((48..=50).contains(&sent), "{sent}");
    assert_eq!(gate.save_need(), SaveNeed::Now);
    assert_eq!(gate.waiting(path, now).unwrap().reason, Reason::Rate);
    let lost = gate.snapshot_dirty(now).unwrap();
    gate.save_failed(lost.version);
    gate.saved(lost.version, now);
    assert!(gate.poll(now).is_none(), "a snapshot that was lost frees nobody");
    let kept = gate.snapshot_dirty(now).unwrap();
    gate.saved(kept.version, now);
    assert!(gate.poll(now).is_some());
}

#[test]
fn one_that_dies_again_and_again_sends_no_more() {
    for amount in [3, 10, 60, 600] {
        let mut disk = Disk { commit: MINUTE, ..Disk::default() };
        let mut sent = Vec::new();
        let mut start = Boot::First;
        for life in 0..200 {
            let now = START + millis(700 * life);
            let (mut gate, _, path) = boot(&per(amount, MINUTE), start, now);
            sent.extend(live(&mut gate, path, &mut disk, now, now + millis(690)));
            start = Boot::Again(disk.durable.clone());
        }
        let most = most_within(&sent, MINUTE) as u64;
        assert!(most <= amount, "{most} of {amount}");
    }
}

#[test]
fn a_restart_costs_half_a_second() {
    let limits = per(600, MINUTE);
    let mut disk = Disk { commit: millis(5), ..Disk::default() };
    let (mut gate, _, path) = boot(&limits, Boot::First, START);
    let killed = START + Duration::from_secs(30);
    live(&mut gate, path, &mut disk, START, killed);
    let (mut gate, _, path) = boot(&limits, Boot::Again(disk.durable.clone()), killed);
    let sent = live(&mut gate, path, &mut disk, killed, killed + MINUTE);
    assert!(sent[0].since(killed) <= millis(700), "{:?}", sent[0].since(killed));
    assert!(sent.len() >= 590, "{}", sent.len());
}

#[test]
fn cooldown_and_rate_factor_survive_and_the_future_is_clamped() {
    let limits = per(600, MINUTE);
    let (mut gate, lane, _) = boot(&limits, Boot::First, START);
    for call in 0..2 {
        let refusal = Refusal { sent_at: START, retry_after: Some(Duration::from_secs(90)) };
        gate.rate_limited(lane, refusal, START + millis(call));
    }
    let saved = gate.snapshot_dirty(START + millis(1)).unwrap().states;
    let restart = START + Duration::from_secs(10);
    let (mut gate, lane, _) = boot(&limits, Boot::Again(saved.clone()), restart);
    let view = gate.view(lane, restart).unwrap();
    assert_eq!(view.closed_until, Some(START + Duration::from_secs(90) + millis(1)));
    assert!((view.rate_factor - 0.99).abs() < 1e-9);

    // The clock went back a year: nothing waits that long.
    let year = Duration::from_secs(365 * 86_400);
    let mut broken = saved;
    broken[0].budgets[0].arrival_us = Some((restart + year).micros());
    broken[0].closed_until_us = None;
    let (mut gate, _, path) = boot(&limits, Boot::Again(broken), restart);
    gate.enqueue(head(path, 0), restart).unwrap();
    assert!(gate.poll(restart).is_none());
    assert!(gate.next_at(restart).unwrap() <= restart + MINUTE * 2 + Duration::from_secs(1));
}

#[test]
fn a_debt_that_was_saved_is_paid_after_a_restart() {
    let limits = per(600, MINUTE);
    let (mut gate, _, path) = boot(&limits, Boot::First, START);
    gate.enqueue(Head { cost: Cost { requests: 200, memory: 0, ..Cost::default() }, ..head(path, 0) }, START)
        .unwrap();
    assert!(gate.poll(START).is_none(), "twenty seconds of pace are not charged unsaved");
    let ahead = gate.snapshot_dirty(START).unwrap();
    gate.saved(ahead.version, START);
    let heavy = gate.poll(START).unwrap();
    gate.recorded(heavy.grant, START);
    let saved = gate.snapshot_dirty(START).unwrap();
    let restart = START + Duration::from_secs(1);
    let (mut gate, _, path) = boot(&limits, Boot::Again(saved.states), restart);
    gate.enqueue(head(path, 0), restart).unwrap();
    assert!(gate.poll(restart).is_none());
    assert!(gate.next_at(restart).unwrap() >= START + Duration::from_secs(20));
}

#[test]
fn the_calls_that_an_upstream_bears_survive() {
    let limits = slots(64);
    let (mut gate, lane, path) = boot(&limits, Boot::First, START);
    for turn in 0..64 {
        gate.enqueue(head(path, turn), START).unwrap();
    }
    while let Some(admitted) = gate.poll(START) {
        gate.overloaded(lane, admitted.grant.sent(), START + millis(1));
        gate.recorded(admitted.grant, START + millis(1));
    }
    let bears = gate.view(lane, START + millis(1)).unwrap().max_concurrent;
    assert!(bears.unwrap() < 64, "{bears:?}");
    let mut disk = Disk::default();
    disk.keep(gate.snapshot_dirty(START + millis(1)).unwrap().states);
    let (mut gate, lane, _) = boot(&limits, Boot::Again(disk.durable.clone()), START + MINUTE);
    assert_eq!(gate.view(lane, START + MINUTE).unwrap().max_concurrent, bears);
}

#[test]
fn a_state_of_before_there_were_more_fields_is_read() {
    let old = r#"{"kind":"lane","name":"p/m","rate_factor":9950,"closed_until_us":null,"budgets":[]}"#;
    let state: LevelState = serde_json::from_str(old).unwrap();
    assert_eq!(state.max_concurrent, None);
}
