//! A gate that is told what its upstream takes, or finds out.

use std::collections::BinaryHeap;

use super::*;
use crate::domain::quota::QuotaReading;

const SECOND: Duration = Duration::from_secs(1);

fn said(limit: u64, remaining: u64) -> QuotaReading {
    QuotaReading {
        dimension: Dimension::Requests,
        limit: Some(limit),
        remaining: Some(remaining),
        reset: Some(MINUTE.mul_f64(1.0 - remaining as f64 / limit as f64)),
        period: None,
    }
}

/// A token bucket of another's making, with a foreign user and headers or without.
struct Upstream {
    limit: f64,
    fill: f64,
    at: Timestamp,
    foreign_per_second: f64,
    speaks: bool,
}

impl Upstream {
    fn new(limit: u64, speaks: bool) -> Self {
        Self { limit: limit as f64, fill: limit as f64, at: START, foreign_per_second: 0.0, speaks }
    }

    fn takes(&mut self, now: Timestamp) -> bool {
        let gone = now.since(self.at).as_secs_f64();
        self.at = now;
        self.fill = (self.fill + gone * (self.limit / 60.0 - self.foreign_per_second)).clamp(0.0, self.limit);
        let takes = self.fill >= 1.0;
        self.fill -= if takes { 1.0 } else { 0.0 };
        takes
    }
}

/// A backlog against an upstream; tells what it took and refused, second by second.
fn against(
    gate: &mut Gate,
    (lane, path): (LevelId, PathId),
    upstream: &mut Upstream,
    (from, until): (Timestamp, Timestamp),
) -> Vec<(u64, u64)> {
    let mut counts = vec![(0, 0); usize::try_from(until.since(from).as_secs()).unwrap()];
    let mut ends = BinaryHeap::new();
    let mut running: std::collections::HashMap<u64, (Grant, bool, QuotaReading)> =
        std::collections::HashMap::new();
    let mut now = from;
    let mut calls = 0;
    let mut head_id = gate.enqueue(head(path, 0), now).unwrap();
    while now < until {
        while let Some(std::cmp::Reverse((_, call))) =
            ends.peek().copied().filter(|std::cmp::Reverse((moment, _))| *moment <= now)
        {
            ends.pop();
            let (mut grant, taken, reading) = running.remove(&call).unwrap();
            gate.finish_call(&mut grant, now);
            let (sent, sent_at) = (grant.sent(), grant.admitted_at());
            if taken {
                gate.answered(lane, sent, now);
            } else {
                let retry_after = upstream.speaks.then_some(SECOND);
                gate.rate_limited(lane, Refusal { sent_at, retry_after }, now);
            }
            if upstream.speaks {
                gate.observe(lane, &reading, sent_at, now);
            }
            gate.recorded(grant, now);
        }
        if let Some(admitted) = gate.poll(now) {
            let taken = upstream.takes(now);
            let second = usize::try_from(now.since(from).as_secs()).unwrap();
            if let Some(count) = counts.get_mut(second) {
                count.0 += u64::from(taken);
                count.1 += u64::from(!taken);
            }
            calls += 1;
            let reading = said(upstream.limit as u64, upstream.fill as u64);
            running.insert(calls, (admitted.grant, taken, reading));
            let wait = if taken { 50 + calls * 37 % 400 } else { 20 };
            ends.push(std::cmp::Reverse((now + millis(wait), calls)));
            head_id = gate.enqueue(head(path, 0), now).unwrap();
            continue;
        }
        let ended = ends.peek().map(|std::cmp::Reverse((moment, _))| *moment);
        let next = gate.next_at(now).into_iter().chain(ended).min();
        now = next.unwrap_or(until).max(now + Duration::from_micros(1));
    }
    gate.withdraw(head_id, until);
    for (grant, _, _) in running.into_values() {
        gate.recorded(grant, until);
    }
    counts
}

fn taken(counts: &[(u64, u64)]) -> f64 {
    counts.iter().map(|count| count.0).sum::<u64>() as f64
}

fn refused(counts: &[(u64, u64)]) -> f64 {
    counts.iter().map(|count| count.1).sum::<u64>() as f64
}

#[test]
fn a_limit_is_learned_from_the_second_equal_reading() {
    let (mut gate, lane, _) = one_lane(slots(64));
    gate.observe(lane, &said(600, 599), START, START);
    assert_eq!(gate.learned_limits(lane), []);
    gate.observe(lane, &said(500, 499), START + millis(1), START + millis(1));
    gate.observe(lane, &said(600, 598), START, START + millis(2));
    assert_eq!(gate.learned_limits(lane), [], "other figures, then an older call's");
    gate.observe(lane, &said(500, 498), START + millis(2), START + millis(3));
    let learned = gate.learned_limits(lane);
    assert_eq!((learned[0].amount, learned[0].dimension), (500, Dimension::Requests));
    let view = gate.view(lane, START + millis(3)).unwrap();
    assert!(view.budgets[0].learned && view.budgets[0].limit == 500);
}

