//! `run`: from a file to a file, without a server unless one is named.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use super::arguments::{Global, Run};
use super::client::{Batch, Client};
use super::error::CliError;
use super::exit::Exit;
use super::following::{Patience, follow};
use super::interrupts::Interrupts;
use super::job::{self, Labels, Written, write_results};
use super::output::Output;
use super::runtimes::Runtimes;
use super::show::{count, counted, seconds};
use super::table::{Format, Job, PartLimits, Survey, Tally};
use super::{say, server, tell};
use crate::app::App;
use crate::config::{Config, Environment, Override, StoreLocation};
use crate::logs;

/// What is to be done, with everything checked that can be before anything is sent.
struct Plan<'a> {
    job: Job,
    survey: Survey,
    output: Output,
    format: Format,
    again: bool,
    global: &'a Global,
}

/// Runs the requests of a file and writes their results in its order.
pub(super) fn run(run: &Run, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let input = Some(run.job.input.as_path());
    let output =
        if run.dry_run { Output::Standard } else { Output::check(run.output.as_deref(), run.force, input)? };
    match server::named(global, &environment)? {
        Some(client) => {
            let limits = job::batch_limits(global, &environment)?;
            let job = job::job(&run.job, job::endpoint_by_name)?;
            on_server(&client, run, plan(run, global, (job, limits), output)?)
        }
        None => {
            let config = load(global, environment)?;
            let job = job::job(&run.job, |model| job::endpoint_by_configuration(&config, model))?;
            let limits = job::part_limits(&config.batches);
            embedded(config, run, plan(run, global, (job, limits), output)?)
        }
    }
}

fn plan<'a>(
    run: &Run,
    global: &'a Global,
    (job, limits): (Job, PartLimits),
    output: Output,
) -> Result<Plan<'a>, CliError> {
    let survey = job.survey(&limits).map_err(job::of_input(&job))?;
    let named = output.path().and_then(Format::of_name);
    let format = run.format.or(named).unwrap_or(job.layout.format);
    if !run.dry_run {
        for note in job::notes(&job, &survey) {
            tell(global, &format!("note: {note}"));
        }
    }
    Ok(Plan { job, survey, output, format, again: run.again, global })
}

fn on_server(client: &Client, run: &Run, plan: Plan<'_>) -> Result<Exit, CliError> {
    let runtimes = Runtimes::start()?;
    runtimes.block_on(async {
        if run.dry_run {
            let limits = job::told(client).await.map_err(|error| format!("unknown: {error}"));
            job::dry_run(&plan.job, &plan.survey, limits, plan.global)?;
            return Ok(Exit::Success);
        }
        let mut interrupts = Interrupts::listen()?;
        let patience = Patience { away: super::watch::AWAY, ends_without_key: false };
        tokio::select! {
            done = work(client, &plan, patience) => done,
            () = interrupts.next() => {
                say(&format!(
                    "\nleft; what {} has goes on there (`sluicegate list` shows it), and the same command waits for it again",
                    client.base()
                ));
                Ok(Exit::Interrupted)
            }
        }
    })
}

