//! How a run ends: its results are written, and what became of them is said.

use serde_json::{Value, json};

use super::super::client::{Batch, Client};
use super::super::error::CliError;
use super::super::exit::Exit;
use super::super::job::{Written, write_results};
use super::super::show::{count, one_line, seconds};
use super::super::table::Tally;
use super::super::{print, say, tell};
use super::Plan;
use super::tries::Part;

/// Writes the results of all parts, which have ended.
pub(super) async fn finish(
    client: &Client,
    plan: &Plan<'_>,
    parts: &[Part],
    took: f64,
) -> Result<Exit, CliError> {
    let mut refused = parts.iter().flatten().filter(|batch| batch.status == "failed").peekable();
    if refused.peek().is_some() {
        refused.for_each(tell_problems);
        return Ok(Exit::BatchNotCompleted);
    }
    let ids = |part: &Part| part.iter().map(|batch| batch.id.clone()).collect();
    let ids: Vec<Vec<String>> = parts.iter().map(ids).collect();
    let table = plan.job.recipe.is_some().then_some((&plan.job, &plan.survey));
    let written = Written { output: &plan.output, format: plan.format, table };
    let tally = write_results(client, &ids, written).await?;
    tell_end(plan, &tally, took);
    let mut statuses = parts.iter().filter_map(|part| Some(part.last()?.status.as_str()));
    if plan.global.json {
        let Tally { succeeded, failed, skipped, .. } = &tally;
        let first: Vec<&String> = ids.iter().filter_map(|part| part.first()).collect();
        let retries: Vec<&String> = ids.iter().flat_map(|part| part.iter().skip(1)).collect();
        print(&format!(
            "{}\n",
            json!({
                "batch": first.first(), "batches": first, "retries": retries, "status": statuses.clone().next(),
                "succeeded": succeeded, "failed": failed, "not_sent": skipped,
                "output": plan.output.path().map(|path| Value::from(path.to_string_lossy())),
            })
        ))?;
    }
    Ok(if statuses.any(|status| status != "completed") {
        Exit::BatchNotCompleted
    } else if tally.failed > 0 {
        Exit::SomeFailed
    } else {
        Exit::Success
    })
}

/// What is wrong with the lines of a batch that was refused.
pub(in crate::cli) fn tell_problems(batch: &Batch) {
    const MOST: usize = 20;
    let problems = batch.errors.iter().flat_map(|errors| &errors.data);
    for problem in problems.clone().take(MOST) {
        let line = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        say(&format!("{line}{} ({})", problem.message, problem.code.as_deref().unwrap_or("error")));
    }
    let more = problems.count().saturating_sub(MOST);
    if more > 0 {
        say(&format!("and {more} more"));
    }
}

fn tell_end(plan: &Plan<'_>, tally: &Tally, took: f64) {
    let mut text = format!("{} succeeded", count(tally.succeeded));
    if tally.failed > 0 {
        text.push_str(&format!(", {} did not", count(tally.failed)));
    }
    if tally.skipped > 0 {
        text.push_str(&format!(", {} not sent", count(tally.skipped)));
    }
    text.push_str(&format!(", in {}", seconds(took)));
    if let Some(path) = plan.output.path() {
        text.push_str(&format!("; see {}", path.display()));
    }
    tell(plan.global, &text);
    for failure in &tally.failures {
        tell(plan.global, &format!("  {}", one_line(failure)));
    }
    let more = tally.failed.saturating_sub(tally.failures.len() as u64);
    if more > 0 {
        tell(plan.global, &format!("  and {} more", count(more)));
    }
    if tally.failed > 0 {
        let these = if tally.failed == 1 { "this one" } else { "these" };
        tell(plan.global, &format!("the same command with --retry-failed tries just {these} again"));
    }
}
