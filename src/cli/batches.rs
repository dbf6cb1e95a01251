//! `results`, `cancel`, `retry` and `list`: batches on a service.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::arguments::Global;
use super::client::{Batch, has_ended};
use super::error::CliError;
use super::exit::Exit;
use super::job::{Written, write_results};
use super::output::Output;
use super::runtimes::Runtimes;
use super::show::{ago, count, table};
use super::table::{Format, Job, Layout, Rows, Survey, TableError};
use super::{print, server, tell};
use crate::config::Environment;

/// Downloads results.
#[derive(Clone, Debug, Args)]
pub struct Results {
    /// The batch
    #[arg(value_name = "ID")]
    pub id: String,
    /// Where they go; written beside and renamed when complete
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How they look; else as the output's extension says, or as JSON lines
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The table that the batch was made from: its columns are kept
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Replaces an output that exists
    #[arg(long)]
    pub force: bool,
}

/// Names a batch.
#[derive(Clone, Debug, Args)]
pub struct Named {
    /// The batch
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Lists batches.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Only batches in this status, such as `in_progress`
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
}

/// Downloads the results that there are.
pub(super) fn results(
    results: &Results,
    global: &Global,
    environment: Environment,
) -> Result<Exit, CliError> {
    let client = server::named_or_usual(global, &environment)?;
    let output = Output::check(results.output.as_deref(), results.force, results.input.as_deref())?;
    let table = results.input.as_deref().map(opened).transpose()?;
    let named = output.path().and_then(Format::of_name);
    let of_input = table.as_ref().map(|(job, _)| job.layout.format);
    let format = results.format.or(named).or(of_input).unwrap_or(Format::Jsonl);
    Runtimes::start()?.block_on(async {
        let batch = client.batch(&results.id).await?;
        let table = table.as_ref().map(|(job, survey)| (job, survey));
        let tally =
            write_results(&client, &[vec![batch.id.clone()]], Written { output: &output, format, table })
                .await?;
        let mut text = format!("{} succeeded, {} did not", count(tally.succeeded), count(tally.failed));
        if let Some(path) = output.path() {
            text.push_str(&format!("; see {}", path.display()));
        }
        if !batch.has_ended() {
            let total = count(batch.request_counts.total);
            text.push_str(&format!(
                "\nit still runs: these are the first of {total}, up to the first that is not done"
            ));
        }
        tell(global, &text);
        Ok(Exit::Success)
    })
}

/// A table that only its columns are wanted of.
fn opened(input: &Path) -> Result<(Job, Survey), CliError> {
    let failed = |error: TableError| CliError::Table { path: input.to_owned(), error };
    let layout = Layout::of(input).map_err(failed)?;
    let columns = Rows::columns_of(input, &layout).map_err(failed)?;
    let job = Job { input: input.to_owned(), layout, recipe: None, limit: None };
    Ok((job, Survey { columns, ..Survey::default() }))
}

/// Ends a batch early.
pub(super) fn cancel(named: &Named, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let client = server::named_or_usual(global, &environment)?;
    let batch = Runtimes::start()?.block_on(client.act(&named.id, "cancel"))?;
    show(global, &batch, &format!("{} {}", text(&batch, "id"), text(&batch, "status")))
}

/// Makes a new batch of what did not succeed.
pub(super) fn retry(named: &Named, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let client = server::named_or_usual(global, &environment)?;
    let batch = Runtimes::start()?.block_on(client.act(&named.id, "retry"))?;
    show(global, &batch, text(&batch, "id"))
}

/// Lists batches, the newest first.
pub(super) fn list(list: &List, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let client = server::named_or_usual(global, &environment)?;
    let status = list.status.as_ref().map(|status| format!("&status={}", super::client::escaped(status)));
    let path = format!("/v1/batches?limit={}{}", list.limit, status.unwrap_or_default());
    let page: Value = Runtimes::start()?.block_on(client.get(&path))?;
    let batches: Vec<Batch> = serde_json::from_value(page["data"].clone()).unwrap_or_default();
    let row = |batch: &Batch| {
        let waits =
            batch.sluicegate.waiting.first().map(|waiting| format!("waits for {}", waiting.described()));
        let about = if has_ended(&batch.status) { None } else { waits };
        vec![
            batch.id.clone(),
            batch.status.clone(),
            format!("{}/{}", count(batch.done()), count(batch.request_counts.total)),
            count(batch.not_succeeded()),
            batch.model.clone().unwrap_or_else(|| "-".to_owned()),
            ago(batch.created_at),
            about.unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = batches.iter().map(row).collect();
    if rows.is_empty() {
        tell(global, "no batches");
    }
    let heading = ["id", "status", "done", "failed", "model", "created", ""];
    let human = if rows.is_empty() { String::new() } else { table(&heading, &rows) };
    show(global, &page, human.trim_end())
}

/// An object as JSON if that was asked for, else what a person reads.
pub(super) fn show(global: &Global, object: &Value, human: &str) -> Result<Exit, CliError> {
    if global.json {
        print(&format!("{object}\n"))?;
    } else if !human.is_empty() {
        print(&format!("{human}\n"))?;
    }
    Ok(Exit::Success)
}

/// A field's text.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or("-")
}
