//! The range against simulated batches: each is stopped at a tenth of its items, asked, and run to its end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::domain::progress::Completion;
use crate::domain::time::Timestamp;

use super::flow::{Bounds, Flow, UnderWay};
use super::range::Course;

const START: Timestamp = Timestamp::from_seconds(1_000_000);
const TICK: f64 = 0.25;
const RUNS: u64 = 20;

/// A batch alone on a lane whose limits do not change.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    items: u32,
    slots: u32,
    /// Calls per second, and whether the gate knows: tokens per second say nothing of calls.
    paced: Option<f64>,
    known: bool,
    /// How far items differ: in their time and, where tokens bind, in what they take of the pace.
    spread: Spread,
    /// Of 100 calls so many fail and are repeated.
    fail: u32,
}

#[derive(Clone, Copy)]
enum Spread {
    /// 50 to 450 ms, evenly.
    Even,
    /// A log-normal around 400 ms; its standard deviation is as large as its mean.
    LogNormal,
}

const USUAL: Scenario = Scenario {
    name: "slots",
    items: 2_000,
    slots: 16,
    paced: None,
    known: false,
    spread: Spread::Even,
    fail: 0,
};

const SCENARIOS: [Scenario; 7] = [
    USUAL,
    Scenario { name: "few slots, long tail", slots: 8, spread: Spread::LogNormal, ..USUAL },
    Scenario { name: "many slots, long tail", items: 20_000, slots: 64, spread: Spread::LogNormal, ..USUAL },
    Scenario { name: "pace", slots: 1_024, paced: Some(50.0), known: true, ..USUAL },
    Scenario { name: "fast pace", items: 50_000, slots: 1_024, paced: Some(500.0), known: true, ..USUAL },
    Scenario { name: "pace with failures", slots: 1_024, paced: Some(20.0), known: true, fail: 20, ..USUAL },
    Scenario { name: "tokens", slots: 1_024, paced: Some(20.0), spread: Spread::LogNormal, ..USUAL },
];

struct Simulation {
    scenario: Scenario,
    chance: StdRng,
    now: f64,
    next_start: f64,
    waiting: u32,
    ended: u32,
    /// End, start, and the first start of the item, in microseconds.
    under_way: BinaryHeap<Reverse<(u64, u64)>>,
    flow: Flow,
}

impl Simulation {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let (chance, waiting) = (StdRng::seed_from_u64(seed), scenario.items);
        Self {
            scenario,
            chance,
            now: 0.0,
            next_start: 0.0,
            waiting,
            ended: 0,
            under_way: BinaryHeap::new(),
            flow: Flow::default(),
        }
    }

    /// A factor of mean 1 and standard deviation 1.
    fn log_normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (self.chance.random::<f64>().max(1e-12), self.chance.random());
        let normal = (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos();
        let variance = 2_f64.ln();
        (variance.sqrt() * normal - variance / 2.0).exp()
    }

    fn start(&mut self) {
        let seconds = match self.scenario.spread {
            Spread::Even => self.chance.random_range(0.05..0.45),
            Spread::LogNormal => 0.4 * self.log_normal(),
        };
        if let Some(pace) = self.scenario.paced {
            let weight = if self.scenario.known { 1.0 } else { self.log_normal() };
            self.next_start = self.next_start.max(self.now) + weight / pace;
        }
        self.waiting -= 1;
        let micros = |seconds: f64| (seconds * 1e6) as u64;
        self.under_way.push(Reverse((micros(self.now + seconds), micros(self.now))));
    }

    /// Moves on by a tick, or to the end.
    fn tick(&mut self) {
        let until = self.now + TICK;
        loop {
            let ends = self.under_way.peek().map(|Reverse((end, _))| *end as f64 / 1e6);
            let free = self.waiting > 0 && self.under_way.len() < self.scenario.slots as usize;
            let starts = free.then(|| self.next_start.max(self.now));
            let next = [ends, starts].into_iter().flatten().fold(f64::INFINITY, f64::min);
            if next > until {
                self.now = if next.is_finite() { until } else { self.now };
                break;
            }
            self.now = next;
            if ends == Some(next) {
                self.end();
            } else {
                self.start();
            }
        }
        let now = self.at();
        let running = self.under_way.iter().map(|Reverse((_, start))| self.now - *start as f64 / 1e6);
        let under_way = UnderWay { calls: self.under_way.len() as u32, seconds: running.sum() };
        self.flow.tick(self.waiting > 0, under_way, now);
    }

    fn end(&mut self) {
        let Some(Reverse((end, start))) = self.under_way.pop() else { return };
        if self.chance.random_range(0..100) < self.scenario.fail {
            self.flow.repeated();
            self.waiting += 1;
        } else {
            self.flow.ended(Duration::from_micros(end - start));
            self.ended += 1;
        }
    }

    fn at(&self) -> Timestamp {
        START + Duration::from_secs_f64(self.now)
    }

    fn completion(&self) -> Option<Completion> {
        let Scenario { slots, paced, known, .. } = self.scenario;
        let bounds = Bounds { pace: paced.filter(|_| known), slots: Some(slots) };
        let course = Course {
            items: f64::from(self.waiting),
            own: f64::from(self.waiting),
            speed: self.flow.speed(bounds)?,
            shared: false,
            slots: None,
            running: self.under_way.len() as f64,
            times: self.flow.times,
            allowances: &[],
            opens: self.at(),
        };
        course.completion()
    }

    /// The estimate at a tenth, when it was made, and when the last item ended.
    fn run(mut self) -> (Completion, Timestamp, Timestamp) {
        while self.ended < self.scenario.items / 10 {
            self.tick();
        }
        let (asked, completion) = (self.at(), self.completion().unwrap());
        while self.ended < self.scenario.items {
            self.tick();
        }
        (completion, asked, self.at())
    }
}

/// The truth is at most the p90 in at least 16 of 20 runs, and the range at most a fifth of what remains.
#[test]
fn the_range_of_a_steady_batch_holds_at_a_tenth() {
    for scenario in SCENARIOS {
        let (mut within, mut widest, mut after_middle) = (0, 0.0_f64, 0);
        for seed in 0..RUNS {
            let (completion, asked, truth) = Simulation::new(scenario, seed).run();
            within += u32::from(truth <= completion.p90);
            after_middle += u32::from(truth > completion.p50);
            let range = completion.p90.since(completion.p50).as_secs_f64();
            widest = widest.max(range / truth.since(asked).as_secs_f64());
        }
        let name = scenario.name;
        let figures =
            format!("{name}: {within} of {RUNS} by the p90, {after_middle} after the p50, {widest:.3} wide");
        assert!(within >= 16, "{figures}");
        assert!(widest <= 0.2, "{figures}");
        // The middle is one: a batch whose limits alone decide may end a little early every time.
        assert!(after_middle <= 14, "{figures}");
    }
}
