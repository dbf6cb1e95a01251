//! `run`: one batch from a file to a file, without a server unless one is named.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;

use super::arguments::{Global, Run};
use super::client::{Batch, Client};
use super::error::CliError;
use super::exit::Exit;
use super::progress::follow;
use super::runtimes::Runtimes;
use super::say;
use crate::app::App;
use crate::config::{Environment, Override};
use crate::logs;

/// Runs the input's lines and writes their results in input order.
pub(super) fn run(run: &Run, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let server = global.url.clone().or_else(|| environment.get("SLUICEGATE_URL").map(str::to_owned));
    let key = api_key(global, &environment)?;
    let runtimes = Runtimes::start()?;
    let attempts = runtimes.attempts();
    let outcome = async {
        match server {
            Some(url) => work(&Client::new(&url, key)?, run, global).await,
            None => embedded(run, global, environment, attempts).await,
        }
    };
    runtimes.block_on(async {
        tokio::select! {
            done = outcome => done,
            // What is recorded stays: the same command goes on from there.
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        }
    })
}

fn api_key(global: &Global, environment: &Environment) -> Result<Option<String>, CliError> {
    let Some(path) = &global.api_key_file else {
        return Ok(environment.get("SLUICEGATE_API_KEY").map(str::to_owned));
    };
    let key = std::fs::read_to_string(path).map_err(|error| CliError::Local { path: path.clone(), error })?;
    Ok(Some(key.trim().to_owned()))
}

/// Runs with an engine of its own, whose state lies beside the input.
async fn embedded(
    run: &Run,
    global: &Global,
    environment: Environment,
    attempts: Handle,
) -> Result<Exit, CliError> {
    if !run.input.is_file() {
        let error = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(CliError::Local { path: run.input.clone(), error });
    }
    let mut folder: OsString = run.input.clone().into_os_string();
    folder.push(".sluicegate");
    let store = format!("sqlite:{}", PathBuf::from(folder).join("store.db").display());
    let set = |key: &str, value: &str| Override {
        flag: "run".to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let own = [
        set("store.url", &store),
        set("server.listen", "127.0.0.1:0"),
        // A configuration made for `serve` may ask for keys; here there is one caller, this process.
        set("server.admin_listen", ""),
        set("auth.mode", "none"),
        set("log.level", "warn"),
    ];
    let config = super::load(global, &own, environment)?;
    config.require_provider()?;
    logs::start(&config.log)?;
    let app = App::start(config, None, attempts).await?;
    let client = Client::new(&format!("http://{}", app.address), None)?;
    let done = work(&client, run, global).await;
    app.stop().await;
    done
}

async fn work(client: &Client, run: &Run, global: &Global) -> Result<Exit, CliError> {
    let key = fingerprint(&run.input).await?;
    let name = run.input.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let batch = match client.find(&key).await? {
        Some(batch) => {
            super::tell(
                global,
                &format!(
                    "going on with {} ({} of {} done)",
                    batch.id,
                    batch.done(),
                    batch.request_counts.total
                ),
            );
            batch
        }
        None => {
            let local = |error| CliError::Local { path: run.input.clone(), error };
            let file = tokio::fs::File::open(&run.input).await.map_err(local)?;
            let file = client.upload(&name, reqwest::Body::from(file)).await?;
            let body = json!({
                "input_file_id": file,
                "endpoint": null,
                "completion_window": "7d",
                "metadata": { RUN: key },
            });
            client.create(&body, Some(&key)).await?
        }
    };
    let batch = follow(client, batch, global).await?;
    finish(client, &batch, run, global).await
}

/// The metadata key that `run` finds its batch by.
pub(super) const RUN: &str = "sluicegate_run";

async fn finish(client: &Client, batch: &Batch, run: &Run, global: &Global) -> Result<Exit, CliError> {
    for problem in batch.errors.iter().flat_map(|errors| &errors.data).take(20) {
        let line = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        say(&format!("{line}{} ({})", problem.message, problem.code.as_deref().unwrap_or("error")));
    }
    if batch.status == "failed" {
        return Ok(Exit::BatchNotCompleted);
    }
    let counts = &batch.sluicegate.counts;
    match &run.output {
        Some(path) => {
            let lines = client.download(&batch.id, path).await?;
            super::tell(global, &format!("{lines} results in {}", path.display()));
        }
        None => super::print(
            &client.text(&format!("/v1/batches/{}/results?order=input&limit=10000", batch.id)).await?,
        )?,
    }
    if global.json {
        super::print(&format!(
            "{}\n",
            json!({"batch": batch.id, "status": batch.status, "succeeded": counts.succeeded, "failed": counts.failed})
        ))?;
    }
    Ok(match batch.status.as_str() {
        "completed" if counts.failed == 0 => Exit::Success,
        "completed" => Exit::SomeFailed,
        _ => Exit::BatchNotCompleted,
    })
}

/// A hash of the input: the same file goes on, a changed one starts anew.
async fn fingerprint(path: &Path) -> Result<String, CliError> {
    let local = |error| CliError::Local { path: path.to_owned(), error };
    let mut file = tokio::fs::File::open(path).await.map_err(local)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 256 * 1024]);
    loop {
        let read = file.read(&mut buffer).await.map_err(local)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}
