//! What workers tell each other of levels.

use super::*;

fn gate(limits: &Limits) -> (Gate, LevelId, PathId) {
    let options = GateOptions { shared: true, ledger: true, jitter: millis(300), ..GateOptions::default() };
    let mut gate = Gate::new(options, START);
    let lane = gate.add_level(level(LevelKind::Lane, "p/m", limits.clone()), START);
    let path = gate.add_path(&[lane]).unwrap();
    (gate, lane, path)
}

fn told(gate: &mut Gate, now: Timestamp) -> Vec<LevelState> {
    let snapshot = gate.snapshot_dirty(now).unwrap();
    gate.saved(snapshot.version, now);
    snapshot.states
}

#[test]
fn charges_are_no_news_and_closures_are() {
    let mut world = World::new(&per(6_000, MINUTE), Accounting::Admission, 1, 3);
    batches(&mut world, 1, &[CALL]);
    world.run(START + MINUTE);
    let worker = &mut world.workers[0];
    assert_eq!(worker.gate.save_need(), SaveNeed::Nothing);
    worker.gate.pause(worker.lane, PauseReason::Paused, START + MINUTE);
    assert_eq!(worker.gate.save_need(), SaveNeed::Now);
    let states = told(&mut worker.gate, START + MINUTE);
    assert!(states[0].paused && states[0].budgets.is_empty());
    worker.gate.failed(worker.lane, START, START + MINUTE);
    assert_eq!(worker.gate.save_need(), SaveNeed::Nothing, "a failure alone says nothing to others");
}

#[test]
fn what_one_finds_out_holds_for_the_others_and_is_no_news_of_theirs() {
    let (mut one, lane, _) = gate(&per(600, MINUTE));
    let (mut other, same_lane, _) = gate(&per(600, MINUTE));
    for call in 0..2 {
        let refusal = Refusal { sent_at: START, retry_after: Some(Duration::from_secs(90)) };
        one.rate_limited(lane, refusal, START + millis(call));
    }
    one.stop(lane, StopReason::Quota, START, START + millis(1));
    let states = told(&mut one, START + millis(1));
    other.adopt(&states, START + millis(2));
    let view = other.view(same_lane, START + millis(2)).unwrap();
    assert_eq!(view.state, LaneState::Stopped);
    assert!((view.rate_factor - 0.99).abs() < 1e-9);
    assert_eq!(other.save_need(), SaveNeed::Nothing);

    one.resume(lane, START + millis(3));
    let states = told(&mut one, START + millis(3));
    other.adopt(&states, START + millis(4));
    assert_eq!(other.lane_state(same_lane, START + millis(4)), LaneState::Cooldown);
    // A later end of its own stays.
    let late = START + Duration::from_secs(200);
    other.close_until(same_lane, late, START + millis(5));
    other.adopt(&states, START + millis(6));
    assert_eq!(other.view(same_lane, START + millis(6)).unwrap().closed_until, Some(late));
}

#[test]
fn news_of_its_own_are_kept_until_they_are_saved() {
    let (mut one, lane, _) = gate(&per(600, MINUTE));
    let (mut other, same_lane, _) = gate(&per(600, MINUTE));
    one.close_until(lane, START + MINUTE, START);
    let states = told(&mut one, START);
    other.pause(same_lane, PauseReason::Paused, START);
    other.adopt(&states, START);
    assert_eq!(other.lane_state(same_lane, START), LaneState::Paused);
    let mine = other.snapshot_dirty(START).unwrap();
    other.adopt(&states, START);
    assert_eq!(other.lane_state(same_lane, START), LaneState::Paused, "it is on its way");
    other.saved(mine.version, START);
    other.adopt(&states, START);
    assert_eq!(other.lane_state(same_lane, START), LaneState::Cooldown);
}

#[test]
fn the_lower_limit_holds_and_the_own_one_is_told() {
    let (mut gate, lane, path) = gate(&per(600, MINUTE));
    let told = |gate: &Gate| gate.shared_limits(|_, _| true);
    let own = told(&gate);
    assert_eq!(own, [("lane/p/m".into(), Dimension::Requests, 60_000_000, 600)]);
    let limit = |gate: &mut Gate| gate.view(lane, START).unwrap().budgets[0].limit;
    gate.set_shared_limits(&[("lane/p/m".into(), Dimension::Requests, 60_000_000, 100)], START);
    assert_eq!((limit(&mut gate), told(&gate)), (100, own));
    assert!(gate.shared_limits(|level, kind| (level, kind) != (lane, LevelKind::Lane)).is_empty());
    assert!(!gate.view(lane, START).unwrap().budgets[0].learned);
    gate.enqueue(head(path, 0), START).unwrap();
    assert!(gate.poll(START).is_none());
    assert_eq!(gate.ask(START).budgets[0].limit, 100);
    gate.set_shared_limits(&[], START);
    assert_eq!(limit(&mut gate), 600);
}

#[test]
fn a_level_that_comes_later_has_the_lower_limit_too() {
    let (mut gate, ..) = gate(&per(600, MINUTE));
    gate.set_shared_limits(&[("app/a".into(), Dimension::Requests, 60_000_000, 5)], START);
    let app = gate.add_level(level(LevelKind::App, "a", per(50, MINUTE)), START);
    assert_eq!(gate.view(app, START).unwrap().budgets[0].limit, 5);
}
