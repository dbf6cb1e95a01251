//! The gate against simulated providers, and what one admission costs.
//!
//! `cargo bench --bench gate_simulation` prints, for each limit and each way of enforcing it, how much of
//! the budget was used in minutes 2–10 of a backlog, how many calls were refused and how many windows were
//! over; then hours of mixed load: tokens, learned and changing limits, somebody else on the key, upstreams
//! that say nothing; then nanoseconds per admission with 1, 100 and 10,000 heads waiting.
#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

mod gate_simulation_hour;
mod gate_simulation_oracle;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use gate_simulation_hour::Hour;
use gate_simulation_oracle::{Oracle, windows_over};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sluicegate::domain::limits::{Limits, Rate};
use sluicegate::domain::time::Timestamp;
use sluicegate::gate::{
    Accounting, Cost, Gate, GateError, GateOptions, Grant, Head, LevelId, LevelKind, LevelSpec, PathId,
    Refusal,
};

const START: Timestamp = Timestamp::from_seconds(1_700_000_000);
const MINUTE: Duration = Duration::from_secs(60);
/// Not a whole minute, so that fixed windows begin in the middle of the run's.
const PHASE: Duration = Duration::from_millis(17_300);

fn main() -> Result<(), GateError> {
    println!(
        "{:<14} {:<14} {:>8} {:>8} {:>6} {:>6}",
        "limit", "enforced by", "used", "of 0.995", "429s", "over"
    );
    for (amount, period) in [(600, 60), (6_000, 60), (100, 10), (1_000, 10)] {
        let rate = Rate { amount, period: Duration::from_secs(period) };
        for oracle in [Oracle::bucket(rate), Oracle::fixed(rate), Oracle::sliding(rate)] {
            let name = oracle.name();
            let outcome = simulate(rate, oracle)?;
            println!(
                "{:<14} {name:<14} {:>8.4} {:>8.4} {:>6} {:>6}",
                format!("{amount}/{period}s"),
                outcome.used,
                outcome.used / 0.995,
                outcome.refused,
                outcome.over
            );
        }
    }
    hours()?;
    println!("\nns per enqueue + poll + finish_call + recorded, five levels");
    println!("{:<44} {:>8} {:>8} {:>8}", "waiting heads", 1, 100, 10_000);
    let open = [1, 100, 10_000].map(|waiting| time_open(waiting, Shape::OnePath));
    report("one path, open", open)?;
    report(
        "one path, each at its paced moment",
        [1, 100, 10_000].map(|waiting| time_paced(waiting, Shape::OnePath)),
    )?;
    report(
        "100 lanes x apps, each at its paced moment",
        [1, 100, 10_000].map(|waiting| time_paced(waiting, Shape::ManyPaths)),
    )?;
    report(
        "a limited batch each, at its paced moment",
        [1, 100, 10_000].map(|waiting| time_paced(waiting, Shape::OwnLevels)),
    )
}

/// Hours of mixed load, each against one upstream.
fn hours() -> Result<(), GateError> {
    println!(
        "\n{:<34} {:>8} {:>8} {:>8} {:>6}  shares",
        "an hour of mixed load", "used", "429s", "503s", "over"
    );
    let actual = Accounting::Actual { cached_input_free: true };
    let requests = |limits| Hour { limits, ..Hour::requests("configured, 6,000 requests/min") };
    let hours = [
        Hour::tokens("admission, largest 0.4 %", Accounting::Admission, 8_000),
        Hour::tokens("admission, largest 5 %", Accounting::Admission, 100_000),
        Hour::tokens("admission, largest 20 %", Accounting::Admission, 400_000),
        Hour::tokens("actual, largest 0.4 %", actual, 8_000),
        Hour::tokens("actual, largest 5 %", actual, 100_000),
        Hour::tokens("actual, largest 20 %", actual, 400_000),
        requests(Limits { requests: vec![Rate { amount: 6_000, period: MINUTE }], ..Limits::default() }),
        Hour { quotas: vec![(20, 3_000), (40, 6_000)], ..Hour::requests("learned, halved, doubled") },
        Hour::requests("learned, 30 % used by another").shared(30.0),
        Hour { speaks: false, ..Hour::requests("silent, hidden 6,000/min") },
        Hour { speaks: false, ..Hour::requests("silent, 8 slots") }.slots(8),
    ];
    for hour in hours {
        let name = hour.name;
        let outcome = hour.simulate()?;
        let shares: Vec<String> = outcome.shares.iter().map(|share| format!("{share:.3}")).collect();
        println!(
            "{name:<34} {:>8.4} {:>8.5} {:>8.5} {:>6}  {}",
            outcome.used,
            outcome.limited,
            outcome.overloaded,
            outcome.over,
            shares.join(" ")
        );
    }
    Ok(())
}

