//! `watch` and `submit`: batches on a service, followed to their end.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::arguments::Global;
use super::client::{Batch, Client};
use super::error::CliError;
use super::exit::Exit;
use super::following::{Patience, follow};
use super::interrupts::{Interrupts, tell_of_interrupt};
use super::job::{self, JobArguments};
use super::run::tell_problems;
use super::runtimes::Runtimes;
use super::show::{count, counted, seconds};
use super::{print, server, tell};
use crate::config::Environment;
use crate::domain::quantity::parse_duration;

/// How long a service may be away before who follows one of its batches gives up.
pub(super) const AWAY: Duration = Duration::from_mins(10);

/// Makes a batch on a service.
#[derive(Clone, Debug, Args)]
pub struct Submit {
    /// What is asked.
    #[command(flatten)]
    pub job: JobArguments,
    /// Waits until it has ended; the exit code tells how
    #[arg(long)]
    pub wait: bool,
    /// What has not run by then ends as expired
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub window: String,
    /// From -100 to 100, higher first
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,
    /// Most calls of it at once
    #[arg(long, value_name = "N")]
    pub max_concurrency: Option<u32>,
    /// Ends it at the first request that fails
    #[arg(long)]
    pub fail_fast: bool,
    /// A label, such as `team=search`; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
}

/// Follows a batch.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// The batch
    #[arg(value_name = "ID")]
    pub id: String,
    /// How long the service may be away
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub away: Duration,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, such as team=search".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Makes a batch, or several if one can't hold the input, and prints their ids.
pub(super) fn submit(submit: &Submit, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let client = server::named_or_usual(global, &environment)?;
    let job = job::job(&submit.job, job::endpoint_by_name)?;
    let survey = job.survey(&job::batch_limits(global, &environment)?).map_err(job::of_input(&job))?;
    for note in job::notes(&job, &survey) {
        tell(global, &format!("note: {note}"));
    }
    let options = submit.options();
    Runtimes::start()?.block_on(async {
        let mut batches = Vec::with_capacity(survey.parts.len());
        for part in 0..survey.parts.len() {
            let batch = job::send(&client, &job, (&survey, part), &options).await?;
            if !global.json {
                print(&format!("{}\n", batch.id))?;
            }
            batches.push(batch);
        }
        if global.json {
            let ids: Vec<&str> = batches.iter().map(|batch| batch.id.as_str()).collect();
            print(&format!("{}\n", json!({ "id": ids.first(), "ids": ids, "requests": survey.items() })))?;
        }
        if submit.wait {
            return until_ended(&client, batches, global, AWAY).await;
        }
        let refused = batches.iter().any(|batch| batch.status == "failed");
        if !refused {
            let requests = counted(survey.items(), "request");
            tell(global, &format!("{requests} taken; `sluicegate watch ID` follows the batch"));
        }
        batches.iter().for_each(tell_problems);
        Ok(if refused { Exit::BatchNotCompleted } else { Exit::Success })
    })
}

impl Submit {
    /// The fields of the new batch beside its input.
    fn options(&self) -> Map<String, Value> {
        let labels: Map<String, Value> =
            self.label.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let mut options = Map::from_iter([
            ("completion_window".to_owned(), json!(self.window)),
            ("metadata".to_owned(), Value::Object(labels)),
        ]);
        let given = [
            ("priority", self.priority.map(Value::from)),
            ("max_concurrency", self.max_concurrency.map(Value::from)),
            ("on_error", self.fail_fast.then(|| "fail_fast".into())),
        ];
        for (name, value) in given {
            options.extend(value.map(|value| (name.to_owned(), value)));
        }
        options
    }
}

/// Follows a batch to its end.
pub(super) fn watch(watch: &Watch, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let client = server::named_or_usual(global, &environment)?;
    Runtimes::start()?.block_on(async {
        let batch = client.batch(&watch.id).await?;
        until_ended(&client, vec![batch], global, watch.away).await
    })
}

async fn until_ended(
    client: &Client,
    mut batches: Vec<Batch>,
    global: &Global,
    away: Duration,
) -> Result<Exit, CliError> {
    let mut interrupts = Interrupts::listen()?;
    let patience = Patience { away, ends_without_key: false };
    tokio::select! {
        followed = follow(client, &mut batches, global, patience) => followed?,
        () = interrupts.next() => {
            tell_of_interrupt("left; the batch goes on (`sluicegate cancel ID` would end it)");
            return Ok(Exit::Interrupted);
        }
    }
    for batch in &batches {
        tell_problems(batch);
        if global.json {
            let whole: Value = client.get(&format!("/v1/batches/{}", batch.id)).await?;
            print(&format!("{whole}\n"))?;
        } else {
            tell(global, &ending(batch));
            if batch.not_succeeded() > 0 {
                tell(global, &format!("`sluicegate retry {}` tries again what did not succeed", batch.id));
            }
        }
    }
    Ok(exit_of(&batches))
}

/// How a batch ended, in a line.
fn ending(batch: &Batch) -> String {
    let counts = &batch.sluicegate.counts;
    let mut text = format!("{} {}: {} succeeded", batch.id, batch.status, count(counts.succeeded));
    for (number, what) in
        [(counts.failed, "failed"), (counts.expired, "expired"), (counts.cancelled, "cancelled")]
    {
        if number > 0 {
            text.push_str(&format!(", {} {what}", count(number)));
        }
    }
    if let Some(mean) = batch.sluicegate.item_seconds.mean {
        text.push_str(&format!("; {} a request", seconds(mean)));
    }
    if let Some(usage) = batch.usage {
        let (input, output) = (count(usage.input_tokens), count(usage.output_tokens));
        text.push_str(&format!("; {input} tokens in, {output} out"));
    }
    text
}

/// The exit code that tells how batches ended.
pub(super) fn exit_of(batches: &[Batch]) -> Exit {
    if batches.iter().any(|batch| batch.status != "completed") {
        Exit::BatchNotCompleted
    } else if batches.iter().any(|batch| batch.not_succeeded() > 0) {
        Exit::SomeFailed
    } else {
        Exit::Success
    }
}
