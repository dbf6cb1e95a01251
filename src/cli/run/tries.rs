//! What is tried: each part of a run as a batch, and then, if that is asked for, what did not succeed of it.

use std::time::Instant;

use serde_json::{Map, json};

use super::super::client::{Batch, Client};
use super::super::error::CliError;
use super::super::exit::Exit;
use super::super::following::{Patience, follow};
use super::super::job::{self, Labels};
use super::super::show::{count, counted};
use super::super::tell;
use super::ending::finish;
use super::{Plan, not_run_before};

/// A part of a run: the batch that it is, then those that tried again what did not succeed, the oldest first.
pub(super) type Part = Vec<Batch>;

/// Sends what was not sent before, waits for all of it, and writes the results.
///
/// # Errors
/// The service refuses or goes away; a file can't be read or written.
pub(super) async fn work(client: &Client, plan: &Plan<'_>, patience: Patience) -> Result<Exit, CliError> {
    let started = Instant::now();
    let mut parts = earlier(client, plan).await?;
    if plan.retry_failed && parts.iter().all(Vec::is_empty) {
        return Err(not_run_before());
    }
    let due: Vec<bool> = parts.iter().map(|part| plan.retry_failed && is_due(part)).collect();
    for (number, part) in parts.iter_mut().enumerate() {
        if part.is_empty() {
            let options = Map::from_iter([("completion_window".to_owned(), json!("7d"))]);
            part.push(job::send(client, &plan.job, (&plan.survey, number), &options).await?);
        } else {
            tell(plan.global, &going_on(part, plan.retry_failed));
        }
    }
    let unfinished = |(tried, batch): &(usize, &mut Batch)| *tried == 0 || !batch.has_ended();
    let going = parts.iter_mut().flat_map(|part| part.iter_mut().enumerate().filter(unfinished));
    follow(client, going.map(|(_, batch)| batch), plan.global, patience).await?;
    let mut retried = Vec::new();
    for (part, _) in parts.iter_mut().zip(due).filter(|(_, due)| *due) {
        retried.extend(retry(client, plan, part).await?);
    }
    follow(client, retried, plan.global, patience).await?;
    finish(client, plan, &parts, started.elapsed().as_secs_f64()).await
}

/// What there is of each part; empty where nothing is.
async fn earlier(client: &Client, plan: &Plan<'_>) -> Result<Vec<Part>, CliError> {
    let mut parts = Vec::with_capacity(plan.survey.parts.len());
    for number in 0..plan.survey.parts.len() {
        let labels = Labels::of(&plan.survey, number);
        parts.push(if plan.again { Vec::new() } else { client.find(&labels.pairs()).await? });
    }
    Ok(parts)
}

/// Whether what failed of a part before is to be tried again: not where a retry is under way, which is the one that is
/// asked for.
fn is_due(part: &Part) -> bool {
    part.len() == 1 || part.last().is_some_and(Batch::has_ended)
}

/// What is said of a part that is there already.
fn going_on(part: &Part, retry_failed: bool) -> String {
    let (Some(first), Some(last)) = (part.first(), part.last()) else { return String::new() };
    let all = counted(first.request_counts.total, "request");
    if !last.has_ended() {
        let (done, total) = (count(last.done()), count(last.request_counts.total));
        return format!("going on with {} ({done} of {total} done)", last.id);
    }
    match last.status.as_str() {
        _ if retry_failed && last.not_succeeded() == 0 => {
            format!("this was run before ({all}), and nothing of it is left to be tried again")
        }
        "completed" if retry_failed => format!("this was run before ({all})"),
        "completed" => format!("this was run before ({all}); --again runs it anew"),
        status if retry_failed => format!("the earlier run ({}) {status}", last.id),
        status => {
            format!("the earlier run ({}) {status}: --retry-failed runs what it left, --again all", last.id)
        }
    }
}

/// Tries again what did not succeed of a part, if anything did not.
async fn retry<'a>(
    client: &Client,
    plan: &Plan<'_>,
    part: &'a mut Part,
) -> Result<Option<&'a mut Batch>, CliError> {
    let Some(last) = part.last().filter(|last| last.not_succeeded() > 0) else { return Ok(None) };
    let failed = counted(last.not_succeeded(), "request");
    let batch: Batch = client.act(&last.id, "retry").await.map_err(|error| match error {
        // The requests were erased meanwhile; the file that they come from is here.
        CliError::Refused { status: 404, message } => {
            CliError::Use(format!("what failed can't be tried again: {message} --again runs all of it"))
        }
        error => error,
    })?;
    tell(plan.global, &format!("trying {failed} again ({})", batch.id));
    part.push(batch);
    Ok(part.last_mut())
}