fn report(name: &str, times: [Result<f64, GateError>; 3]) -> Result<(), GateError> {
    let [one, hundred, many] = times;
    println!("{name:<44} {:>8.0} {:>8.0} {:>8.0}", one?, hundred?, many?);
    Ok(())
}

struct Outcome {
    used: f64,
    refused: usize,
    over: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives { call: usize },
    Ends { call: usize },
}

/// Ten minutes of backlog: replies take 50–450 ms, the way there varies by 20 ms, timers are late.
fn simulate(rate: Rate, mut oracle: Oracle) -> Result<Outcome, GateError> {
    let mut random = StdRng::seed_from_u64(rate.amount);
    let from = START + PHASE;
    let end = from + MINUTE * 10;
    let (mut gate, lane, path) = one_lane(rate, from)?;
    let mut events: BinaryHeap<Reverse<(Timestamp, Event)>> = BinaryHeap::new();
    let mut calls: Vec<Option<Grant>> = Vec::new();
    let mut arrivals = Vec::new();
    let (mut accepted, mut refused) = (0_u64, 0);
    let mut now = from;
    for turn in 0..8 {
        gate.enqueue(head(path, None, turn), now)?;
    }
    while now < end {
        while let Some(admitted) = gate.poll(now) {
            let way = Duration::from_micros(30_000 + random.random_range(0..=20_000));
            events.push(Reverse((now + way, Event::Arrives { call: calls.len() })));
            calls.push(Some(admitted.grant));
            gate.enqueue(head(path, None, admitted.tag), now)?;
        }
        let next_event = events.peek().map(|Reverse((moment, _))| *moment);
        let next_poll = gate.next_at(now).map(|moment| moment.max(now) + lateness(&mut random));
        now = next_event.into_iter().chain(next_poll).min().unwrap_or(end);
        while events.peek().is_some_and(|Reverse((moment, _))| *moment <= now) {
            let Some(Reverse((moment, event))) = events.pop() else { break };
            match event {
                Event::Arrives { call } => {
                    arrivals.push(moment);
                    let taken = oracle.takes(moment);
                    let counts = moment.since(from) >= MINUTE;
                    accepted += u64::from(taken && counts);
                    refused += usize::from(!taken);
                    if let Some(grant) = calls[call].as_ref().filter(|_| !taken) {
                        let refusal = Refusal {
                            sent_at: grant.admitted_at(),
                            retry_after: Some(Duration::from_secs(1)),
                        };
                        gate.rate_limited(lane, refusal, moment);
                    }
                    let reply = Duration::from_millis(random.random_range(50..=450));
                    events.push(Reverse((moment + reply, Event::Ends { call })));
                }
                Event::Ends { call } => {
                    if let Some(grant) = calls[call].take() {
                        gate.recorded(grant, moment);
                    }
                }
            }
        }
    }
    let whole = rate.amount as f64 * (9.0 * 60.0) / rate.period.as_secs_f64();
    Ok(Outcome { used: accepted as f64 / whole, refused, over: windows_over(&arrivals, rate) })
}

/// Mostly below a millisecond, now and then a busy machine.
fn lateness(random: &mut StdRng) -> Duration {
    let micros = if random.random_range(0..100) == 0 { 15_000 } else { 1_200 };
    Duration::from_micros(random.random_range(0..=micros))
}

