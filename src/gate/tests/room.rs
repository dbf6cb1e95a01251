//! Concurrency, memory and turns: nothing leaks, nothing idles, nobody is passed over.

use proptest::prelude::*;

use super::*;

/// What a random run does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Enqueue { path: usize, own: Option<usize>, turn: u64, memory: u64, tokens: u64 },
    Withdraw(usize),
    Poll,
    Finish(usize),
    Record(usize),
    Drop(usize),
    Unused(usize),
    Settle { call: usize, tokens: u64 },
    Limit { level: usize, slots: u32, amount: u64 },
    Close { level: usize, millis: u64 },
    Pass(u64),
}

fn steps(memory: u64) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_usize..6, proptest::option::of(0_usize..3), 0_u64..20, 0..=memory, 0..=memory)
            .prop_map(|(path, own, turn, memory, tokens)| Step::Enqueue { path, own, turn, memory, tokens }),
        1 => any::<usize>().prop_map(Step::Withdraw),
        8 => Just(Step::Poll),
        3 => any::<usize>().prop_map(Step::Finish),
        3 => any::<usize>().prop_map(Step::Record),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Unused),
        2 => (any::<usize>(), 0_u64..80).prop_map(|(call, tokens)| Step::Settle { call, tokens }),
        1 => (0_usize..9, 1_u32..5, 1_u64..50)
            .prop_map(|(level, slots, amount)| Step::Limit { level, slots, amount }),
        1 => (0_usize..9, 1_u64..500).prop_map(|(level, millis)| Step::Close { level, millis }),
        4 => (0_u64..400_000).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..250)
}

/// A service of two providers, three lanes, two apps and three batches, all of them limited.
struct Run {
    gate: Gate,
    levels: Vec<LevelId>,
    owns: Vec<LevelId>,
    paths: Vec<PathId>,
    waiting: Vec<HeadId>,
    permits: Vec<Permit>,
    now: Timestamp,
}

