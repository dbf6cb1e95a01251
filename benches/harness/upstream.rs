//! The scripted upstream in a process of its own, so that its CPU and memory are not the client's.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use sluicegate::demo::upstream::{Script, run};

use super::process::Process;
use super::{median, quantile, say};

/// The variable through which a benchmark's executable is told to be an upstream.
const SCRIPT_VARIABLE: &str = "BENCH_UPSTREAM_SCRIPT";

/// If this process was started as an upstream: is one, until it is killed.
///
/// One thread serves best here: it wakes nobody, and the cores are shared with what is measured.
pub(crate) fn serve_if_asked() -> anyhow::Result<bool> {
    let Ok(script) = std::env::var(SCRIPT_VARIABLE) else { return Ok(false) };
    let script: Script = toml::from_str(&script)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        say(format!("http://{}", listener.local_addr()?));
        anyhow::Ok(run(listener, script).await?)
    })?;
    Ok(true)
}

/// An upstream that runs.
#[derive(Debug)]
pub(crate) struct Upstream {
    process: Process,
    root: String,
    client: reqwest::Client,
}

impl Upstream {
    /// Starts one with a script in TOML.
    pub(crate) fn start(script: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = Process::start(command.env(SCRIPT_VARIABLE, script).stdout(Stdio::piped()))?;
        let output = process.take_output().context("the upstream's output")?;
        let mut root = String::new();
        BufReader::new(output).read_line(&mut root)?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        anyhow::ensure!(root.starts_with("http://"), "the upstream did not start");
        Ok(Self { process, root: root.trim().to_owned(), client })
    }

    /// Its process.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// What a provider's `base_url` is set to.
    pub(crate) fn base_url(&self) -> String {
        format!("{}/v1", self.root)
    }

    /// `GET /script/{what}`.
    pub(crate) async fn ask(&self, what: &str) -> anyhow::Result<Value> {
        Ok(self
            .client
            .get(format!("{}/script/{what}", self.root))
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }

    /// Changes keys of its script.
    pub(crate) async fn set(&self, changes: &Value) -> anyhow::Result<()> {
        self.client
            .post(format!("{}/script/set", self.root))
            .json(changes)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    /// Empties its log and its oracle.
    pub(crate) async fn reset(&self) -> anyhow::Result<()> {
        self.client.post(format!("{}/script/reset", self.root)).send().await?.error_for_status()?;
        Ok(())
    }
}

/// Prints the seconds from a start to its first call, after so many kills.
pub(crate) fn show_first_calls(first: &[f64], kills: usize) {
    say(format!(
        "start to first call: median {:.3} s, p90 {:.3} s, most {:.3} s ({} of {kills} seen)",
        median(first),
        quantile(first, 0.9),
        quantile(first, 1.0),
        first.len()
    ));
}

/// Seconds from the start of a process, in unix seconds, to the first call that arrives after so many; it needs a
/// full log. `None` if there is none within `patience` seconds, or 5.
pub(crate) async fn first_call_after(
    upstream: &Upstream,
    arrived: u64,
    started_at: f64,
    patience: f64,
) -> anyhow::Result<Option<f64>> {
    let until = Instant::now() + Duration::from_secs_f64(patience.max(5.0));
    while Instant::now() < until {
        let rows = upstream.ask(&format!("log?entries=1&from={arrived}&limit=1")).await?;
        if let Some(at) = rows[0]["at"].as_f64() {
            return Ok(Some(at - started_at));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(None)
}
