//! `store prune`: what retention would erase, and erasing it now.

use std::fmt::Write as _;

use indicatif::HumanBytes;
use serde_json::json;

use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use super::store_arguments::StorePrune;
use super::{Global, load, print, say, tell};
use crate::app::AppError;
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::domain::quantity::display_duration;
use crate::domain::time::Timestamp;
use crate::logs;
use crate::metrics::Metrics;
use crate::store::{self, DueOfApp, Store, StoreSettings, WorkerSettings};

/// Tells what is due, and erases it unless that is all that was asked.
pub(super) fn store_prune(
    command: &StorePrune,
    global: &Global,
    environment: Environment,
) -> Result<Exit, CliError> {
    let config = load(global, &command.place.overrides()?, environment)?;
    logs::start(&config.log)?;
    let settings = settings(&config);
    let clock = Clock::start();
    let now = clock.now();
    let erased = Runtimes::start()?.block_on(async {
        let due = store::due(&settings, now).await?;
        if !command.dry_run {
            erase(settings, clock, now).await?;
        }
        Ok::<_, CliError>(due)
    })?;
    if global.json {
        let apps: Vec<_> = erased.iter().map(in_json).collect();
        print(&format!("{:#}\n", json!({ "erased": !command.dry_run, "apps": apps })))?;
    } else if !global.quiet {
        print(&table(&erased))?;
    }
    let kept = format!(
        "results are kept for {}, files for {}",
        display_duration(config.retention.results),
        display_duration(config.retention.files)
    );
    let done = match (erased.is_empty(), command.dry_run) {
        (true, _) => "nothing is due",
        (false, true) => "nothing was erased: that is what would be",
        (false, false) => "erased",
    };
    tell(global, &format!("{done}; {kept}"));
    Ok(Exit::Success)
}

fn settings(config: &Config) -> StoreSettings {
    let worker =
        WorkerSettings { name: "store prune".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    StoreSettings {
        location: config.store.location.clone(),
        worker,
        min_free: config.store.min_free.0,
        files_retention: Some(config.retention.files),
        results_retention: Some(config.retention.results),
    }
}

/// Erases everything that is due.
async fn erase(settings: StoreSettings, clock: Clock, now: Timestamp) -> Result<(), CliError> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION")).map_err(AppError::from)?;
    let opened = Store::open(settings, clock, metrics.store().clone()).await;
    let store = opened.map_err(|error| {
        if matches!(error, store::StoreError::InUse(_)) {
            say("a service runs on it, and erases what is due by itself, once a minute; see --dry-run");
        }
        CliError::Store(error)
    })?;
    let mut swept = store.sweep(now).await;
    while matches!(swept, Ok(swept) if swept.more || swept.rows > 0) {
        swept = store.sweep(now).await;
    }
    store.close().await;
    swept.map(|_| ()).map_err(CliError::Store)
}

fn in_json(due: &DueOfApp) -> serde_json::Value {
    let DueOfApp { app, batches, results, result_bytes, files, file_bytes } = due;
    json!({
        "app": app, "batches": batches, "results": results, "result_bytes": result_bytes,
        "files": files, "file_bytes": file_bytes
    })
}

fn table(due: &[DueOfApp]) -> String {
    let width = due.iter().map(|due| due.app.chars().count()).max().unwrap_or(0).max(3);
    let mut table = String::new();
    let mut add = |app: &str, cells: [String; 5]| {
        let _ = write!(table, "{app:<width$}");
        for cell in cells {
            let _ = write!(table, "  {cell:>12}");
        }
        table.push('\n');
    };
    if !due.is_empty() {
        add("app", ["batches", "results", "their bytes", "files", "their bytes"].map(str::to_owned));
    }
    for DueOfApp { app, batches, results, result_bytes, files, file_bytes } in due {
        let bytes = |bytes: &u64| HumanBytes(*bytes).to_string();
        let cells = [batches.to_string(), results.to_string(), bytes(result_bytes)];
        let [batches, results, result_bytes] = cells;
        add(app, [batches, results, result_bytes, files.to_string(), bytes(file_bytes)]);
    }
    table
}
