//! An hour of mixed load of several apps against one upstream, in seconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sluicegate::domain::limits::{Dimension, Limits, Rate};
use sluicegate::domain::quota::QuotaReading;
use sluicegate::domain::time::Timestamp;
use sluicegate::gate::{
    Accounting, Cost, Gate, GateError, GateOptions, Grant, Head, LevelId, LevelKind, LevelSpec, PathId,
    Refusal, TokensUsed,
};

use crate::gate_simulation_oracle::upstream::{Answer, Upstream};

const START: Timestamp = Timestamp::from_seconds(1_700_000_017);
const MINUTE: Duration = Duration::from_secs(60);
const MINUTES: u32 = 60;

/// One app: its weight and its items' tokens, from and to.
pub(crate) type App = (u32, (u64, u64));

/// What an hour is made of.
pub(crate) struct Hour {
    pub(crate) name: &'static str,
    pub(crate) limits: Limits,
    pub(crate) accounting: Accounting,
    pub(crate) counts: Dimension,
    pub(crate) upstream: Upstream,
    /// Whether it sends headers and Retry-After.
    pub(crate) speaks: bool,
    pub(crate) apps: Vec<App>,
    /// At a minute, another limit per period.
    pub(crate) quotas: Vec<(u32, u64)>,
}

impl Hour {
    /// 2,000,000 tokens a minute between three apps, the third of twice the weight; items up to a size.
    pub(crate) fn tokens(name: &'static str, accounting: Accounting, largest: u64) -> Self {
        let rate = Rate { amount: 2_000_000, period: MINUTE };
        Self {
            name,
            limits: Limits { tokens: vec![rate], max_concurrent: Some(1_024), ..Limits::default() },
            accounting,
            counts: Dimension::Tokens,
            upstream: Upstream::new(rate, usize::MAX),
            speaks: true,
            apps: vec![(1, (200, 1_000)), (1, (200, largest)), (2, (200, largest))],
            quotas: Vec::new(),
        }
    }

    /// 6,000 requests a minute between three apps, nothing but 64 slots configured.
    pub(crate) fn requests(name: &'static str) -> Self {
        let rate = Rate { amount: 6_000, period: MINUTE };
        Self {
            name,
            limits: Limits { max_concurrent: Some(64), ..Limits::default() },
            accounting: Accounting::Admission,
            counts: Dimension::Requests,
            upstream: Upstream::new(rate, usize::MAX),
            speaks: true,
            apps: vec![(1, (200, 1_000)), (1, (200, 8_000)), (2, (200, 8_000))],
            quotas: Vec::new(),
        }
    }

    /// With somebody else on the key.
    pub(crate) fn shared(mut self, per_second: f64) -> Self {
        self.upstream.foreign = per_second;
        self
    }

    /// With nothing but so many slots.
    pub(crate) fn slots(mut self, slots: usize) -> Self {
        self.upstream = Upstream::new(Rate { amount: 60_000_000, period: MINUTE }, slots);
        self
    }

    /// Runs it.
    pub(crate) fn simulate(self) -> Result<Outcome, GateError> {
        let hour = self;
        let mut gate = Gate::new(GateOptions::default(), START);
        let spec = LevelSpec {
            kind: LevelKind::Lane,
            limits: hour.limits.clone(),
            accounting: hour.accounting,
            ..LevelSpec::default()
        };
        let lane = gate.add_level(spec, START);
        let mut paths = Vec::new();
        for (weight, _) in &hour.apps {
            let spec = LevelSpec { kind: LevelKind::App, weight: *weight, ..LevelSpec::default() };
            let app = gate.add_level(spec, START);
            paths.push(gate.add_path(&[lane, app])?);
        }
        let apps = paths.len();
        let mut run = Run {
            hour,
            gate,
            lane,
            paths,
            waiting: vec![(Cost::default(), TokensUsed::default()); apps],
            calls: HashMap::new(),
            ends: BinaryHeap::new(),
            random: StdRng::seed_from_u64(4),
            taken: vec![0; apps],
            number: 0,
        };
        for app in 0..apps {
            run.enqueue(app, START)?;
        }
        run.go()
    }
}

/// What an hour came to, without its first two minutes.
pub(crate) struct Outcome {
    pub(crate) used: f64,
    pub(crate) limited: f64,
    pub(crate) overloaded: f64,
    pub(crate) over: u64,
    pub(crate) shares: Vec<f64>,
}

struct Call {
    app: usize,
    grant: Grant,
    reserved: u64,
    used: TokensUsed,
    answer: Answer,
    reading: QuotaReading,
}

struct Run {
    hour: Hour,
    gate: Gate,
    lane: LevelId,
    paths: Vec<PathId>,
    waiting: Vec<(Cost, TokensUsed)>,
    calls: HashMap<u64, Call>,
    ends: BinaryHeap<Reverse<(Timestamp, u64)>>,
    random: StdRng,
    taken: Vec<u64>,
    number: u64,
}

