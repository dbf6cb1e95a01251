//! Lanes closed by what providers and operators say.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn polled(gate: &mut Gate, now: Timestamp) -> Vec<Grant> {
    std::iter::from_fn(|| gate.poll(now)).map(|admitted| admitted.grant).collect()
}

#[test]
fn a_closed_lane_holds_nothing_and_its_neighbour_goes_on() {
    let mut gate = Gate::new(GateOptions::default(), START);
    let provider = gate.add_level(level(LevelKind::Provider, "p", slots(2)), START);
    let lanes =
        ["p/a", "p/b"].map(|name| gate.add_level(level(LevelKind::Lane, name, Limits::default()), START));
    let paths = lanes.map(|lane| gate.add_path(&[provider, lane]).unwrap());
    let refusal = Refusal { sent_at: START, retry_after: Some(7 * SECOND) };
    assert_eq!(gate.rate_limited(lanes[0], refusal, START), START + 7 * SECOND);
    assert_eq!(gate.lane_state(lanes[0], START), LaneState::Cooldown);

    gate.enqueue(head(paths[0], 0), START).unwrap();
    gate.enqueue(head(paths[1], 1), START).unwrap();
    gate.enqueue(head(paths[1], 2), START).unwrap();
    let running = polled(&mut gate, START);
    assert_eq!(running.len(), 2, "both slots go to the open lane");
    let waiting = gate.waiting(paths[0], START).unwrap();
    assert_eq!((waiting.level, waiting.reason), (lanes[0], Reason::Cooldown));
    assert_eq!((waiting.since, waiting.until), (START, Some(START + 7 * SECOND)));

    for grant in running {
        gate.recorded(grant, START + SECOND);
    }
    assert_eq!(gate.next_at(START + SECOND), Some(START + 7 * SECOND));
    assert!(gate.poll(START + 7 * SECOND).is_some());
}

#[test]
fn refusals_slow_whoever_has_the_pace() {
    let mut gate = Gate::new(GateOptions::default(), START);
    let provider = gate.add_level(level(LevelKind::Provider, "p", per(600, MINUTE)), START);
    let spec = LevelSpec { parent: Some(provider), ..level(LevelKind::Lane, "p/m", slots(8)) };
    let lane = gate.add_level(spec, START);
    for call in 0..3 {
        gate.rate_limited(lane, Refusal { sent_at: START, retry_after: Some(SECOND) }, START + millis(call));
    }
    let factor = |gate: &mut Gate, id| gate.view(id, START).unwrap().rate_factor;
    assert!((factor(&mut gate, provider) - 0.99).abs() < 1e-9);
    assert!((factor(&mut gate, lane) - 0.995).abs() < 1e-9);
}

#[test]
fn after_a_run_the_slots_come_back_over_five_seconds() {
    let (mut gate, lane, path) = one_lane(slots(20));
    for turn in 0..30 {
        gate.enqueue(head(path, turn), START).unwrap();
    }
    for call in 0..2 {
        gate.rate_limited(lane, Refusal { sent_at: START, retry_after: Some(SECOND) }, START + millis(call));
    }
    let open = START + SECOND + millis(1);
    let mut running = polled(&mut gate, open);
    assert_eq!(running.len(), 2);
    assert!(gate.next_at(open).is_some_and(|next| next <= open + millis(50)), "it grows without a release");
    running.extend(polled(&mut gate, open + millis(2_500)));
    assert_eq!(running.len(), 11);
    running.extend(polled(&mut gate, open + 5 * SECOND));
    assert_eq!(running.len(), 20);
}

#[test]
fn a_stopped_lane_sends_one_probe_at_a_time_and_ever_more_rarely() {
    let (mut gate, lane, path) = one_lane(slots(8));
    for turn in 0..20 {
        gate.enqueue(head(path, turn), START).unwrap();
    }
    let running = polled(&mut gate, START);
    assert_eq!(running.len(), 8);
    // All that were in flight come back with the same refusal; only the first stops the lane.
    let mut now = START + SECOND;
    for grant in running {
        gate.stop(lane, StopReason::Credential, grant.admitted_at(), now);
        gate.recorded(grant, now);
    }
    assert!(polled(&mut gate, now).is_empty());
    assert_eq!(gate.waiting(path, now).unwrap().reason, Reason::Credential);
    for wait in [60, 120, 240, 480, 600, 600] {
        let due = gate.next_at(now).unwrap();
        assert_eq!(due.since(now), wait * SECOND);
        now = due;
        let mut probes = polled(&mut gate, now);
        assert_eq!(probes.len(), 1);
        let probe = probes.pop().unwrap();
        assert!(probe.is_probe());
        now = now + SECOND;
        gate.stop(lane, StopReason::Credential, probe.admitted_at(), now);
        gate.recorded(probe, now);
    }
    gate.probe_now(lane, now);
    let probe = polled(&mut gate, now).pop().unwrap();
    gate.resume(lane, now);
    gate.recorded(probe, now);
    assert_eq!(gate.lane_state(lane, now), LaneState::Open);
    assert_eq!(polled(&mut gate, now).len(), 5);
}

#[test]
fn a_probe_that_brings_no_answer_is_tried_again() {
    let (mut gate, lane, path) = one_lane(slots(8));
    gate.stop(lane, StopReason::Quota, START, START);
    gate.enqueue(head(path, 0), START).unwrap();
    gate.enqueue(head(path, 1), START).unwrap();
    let probe = polled(&mut gate, START + 60 * SECOND).pop().unwrap();
    drop(gate.permit(probe));
    gate.collect_releases(START + 61 * SECOND);
    assert_eq!(gate.next_at(START + 61 * SECOND), Some(START + 121 * SECOND));
    assert_eq!(polled(&mut gate, START + 121 * SECOND).len(), 1);
}

#[test]
fn a_pause_holds_until_it_ends() {
    let (mut gate, lane, path) = one_lane(Limits::default());
    gate.enqueue(head(path, 0), START).unwrap();
    gate.pause(lane, PauseReason::Disk, START);
    assert!(gate.poll(START).is_none());
    assert_eq!(gate.waiting(path, START).unwrap().reason, Reason::Disk);
    assert_eq!(gate.next_at(START), None);
    gate.unpause(lane, START);
    assert!(gate.poll(START).is_some());
    assert_eq!(gate.waiting(path, START), None);
}
