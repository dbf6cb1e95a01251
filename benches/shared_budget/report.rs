//! What the instances came to, and whether it is as promised.

use super::Arguments;
use super::harness::oracle::Reading;
use super::harness::say;
use super::harness::upstream::show_first_calls;
use super::instance::{LEFT_OUT, Life, Outcome};

/// What both laws count.
const UNITS: [&str; 2] = ["requests", "tokens"];

/// Use of the binding limit in some time.
#[derive(Clone, Copy, Debug)]
struct Use {
    seconds: f64,
    share: f64,
    binding: &'static str,
}

impl Use {
    /// Of the limit that was used more, which is the one that held the other back.
    fn between(early: &Reading, late: &Reading) -> Self {
        let [requests, tokens] = UNITS.map(|unit| late.used_of_since(unit, early));
        let (share, binding) = if requests > tokens { (requests, UNITS[0]) } else { (tokens, UNITS[1]) };
        Self { seconds: late.clock() - early.clock(), share, binding }
    }
}

/// Prints everything; an error if a window was over or an item lost, twice or wrong.
pub(crate) fn show(arguments: &Arguments, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let lives: Vec<&Life> = outcomes.iter().flat_map(|outcome| &outcome.lives).collect();
    say(format!(
        "{} restarts of {} services, seed {}, {} law: {} requests and {} tokens a minute",
        lives.len(),
        outcomes.len(),
        arguments.seed,
        arguments.law,
        arguments.requests,
        arguments.tokens
    ));
    show_use(arguments, &lives);
    let first: Vec<f64> = lives.iter().filter_map(|life| life.first_call).collect();
    show_first_calls(&first, lives.len());
    let over = show_upstreams(outcomes);
    let faults = show_clients(outcomes);
    for (place, outcome) in outcomes.iter().enumerate().filter(|(_, outcome)| !outcome.log.is_empty()) {
        say(format!("logged by {place}:\n{}", outcome.log));
    }
    anyhow::ensure!(over == 0.0, "{over} windows over");
    anyhow::ensure!(faults == 0, "{faults} faults");
    Ok(())
}

fn show_use(arguments: &Arguments, lives: &[&Life]) {
    let each: Vec<Vec<Use>> = lives.iter().map(|life| steps(&life.settled)).collect();
    let settled: Vec<Use> = each.iter().flatten().copied().collect();
    let starts = lives.iter().flat_map(|life| Some(Use::between(&life.start, life.settled.first()?)));
    let whole: Vec<Use> = settled.iter().copied().chain(starts).collect();
    let least = each.iter().map(|steps| mean(steps.iter())).fold(f64::INFINITY, f64::min);
    say(format!(
        "used of the binding limit: {:.4} outside the {} s after each start, the least after one {least:.4}; {:.4} with them",
        mean(settled.iter()),
        LEFT_OUT.as_secs(),
        mean(whole.iter())
    ));
    for unit in UNITS {
        let binding = || settled.iter().filter(|part| part.binding == unit);
        if binding().next().is_none() {
            continue;
        }
        let seconds: f64 = binding().map(|part| part.seconds).sum();
        say(format!("  while {unit} bound, {seconds:.0} s: {:.4}", mean(binding())));
    }
    if arguments.looks {
        for (life, steps) in lives.iter().zip(&each) {
            let shares: Vec<String> =
                steps.iter().map(|step| format!("{}{:.3}", &step.binding[..1], step.share)).collect();
            let first = life.first_call.unwrap_or(f64::NAN);
            say(format!("  first call {first:.2} s, {:.4}: {}", mean(steps.iter()), shares.join(" ")));
        }
    }
}

/// The uses between readings, one after the other.
fn steps(readings: &[Reading]) -> Vec<Use> {
    readings.windows(2).map(|pair| Use::between(&pair[0], &pair[1])).collect()
}

/// By their time.
fn mean<'a>(parts: impl Iterator<Item = &'a Use> + Clone) -> f64 {
    let seconds: f64 = parts.clone().map(|part| part.seconds).sum();
    parts.map(|part| part.share * part.seconds).sum::<f64>() / seconds
}

/// Windows over, in all.
fn show_upstreams(outcomes: &[Outcome]) -> f64 {
    let sum = |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>();
    let mut over = 0.0;
    for unit in UNITS {
        let windows = sum(&|outcome| outcome.last.law_of(unit, "windows_over"));
        let peak = outcomes.iter().map(|outcome| outcome.last.law_of(unit, "peak")).fold(0.0, f64::max);
        let limit = outcomes.first().map_or(0.0, |outcome| outcome.last.law_of(unit, "limit"));
        say(format!(
            "{unit}: windows over {windows}, calls over {}, peak {peak} of {limit}",
            sum(&|outcome| outcome.last.law_of(unit, "over"))
        ));
        over += windows;
    }
    say(format!(
        "calls {}, of them 429s {}, second calls of an item {}",
        sum(&|outcome| outcome.last.arrived()),
        sum(&|outcome| outcome.last.answered(429)),
        sum(&|outcome| outcome.last.repeats())
    ));
    over
}

/// Faults, in all.
fn show_clients(outcomes: &[Outcome]) -> usize {
    let mut faults = 0;
    for (place, outcome) in outcomes.iter().enumerate() {
        for (number, client) in outcome.clients.iter().enumerate() {
            say(format!(
                "client {place}.{number}: {} batches, {} items, lost {}, twice {}; live calls answered {}, connection lost {}",
                client.batches,
                client.items,
                client.lost,
                client.twice,
                client.live_answered,
                client.live_lost
            ));
            for fault in client.faults.iter().take(10) {
                say(format!("  FAULT {fault}"));
            }
            faults += client.faults.len();
        }
    }
    faults
}
