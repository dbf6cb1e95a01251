//! The gate against providers that count in their own ways and say so.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::*;
use crate::domain::quota::QuotaReading;

/// How a provider counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Law {
    Bucket,
    Sliding,
    Fixed,
}

/// A provider of requests per minute, written without the gate's arithmetic.
struct Provider {
    law: Law,
    limit: u64,
    /// A bucket's credit.
    credit: f64,
    at: Timestamp,
    /// What it let in during the last minute, or in the present one.
    taken: VecDeque<Timestamp>,
}

impl Provider {
    fn new(law: Law, limit: u64) -> Self {
        Self { law, limit, credit: limit as f64, at: START, taken: VecDeque::new() }
    }

    /// The end of the fixed minute that a moment lies in: they begin 17 s after ours.
    fn minute_end(now: Timestamp) -> Timestamp {
        let into = (now.since(START) + Duration::from_secs(43)).as_micros() % MINUTE.as_micros();
        now + MINUTE - Duration::from_micros(u64::try_from(into).unwrap())
    }

    fn advance(&mut self, now: Timestamp) {
        let refill = self.limit as f64 * now.since(self.at).as_secs_f64() / 60.0;
        self.credit = (self.credit + refill).min(self.limit as f64);
        self.at = now;
        let start = match self.law {
            Law::Fixed => Timestamp::from_micros(Self::minute_end(now).micros() - 60_000_000),
            Law::Bucket | Law::Sliding => Timestamp::from_micros(now.micros() - 60_000_000),
        };
        while self.taken.front().is_some_and(|first| *first < start) {
            self.taken.pop_front();
        }
    }

    /// Sets another limit; a bucket starts anew, full.
    fn set_limit(&mut self, limit: u64, credit: f64) {
        self.limit = limit;
        self.credit = credit;
    }

    /// Lets a call in or tells when to come back; and what its answer says of the limit.
    fn arrives(&mut self, now: Timestamp) -> Answer {
        self.advance(now);
        let fits = match self.law {
            Law::Bucket => self.credit >= 1.0,
            Law::Sliding | Law::Fixed => (self.taken.len() as u64) < self.limit,
        };
        if fits {
            self.credit -= 1.0;
            self.taken.push_back(now);
        }
        let (remaining, reset) = match self.law {
            Law::Bucket => {
                let missing = self.limit as f64 - self.credit;
                (self.credit as u64, MINUTE.mul_f64(missing / self.limit as f64))
            }
            Law::Sliding => (self.limit.saturating_sub(self.taken.len() as u64), MINUTE),
            Law::Fixed => {
                let remaining = self.limit.saturating_sub(self.taken.len() as u64);
                (remaining, Self::minute_end(now).since(now))
            }
        };
        let wait = match self.law {
            Law::Bucket => Duration::from_secs_f64(60.0 / self.limit as f64),
            Law::Sliding => {
                let lacking = (self.taken.len() as u64 + 1).saturating_sub(self.limit);
                let frees = self.taken[usize::try_from(lacking.max(1)).unwrap() - 1];
                (frees + MINUTE).since(now)
            }
            Law::Fixed => Self::minute_end(now).since(now),
        };
        // As `Retry-After` gives it, in whole seconds.
        let wait = Duration::from_secs(wait.as_secs_f64().ceil() as u64);
        let reading = QuotaReading {
            dimension: Dimension::Requests,
            limit: Some(self.limit),
            remaining: Some(remaining),
            reset: Some(reset),
            period: None,
        };
        ((!fits).then_some(wait), reading)
    }
}

/// When to come back, where a call is refused, and what is said of the limit.
type Answer = (Option<Duration>, QuotaReading);

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    taken: u64,
    refused: u64,
}

/// A backlog of ours against a provider, and somebody else's even calls.
struct Run {
    gate: Gate,
    lane: LevelId,
    path: PathId,
    provider: Provider,
    /// Somebody else's calls per second.
    foreign: f64,
    foreign_due: f64,
    /// Milliseconds that answers take, from and to.
    latency: (u64, u64),
    now: Timestamp,
    seconds: Vec<Second>,
    /// Calls on their way there, and those on their way back, by when they are there.
    there: BinaryHeap<Reverse<(Timestamp, u64)>>,
    back: BinaryHeap<Reverse<(Timestamp, u64)>>,
    calls: BTreeMap<u64, (Grant, Option<Answer>)>,
    dice: u64,
}

impl Run {
    fn new(law: Law, limit: u64, limits: Limits) -> Self {
        let (mut gate, lane, path) = one_lane(limits);
        gate.enqueue(head(path, 0), START).unwrap();
        let provider = Provider::new(law, limit);
        Self {
            gate,
            lane,
            path,
            provider,
            foreign: 0.0,
            foreign_due: 0.0,
            latency: (50, 450),
            now: START,
            seconds: Vec::new(),
            there: BinaryHeap::new(),
            back: BinaryHeap::new(),
            calls: BTreeMap::new(),
            dice: 1,
        }
    }