impl Run {
    fn go(mut self) -> Result<Outcome, GateError> {
        let end = START + MINUTE * MINUTES;
        let mut allowed = 0.0;
        let mut before = None;
        let mut second = START;
        let mut now = START;
        while now < end {
            while second <= now {
                let minute = second.since(START).as_secs() / 60;
                for (at, amount) in &self.hour.quotas {
                    if u64::from(*at) == minute {
                        self.hour.upstream.rate.amount = *amount;
                    }
                }
                if minute >= 2 {
                    let upstream = &self.hour.upstream;
                    let pace = upstream.rate.amount as f64 / upstream.rate.period.as_secs_f64();
                    allowed += pace - upstream.foreign;
                    before.get_or_insert((
                        upstream.taken,
                        upstream.calls,
                        upstream.limited,
                        upstream.overloaded,
                    ));
                }
                second = second + Duration::from_secs(1);
            }
            self.end_calls(now);
            while let Some(admitted) = self.gate.poll(now) {
                let app = usize::try_from(admitted.tag).unwrap_or_default();
                self.send(app, admitted.grant, now);
                self.enqueue(app, now)?;
            }
            let ended = self.ends.peek().map(|Reverse((moment, _))| *moment);
            let late = Duration::from_micros(self.random.random_range(0..=1_200));
            let poll = self.gate.next_at(now).map(|moment| moment.max(now) + late);
            now = ended.into_iter().chain(poll).min().unwrap_or(end).max(now + Duration::from_micros(1));
        }
        let upstream = &self.hour.upstream;
        let (taken, calls, limited, overloaded) = before.unwrap_or_default();
        let calls = (upstream.calls - calls) as f64;
        let all: u64 = self.taken.iter().sum();
        Ok(Outcome {
            used: (upstream.taken - taken) as f64 / allowed,
            limited: (upstream.limited - limited) as f64 / calls,
            overloaded: (upstream.overloaded - overloaded) as f64 / calls,
            over: upstream.windows_over,
            shares: self.taken.iter().map(|taken| *taken as f64 / all as f64).collect(),
        })
    }

    fn enqueue(&mut self, app: usize, now: Timestamp) -> Result<(), GateError> {
        let (_, (least, most)) = self.hour.apps[app];
        let total = self.random.random_range(least..=most);
        let (input, output) = (total / 4, total - total / 4);
        let used = TokensUsed { input, output: output * self.random.random_range(20..=95) / 100, cached: 0 };
        let cost = Cost { requests: 1, input_tokens: input, output_tokens: output, memory: 0 };
        self.waiting[app] = (cost, used);
        let (tag, path) = (app as u64, self.paths[app]);
        self.gate.enqueue(Head { tag, path, own: None, cost, turn: 0, interactive: false }, now)?;
        Ok(())
    }

    fn send(&mut self, app: usize, grant: Grant, now: Timestamp) {
        let (cost, used) = self.waiting[app];
        let reserved = match self.hour.counts {
            Dimension::Requests => 1,
            _ => cost.input_tokens + cost.output_tokens,
        };
        let replies = now + Duration::from_millis(self.random.random_range(50..=450));
        let counts = if self.counts_actuals() { used.input + used.output } else { reserved };
        let answer = self.hour.upstream.arrives((reserved, counts), now, replies);
        let upstream = &self.hour.upstream;
        let reading = QuotaReading {
            dimension: self.hour.counts,
            limit: Some(upstream.rate.amount),
            remaining: Some(upstream.remaining()),
            reset: Some(upstream.reset()),
            period: Some(upstream.rate.period),
        };
        let ends = if answer == Answer::Taken { replies } else { now + Duration::from_millis(20) };
        self.number += 1;
        self.ends.push(Reverse((ends, self.number)));
        self.calls.insert(self.number, Call { app, grant, reserved, used, answer, reading });
    }

    fn counts_actuals(&self) -> bool {
        matches!(self.hour.accounting, Accounting::Actual { .. }) && self.hour.counts != Dimension::Requests
    }

    fn end_calls(&mut self, now: Timestamp) {
        while let Some(Reverse((moment, _))) = self.ends.peek()
            && *moment <= now
        {
            let Some(Reverse((_, number))) = self.ends.pop() else { return };
            if let Some(call) = self.calls.remove(&number) {
                self.end_call(call, now);
            }
        }
    }

    fn end_call(&mut self, mut call: Call, now: Timestamp) {
        let (sent, sent_at) = (call.grant.sent(), call.grant.admitted_at());
        self.gate.finish_call(&mut call.grant, now);
        if self.hour.speaks {
            self.gate.observe(self.lane, &call.reading, sent_at, now);
        }
        match call.answer {
            Answer::Taken => {
                self.gate.answered(self.lane, sent, now);
                self.gate.settle(&mut call.grant, call.used, now);
                let charged = if self.counts_actuals() {
                    let used = call.used.input + call.used.output;
                    self.hour.upstream.corrects(used.cast_signed() - call.reserved.cast_signed());
                    used
                } else {
                    call.reserved
                };
                self.taken[call.app] += charged;
            }
            Answer::Limited => {
                let retry_after = self.hour.speaks.then_some(Duration::from_secs(1));
                self.gate.rate_limited(self.lane, Refusal { sent_at, retry_after }, now);
            }
            Answer::Overloaded => self.gate.overloaded(self.lane, sent, now),
        }
        self.gate.recorded(call.grant, now);
    }
}