impl Run {
    fn new() -> Self {
        let mut gate = Gate::new(GateOptions::default(), START);
        let second = Duration::from_secs(1);
        let mut add = |kind, name: &str, limits: Limits, memory| {
            gate.add_level(LevelSpec { memory, ..level(kind, name, limits) }, START)
        };
        let service = add(LevelKind::Service, "s", slots(9), None);
        let memory = add(LevelKind::Memory, "m", Limits::default(), Some(50));
        let providers = [
            add(LevelKind::Provider, "a", per(20, second), None),
            add(LevelKind::Provider, "b", Limits { max_concurrent: Some(4), ..per(10, second) }, None),
        ];
        let lanes = [
            (providers[0], add(LevelKind::Lane, "a/x", slots(2), None)),
            (
                providers[0],
                add(
                    LevelKind::Lane,
                    "a/y",
                    Limits { tokens: vec![Rate { amount: 300, period: second }], ..per(5, second) },
                    None,
                ),
            ),
            (providers[1], add(LevelKind::Lane, "b/x", slots(3), None)),
        ];
        let apps = [add(LevelKind::App, "p", slots(5), None), add(LevelKind::App, "q", per(8, second), None)];
        let owns: Vec<LevelId> =
            (0..3).map(|number| add(LevelKind::Batch, "", slots(1 + number), None)).collect();
        let mut levels = vec![service, memory, providers[0], providers[1]];
        levels.extend(lanes.iter().map(|(_, lane)| *lane).chain(apps));
        let mut paths = Vec::new();
        for (provider, lane) in lanes {
            for app in apps {
                paths.push(gate.add_path(&[service, memory, provider, lane, app]).unwrap());
            }
        }
        Self { gate, levels, owns, paths, waiting: Vec::new(), permits: Vec::new(), now: START }
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Enqueue { path, own, turn, memory, tokens } => {
                let head = Head {
                    own: own.map(|own| self.owns[own]),
                    cost: Cost {
                        requests: 1,
                        memory,
                        input_tokens: tokens / 3,
                        output_tokens: tokens - tokens / 3,
                    },
                    interactive: tokens % 5 == 1,
                    ..head(self.paths[path], turn)
                };
                self.waiting.push(self.gate.enqueue(head, now).unwrap());
            }
            Step::Withdraw(at) if !self.waiting.is_empty() => {
                let head = self.waiting.swap_remove(at % self.waiting.len());
                assert!(self.gate.withdraw(head, now));
                assert!(!self.gate.withdraw(head, now));
            }
            Step::Poll => self.poll(),
            Step::Limit { level, slots, amount } => {
                let tokens = vec![Rate { amount: amount * 20, period: Duration::from_secs(1) }];
                let mut limits =
                    Limits { max_concurrent: Some(slots), ..per(amount, Duration::from_secs(1)) };
                match amount % 4 {
                    0 => limits.output_tokens = tokens,
                    1 => limits.tokens = tokens,
                    _ => {}
                }
                self.gate.set_limits(self.levels[level], &limits, now);
            }
            Step::Close { level, millis: closed } => {
                self.gate.close_until(self.levels[level], now + millis(closed), now);
            }
            Step::Pass(micros) => self.now = now + Duration::from_micros(micros),
            step => self.give_back(step),
        }
    }

    fn give_back(&mut self, step: Step) {
        let (Step::Finish(at)
        | Step::Record(at)
        | Step::Drop(at)
        | Step::Unused(at)
        | Step::Settle { call: at, .. }) = step
        else {
            return;
        };
        if self.permits.is_empty() {
            return;
        }
        let permit = self.permits.swap_remove(at % self.permits.len());
        match step {
            Step::Finish(_) => {
                let mut grant = permit.into_grant();
                self.gate.finish_call(&mut grant, self.now);
                self.gate.finish_call(&mut grant, self.now);
                self.permits.push(self.gate.permit(grant));
            }
            Step::Settle { tokens, .. } => {
                let mut grant = permit.into_grant();
                let used = TokensUsed { input: tokens / 2, output: tokens / 2, cached: tokens / 4 };
                self.gate.settle(&mut grant, used, self.now);
                self.permits.push(self.gate.permit(grant));
            }
            Step::Record(_) => self.gate.recorded(permit.into_grant(), self.now),
            Step::Unused(_) => self.gate.unused(permit.into_grant(), self.now),
            _ => {
                drop(permit);
                assert_eq!(self.gate.collect_releases(self.now), 1);
            }
        }
    }

    fn poll(&mut self) {
        while let Some(admitted) = self.gate.poll(self.now) {
            self.waiting.retain(|head| *head != admitted.head);
            self.permits.push(self.gate.permit(admitted.grant));
        }
    }

    /// No level holds more than it may; limits may have been lowered below what is held.
    fn check_room(&mut self, lowered: bool) {
        for id in self.gate.level_ids() {
            let view = self.gate.view(id, self.now).unwrap();
            if let Some(most) = view.max_concurrent.filter(|_| !lowered) {
                assert!(view.in_flight <= most, "{view:?}");
                assert!(view.in_flight + view.unrecorded <= 2 * most, "{view:?}");
            }
            if let Some(most) = view.memory_limit {
                assert!(view.memory <= most, "{view:?}");
            }
        }
    }

    /// Whether any head that waits would be let pass by all of its levels now.
    fn someone_could_leave(&mut self) -> bool {
        let heads: Vec<u32> = self.waiting.iter().filter_map(|id| self.gate.heads.find(id.0)).collect();
        assert_eq!(heads.len(), self.waiting.len());
        heads.into_iter().any(|index| {
            let head = &self.gate.heads[index];
            let levels = self.gate.paths[head.path].levels;
            let cost = head.cost;
            let mut all = levels.as_slice().iter().copied().chain(head.own);
            all.all(|level| self.gate.levels[level].probe(cost, false, self.now).is_ok())
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens in whatever order, all that was taken comes back and everyone gets their turn.
    #[test]
    fn nothing_leaks_and_everyone_leaves(steps in steps(60)) {
        let mut run = Run::new();
        let mut lowered = false;
        for step in steps {
            lowered |= matches!(step, Step::Limit { .. });
            // Bodies above the whole memory are let in alone; the rest of the check wants them smaller.
            run.step(match step {
                Step::Enqueue { path, own, turn, memory, tokens } => {
                    Step::Enqueue { path, own, turn, memory: memory.min(50), tokens }
                }
                step => step,
            });
            run.check_room(lowered);
        }
        let mut rounds = 0;
        while !run.waiting.is_empty() {
            run.poll();
            while let Some(permit) = run.permits.pop() {
                run.gate.recorded(permit.into_grant(), run.now);
            }
            if let Some(next) = run.gate.next_at(run.now) {
                run.now = next;
            } else {
                prop_assert!(run.waiting.is_empty(), "{} wait for nothing", run.waiting.len());
            }
            rounds += 1;
            prop_assert!(rounds < 10_000, "{} never leave", run.waiting.len());
        }
        while let Some(permit) = run.permits.pop() {
            run.gate.recorded(permit.into_grant(), run.now);
        }
        for id in run.gate.level_ids() {
            let view = run.gate.view(id, run.now).unwrap();
            prop_assert_eq!((view.in_flight, view.unrecorded, view.memory, view.waiting), (0, 0, 0, 0));
            prop_assert!(view.budgets.iter().all(|budget| budget.reserved == 0), "{:?}", view.budgets);
        }
        // A path whose last head was withdrawn is let go by the next poll.
        run.poll();
        for path in &run.paths {
            run.gate.remove_path(*path);
        }
        for id in run.gate.level_ids() {
            run.gate.remove_level(id);
        }
        prop_assert!(run.gate.level_ids().is_empty());
        prop_assert!(run.gate.by_levels.is_empty());
        prop_assert_eq!(run.gate.next_at(run.now), None);
    }

    /// With calls that are alike, what does not leave is held back by a level: no room is left unused, and
    /// none opens before the moment that the gate asks to be polled at.
    #[test]
    fn no_room_is_left_unused(steps in steps(0)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
            if matches!(step, Step::Poll) {
                prop_assert!(!run.someone_could_leave());
                let next = run.gate.next_at(run.now);
                run.now = next.map_or(run.now + MINUTE, |next| Timestamp::from_micros(next.micros() - 1));
                prop_assert!(!run.someone_could_leave(), "before {next:?}");
            }
        }
    }
}

#[test]
fn a_release_starts_the_next_in_turn_at_once() {
    let (mut gate, _, path) = one_lane(slots(1));
    for turn in [5, 3, 4] {
        gate.enqueue(head(path, turn), START).unwrap();
    }
    let mut order = Vec::new();
    while let Some(admitted) = gate.poll(START) {
        assert!(gate.poll(START).is_none());
        order.push(admitted.tag);
        gate.recorded(admitted.grant, START);
    }
    assert_eq!(order, [3, 4, 5]);
}

#[test]
fn a_call_over_but_not_recorded_frees_its_slot_up_to_twice_the_limit() {
    let (mut gate, lane, path) = one_lane(slots(2));
    let mut over = Vec::new();
    for turn in 0..6 {
        gate.enqueue(head(path, turn), START).unwrap();
    }
    while let Some(admitted) = gate.poll(START) {
        let mut grant = admitted.grant;
        gate.finish_call(&mut grant, START);
        over.push(grant);
    }
    assert_eq!(over.len(), 4);
    assert_eq!(gate.waiting(path, START).unwrap().reason, Reason::Disk);
    assert_eq!(gate.view(lane, START).unwrap().unrecorded, 4);
    gate.recorded(over.pop().unwrap(), START);
    assert!(gate.poll(START).is_some());
}

#[test]
fn a_body_above_all_memory_goes_alone() {
    let mut gate = Gate::new(GateOptions::default(), START);
    let memory = gate.add_level(
        LevelSpec { memory: Some(100), ..level(LevelKind::Memory, "m", Limits::default()) },
        START,
    );
    let path = gate.add_path(&[memory]).unwrap();
    let body =
        |memory, turn| Head { cost: Cost { requests: 1, memory, ..Cost::default() }, ..head(path, turn) };
    gate.enqueue(body(10, 0), START).unwrap();
    gate.enqueue(body(1_000, 1), START).unwrap();
    gate.enqueue(body(10, 2), START).unwrap();
    let small = gate.poll(START).unwrap();
    assert!(gate.poll(START).is_none(), "the small one behind it keeps its turn too");
    assert_eq!(gate.waiting(path, START).unwrap().reason, Reason::Memory);
    gate.recorded(small.grant, START);
    let large = gate.poll(START).unwrap();
    assert_eq!((large.tag, large.grant.memory()), (1, 1_000));
    assert!(gate.poll(START).is_none());
    gate.recorded(large.grant, START);
    assert_eq!(gate.poll(START).unwrap().tag, 2);
}

#[test]
fn memory_grows_with_a_reply_and_comes_back() {
    let mut gate = Gate::new(GateOptions::default(), START);
    let memory = gate.add_level(
        LevelSpec { memory: Some(100), ..level(LevelKind::Memory, "m", Limits::default()) },
        START,
    );
    let path = gate.add_path(&[memory]).unwrap();
    assert!(gate.try_hold(memory, 30));
    gate.enqueue(Head { cost: Cost { requests: 1, memory: 40, ..Cost::default() }, ..head(path, 0) }, START)
        .unwrap();
    let mut grant = gate.poll(START).unwrap().grant;
    assert!(!gate.try_grow(&mut grant, 31));
    assert!(gate.try_grow(&mut grant, 30));
    gate.grow(&mut grant, 5);
    gate.shrink(&mut grant, 40, START);
    assert_eq!(gate.view(memory, START).unwrap().memory, 30 + 35);
    gate.recorded(grant, START);
    gate.release_held(memory, 30, START);
    assert_eq!(gate.view(memory, START).unwrap().memory, 0);
}

#[test]
fn ids_of_what_is_gone_find_nothing() {
    let (mut gate, lane, path) = one_lane(slots(1));
    gate.enqueue(head(path, 0), START).unwrap();
    let admitted = gate.poll(START).unwrap();
    gate.remove_path(path);
    gate.remove_level(lane);
    assert_eq!(gate.level_ids(), [lane], "a grant still names it");
    gate.recorded(admitted.grant, START);
    assert!(gate.level_ids().is_empty());
    assert_eq!(gate.enqueue(head(path, 0), START), Err(GateError::UnknownPath));
    assert_eq!(gate.add_path(&[lane]), Err(GateError::UnknownLevel));
    gate.add_level(level(LevelKind::Lane, "other", slots(1)), START);
    assert!(gate.view(lane, START).is_none(), "its place has another tenant");
}

#[test]
fn a_large_body_for_a_closed_lane_keeps_no_memory_from_others() {
    let mut gate = Gate::new(GateOptions::default(), START);
    let memory = gate.add_level(
        LevelSpec { memory: Some(100), ..level(LevelKind::Memory, "m", Limits::default()) },
        START,
    );
    let lanes =
        ["p/a", "p/b"].map(|name| gate.add_level(level(LevelKind::Lane, name, Limits::default()), START));
    let paths = lanes.map(|lane| gate.add_path(&[memory, lane]).unwrap());
    let body = |path, memory, turn| Head {
        cost: Cost { requests: 1, memory, ..Cost::default() },
        ..head(path, turn)
    };
    gate.enqueue(body(paths[0], 50, 0), START).unwrap();
    let running = gate.poll(START).unwrap();
    gate.close_until(lanes[0], START + MINUTE, START);
    gate.enqueue(body(paths[0], 90, 1), START).unwrap();
    gate.enqueue(body(paths[1], 20, 2), START).unwrap();
    assert_eq!(gate.poll(START).unwrap().tag, 2);
    gate.recorded(running.grant, START);
}

#[test]
fn heads_of_one_batch_on_several_lanes_leave_wherever_there_is_room() {
    let mut gate = Gate::new(GateOptions::default(), START);
    let batch = gate.add_level(level(LevelKind::Batch, "", slots(1)), START);
    let lanes = ["p/a", "p/b"].map(|name| gate.add_level(level(LevelKind::Lane, name, slots(1)), START));
    let paths = lanes.map(|lane| gate.add_path(&[lane]).unwrap());
    let of_batch = |path, turn| Head { own: Some(batch), ..head(path, turn) };
    gate.enqueue(of_batch(paths[0], 0), START).unwrap();
    let first = gate.poll(START).unwrap();
    gate.enqueue(of_batch(paths[0], 1), START).unwrap();
    let other = gate.enqueue(of_batch(paths[1], 2), START).unwrap();
    assert!(gate.poll(START).is_none());
    assert_eq!(gate.head_waiting(other, START).unwrap().kind, LevelKind::Batch);
    gate.close_until(lanes[0], START + MINUTE, START);
    gate.recorded(first.grant, START);
    assert_eq!(gate.poll(START).unwrap().tag, 2, "its other lane is closed");
}
