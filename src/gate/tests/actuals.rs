//! The gate against a provider that charges what was used, when it answers, and refuses at exactly its limit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::*;

const LIMIT: u64 = 2_000_000;

/// A sliding minute of what was used, written without the gate's arithmetic.
#[derive(Default)]
struct Provider {
    /// Answers on their way out: when they leave, and what they used.
    on_the_way: BinaryHeap<Reverse<(Timestamp, u64)>>,
    answered: VecDeque<(Timestamp, u64)>,
    used: u64,
    most: u64,
    all: u64,
}

impl Provider {
    fn advance(&mut self, now: Timestamp) {
        while let Some(Reverse((at, used))) = due(&mut self.on_the_way, now) {
            self.lapse(at);
            self.answered.push_back((at, used));
            self.used += used;
            self.all += used;
            self.most = self.most.max(self.used);
        }
        self.lapse(now);
    }

    fn lapse(&mut self, now: Timestamp) {
        while let Some((_, used)) = self.answered.pop_front_if(|(at, _)| now.since(*at) >= MINUTE) {
            self.used -= used;
        }
    }

    fn takes(&mut self, now: Timestamp) -> bool {
        self.advance(now);
        self.used < LIMIT
    }
}

/// What a run came to.
#[derive(Debug)]
struct Outcome {
    /// The share of the limit that was used, without the first minute.
    used: f64,
    /// The most that any minute held, as a share of the limit.
    most: f64,
    calls: u64,
    refused: u64,
}

/// A call on its way: what it will use, and whether it was let in.
struct Call {
    grant: Grant,
    used: TokensUsed,
    taken: bool,
}

/// Takes what is due off a heap of moments.
fn due(
    heap: &mut BinaryHeap<Reverse<(Timestamp, u64)>>,
    now: Timestamp,
) -> Option<Reverse<(Timestamp, u64)>> {
    if heap.peek().is_some_and(|Reverse((at, _))| *at <= now) { heap.pop() } else { None }
}

struct Dice(u64);

impl Dice {
    /// Between 0 and 1.
    fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.throw()
    }
}

/// A backlog of items of 200 to 8,000 tokens.
struct Backlog {
    gate: Gate,
    lane: LevelId,
    path: PathId,
    dice: Dice,
    provider: Provider,
    /// The latest answers' tokens.
    outputs: VecDeque<u64>,
    calls: BTreeMap<u64, Call>,
    ends: BinaryHeap<Reverse<(Timestamp, u64)>>,
    number: u64,
    refused: u64,
    /// What the item that waits will use.
    waits: Option<TokensUsed>,
}

impl Backlog {
    fn new(seed: u64) -> Self {
        let limits = Limits { tokens: vec![Rate { amount: LIMIT, period: MINUTE }], ..Limits::default() };
        let accounting = Accounting::Actual { cached_input_free: true };
        let mut gate = Gate::new(GateOptions::default(), START);
        let lane = gate.add_level(LevelSpec { accounting, ..level(LevelKind::Lane, "p/m", limits) }, START);
        let path = gate.add_path(&[lane]).unwrap();
        Self {
            gate,
            lane,
            path,
            dice: Dice(seed),
            provider: Provider::default(),
            outputs: VecDeque::new(),
            calls: BTreeMap::new(),
            ends: BinaryHeap::new(),
            number: 0,
            refused: 0,
            waits: None,
        }
    }

    /// The next item waits, with what nine of ten answers stay below reserved for its own.
    fn enqueue(&mut self, now: Timestamp) {
        let size = self.dice.between(200.0, 8_000.0);
        let input = size * self.dice.between(0.2, 0.6);
        let output = (size - input) * self.dice.between(0.1, 1.0);
        let mut sorted: Vec<u64> = self.outputs.iter().copied().collect();
        sorted.sort_unstable();
        let likely = sorted.get(sorted.len() * 9 / 10).copied().unwrap_or(1_000);
        let reserved = likely.min((size - input) as u64);
        let cost = Cost { input_tokens: input as u64, output_tokens: reserved, ..CALL };
        self.gate.enqueue(Head { cost, ..head(self.path, 0) }, now).unwrap();
        self.waits = Some(TokensUsed { input: input as u64, output: output as u64, cached: 0 });
    }

