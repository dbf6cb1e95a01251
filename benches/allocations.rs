//! Allocations per item of the service, counted by its allocator.
//!
//! The service runs in a process of its own, whose allocator counts; the upstream and the client in others.
//!
//! ```text
//! cargo bench --bench allocations -- --items 20000
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use sluicegate::app::App;
use sluicegate::config::{Config, Sources};

use harness::api::Api;
use harness::input::Input;
use harness::process::Process;
use harness::say;
use harness::upstream::Upstream;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// The variable through which this executable is told to be the service.
const CONFIG_VARIABLE: &str = "BENCH_SERVICE_CONFIG";

/// Allocations per item.
#[derive(Debug, Parser)]
struct Arguments {
    /// Items of the run
    #[arg(long, default_value_t = 20_000)]
    items: usize,
    /// Bytes of a request's body
    #[arg(long, default_value_t = 1_024)]
    body: usize,
    /// Calls in flight
    #[arg(long, default_value_t = 256)]
    in_flight: u32,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the allocator has handed out so far.
#[derive(Clone, Copy, Debug)]
struct Handed {
    blocks: u64,
    bytes: u64,
}

fn main() -> anyhow::Result<()> {
    if harness::upstream::serve_if_asked()? {
        return Ok(());
    }
    if let Ok(config) = std::env::var(CONFIG_VARIABLE) {
        return count(Path::new(&config));
    }
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(&arguments))
}

/// Is the service; tells what was handed out whenever a line comes in.
fn count(config: &Path) -> anyhow::Result<()> {
    let _profiler = dhat::Profiler::builder().testing().build();
    let read_file = |path: &Path| std::fs::read_to_string(path);
    let config = Config::load(&Sources {
        file: Some(config.to_owned()),
        environment: Default::default(),
        overrides: Vec::new(),
        read_file: &read_file,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _app = runtime.block_on(App::start(config, None, runtime.handle().clone()))?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let stats = dhat::HeapStats::get();
        say(format!("{} {}", stats.total_blocks, stats.total_bytes));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The service in its process.
struct Counted {
    _process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Counted {
    fn start(config: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env_clear().env(CONFIG_VARIABLE, config).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let input = process.take_input().context("the service's input")?;
        let output = BufReader::new(process.take_output().context("the service's output")?);
        Ok(Self { _process: process, input, output })
    }

    fn handed(&mut self) -> anyhow::Result<Handed> {
        writeln!(self.input, "?")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let mut numbers = line.split_whitespace().map(str::parse);
        let (Some(Ok(blocks)), Some(Ok(bytes))) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("the service said `{line}`");
        };
        Ok(Handed { blocks, bytes })
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let input = Input::chat(arguments.items, "bench", arguments.body);
    let upstream = Upstream::start("latency = \"0ms\"\nanswer_bytes = 700\nlog = \"counts\"\n")?;
    let folder = tempfile::tempdir()?;
    let (config, address) = configure(folder.path(), &upstream, arguments.in_flight)?;
    let mut service = Counted::start(&config)?;
    // The first answer comes once it has started.
    let idle = service.handed()?;
    let api = Api::of(address)?;
    let file = api.upload(input.file.clone()).await?;
    let uploaded = service.handed()?;
    let batch = api.create(&file).await?;
    // Seldom, since each look allocates as well.
    let batch = api.ended(&batch, Duration::from_millis(500), Duration::from_secs(600)).await?;
    let ended = service.handed()?;
    anyhow::ensure!(
        batch["request_counts"]["completed"] == input.items(),
        "not every item succeeded: {batch}"
    );
    show("upload", idle, uploaded, input.items());
    show("run", uploaded, ended, input.items());
    Ok(())
}

fn configure(folder: &Path, upstream: &Upstream, in_flight: u32) -> anyhow::Result<(PathBuf, SocketAddr)> {
    // Asked for and given back: the next process to bind it is the service.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let path = folder.join("sluicegate.toml");
    let text = format!(
        "server.listen = \"{address}\"\nstore.url = \"sqlite:{}\"\n[providers.bench]\nbase_url = \"{}\"\n\
         limits.max_concurrent = {in_flight}\n[[providers.bench.lanes]]\nmatch = \"bench\"\n\
         limits.max_concurrent = {in_flight}\n",
        folder.join("store.db").display(),
        upstream.base_url(),
    );
    std::fs::write(&path, text)?;
    Ok((path, address))
}

fn show(what: &str, before: Handed, after: Handed, items: usize) {
    let per_item = |count: u64| count as f64 / items as f64;
    say(format!(
        "{what:<7} {:>7.1} allocations/item   {:>8.0} B/item",
        per_item(after.blocks - before.blocks),
        per_item(after.bytes - before.bytes),
    ));
}
