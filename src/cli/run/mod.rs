//! `run`: from a file to a file, without a server unless one is named.

mod ending;
mod tries;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

pub(super) use self::ending::tell_problems;

use self::tries::work;

use super::arguments::{Global, Run};
use super::client::Client;
use super::error::CliError;
use super::exit::Exit;
use super::following::Patience;
use super::interrupts::{Interrupts, tell_of_interrupt};
use super::job;
use super::output::Output;
use super::runtimes::Runtimes;
use super::table::{Format, Job, PartLimits, Survey};
use super::{server, tell};
use crate::app::{App, AppError};
use crate::config::{Config, Environment, Override, StoreLocation};
use crate::logs;
use crate::store::StoreError;

/// What is to be done, with everything checked that can be before anything is sent.
struct Plan<'a> {
    job: Job,
    survey: Survey,
    output: Output,
    format: Format,
    again: bool,
    retry_failed: bool,
    global: &'a Global,
}

/// What `--retry-failed` has nothing to do with.
fn not_run_before() -> CliError {
    CliError::Use(
        "nothing was run before with this input and these flags, so nothing failed: run it without --retry-failed"
            .to_owned(),
    )
}

/// Runs the requests of a file and writes their results in its order.
pub(super) fn run(run: &Run, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let input = Some(run.job.input.as_path());
    // An output of the run before is what is to be mended.
    let replaces = run.force || run.retry_failed;
    let output =
        if run.dry_run { Output::Standard } else { Output::check(run.output.as_deref(), replaces, input)? };
    if global.json && !run.dry_run && output == Output::Standard {
        let message = "with --json standard output is for how it ended: name a file for the results, with -o";
        return Err(CliError::Use(message.to_owned()));
    }
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
    Ok(Plan { job, survey, output, format, again: run.again, retry_failed: run.retry_failed, global })
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
                tell_of_interrupt(&format!(
                    "left; what {} has goes on there (`sluicegate list` shows it), and the same command waits for it again",
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
    let database = folder.join("store.db");
    if plan.retry_failed && !database.exists() {
        return Err(not_run_before());
    }
    config.store.location = StoreLocation::Sqlite(database);
    logs::start(&config.log)?;
    let runtimes = Runtimes::start()?;
    let done = runtimes.block_on(engine(config, &plan, runtimes.attempts()));
    // What a service holds back for a full disk is not worth 64 MiB for each run that is kept; the next start makes it
    // anew.
    let _ = std::fs::remove_file(folder.join("ballast"));
    if let Err(error @ (CliError::Local { .. } | CliError::Output(_))) = &done
        && !error.is_left_by_reader()
    {
        tell(plan.global, &format!("nothing is lost: the same command goes on with {}", folder.display()));
    }
    done
}

async fn engine(config: Config, plan: &Plan<'_>, attempts: Handle) -> Result<Exit, CliError> {
    let mut interrupts = Interrupts::listen()?;
    let app = App::start(config, None, attempts).await.map_err(of_state)?;
    let client = Client::new(&format!("http://{}", app.address), None)?;
    let patience = Patience { away: std::time::Duration::ZERO, ends_without_key: true };
    let done = tokio::select! {
        done = work(&client, plan, patience) => Some(done),
        () = interrupts.next() => None,
    };
    if done.is_none() {
        tell_of_interrupt(
            "ending: calls that are under way are finished first; Ctrl-C again ends at once. Nothing is lost: the \
             same command goes on from here",
        );
    }
    tokio::select! {
        () = app.stop() => {}
        () = interrupts.next() => {
            tell_of_interrupt("ended at once: the calls that were under way are made again when this goes on");
            return Ok(Exit::Interrupted);
        }
    }
    done.unwrap_or(Ok(Exit::Interrupted))
}

/// Of the errors of a start, those of the folder are a matter of this command's own files.
fn of_state(error: AppError) -> CliError {
    match error {
        AppError::Store(error @ (StoreError::InUse(_) | StoreError::Unavailable(_))) => {
            CliError::State(error)
        }
        error => CliError::App(error),
    }
}

fn state_folder(input: &Path, fingerprint: &str) -> PathBuf {
    let mut folder: OsString = input.to_owned().into_os_string();
    folder.push(".sluicegate");
    PathBuf::from(folder).join(fingerprint)
}