/// The configuration of an engine of this process's own.
fn load(global: &Global, environment: Environment) -> Result<Config, CliError> {
    let set = |key: &str, value: &str| Override {
        flag: "run".to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let own = [
        set("store.url", "sqlite:./sluicegate-run.db"),
        set("server.listen", "127.0.0.1:0"),
        // A configuration made for `serve` may ask for keys; here there is one caller, this process.
        set("server.admin_listen", ""),
        set("auth.mode", "none"),
        set("log.level", "error"),
    ];
    super::load(global, &own, environment)
}

/// Runs with an engine of its own, whose state lies beside the input: a folder for each run, so that an earlier one
/// that was given up does not go on beside this one.
fn embedded(mut config: Config, run: &Run, plan: Plan<'_>) -> Result<Exit, CliError> {
    if run.dry_run {
        let limits = if config.providers.is_empty() {
            Err("unknown: no provider is configured".to_owned())
        } else {
            Ok(job::configured(&config, plan.survey.models.keys().map(String::as_str)))
        };
        job::dry_run(&plan.job, &plan.survey, limits, plan.global)?;
        return Ok(Exit::Success);
    }
    config.require_provider()?;
    let folder = state_folder(&plan.job.input, &plan.survey.fingerprint);
    config.store.location = StoreLocation::Sqlite(folder.join("store.db"));
    logs::start(&config.log)?;
    let runtimes = Runtimes::start()?;
    let done = runtimes.block_on(engine(config, &plan, runtimes.attempts()));
    // What a service holds back for a full disk is not worth 64 MiB for each run that is kept; the next start makes it
    // anew.
    let _ = std::fs::remove_file(folder.join("ballast"));
    if let Err(CliError::Local { .. } | CliError::Output(_)) = &done {
        tell(plan.global, &format!("nothing is lost: the same command goes on with {}", folder.display()));
    }
    done
}

async fn engine(config: Config, plan: &Plan<'_>, attempts: Handle) -> Result<Exit, CliError> {
    let mut interrupts = Interrupts::listen()?;
    let app = App::start(config, None, attempts).await?;
    let client = Client::new(&format!("http://{}", app.address), None)?;
    let patience = Patience { away: std::time::Duration::ZERO, ends_without_key: true };
    let done = tokio::select! {
        done = work(&client, plan, patience) => Some(done),
        () = interrupts.next() => None,
    };
    if done.is_none() {
        say(
            "\nending: calls that are under way are finished first; Ctrl-C again ends at once. Nothing is lost: the \
             same command goes on from here",
        );
    }
    tokio::select! {
        () = app.stop() => {}
        () = interrupts.next() => return Ok(Exit::Interrupted),
    }
    done.unwrap_or(Ok(Exit::Interrupted))
}

fn state_folder(input: &Path, fingerprint: &str) -> PathBuf {
    let mut folder: OsString = input.to_owned().into_os_string();
    folder.push(".sluicegate");
    PathBuf::from(folder).join(fingerprint)
}

async fn work(client: &Client, plan: &Plan<'_>, patience: Patience) -> Result<Exit, CliError> {
    let started = std::time::Instant::now();
    let mut batches = Vec::with_capacity(plan.survey.parts.len());
    for part in 0..plan.survey.parts.len() {
        let labels = Labels::of(&plan.survey, part);
        let known = if plan.again { None } else { client.find(&labels.pairs()).await? };
        batches.push(match known.filter(|batch| batch.status != "failed") {
            Some(batch) => going_on(batch, plan),
            None => {
                let options = Map::from_iter([("completion_window".to_owned(), json!("7d"))]);
                job::send(client, &plan.job, (&plan.survey, part), &options).await?
            }
        });
    }
    follow(client, &mut batches, plan.global, patience).await?;
    finish(client, plan, &batches, started.elapsed().as_secs_f64()).await
}

fn going_on(batch: Batch, plan: &Plan<'_>) -> Batch {
    let (done, total) = (batch.done(), batch.request_counts.total);
    let text = match batch.status.as_str() {
        "completed" => format!("this was run before ({}); --again runs it anew", counted(total, "request")),
        "expired" | "cancelled" => {
            format!("the earlier run ({}) {}: --again runs it anew", batch.id, batch.status)
        }
        _ => format!("going on with {} ({} of {} done)", batch.id, count(done), count(total)),
    };
    tell(plan.global, &text);
    batch
}

async fn finish(client: &Client, plan: &Plan<'_>, batches: &[Batch], took: f64) -> Result<Exit, CliError> {
    let mut refused = false;
    for batch in batches.iter().filter(|batch| batch.status == "failed") {
        tell_problems(batch);
        refused = true;
    }
    if refused {
        return Ok(Exit::BatchNotCompleted);
    }
    let ids: Vec<&str> = batches.iter().map(|batch| batch.id.as_str()).collect();
    let table = plan.job.recipe.is_some().then_some((&plan.job, &plan.survey));
    let written = Written { output: &plan.output, format: plan.format, table };
    let tally = write_results(client, &ids, written).await?;
    tell_end(plan, &tally, took);
    if plan.global.json {
        let Tally { succeeded, failed, skipped, .. } = &tally;
        let statuses: Vec<&str> = batches.iter().map(|batch| batch.status.as_str()).collect();
        super::print(&format!(
            "{}\n",
            json!({
                "batch": ids.first(), "batches": ids, "status": statuses.first(),
                "succeeded": succeeded, "failed": failed, "not_sent": skipped,
                "output": plan.output.path().map(|path| Value::from(path.to_string_lossy())),
            })
        ))?;
    }
    Ok(super::watch::exit_of(batches))
}

/// What is wrong with the lines of a batch that was refused.
pub(super) fn tell_problems(batch: &Batch) {
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
        tell(plan.global, &format!("  {failure}"));
    }
    let more = tally.failed.saturating_sub(tally.failures.len() as u64);
    if more > 0 {
        tell(plan.global, &format!("  and {} more", count(more)));
    }
}
