//! `store copy`: moves a store from a file of this machine to a PostgreSQL server.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;

use super::arguments::{Global, StoreCopy};
use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use super::{load, print, say};
use crate::config::{Environment, StoreLocation};
use crate::logs;
use crate::store::copy::{self, CopyReport, CopySettings, CopyStep};

/// Copies the store and checks the copy.
pub(super) fn store_copy(
    command: &StoreCopy,
    global: &Global,
    environment: Environment,
) -> Result<Exit, CliError> {
    let config = load(global, &command.overrides()?, environment)?;
    let StoreLocation::Postgres { url, schema, .. } = config.store.location else {
        return Err(CliError::NoDestination);
    };
    logs::start(&config.log)?;
    let settings = CopySettings { from: command.from.clone(), url, schema };
    let shown = Shown::new(global);
    let mut tell = |step: CopyStep<'_>| shown.tell(step);
    let copied = Runtimes::start()?.block_on(async {
        tokio::select! {
            copied = copy::copy(&settings, &mut tell) => Some(copied),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // What was copied stays: the same command goes on from there.
    let Some(copied) = copied else { return Ok(Exit::Interrupted) };
    let report = copied?;
    shown.end();
    if global.json {
        print(&format!("{:#}\n", in_json(&report, &settings)))?;
    } else if !global.quiet {
        let rows: u64 = report.tables.iter().map(|(_, tally)| tally.rows).sum();
        say(&format!(
            "copied {rows} rows in {} tables; the schema {} is ready for a service",
            report.tables.len(),
            settings.schema
        ));
    }
    Ok(Exit::Success)
}

fn in_json(report: &CopyReport, settings: &CopySettings) -> serde_json::Value {
    let table = |(name, tally): &(String, copy::Tally)| {
        let told = json!({ "rows": tally.rows, "sha256": tally.hex() });
        (name.clone(), told)
    };
    let tables: serde_json::Map<_, _> = report.tables.iter().map(table).collect();
    json!({ "schema": settings.schema, "resumed": report.resumed, "tables": tables })
}

/// How far it is: one line that moves on a terminal, else a line for each table.
struct Shown {
    bar: Option<ProgressBar>,
    lines: bool,
}

impl Shown {
    fn new(global: &Global) -> Self {
        let silent = global.quiet || global.json;
        let bar = !silent && !global.no_progress && std::io::stderr().is_terminal();
        let bar = bar.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, lines: !silent }
    }

    fn tell(&self, step: CopyStep<'_>) {
        let line = match step {
            CopyStep::Copying { table, rows } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("{table}: {rows} rows"));
                }
                return;
            }
            CopyStep::Resumed => "going on with a copy that was interrupted".to_owned(),
            CopyStep::Copied { table, rows } => format!("copied {table}: {rows} rows"),
            CopyStep::Checked { table, tally } => format!("checked {table}: {tally}"),
        };
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.lines => say(&line),
            None => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