    fn send(&mut self, grant: Grant, latency: (f64, f64), now: Timestamp) {
        let Some(used) = self.waits.take() else { return };
        let taken = self.provider.takes(now);
        let takes = if taken { self.dice.between(latency.0, latency.1) } else { 0.001 };
        let ends = now + Duration::from_secs_f64(takes);
        if taken {
            self.provider.on_the_way.push(Reverse((ends, used.input + used.output)));
        }
        self.number += 1;
        let heard = ends + Duration::from_secs_f64(self.dice.between(0.0, 0.003));
        self.ends.push(Reverse((heard, self.number)));
        self.calls.insert(self.number, Call { grant, used, taken });
    }

    fn end(&mut self, call: u64, now: Timestamp) {
        let Call { mut grant, used, taken } = self.calls.remove(&call).unwrap();
        self.gate.finish_call(&mut grant, now);
        let sent_at = grant.admitted_at();
        if taken {
            self.gate.answered(self.lane, grant.sent(), now);
            self.gate.settle(&mut grant, used, now);
            self.outputs.push_back(used.output);
            if self.outputs.len() > 128 {
                self.outputs.pop_front();
            }
        } else {
            self.refused += 1;
            let refusal = Refusal { sent_at, retry_after: Some(Duration::from_secs(1)) };
            self.gate.rate_limited(self.lane, refusal, now);
            self.gate.settle(&mut grant, TokensUsed::default(), now);
        }
        self.gate.recorded(grant, now);
    }
}

/// Eleven minutes of a backlog, answered after so many seconds.
fn run(seed: u64, latency: (f64, f64)) -> Outcome {
    let mut backlog = Backlog::new(seed);
    let (mut now, end) = (START, START + MINUTE * 11);
    let mut before = 0;
    while now < end {
        if now.since(START) < MINUTE {
            before = backlog.provider.all;
        }
        while let Some(Reverse((_, call))) = due(&mut backlog.ends, now) {
            backlog.end(call, now);
        }
        if backlog.waits.is_none() {
            backlog.enqueue(now);
        }
        if let Some(admitted) = backlog.gate.poll(now) {
            backlog.send(admitted.grant, latency, now);
            continue;
        }
        let late = Duration::from_secs_f64(backlog.dice.between(0.0, 0.001));
        let polled = backlog.gate.next_at(now).map(|at| at.max(now) + late);
        let next = polled.into_iter().chain(backlog.ends.peek().map(|Reverse((at, _))| *at)).min();
        now = next.unwrap_or(end).max(now + Duration::from_micros(1));
    }
    Outcome {
        used: (backlog.provider.all - before) as f64 / (LIMIT * 10) as f64,
        most: backlog.provider.most as f64 / LIMIT as f64,
        calls: backlog.number,
        refused: backlog.refused,
    }
}

#[test]
fn a_window_of_what_was_used_is_filled_and_hardly_ever_exceeded() {
    for seed in 1..6 {
        let outcome = run(seed, (0.05, 0.45));
        assert!(outcome.used >= 0.99, "{outcome:?}");
        assert!(outcome.refused as f64 <= 0.0005 * outcome.calls as f64, "{outcome:?}");
        assert!(outcome.most <= 1.002, "{outcome:?}");
    }
}

#[test]
fn slow_answers_exceed_a_window_by_less_than_a_hundredth() {
    for seed in 1..6 {
        for latency in [(0.5, 4.0), (2.0, 20.0)] {
            let outcome = run(seed, latency);
            assert!(outcome.most <= 1.01, "{latency:?} {outcome:?}");
            assert!(outcome.used >= 0.94, "{latency:?} {outcome:?}");
        }
    }
}