fn one_lane(rate: Rate, now: Timestamp) -> Result<(Gate, LevelId, PathId), GateError> {
    let mut gate = Gate::new(GateOptions::default(), now);
    let limits = Limits { max_concurrent: Some(1_024), requests: vec![rate], ..Limits::default() };
    let lane = gate.add_level(LevelSpec { kind: LevelKind::Lane, limits, ..LevelSpec::default() }, now);
    let path = gate.add_path(&[lane])?;
    Ok((gate, lane, path))
}

fn head(path: PathId, own: Option<LevelId>, turn: u64) -> Head {
    Head {
        tag: turn,
        path,
        own,
        cost: Cost { requests: 1, memory: 1_000, ..Cost::default() },
        turn,
        interactive: false,
    }
}

/// How the waiting heads are spread.
#[derive(Clone, Copy)]
enum Shape {
    OnePath,
    ManyPaths,
    OwnLevels,
}

/// A service with a rate at three of its five levels, and `waiting` heads.
fn service(waiting: u64, shape: Shape) -> Result<(Gate, Vec<Head>), GateError> {
    let mut gate = Gate::new(GateOptions::default(), START);
    let rate = |amount| Limits {
        max_concurrent: Some(1_024),
        requests: vec![Rate { amount, period: MINUTE }],
        ..Limits::default()
    };
    let mut add = |kind, limits, memory| {
        gate.add_level(LevelSpec { kind, limits, memory, ..LevelSpec::default() }, START)
    };
    let root = add(LevelKind::Service, Limits { max_concurrent: Some(1_024), ..Limits::default() }, None);
    let memory = add(LevelKind::Memory, Limits::default(), Some(1 << 30));
    let provider = add(LevelKind::Provider, rate(900_000), None);
    let side = if matches!(shape, Shape::ManyPaths) { 10 } else { 1 };
    let lanes: Vec<LevelId> = (0..side).map(|_| add(LevelKind::Lane, rate(950_000), None)).collect();
    let apps: Vec<LevelId> = (0..side).map(|_| add(LevelKind::App, rate(1_000_000), None)).collect();
    let mut paths = Vec::new();
    for lane in lanes {
        for app in &apps {
            paths.push(gate.add_path(&[root, memory, provider, lane, *app])?);
        }
    }
    let mut heads = Vec::new();
    for (turn, path) in (0..waiting).zip(paths.iter().cycle()) {
        let limits = Limits { max_concurrent: Some(2), ..Limits::default() };
        let batch = LevelSpec { kind: LevelKind::Batch, limits, ..LevelSpec::default() };
        let own = matches!(shape, Shape::OwnLevels).then(|| gate.add_level(batch, START));
        heads.push(head(*path, own, turn));
    }
    for head in &heads {
        gate.enqueue(*head, START)?;
    }
    Ok((gate, heads))
}

const ROUNDS: u64 = 400_000;

/// Every poll finds the levels open: the bare cost of an admission.
fn time_open(waiting: u64, shape: Shape) -> Result<f64, GateError> {
    time(waiting, shape, |_, now| now + Duration::from_micros(70))
}

/// The owner polls when the gate says so: an admission, a refusal and a timer each.
fn time_paced(waiting: u64, shape: Shape) -> Result<f64, GateError> {
    time(waiting, shape, |gate, now| gate.next_at(now).unwrap_or(now).max(now + Duration::from_micros(1)))
}

fn time(waiting: u64, shape: Shape, next: impl Fn(&Gate, Timestamp) -> Timestamp) -> Result<f64, GateError> {
    let (mut gate, heads) = service(waiting, shape)?;
    let mut now = START;
    let mut turn = waiting;
    let mut begun = Instant::now();
    let mut admitted_count = 0;
    while admitted_count < 2 * ROUNDS {
        while let Some(admitted) = gate.poll(now) {
            let place = usize::try_from(admitted.tag).unwrap_or_default();
            turn += 1;
            gate.enqueue(Head { turn, ..heads[place] }, now)?;
            let mut grant = admitted.grant;
            gate.finish_call(&mut grant, now);
            gate.recorded(grant, now);
            admitted_count += 1;
            // The first half warms the caches and fills the windows.
            if admitted_count == ROUNDS {
                begun = Instant::now();
            }
        }
        now = next(&gate, now);
    }
    Ok(begun.elapsed().as_nanos() as f64 / (admitted_count - ROUNDS) as f64)
}
