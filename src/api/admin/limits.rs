//! An app's limits as JSON: the words and values of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::limits::{Limits, Rate};
use crate::domain::quantity::{QuantityError, display_rate, parse_rate, rate};

use super::super::error::{ApiError, Result};
use super::super::fields::{WholeNumber, unknown, wrong_type};

const FIELDS: [&str; 7] =
    ["max_concurrent", "requests", "tokens", "input_tokens", "output_tokens", "burst", "day_starts"];
/// What a bare number is per.
const PERIOD: Duration = Duration::from_mins(1);

/// An app's limits; null: not limited here.
#[derive(Debug, Serialize)]
pub(crate) struct LimitsView {
    max_concurrent: Option<u32>,
    requests: Option<Vec<String>>,
    tokens: Option<Vec<String>>,
    input_tokens: Option<Vec<String>>,
    output_tokens: Option<Vec<String>>,
    burst: Option<u32>,
    day_starts: Option<String>,
}

impl LimitsView {
    pub(super) fn new(limits: &Limits) -> Self {
        let Limits {
            max_concurrent, requests, tokens, input_tokens, output_tokens, burst, day_starts, ..
        } = limits;
        let shown = |rates: &[Rate]| {
            (!rates.is_empty()).then(|| rates.iter().map(|rate| display_rate(*rate)).collect())
        };
        Self {
            max_concurrent: *max_concurrent,
            requests: shown(requests),
            tokens: shown(tokens),
            input_tokens: shown(input_tokens),
            output_tokens: shown(output_tokens),
            burst: *burst,
            day_starts: day_starts.map(|seconds| format!("{:02}:{:02}", seconds / 3_600, seconds / 60 % 60)),
        }
    }
}

/// Reads `limits`.
///
/// # Errors
/// 400 that names the field, such as `limits.requests`.
pub(super) fn read_limits(value: &RawValue) -> Result<Limits> {
    let fields: BTreeMap<String, Value> =
        serde_json::from_str(value.get()).map_err(|_| wrong_type("limits", "an object", value))?;
    let mut limits = Limits::default();
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "max_concurrent" => limits.max_concurrent = Some(count(&name, &value)?),
            "requests" => limits.requests = rates(&name, &value)?,
            "tokens" => limits.tokens = rates(&name, &value)?,
            "input_tokens" => limits.input_tokens = rates(&name, &value)?,
            "output_tokens" => limits.output_tokens = rates(&name, &value)?,
            "burst" => limits.burst = Some(count(&name, &value)?),
            "day_starts" => limits.day_starts = Some(time_of_day(&name, &value)?),
            other => return Err(unknown(other, &FIELDS)),
        }
    }
    Ok(limits)
}

fn refused(name: &str, expected: &str) -> ApiError {
    let param = format!("limits.{name}");
    let why = format!("Invalid '{param}': expected {expected}.");
    ApiError::invalid(&param, why)
}

fn count(name: &str, value: &Value) -> Result<u32> {
    let count = whole(value).and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
    count.ok_or_else(|| refused(name, "a whole number of at least 1"))
}

fn whole(value: &Value) -> Option<u64> {
    let number = WholeNumber::deserialize(value).ok()?;
    u64::try_from(number.0).ok()
}

fn rates(name: &str, value: &Value) -> Result<Vec<Rate>> {
    let read = |value: &Value| {
        let read = match (whole(value), value.as_str()) {
            (Some(amount), _) => rate(amount, PERIOD),
            (None, Some(text)) => parse_rate(text, PERIOD),
            (None, None) => Err(QuantityError::Rate),
        };
        read.map_err(|error| refused(name, &error.to_string()))
    };
    match value {
        Value::Array(values) => values.iter().map(read).collect(),
        single => Ok(vec![read(single)?]),
    }
}

fn time_of_day(name: &str, value: &Value) -> Result<u32> {
    let read = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes) = (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok()?);
        (hours < 24 && minutes < 60 && text.len() == 5).then_some(hours * 3_600 + minutes * 60)
    };
    let seconds = value.as_str().and_then(read);
    seconds.ok_or_else(|| refused(name, "a time of day in UTC such as \"07:00\""))
}
