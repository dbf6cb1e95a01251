//! `--dry-run`: what would be sent, and how long that takes under the limits.

use serde_json::{Value, json};

use super::super::arguments::Global;
use super::super::error::CliError;
use super::super::show::{count, seconds};
use super::super::table::{Job, Survey};
use super::{LimitRow, notes, of_input};
use crate::domain::limits::Dimension;

/// Bytes of text that make a token, about, in the languages that models know best.
const BYTES_PER_TOKEN: u64 = 4;

/// The limit that takes longest, and how long, in seconds.
fn slowest<'a>(survey: &Survey, limits: &'a [LimitRow]) -> Option<(f64, &'a LimitRow)> {
    let (items, input) = (survey.items(), survey.text_bytes.div_ceil(BYTES_PER_TOKEN));
    let output = survey.max_output_tokens.unwrap_or(0);
    let took = limits.iter().map(|limit| {
        let of_models =
            survey.models.iter().filter(|(model, _)| limit.holds_for(model)).map(|(_, items)| items);
        let share = of_models.sum::<u64>() as f64 / items.max(1) as f64;
        let units = match limit.dimension {
            Dimension::Requests => items,
            Dimension::Tokens => input.saturating_add(output),
            Dimension::InputTokens => input,
            Dimension::OutputTokens => output,
        };
        let per_second = limit.rate.amount as f64 / limit.rate.period.as_secs_f64();
        (units as f64 * share / per_second, limit)
    });
    took.filter(|(seconds, _)| *seconds > 0.0).max_by(|(one, _), (other, _)| one.total_cmp(other))
}

/// Says what would be sent; `limits` is `None` where nothing is known of them, with the reason.
///
/// # Errors
/// The input can't be read any more, or standard output can't be written.
pub(in crate::cli) fn dry_run(
    job: &Job,
    survey: &Survey,
    limits: Result<Vec<LimitRow>, String>,
    global: &Global,
) -> Result<(), CliError> {
    let input_tokens = survey.text_bytes.div_ceil(BYTES_PER_TOKEN);
    let first = job.requests().map_err(of_input(job))?.next().transpose().map_err(of_input(job))?;
    let first = first.unwrap_or_default();
    let slowest = limits.as_ref().ok().and_then(|limits| slowest(survey, limits));
    if global.json {
        let first: Value = serde_json::from_slice(&first).unwrap_or_default();
        return super::super::print(&format!(
            "{}\n",
            json!({
                "requests": survey.items(),
                "batches": survey.parts.len(),
                "rows_not_sent": survey.empty_rows,
                "models": survey.models,
                "input_tokens": input_tokens,
                "max_output_tokens": survey.max_output_tokens,
                "seconds": slowest.map(|(seconds, _)| seconds),
                "limited_by": slowest.map(|(_, limit)| limit.described()),
                "first_request": first,
            })
        ));
    }
    let models: Vec<String> =
        survey.models.iter().map(|(model, items)| format!("{} {model}", count(*items))).collect();
    let each = input_tokens.div_ceil(survey.items().max(1));
    let output = match survey.max_output_tokens {
        Some(most) => format!("at most {} tokens", count(most)),
        None => "not bounded: --param max_tokens=N would do so".to_owned(),
    };
    let time = match (&limits, slowest) {
        (Err(reason), _) => reason.clone(),
        (Ok(_), None) => "no rate is configured, so as fast as the provider answers".to_owned(),
        (Ok(_), Some((time, limit))) => format!("about {}, by {}", seconds(time), limit.described()),
    };
    let notes: String = notes(job, survey).iter().map(|note| format!("note      {note}\n")).collect();
    super::super::print(&format!(
        "requests  {} ({})\ninput     about {} tokens, {} a request\noutput    {output}\ntime      {time}\n{notes}\
         first     {}\nNothing was sent.\n",
        count(survey.items()),
        models.join(", "),
        count(input_tokens),
        count(each),
        String::from_utf8_lossy(&first).trim_end(),
    ))
}
