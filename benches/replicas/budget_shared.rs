//! How much of one budget several replicas use together, and whether they ever exceed it.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use super::Arguments;
use super::cluster::Cluster;
use super::harness::input::Input;
use super::harness::law::{Law, limits};
use super::harness::live::{Caller, Demand, chat_body};
use super::harness::oracle::Reading;
use super::harness::say;
use super::harness::setting::sleep_until;
use super::harness::tokens::TokenMix;
use super::shape::Shape;

/// Live calls that wait at one replica at most: what is asked for beyond them is not made.
const WAITING: usize = 256;
/// The largest item under a limit of tokens, as a share of it.
const LARGEST: f64 = 0.004;

/// Prints the names of the columns.
pub(crate) fn show_head() {
    say(format!(
        "{:<28} {:>8} {:>8} {:>6} {:>9} {:>11} {:>7} {:>9} {:>11}  calls by replica",
        "shape", "used", "calls/s", "429s", "429 share", "peak/limit", "over", "ledger/s", "statements/s"
    ));
}

/// One run of a shape under a limit of `requests` or `tokens`.
pub(crate) async fn measure(
    arguments: &Arguments,
    unit: &'static str,
    name: &str,
    shape: &Shape,
) -> anyhow::Result<()> {
    let (time, skip) = arguments.watch.times()?;
    let limit = if unit == "requests" { arguments.limit } else { arguments.tokens };
    let beside = arguments.beside.filter(|_| unit == "tokens").map(|calls| ("requests", calls));
    let limited: Vec<(&str, u64)> = [(unit, limit)].into_iter().chain(beside).collect();
    let laws = limited.iter().map(|(unit, limit)| Law::per_minute(&arguments.law, unit, *limit));
    let script =
        format!("latency = \"{}\"\nlog = \"full\"\n{}", arguments.latency, limits(&laws.collect::<Vec<_>>()));
    let configured = limited.iter().map(|(unit, limit)| format!("limits.{unit} = [\"{limit}/min\"]"));
    let configured = configured.collect::<Vec<_>>().join("\n");
    let cluster = Cluster::start(arguments, &script, &configured).await?;
    let mix = TokenMix { size: 200..=(limit as f64 * LARGEST) as u64, input: 0.2..=0.6, output: 0.1..=1.0 };
    let mean = if unit == "requests" { 1.0 } else { (mix.size.start() + mix.size.end()) as f64 / 2.0 };
    let per_second = limit as f64 / 60.0 / mean;
    let start = Instant::now();
    let mut batch = None;
    if shape.has_batches {
        let items = (per_second * (time.as_secs_f64() + 60.0) * 1.7) as usize + 100;
        let file = if unit == "requests" {
            Input::chat(items, "bench", 200).file
        } else {
            mix.file(items, "bench", "/v1/chat/completions", 7)
        };
        batch = Some(cluster.apis[0].submit(file).await?);
    }
    let bodies = if unit == "requests" { chat_body() } else { bodies(&mix)? };
    let mut live = JoinSet::new();
    for (service, share) in cluster.replicas.iter().zip(&shape.live).filter(|(_, share)| **share > 0.0) {
        let caller = Caller::of(service.address(), bodies.clone())?;
        let share = *share;
        live.spawn(async move { caller.demand(per_second * share, WAITING, start + time).await });
    }
    sleep_until(start + skip).await;
    let early = look(&cluster).await?;
    sleep_until(start + time).await;
    let late = look(&cluster).await?;
    show(name, &early, &late, time - skip);
    if let Some((unit, calls)) = beside {
        let used = late.0.used_of_since(unit, &early.0);
        let over = late.0.law_of(unit, "windows_over");
        say(format!("    beside {calls} {unit}/min, of which {used:.4} used, {over} windows over"));
    }
    show_callers(&cluster, &early.0, &live.join_all().await).await?;
    if let Some(batch) = batch {
        cluster.apis[0].unended(&batch, name).await?;
    }
    if arguments.statements {
        cluster.server.show_statements().await?;
    }
    cluster.end()
}

/// The upstream, exchanges with the ledger, and statements.
async fn look(cluster: &Cluster) -> anyhow::Result<(Reading, f64, f64)> {
    let exchanges = cluster.server.function_calls("ledger_exchange").await?;
    let work = cluster.server.work().await?;
    Ok((Reading::of(&cluster.upstream).await?, exchanges, work.statements))
}

fn show(name: &str, early: &(Reading, f64, f64), late: &(Reading, f64, f64), time: Duration) {
    let ((from, ..), (to, ..)) = (early, late);
    let refused = to.answered(429);
    say(format!(
        "{name:<28} {:>8.4} {:>8.2} {refused:>6} {:>8.4}% {:>11.4} {:>7} {:>9.2} {:>11.2}",
        to.used_since(from),
        to.pace_since(from, 200),
        refused / to.arrived().max(1.0) * 100.0,
        to.law("peak") / to.law("limit"),
        to.law("windows_over"),
        (late.1 - early.1) / time.as_secs_f64(),
        (late.2 - early.2) / time.as_secs_f64(),
    ));
}

/// Which replica made how many of the calls.
async fn show_callers(cluster: &Cluster, early: &Reading, demands: &[Demand]) -> anyhow::Result<()> {
    let mut calls = vec![0_u64; cluster.replicas.len()];
    let mut from = early.arrived() as u64;
    loop {
        let page = cluster.upstream.ask(&format!("log?entries=1&from={from}&limit=50000")).await?;
        let Some(rows) = page.as_array().filter(|rows| !rows.is_empty()) else { break };
        for row in rows {
            let replica = row["caller"].as_str().and_then(|caller| caller.get(1..)?.parse::<usize>().ok());
            if let Some(calls) = replica.and_then(|replica| calls.get_mut(replica)) {
                *calls += 1;
            }
            from = row["number"].as_u64().unwrap_or(from) + 1;
        }
    }
    let sum = |of: fn(&Demand) -> u64| demands.iter().map(of).sum::<u64>();
    say(format!(
        "    calls by replica {calls:?}; live calls answered {}, failed {}, held back {}",
        sum(|demand| demand.answered),
        sum(|demand| demand.failed),
        sum(|demand| demand.held_back)
    ));
    Ok(())
}

/// Bodies of calls like a batch's.
fn bodies(mix: &TokenMix) -> anyhow::Result<Vec<Value>> {
    let file = mix.file(500, "bench", "/v1/chat/completions", 11);
    let lines = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| Ok(serde_json::from_slice::<Value>(line)?["body"].take())).collect()
}
