//! From a file and flags to batches, and from their results to a file: what `run` and `submit` share.

mod arguments;
mod estimate;
mod latest;
mod limit_rows;
mod sending;
mod writing;

use std::path::Path;

use serde_json::{Map, Value};

pub use self::arguments::JobArguments;
pub(super) use self::estimate::dry_run;
pub(super) use self::limit_rows::{LimitRow, configured, told};
pub(super) use self::sending::{Labels, send};
pub(super) use self::writing::{Written, write_results};

use super::arguments::Global;
use super::error::CliError;
use super::show::{count, counted};
use super::table::{Format, Job, Layout, PartLimits, Recipe, RecipeParts, Survey, TableError, Template};
use crate::config::{Batches, Config, Environment, Kind};
use crate::domain::endpoint::Endpoint;

/// Says what a table's error is about.
pub(super) fn of_input(job: &Job) -> impl Fn(TableError) -> CliError + use<> {
    let path = job.input.clone();
    move |error| CliError::Table { path: path.clone(), error }
}

/// What the flags ask for. `endpoint_of` chooses what is called for a model where no flag does.
pub(super) fn job(arguments: &JobArguments, endpoint_of: impl Fn(&str) -> Endpoint) -> Result<Job, CliError> {
    let input = arguments.input.clone();
    must_be_file(&input)?;
    let layout = Layout::of(&input).map_err(|error| CliError::Table { path: input.clone(), error })?;
    let recipe = arguments.prompt()?.map(|prompt| recipe(arguments, &prompt, endpoint_of)).transpose()?;
    if recipe.is_none() && layout.format == Format::Csv {
        return Err(CliError::Use(format!(
            "{} is a table: say what is to be asked of each row, with --prompt 'Describe {{{{name}}}} in one line' \
             and --model NAME (or name a file of requests, .jsonl, \
             {{\"custom_id\": …, \"method\": \"POST\", \"url\": …, \"body\": …}} a line)",
            input.display()
        )));
    }
    Ok(Job { input, layout, recipe, limit: arguments.limit })
}

/// An input is read several times, which what comes from a pipe can't be.
fn must_be_file(input: &Path) -> Result<(), CliError> {
    let flows = match std::fs::metadata(input) {
        Ok(found) => !found.is_file() && !found.is_dir(),
        Err(_) => input == Path::new("-"),
    };
    if flows {
        let name = input.display();
        return Err(CliError::Use(format!(
            "{name}: the input is read several times: save it in a file first"
        )));
    }
    Ok(())
}

fn recipe(
    arguments: &JobArguments,
    prompt: &str,
    endpoint_of: impl Fn(&str) -> Endpoint,
) -> Result<Recipe, CliError> {
    let template = |flag: &str, text: &str| {
        Template::parse(text).map_err(|message| CliError::Use(format!("{flag}: {message}")))
    };
    let Some(model) = arguments.model.clone() else {
        return Err(CliError::Use("--prompt needs --model NAME: who is asked?".to_owned()));
    };
    let params: Map<String, Value> = arguments.param.iter().cloned().collect();
    let parts = RecipeParts {
        prompt: template("--prompt", prompt)?,
        system: arguments.system.as_deref().map(|system| template("--system", system)).transpose()?,
        endpoint: arguments.endpoint.unwrap_or_else(|| endpoint_of(&model)),
        model,
        params,
    };
    Recipe::new(parts).map_err(CliError::Use)
}

/// What a model is asked through where the configuration is known: Anthropic's own endpoint at Anthropic.
pub(super) fn endpoint_by_configuration(config: &Config, model: &str) -> Endpoint {
    match config.route(model).first() {
        Some(candidate) if candidate.provider.kind == Kind::Anthropic => Endpoint::Messages,
        _ => Endpoint::ChatCompletions,
    }
}

/// What a model is asked through on a service whose configuration is not known: by its name.
pub(super) fn endpoint_by_name(model: &str) -> Endpoint {
    if model.starts_with("claude") { Endpoint::Messages } else { Endpoint::ChatCompletions }
}

/// How large a batch may be on a service: its configuration is not known, so the usual, unless the same is set here.
pub(super) fn batch_limits(global: &Global, environment: &Environment) -> Result<PartLimits, CliError> {
    if global.set.is_empty() && global.config.is_none() {
        return Ok(part_limits(&Batches::default()));
    }
    Ok(part_limits(&super::load(global, &[], environment.clone())?.batches))
}

/// How large a batch may be.
pub(super) fn part_limits(batches: &Batches) -> PartLimits {
    PartLimits { items: batches.max_items.get().into(), bytes: batches.max_file.0 }
}

/// Tells of what a person may not expect in the input.
pub(super) fn notes(job: &Job, survey: &Survey) -> Vec<String> {
    let mut notes = Vec::new();
    let line =
        |line: Option<u64>| line.map(|line| format!(" (the first on line {line})")).unwrap_or_default();
    if survey.short_rows > 0 {
        let rows = counted(survey.short_rows, "row");
        notes.push(format!(
            "{rows} with cells missing at the end{}: taken as empty",
            line(survey.first_short)
        ));
    }
    if survey.empty_rows > 0 {
        let rows = counted(survey.empty_rows, "row");
        let place = line(survey.first_empty);
        notes.push(format!("{rows} with nothing in the columns that the prompt names{place}: not sent"));
    }
    if survey.parts.len() > 1 {
        let parts = survey.parts.len() as u64;
        notes.push(format!("{} are sent as {} batches", counted(survey.items(), "request"), count(parts)));
    }
    if job.limit.is_some() {
        notes.push(format!("only the first {}", counted(survey.items(), "request")));
    }
    notes
}
