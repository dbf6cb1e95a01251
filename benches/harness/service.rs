//! The service in a process of its own.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::api::Api;
use super::process::Process;

/// How long a service may take to be ready; a restart over a large store included.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// One provider in the service's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    /// Its name, and that of its only model.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) base_url: String,
    /// Calls in flight at once.
    pub(crate) max_concurrent: u32,
    /// Its rates, such as `600/min`.
    pub(crate) requests: Vec<String>,
}

impl Provider {
    /// The only one of a service, without a rate.
    pub(crate) fn only(base_url: String, max_concurrent: u32) -> Self {
        Self { name: "bench".to_owned(), base_url, max_concurrent, requests: Vec::new() }
    }
}

/// What `store check` found.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// Nothing is wrong.
    pub(crate) is_whole: bool,
    /// What is wrong, and what was looked at.
    pub(crate) said: String,
}

/// A place on disk and in the network where a service runs, dies and runs again.
#[derive(Debug)]
pub(crate) struct Service {
    folder: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
    /// What is run.
    pub(crate) program: OsString,
}

impl Service {
    /// Writes the configuration; nothing runs yet.
    pub(crate) fn prepare(folder: &Path, providers: &[Provider]) -> anyhow::Result<Self> {
        Self::configure(folder, &tables(providers)?)
    }

    /// The same with the providers' tables written out.
    pub(crate) fn configure(folder: &Path, providers: &str) -> anyhow::Result<Self> {
        let store = format!("sqlite:{}", folder.join("store.db").display());
        Self::write(folder, &store, providers)
    }

    /// The same with the providers' tables written out, after whatever keys of the top they begin with.
    pub(crate) fn configure_on(folder: &Path, store: &str, providers: &str) -> anyhow::Result<Self> {
        Self::write(folder, store, providers)
    }

    /// The same with the store at a URL.
    pub(crate) fn prepare_on(folder: &Path, store: &str, providers: &[Provider]) -> anyhow::Result<Self> {
        Self::write(folder, store, &tables(providers)?)
    }

    fn write(folder: &Path, store: &str, providers: &str) -> anyhow::Result<Self> {
        // Asked for and given back: the next process to bind it is the service.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let text = format!(
            "server.listen = \"{address}\"\nstore.url = \"{store}\"\nlog.level = \"warn\"\n{providers}"
        );
        std::fs::write(folder.join("sluicegate.toml"), text)?;
        Ok(Self { folder: folder.to_owned(), address, process: None, program: program() })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.join("store.db")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("log"))?)
    }

    /// Starts the process, without waiting for it to be ready.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--config").arg(self.folder.join("sluicegate.toml"));
        // Nothing of the caller's environment: a key there would become a provider.
        command
            .env_clear()
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.process = Some(Process::start(&mut command)?);
        Ok(())
    }

    /// Starts it and returns once it is ready.
    pub(crate) async fn start_ready(&mut self) -> anyhow::Result<Api> {
        self.start()?;
        self.ready().await
    }

    /// Returns once it is ready.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<Api> {
        let api = Api::of(self.address)?;
        let started = Instant::now();
        while !api.is_ready().await {
            let process = self.process.as_mut().context("it was not started")?;
            if process.has_ended()? || started.elapsed() > READY_WITHIN {
                anyhow::bail!(
                    "the service is not ready; {}",
                    std::fs::read_to_string(self.folder.join("log"))?
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(api)
    }

    /// Its process.
    pub(crate) fn process_id(&self) -> anyhow::Result<u32> {
        Ok(self.process.as_ref().context("the service does not run")?.id())
    }

    /// Looks at its store with `store check`.
    pub(crate) fn check_store(&self) -> anyhow::Result<Checked> {
        let store = format!("sqlite:{}", self.store().display());
        let checked = Command::new(&self.program).args(["store", "check", "--store", &store]).output()?;
        let said = [checked.stdout, checked.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(Checked { is_whole: checked.status.success(), said: said.concat() })
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the service does not run")?.kill()
    }
}

/// The program that is measured: the one built with the benchmark, unless another one is named.
fn program() -> OsString {
    std::env::var_os("BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_sluicegate").into())
}

/// The providers' tables in the configuration.
fn tables(providers: &[Provider]) -> anyhow::Result<String> {
    let mut text = String::new();
    for Provider { name, base_url, max_concurrent, requests } in providers {
        write!(
            text,
            "[providers.{name}]\nbase_url = \"{base_url}\"\nlimits.max_concurrent = {max_concurrent}\n\
             limits.requests = {requests:?}\n[[providers.{name}.lanes]]\nmatch = \"{name}\"\n\
             limits.max_concurrent = {max_concurrent}\n"
        )?;
    }
    Ok(text)
}
