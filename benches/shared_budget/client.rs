//! A client in a process of its own: it has two batches with the service at any time, and survives its restarts.

use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::{AsyncFn, Range};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::harness::api::Api;
use super::harness::output;
use super::harness::process::Process;
use super::harness::say;
use super::harness::tokens::TokenMix;
use super::instance::PROVIDERS;
use super::live;

/// The variable through which this executable is told to be a client.
const PLAN_VARIABLE: &str = "BENCH_CLIENT_PLAN";
/// Batches that a client has with the service at any time: one runs while the next is submitted.
const AT_ONCE: usize = 2;
/// Items of a batch.
const ITEMS: usize = 80;
/// For how long batches are of light items, and then of heavy ones.
const PHASE: Duration = Duration::from_secs(60);
/// How often a batch is looked at, and a lost connection tried again.
const LOOK: Duration = Duration::from_millis(400);
const AGAIN: Duration = Duration::from_millis(50);
/// How long a batch may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a client is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Where the service is, in each of its lives.
    pub(crate) address: SocketAddr,
    /// Its app's key.
    pub(crate) key: String,
    /// Its number among the clients.
    pub(crate) number: usize,
    /// What its items depend on.
    pub(crate) seed: u64,
    /// Whether it makes live calls beside its batches.
    pub(crate) live: bool,
}

/// What a client saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// Batches that ended.
    pub(crate) batches: usize,
    /// Their items.
    pub(crate) items: usize,
    /// Items without a result.
    pub(crate) lost: usize,
    /// Results that came again.
    pub(crate) twice: usize,
    /// What was wrong, in words.
    pub(crate) faults: Vec<String>,
    /// Live calls answered to their end.
    pub(crate) live_answered: usize,
    /// Live calls whose connection was lost.
    pub(crate) live_lost: usize,
}

/// A client that runs.
#[derive(Debug)]
pub(crate) struct Client {
    process: Process,
    /// It makes no further batch once this is closed.
    goes_on: Option<ChildStdin>,
}

impl Client {
    /// Starts one.
    pub(crate) fn start(plan: &Plan) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(PLAN_VARIABLE, serde_json::to_string(plan)?).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let goes_on = process.take_input();
        Ok(Self { process, goes_on })
    }

    /// Tells it to make no further batch.
    pub(crate) fn finish(&mut self) {
        self.goes_on = None;
    }

    /// Waits until its last batch has ended.
    pub(crate) async fn findings(mut self) -> anyhow::Result<Findings> {
        let mut output = self.process.take_output().context("the client's output")?;
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).map(|_| text)
        });
        serde_json::from_str(&read.await??).context("a client that ended before its time")
    }
}

/// If this process was started as a client: is one, and prints what it found.
pub(crate) fn run_if_asked() -> anyhow::Result<bool> {
    let Ok(plan) = std::env::var(PLAN_VARIABLE) else { return Ok(false) };
    let plan: Plan = serde_json::from_str(&plan)?;
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        // Whatever it says: what counts is its end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.send_replace(true);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(run(&plan, &stopped))?;
    say(serde_json::to_string(&findings)?);
    Ok(true)
}

async fn run(plan: &Plan, stopped: &watch::Receiver<bool>) -> anyhow::Result<Findings> {
    let api = Api::of(plan.address)?.with_key(&plan.key)?;
    let started = Instant::now();
    let strands = (0..AT_ONCE).map(|strand| batches(plan, &api, strand, started, stopped));
    let live = async { if plan.live { live::calls(&api, stopped).await } else { Ok(Findings::default()) } };
    let (strands, live) = tokio::try_join!(futures_util::future::try_join_all(strands), live)?;
    Ok(strands.into_iter().fold(live, |mut sum, strand| {
        sum.batches += strand.batches;
        sum.items += strand.items;
        sum.lost += strand.lost;
        sum.twice += strand.twice;
        sum.faults.extend(strand.faults);
        sum
    }))
}

/// One batch after the other, until it is told to stop.
async fn batches(
    plan: &Plan,
    api: &Api,
    strand: usize,
    started: Instant,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Findings> {
    let mut found = Findings::default();
    for number in (strand..).step_by(AT_ONCE) {
        if *stopped.borrow() {
            break;
        }
        let first = (plan.number * 100_000 + number) * ITEMS;
        let items = first..first + ITEMS;
        let model = PROVIDERS[(plan.number + strand + number / AT_ONCE) % PROVIDERS.len()];
        let heavy = (started.elapsed().as_secs() / PHASE.as_secs()) % 2 == 1;
        let seed = plan.seed.wrapping_add(first as u64);
        let file = mix(heavy).file_of(items.clone(), model, "/v1/chat/completions", seed);
        let file = insist(async || api.upload(file.clone()).await).await?;
        let key = format!("client-{}-batch-{number}", plan.number);
        let batch = insist(async || api.create_once(&file, &key).await).await?;
        check(api, &batch, items, &mut found).await?;
    }
    Ok(found)
}

/// At the usual limits a request and 333 tokens take as long as each other.
fn mix(heavy: bool) -> TokenMix {
    let size = if heavy { 400..=1_000 } else { 60..=300 };
    TokenMix { size, input: 0.3..=0.7, output: 0.1..=1.0 }
}

/// Waits for a batch's end and looks at its results.
async fn check(api: &Api, batch: &str, items: Range<usize>, found: &mut Findings) -> anyhow::Result<()> {
    let ended = insist(async || api.ended(batch, LOOK, PATIENCE).await).await?;
    if ended["status"] != "completed" || ended["request_counts"]["completed"] != items.len() {
        found.faults.push(format!("{batch} ended as {} with {}", ended["status"], ended["request_counts"]));
    }
    let output = insist(async || api.content(&ended["output_file_id"]).await).await?;
    let checked = output::check(&output, items.clone())?;
    found.batches += 1;
    found.items += items.len();
    found.lost += checked.lost;
    found.twice += checked.twice;
    found.faults.extend(checked.faults.into_iter().map(|fault| format!("{batch}: {fault}")));
    Ok(())
}

/// Tries again whenever the connection is lost.
async fn insist<T>(attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    loop {
        match attempt().await {
            Err(error) if is_connection_loss(&error) => tokio::time::sleep(AGAIN).await,
            other => return other,
        }
    }
}

/// Whether a call failed since there was nobody to answer it, or not to its end.
pub(crate) fn is_connection_loss(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<reqwest::Error>()
        .is_some_and(|error| error.status().is_none() && !error.is_builder())
}
