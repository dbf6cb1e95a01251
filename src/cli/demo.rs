//! `demo`: the whole service against a scripted provider, on this machine alone, in under half a minute.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::arguments::{Demo, Global};
use super::client::{Batch, Client};
use super::error::CliError;
use super::exit::Exit;
use super::following::{Patience, follow};
use super::runtimes::Runtimes;
use super::say;
use crate::app::App;
use crate::config::{Config, Environment, Sources};
use crate::demo::upstream::{Running, Script, ScriptedUpstream};
use crate::logs;

/// Items of the demo's batch.
const ITEMS: usize = 500;
/// The budget that the demo configures, per minute, and what its provider enforces: 40 a second.
const PER_MINUTE: u32 = 2_400;

/// Runs the demo; `--keep` leaves everything running.
pub(super) fn demo(demo: &Demo, global: &Global) -> Result<Exit, CliError> {
    let folder = tempfile_folder()?;
    let runtimes = Runtimes::start()?;
    let done = runtimes.block_on(async {
        tokio::select! {
            done = show(demo, global, &folder, runtimes.attempts()) => done,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        }
    });
    let _ = std::fs::remove_dir_all(&folder);
    done
}

fn tempfile_folder() -> Result<std::path::PathBuf, CliError> {
    let folder = std::env::temp_dir().join(format!("sluicegate-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| CliError::Local { path: folder.clone(), error })?;
    Ok(folder)
}

async fn show(
    demo: &Demo,
    global: &Global,
    folder: &std::path::Path,
    attempts: Handle,
) -> Result<Exit, CliError> {
    let provider = ScriptedUpstream::start(script()?).await.map_err(CliError::Output)?;
    let config = config(&provider, folder)?;
    logs::start(&config.log)?;
    let app = App::start(config, None, attempts).await?;
    let url = format!("http://{}", app.address);
    say(&format!(
        "A scripted provider listens on {}, limited to {PER_MINUTE} requests a minute.",
        provider.addr()
    ));
    say(&format!("Sluicegate listens on {url}, with one budget of {PER_MINUTE} a minute.\n"));

    let client = Client::new(&url, None)?;
    let started = Instant::now();
    let file = client.upload("demo.jsonl", lines().into()).await?;
    let body = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let mut batch = client.create(&body, None).await?;
    say(&format!("POST /v1/files, POST /v1/batches: {} with {ITEMS} items.", batch.id));
    let patience = Patience { away: Duration::ZERO, ends_without_key: true };
    follow(&client, [&mut batch], global, patience).await?;
    report(&client, &batch, &provider, started.elapsed()).await?;
    say(&format!("\nWhile it runs: {url}/v1/batches/{}/results  {url}/metrics", batch.id));
    if demo.keep {
        say("Still running; end it with Ctrl-C.");
        std::future::pending::<()>().await;
    }
    app.stop().await;
    provider.shutdown().await;
    let all = batch.sluicegate.counts.succeeded == ITEMS as u64;
    Ok(if all { Exit::Success } else { Exit::SomeFailed })
}

async fn report(client: &Client, batch: &Batch, provider: &Running, took: Duration) -> Result<(), CliError> {
    say("\nThe first answers:");
    let first = client.text(&format!("/v1/batches/{}/results?order=input&limit=3", batch.id)).await?;
    for line in first.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let text = line["response"]["body"]["choices"][0]["message"]["content"].as_str().unwrap_or("-");
        say(&format!("  {}: {text}", line["custom_id"].as_str().unwrap_or("-")));
    }
    let details = &batch.sluicegate;
    let seconds = took.as_secs_f64();
    let refused = provider.log().answered.get(&429).copied().unwrap_or(0);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    say(&format!(
        "\nsuccess rate   {:.1} %\nitems/s        {:.1}\nitem seconds   mean {}, min {}, max {}\nbudget used    {:.1} %\n429s           {refused}",
        details.success_rate.unwrap_or(0.0) * 100.0,
        ITEMS as f64 / seconds,
        number(details.item_seconds.mean),
        number(details.item_seconds.min),
        number(details.item_seconds.max),
        ITEMS as f64 / seconds * 60.0 / f64::from(PER_MINUTE) * 100.0,
    ));
    Ok(())
}

fn script() -> Result<Script, CliError> {
    let script = format!(
        "latency = \"50ms..450ms\"\nmodels = [\"demo-small\"]\n[[limits]]\nlaw = \"bucket\"\nlimit = {PER_MINUTE}\nperiod = \"60s\"\nenforce = true\n"
    );
    toml::from_str(&script).map_err(|error| CliError::Output(std::io::Error::other(error)))
}

fn config(provider: &Running, folder: &std::path::Path) -> Result<Config, CliError> {
    let settings = [
        ("SERVER__LISTEN", "127.0.0.1:0".to_owned()),
        ("STORE__URL", format!("sqlite:{}", folder.join("store.db").display())),
        ("STORE__MIN_FREE", "64MiB".to_owned()),
        ("LOG__LEVEL", "warn".to_owned()),
        ("LIMITS__REQUESTS", format!("{PER_MINUTE}/min")),
    ];
    let ours = settings.into_iter().map(|(key, value)| (format!("SLUICEGATE__{key}"), value));
    let base_url = ("OPENAI_BASE_URL".to_owned(), provider.base_url());
    let environment: Environment = ours.chain([base_url]).collect();
    let read_file = |_: &std::path::Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    let sources = Sources { file: None, environment, overrides: Vec::new(), read_file: &read_file };
    Ok(Config::load(&sources)?)
}

fn lines() -> String {
    let subjects = ["a lock", "a sluice", "a weir", "a canal", "a mill race"];
    let mut lines = String::new();
    for item in 0..ITEMS {
        let prompt =
            format!("[[id=demo-{item:03}]] Describe {} in one line.", subjects[item % subjects.len()]);
        let body = json!({"model": "demo-small", "messages": [{"role": "user", "content": prompt}]});
        let line = json!({"custom_id": format!("demo-{item:03}"), "method": "POST", "url": "/v1/chat/completions", "body": body});
        lines.push_str(&format!("{line}\n"));
    }
    lines
}