    fn dice(&mut self, below: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % below
    }

    fn second(&mut self) -> &mut Second {
        let place = usize::try_from(self.now.since(START).as_secs()).unwrap();
        if self.seconds.len() <= place {
            self.seconds.resize(place + 1, Second::default());
        }
        &mut self.seconds[place]
    }

    /// Runs for so many seconds.
    fn go(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        let mut number = self.calls.keys().next_back().map_or(0, |last| last + 1);
        let mut foreign_at = self.now;
        while self.now < end {
            self.foreign_due += self.foreign * self.now.since(foreign_at).as_secs_f64();
            foreign_at = self.now;
            while self.foreign_due >= 1.0 {
                self.foreign_due -= 1.0;
                self.provider.arrives(self.now);
            }
            while let Some(call) = take_due(&mut self.there, self.now) {
                let answer = self.provider.arrives(self.now);
                let second = self.second();
                second.taken += u64::from(answer.0.is_none());
                second.refused += u64::from(answer.0.is_some());
                let (least, most) = self.latency;
                let takes = if answer.0.is_none() {
                    least * 1_000 + self.dice((most - least) * 1_000)
                } else {
                    1_000
                };
                self.calls.get_mut(&call).unwrap().1 = Some(answer);
                self.back.push(Reverse((self.now + Duration::from_micros(takes), call)));
            }
            while let Some(call) = take_due(&mut self.back, self.now) {
                self.hear(call);
            }
            if let Some(admitted) = self.gate.poll(self.now) {
                let way = Duration::from_micros(500 + self.dice(8_000));
                self.there.push(Reverse((self.now + way, number)));
                self.calls.insert(number, (admitted.grant, None));
                self.gate.enqueue(head(self.path, 0), self.now).unwrap();
                number += 1;
                continue;
            }
            let due = |heap: &BinaryHeap<Reverse<(Timestamp, u64)>>| heap.peek().map(|Reverse((at, _))| *at);
            let late = Duration::from_micros(self.dice(1_200));
            let polled = self.gate.next_at(self.now).map(|at| at.max(self.now) + late);
            let next = polled.into_iter().chain(due(&self.there)).chain(due(&self.back)).min();
            let next = next.unwrap_or(end).max(self.now + Duration::from_micros(1));
            self.now = next.min(self.now + millis(5));
        }
        self.second();
    }

    fn hear(&mut self, call: u64) {
        let (mut grant, answer) = self.calls.remove(&call).unwrap();
        let (refused, reading) = answer.unwrap();
        let (now, sent_at) = (self.now, grant.admitted_at());
        self.gate.finish_call(&mut grant, now);
        self.gate.observe(self.lane, &reading, sent_at, now);
        match refused {
            None => self.gate.answered(self.lane, grant.sent(), now),
            Some(retry_after) => {
                let refusal = Refusal { sent_at, retry_after: Some(retry_after) };
                self.gate.rate_limited(self.lane, refusal, now);
            }
        }
        self.gate.recorded(grant, now);
    }

    /// What was taken from one second to another, as a share of so many a minute.
    fn used(&self, from: usize, to: usize, per_minute: f64) -> f64 {
        let taken: u64 = self.seconds[from..to].iter().map(|second| second.taken).sum();
        taken as f64 * 60.0 / ((to - from) as f64 * per_minute)
    }

    /// The share of the calls that was refused from one second to another.
    fn refused(&self, from: usize, to: usize) -> f64 {
        let sum = |of: fn(&Second) -> u64| self.seconds[from..to].iter().map(of).sum::<u64>() as f64;
        let refused = sum(|second| second.refused);
        refused / (refused + sum(|second| second.taken)).max(1.0)
    }

    /// The longest time without a call, in seconds.
    fn idle(&self, from: usize, to: usize) -> usize {
        let busy = |second: &Second| second.taken + second.refused > 0;
        self.seconds[from..to].split(busy).map(<[Second]>::len).max().unwrap_or(0)
    }
}

/// Takes what is due off a heap of moments.
fn take_due(heap: &mut BinaryHeap<Reverse<(Timestamp, u64)>>, now: Timestamp) -> Option<u64> {
    let is_due = heap.peek().is_some_and(|Reverse((at, _))| *at <= now);
    if is_due { heap.pop().map(|Reverse((_, call))| call) } else { None }
}

const LAWS: [Law; 3] = [Law::Bucket, Law::Sliding, Law::Fixed];