#[test]
fn what_may_not_be_learned_is_not() {
    for (learn, reading, wanted) in
        [(None, 600, 1_000), (Some(false), 600, 1_000), (Some(true), 600, 600), (Some(true), 5_000, 1_000)]
    {
        let (mut gate, lane, _) = one_lane(Limits { learn, ..per(1_000, MINUTE) });
        for call in 0..3 {
            gate.observe(lane, &said(reading, reading - 1), START + millis(call), START + millis(call));
        }
        assert_eq!(gate.view(lane, START).unwrap().budgets[0].limit, wanted, "{learn:?} {reading}");
    }
}

#[test]
fn headers_that_lie_change_nothing() {
    let (mut gate, lane, _) = one_lane(slots(64));
    let lies = [
        QuotaReading { limit: Some(0), remaining: Some(0), ..said(1, 0) },
        QuotaReading { remaining: Some(601), reset: None, ..said(600, 600) },
        QuotaReading { reset: Some(Duration::from_secs(365 * 86_400)), ..said(600, 0) },
        QuotaReading { period: Some(Duration::ZERO), ..said(600, 0) },
    ];
    for lie in lies.iter().chain(&lies) {
        gate.observe(lane, lie, START, START);
    }
    assert_eq!(gate.learned_limits(lane), []);
    assert!(gate.view(lane, START).unwrap().budgets.is_empty());
}

#[test]
fn a_learned_limit_survives_a_restart() {
    let options = || GateOptions { ledger: true, ..GateOptions::default() };
    let mut gate = Gate::new(options(), START);
    let lane = gate.add_level(level(LevelKind::Lane, "p/m", slots(64)), START);
    for call in 0..2 {
        gate.observe(lane, &said(600, 599), START + millis(call), START + millis(call));
    }
    let states = gate.snapshot_dirty(START + millis(2)).unwrap().states;
    let restart = START + SECOND;
    let mut gate = Gate::new(GateOptions { boot: Boot::Again(states), ..options() }, restart);
    let lane = gate.add_level(level(LevelKind::Lane, "p/m", slots(64)), restart);
    let view = gate.view(lane, restart).unwrap();
    assert!(view.budgets[0].learned && view.budgets[0].limit == 600);
}

#[test]
fn learned_halved_and_doubled() {
    let (mut gate, lane, path) = one_lane(slots(64));
    let mut upstream = Upstream::new(6_000, true);
    let to = |minute: u32| START + MINUTE * minute;
    let learned = against(&mut gate, (lane, path), &mut upstream, (START, to(3)));
    assert!(taken(&learned[20..80]) >= 0.95 * 6_000.0, "{}", taken(&learned[20..80]));
    assert!(taken(&learned[120..]) >= 0.98 * 6_000.0, "{}", taken(&learned[120..]));
    upstream.limit = 3_000.0;
    let halved = against(&mut gate, (lane, path), &mut upstream, (to(3), to(5)));
    assert!(refused(&halved[..60]) <= 0.01 * 3_000.0, "{}", refused(&halved));
    assert!(taken(&halved[5..65]) <= 3_000.0);
    upstream.limit = 6_000.0;
    let doubled = against(&mut gate, (lane, path), &mut upstream, (to(5), to(7)));
    assert!(taken(&doubled[30..90]) >= 0.95 * 6_000.0, "{}", taken(&doubled[30..90]));
    assert!(refused(&doubled) <= 6.0);
}

#[test]
fn somebody_else_gets_a_part() {
    let (mut gate, lane, path) = one_lane(slots(64));
    let mut upstream = Upstream::new(6_000, true);
    against(&mut gate, (lane, path), &mut upstream, (START, START + MINUTE));
    upstream.foreign_per_second = 30.0;
    let shared = against(&mut gate, (lane, path), &mut upstream, (START + MINUTE, START + MINUTE * 6));
    assert!(refused(&shared) <= 0.01 * taken(&shared), "{} refused", refused(&shared));
    assert!(taken(&shared[60..]) >= 0.95 * 70.0 * 240.0, "{}", taken(&shared[60..]));
}

#[test]
fn alone_no_reading_is_taken_for_somebody_else() {
    let (mut gate, lane, path) = one_lane(per(6_000, MINUTE));
    let mut upstream = Upstream::new(6_000, true);
    let counts = against(&mut gate, (lane, path), &mut upstream, (START, START + MINUTE * 5));
    assert!(taken(&counts) >= 0.99 * 30_000.0, "{}", taken(&counts));
}

