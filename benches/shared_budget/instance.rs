//! One service with its upstream and its clients, killed and started again.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Arguments;
use super::client::{Client, Findings, Plan};
use super::harness::law::{Law, limits};
use super::harness::oracle::Reading;
use super::harness::service::Service;
use super::harness::setting::sleep_until;
use super::harness::upstream::{Upstream, first_call_after};

/// How long after each start use is left out.
pub(crate) const LEFT_OUT: Duration = Duration::from_secs(2);
/// From one look to the next. Which limit binds changes within a life, as batches do.
const STEP: Duration = Duration::from_secs(2);
/// The app of each client process, by its place in [`APPS`].
const CLIENTS: [usize; 5] = [0, 0, 1, 1, 2];
const APPS: [(&str, u32); 3] = [("first", 1), ("second", 1), ("third", 1)];
/// The providers, which are also the names of their only models.
pub(crate) const PROVIDERS: [&str; 2] = ["one", "other"];
/// Until every client has a backlog, and the pace that a process starts with has settled.
const WARM_UP: Duration = Duration::from_secs(10);
const OPERATOR_KEY: &str = "the-operators-key-of-this-benchmark";

/// One life of a process: from its start to its end.
#[derive(Debug)]
pub(crate) struct Life {
    /// At its start.
    pub(crate) start: Reading,
    /// From [`LEFT_OUT`] later on, every [`STEP`], to its end.
    pub(crate) settled: Vec<Reading>,
    /// Seconds from its start to its first call; `None` if there was none.
    pub(crate) first_call: Option<f64>,
}

/// What came out of one instance.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The lives that followed a kill.
    pub(crate) lives: Vec<Life>,
    /// The upstream after everything.
    pub(crate) last: Reading,
    /// What each client found.
    pub(crate) clients: Vec<Findings>,
    /// What the service logged, over all its lives.
    pub(crate) log: String,
}

/// Runs one instance until it was killed so often and its clients have all they asked for.
pub(crate) async fn run(arguments: &Arguments, place: usize, restarts: usize) -> anyhow::Result<Outcome> {
    let folder = arguments.setting.folder()?;
    let laws = [("requests", arguments.requests), ("tokens", arguments.tokens)]
        .map(|(unit, limit)| Law::per_minute(&arguments.law, unit, limit));
    // Rows of single calls are needed for the time to the first call after a start.
    let script = format!("latency = \"{}\"\nlog = \"full\"\n{}", arguments.latency, limits(&laws));
    let upstream = Upstream::start(&script)?;
    let mut service = configure(arguments, folder.path(), &upstream)?;
    let keys = service.start_ready().await?.with_key(OPERATOR_KEY)?.app_keys(&APPS).await?;
    let mut clients = Vec::new();
    for (number, app) in CLIENTS.into_iter().enumerate() {
        clients.push(Client::start(&Plan {
            address: service.address(),
            key: keys[app].clone(),
            number,
            seed: arguments.seed + place as u64,
            live: number == CLIENTS.len() - 1,
        })?);
    }
    tokio::time::sleep(WARM_UP).await;
    let mut dice = StdRng::seed_from_u64(arguments.seed + 1_000 * place as u64);
    let mut lives = Vec::new();
    for _ in 0..restarts {
        let lived = dice.random_range(arguments.every.0..arguments.every.1);
        lives.push(live(&mut service, &upstream, lived).await?);
    }
    let mut findings = Vec::new();
    // All at once, or those who wait would keep the others' batches company.
    clients.iter_mut().for_each(Client::finish);
    for client in clients {
        findings.push(client.findings().await?);
    }
    let last = Reading::of(&upstream).await?;
    service.kill()?;
    Ok(Outcome { lives, last, clients: findings, log: service.log()? })
}

fn configure(arguments: &Arguments, folder: &Path, upstream: &Upstream) -> anyhow::Result<Service> {
    let (operator, account) = (folder.join("operator"), folder.join("account"));
    std::fs::write(&operator, OPERATOR_KEY)?;
    std::fs::write(&account, "sk-of-one-account")?;
    let mut text = format!("auth.mode = \"keys\"\nauth.admin_key_file = \"{}\"\n", operator.display());
    for provider in PROVIDERS {
        write!(
            text,
            "[providers.{provider}]\nbase_url = \"{}\"\napi_key_file = \"{}\"\nbudget = \"account\"\n\
             limits.requests = [\"{}/min\"]\nlimits.tokens = [\"{}/min\"]\n\
             [[providers.{provider}.lanes]]\nmatch = \"{provider}\"\n",
            upstream.base_url(),
            account.display(),
            arguments.requests,
            arguments.tokens
        )?;
    }
    Service::configure(folder, &text)
}

/// Kills the service, starts it again and lets it live so long.
async fn live(service: &mut Service, upstream: &Upstream, lived: Duration) -> anyhow::Result<Life> {
    service.kill()?;
    // What the dead process had written may still be on its way to the upstream.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let start = Reading::of(upstream).await?;
    let (started, started_at) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64());
    service.start()?;
    let first_call =
        first_call_after(upstream, start.arrived() as u64, started_at, lived.as_secs_f64()).await?;
    let (mut settled, mut at) = (Vec::new(), LEFT_OUT);
    // The last step is between one and two of them long: what is used in a moment can't be told.
    while at + STEP < lived {
        sleep_until(started + at).await;
        settled.push(Reading::of(upstream).await?);
        at += STEP;
    }
    sleep_until(started + lived).await;
    settled.push(Reading::of(upstream).await?);
    Ok(Life { start, settled, first_call })
}