#[test]
fn a_start_wastes_nothing_before_and_after_the_limit_is_known() {
    for law in LAWS {
        for limit in [600, 3_000, 6_000] {
            let mut run = Run::new(law, limit, slots(64));
            run.go(150);
            let whole = limit as f64;
            assert!(run.used(0, 20, whole) >= 0.98, "{law:?} {limit}: {}", run.used(0, 20, whole));
            assert!(run.used(20, 50, whole) >= 0.98, "{law:?} {limit}: {}", run.used(20, 50, whole));
            // What left at once before the limit was known is a part of the first minute, and lapses with it.
            let later = if law == Law::Bucket { 20 } else { 75 };
            assert!(run.used(later, 150, whole) >= 0.985, "{law:?} {limit}: {}", run.used(later, 150, whole));
            assert!(run.used(0, 60, whole) >= 0.98, "{law:?} {limit}: {}", run.used(0, 60, whole));
            assert_eq!(run.refused(0, 150), 0.0, "{law:?} {limit}");
        }
    }
}

#[test]
fn a_halved_bucket_is_used_by_what_is_left_of_it() {
    for credit in [1_500.0, 0.0] {
        let mut run = Run::new(Law::Bucket, 3_000, slots(64));
        run.go(70);
        run.provider.set_limit(1_500, credit);
        run.go(90);
        assert!(run.used(75, 80, 1_500.0) <= 1.02, "{credit}: {}", run.used(75, 80, 1_500.0));
        assert!(run.refused(70, 130) <= 0.01, "{credit}: {}", run.refused(70, 130));
        assert!(run.idle(70, 160) <= 2, "{credit}: {} s", run.idle(70, 160));
        assert!(run.used(75, 160, 1_500.0) >= 0.95, "{credit}: {}", run.used(75, 160, 1_500.0));
    }
}

#[test]
fn a_halved_window_is_waited_for() {
    for law in [Law::Sliding, Law::Fixed] {
        let mut run = Run::new(law, 3_000, slots(64));
        run.go(130);
        run.provider.set_limit(1_500, 1_500.0);
        run.go(150);
        assert!(run.refused(130, 190) <= 0.02, "{law:?}: {}", run.refused(130, 190));
        assert_eq!(run.refused(135, 280), 0.0, "{law:?}");
        assert!(run.used(200, 280, 1_500.0) >= 0.985, "{law:?}: {}", run.used(200, 280, 1_500.0));
    }
}

#[test]
fn a_doubled_limit_is_used_at_once() {
    for law in LAWS {
        let mut run = Run::new(law, 3_000, slots(64));
        run.go(70);
        run.provider.set_limit(6_000, 3_000.0);
        run.go(70);
        assert!(run.used(72, 140, 6_000.0) >= 0.98, "{law:?}: {}", run.used(72, 140, 6_000.0));
        assert_eq!(run.refused(70, 140), 0.0, "{law:?}");
    }
}

#[test]
fn what_somebody_else_takes_is_left_to_them() {
    for law in LAWS {
        for limit in [600_u32, 3_000] {
            let mut run = Run::new(law, limit.into(), slots(64));
            run.go(60);
            run.foreign = f64::from(limit) * 0.3 / 60.0;
            run.go(300);
            let rest = f64::from(limit) * 0.7;
            assert!(run.refused(60, 360) <= 0.005, "{law:?} {limit}: {}", run.refused(60, 360));
            let used = run.used(120, 360, rest);
            assert!((0.95..1.02).contains(&used), "{law:?} {limit}: {used}");
            // And comes back to us when they are gone.
            run.foreign = 0.0;
            run.go(180);
            let used = run.used(430, 540, limit.into());
            assert!(used >= 0.98, "{law:?} {limit}: {used} after they had left");
        }
    }
}

#[test]
fn somebody_who_was_there_before_is_left_a_part() {
    for law in LAWS {
        let mut run = Run::new(law, 3_000, slots(64));
        // A minute of theirs, and then we begin.
        for call in 0..900 {
            run.provider.arrives(START - MINUTE + MINUTE * call / 900);
        }
        run.foreign = 15.0;
        run.go(240);
        assert!(run.refused(0, 240) <= 0.002, "{law:?}: {}", run.refused(0, 240));
        let used = run.used(0, 240, 2_100.0);
        assert!((0.93..1.12).contains(&used), "{law:?}: {used}");
    }
}

#[test]
fn slow_answers_are_nobody_else_s_calls() {
    for law in LAWS {
        let mut run = Run::new(law, 3_000, slots(1_024));
        run.latency = (2_000, 20_000);
        run.go(300);
        assert!(run.used(120, 300, 3_000.0) >= 0.98, "{law:?}: {}", run.used(120, 300, 3_000.0));
        assert!(run.refused(0, 300) <= 0.001, "{law:?}: {}", run.refused(0, 300));
    }
}