#[test]
fn a_silent_upstream_is_settled_on() {
    for limit in [600, 6_000] {
        let (mut gate, lane, path) = one_lane(slots(64));
        let mut upstream = Upstream::new(limit, false);
        upstream.fill = 5.0;
        let counts = against(&mut gate, (lane, path), &mut upstream, (START, START + MINUTE * 10));
        let late = &counts[180..];
        let whole = limit as f64 * 7.0;
        assert!(taken(late) >= 0.97 * whole, "{} of {whole}", taken(late));
        assert!(refused(late) <= 0.002 * whole, "{} of {whole} refused", refused(late));
    }
}

#[test]
fn a_lane_whose_calls_fail_is_parked_and_comes_back() {
    let (mut gate, lane, path) = one_lane(slots(64));
    for turn in 0..40 {
        gate.enqueue(head(path, turn), START).unwrap();
    }
    for _ in 0..10 {
        let grant = gate.poll(START).unwrap().grant;
        gate.unreachable(lane, grant.admitted_at(), START);
        gate.recorded(grant, START);
    }
    assert!(gate.poll(START).is_none());
    assert_eq!(gate.lane_state(lane, START), LaneState::Breaker);
    assert_eq!(gate.waiting(path, START).unwrap().reason, Reason::Breaker);
    assert_eq!(gate.next_at(START), Some(START + SECOND));
    let mut now = START + SECOND;
    for probes in [1, 2, 4] {
        let running: Vec<Grant> =
            std::iter::from_fn(|| gate.poll(now)).map(|admitted| admitted.grant).collect();
        assert_eq!(running.len(), probes);
        now = now + millis(100);
        for grant in running {
            assert!(grant.is_probe());
            gate.answered(lane, grant.sent(), now);
            gate.recorded(grant, now);
        }
    }
    assert_eq!(gate.lane_state(lane, now), LaneState::Open);
    assert!(gate.poll(now).is_some());
}

#[test]
fn overload_lowers_the_calls_in_flight() {
    let (mut gate, lane, path) = one_lane(slots(64));
    for turn in 0..100 {
        gate.enqueue(head(path, turn), START).unwrap();
    }
    let running: Vec<Grant> =
        std::iter::from_fn(|| gate.poll(START)).map(|admitted| admitted.grant).collect();
    assert_eq!(running.len(), 64);
    for mut grant in running {
        gate.finish_call(&mut grant, START + SECOND);
        gate.overloaded(lane, grant.sent(), START + SECOND);
        gate.recorded(grant, START + SECOND);
    }
    assert_eq!(gate.view(lane, START + SECOND).unwrap().max_concurrent, Some(54));
    assert_eq!(gate.lane_state(lane, START + SECOND), LaneState::Open, "one round trip is one loss");
}

#[test]
fn an_upstream_that_dies_after_long_service_is_parked_at_once() {
    let (mut gate, lane, path) = one_lane(slots(64));
    let mut now = START;
    let mut calls = 0;
    while gate.lane_state(lane, now) == LaneState::Open {
        assert!(calls < 12_000, "{calls}");
        gate.enqueue(head(path, calls), now).unwrap();
        let Some(admitted) = gate.poll(now) else { panic!("{:?}", gate.waiting(path, now)) };
        let sent = admitted.grant.sent();
        gate.recorded(admitted.grant, now);
        now = now + millis(1);
        if calls < 10_000 {
            gate.answered(lane, sent, now);
        } else {
            gate.overloaded(lane, sent, now);
        }
        calls += 1;
    }
    assert_eq!(gate.lane_state(lane, now), LaneState::Breaker);
    assert!(calls < 10_500, "{calls}");
}

#[test]
fn a_found_rate_is_looked_beyond_after_a_restart() {
    let (mut gate, lane, path) = one_lane(slots(64));
    let mut upstream = Upstream::new(600, false);
    upstream.fill = 5.0;
    against(&mut gate, (lane, path), &mut upstream, (START, START + MINUTE * 2));
    let found = gate.learned_limits(lane);
    assert!(found[0].probed, "{found:?}");
    let state = LevelState {
        kind: LevelKind::Lane,
        name: "p/m".to_owned(),
        rate_factor: 9_950,
        closed_until_us: None,
        paused: false,
        budgets: Vec::new(),
        max_concurrent: None,
        stopped: None,
        learned: found.clone(),
    };
    let restart = START + MINUTE * 3;
    let mut gate =
        Gate::new(GateOptions { boot: Boot::Again(vec![state]), ..GateOptions::default() }, restart);
    let lane = gate.add_level(level(LevelKind::Lane, "p/m", slots(64)), restart);
    let path = gate.add_path(&[lane]).unwrap();
    upstream.limit = 1_200.0;
    against(&mut gate, (lane, path), &mut upstream, (restart, restart + MINUTE * 4));
    assert!(gate.learned_limits(lane)[0].amount > found[0].amount, "{:?}", gate.learned_limits(lane));
}
