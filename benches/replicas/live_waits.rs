//! What live calls wait at one of several replicas.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Arguments;
use super::cluster::Cluster;
use super::harness::input::Input;
use super::harness::law::{Law, limits};
use super::harness::live::{Caller, chat_body};
use super::harness::setting::sleep_until;
use super::harness::{quantile, say};

/// Without a call for so long a replica holds no slot ahead.
const IDLE: Duration = Duration::from_secs(12);
/// Calls while slots are held, and the time from one to the next.
const HELD: usize = 20;
const GAP: Duration = Duration::from_millis(150);
/// Live calls in front of a backlog, as a share of the limit.
const LIVE: f64 = 0.05;

/// What a call takes longer through a replica of an idle cluster: the first one, and those soon after it.
pub(crate) async fn idle(arguments: &Arguments) -> anyhow::Result<()> {
    let cluster = cluster(arguments, "0ms").await?;
    let (time, _) = arguments.watch.times()?;
    let until = Instant::now() + time;
    let mut replicas = JoinSet::new();
    for (number, service) in cluster.replicas.iter().enumerate() {
        let caller = Caller::of(service.address(), chat_body())?;
        let direct = Caller::at(format!("{}/chat/completions", cluster.upstream.base_url()), chat_body())?;
        // Not all at the same moments.
        let offset = IDLE / 4 * u32::try_from(number).unwrap_or(0);
        replicas.spawn(async move { rounds(&caller, &direct, offset, until).await });
    }
    let mut all = Times::default();
    for ended in replicas.join_all().await {
        let Times { first, held, direct } = ended?;
        all.first.extend(first);
        all.held.extend(held);
        all.direct.extend(direct);
    }
    for (name, times) in [("first call", &all.first), ("slots held", &all.held)] {
        for (quantile_name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("most", 1.0)] {
            let (gate, direct) = (quantile(times, share) * 1e3, quantile(&all.direct, share) * 1e3);
            say(format!(
                "idle, {name:<10} {quantile_name:<4} {gate:>8.2} ms, direct {direct:>6.2} ms, added {:>8.2} ms ({} calls)",
                gate - direct,
                times.len()
            ));
        }
    }
    cluster.end()
}

/// Seconds that calls took.
#[derive(Default)]
struct Times {
    /// After a time without any.
    first: Vec<f64>,
    /// Soon after those.
    held: Vec<f64>,
    /// To the upstream itself: each as long after the one before, on a machine as idle as for those through the
    /// replica. Calls that follow at once are quicker, and say nothing of these.
    direct: Vec<f64>,
}

async fn rounds(caller: &Caller, direct: &Caller, offset: Duration, until: Instant) -> anyhow::Result<Times> {
    let mut times = Times::default();
    // The connections are made by calls that do not count.
    caller.timed(0).await?;
    direct.timed(0).await?;
    tokio::time::sleep(offset).await;
    while Instant::now() + IDLE < until {
        tokio::time::sleep(IDLE).await;
        times.first.push(caller.timed(0).await?);
        for _ in 0..HELD {
            tokio::time::sleep(GAP).await;
            times.held.push(caller.timed(0).await?);
            tokio::time::sleep(GAP).await;
            times.direct.push(direct.timed(0).await?);
        }
    }
    Ok(times)
}

/// How long live calls at one replica wait in the gate while all of them have a backlog.
pub(crate) async fn backlog(arguments: &Arguments) -> anyhow::Result<()> {
    let cluster = cluster(arguments, &arguments.latency).await?;
    let (time, skip) = arguments.watch.times()?;
    let per_second = arguments.limit as f64 / 60.0;
    let items = (per_second * (time.as_secs_f64() + 60.0) * 1.1) as usize;
    let batch = cluster.apis[0].submit(Input::chat(items, "bench", 200).file).await?;
    let start = Instant::now();
    sleep_until(start + skip).await;
    let at = cluster.replicas.len() - 1;
    let caller = Caller::of(cluster.replicas[at].address(), chat_body())?;
    let waits = caller.at_random(per_second * LIVE, start + time).await?;
    cluster.apis[0].unended(&batch, "the batch").await?;
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("most", 1.0)] {
        let wait = quantile(&waits, share);
        say(format!(
            "backlog at {}/min, {} live calls at one replica: wait {name:<4} {wait:>6.0} ms = {:.2} send intervals",
            arguments.limit,
            waits.len(),
            wait * per_second / 1e3
        ));
    }
    cluster.end()
}

async fn cluster(arguments: &Arguments, latency: &str) -> anyhow::Result<Cluster> {
    let limit = arguments.limit;
    let law = limits(&[Law::per_minute(&arguments.law, "requests", limit)]);
    let script = format!("latency = \"{latency}\"\nlog = \"off\"\n{law}");
    Cluster::start(arguments, &script, &format!("limits.requests = [\"{limit}/min\"]")).await
}
