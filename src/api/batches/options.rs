//! What a create says of the batch, beside its lines.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::domain::batch::{BatchOptions, OnError, OnInvalid};
use crate::domain::endpoint::Endpoint;
use crate::domain::quantity::parse_duration;
use crate::ingest::Defaults;

use super::super::error::{ApiError, Refusal, Result};
use super::super::fields::{Fields, WholeNumber, wrong_type};
use super::super::query::not_one_of;

/// Every field of a create, the two that name its lines first.
///
/// What is reserved for later is unknown until then.
pub(crate) const FIELDS: [&str; 14] = [
    "input_file_id",
    "requests",
    "endpoint",
    "completion_window",
    "metadata",
    "output_expires_after",
    "defaults",
    "max_concurrency",
    "on_error",
    "on_invalid",
    "request_timeout",
    "max_attempts",
    "priority",
    "require_on_time",
];

/// Higher first.
pub(crate) const PRIORITY: RangeInclusive<i32> = -100..=100;
/// Items of one batch in flight.
pub(crate) const MAX_CONCURRENCY: RangeInclusive<u32> = 1..=100_000;
const MAX_ATTEMPTS: RangeInclusive<u32> = 1..=100;
const REQUEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 86_400);
const DEFAULT_WINDOW: (&str, Duration) = ("24h", Duration::from_secs(86_400));
/// `OpenAI`'s limits of labels: pairs, characters of a key, characters of a value.
const MAX_METADATA: (usize, usize, usize) = (16, 64, 512);
/// Bytes of `defaults`, which stand in every batch object.
const MAX_DEFAULTS: usize = 256 << 10;
/// `OpenAI`'s range of an output file's lifetime, in seconds.
const OUTPUT_LIFETIME: RangeInclusive<u64> = 3_600..=2_592_000;

/// A create's fields, its lines left out.
#[derive(Debug)]
pub(crate) struct Asked {
    /// `None`: lines differ.
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) completion_window: String,
    pub(crate) window: Duration,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) options: BatchOptions,
    /// The model that `defaults` give to lines without one.
    pub(crate) defaults_model: Option<String>,
}

impl Asked {
    /// Takes every field but the lines'.
    ///
    /// # Errors
    /// 400 for the first field that can't be used.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self> {
        let endpoint = endpoint(fields)?;
        let (completion_window, window) =
            completion_window(fields)?.unwrap_or_else(|| (DEFAULT_WINDOW.0.to_owned(), DEFAULT_WINDOW.1));
        let metadata = metadata(fields)?.unwrap_or_default();
        let defaults = fields.raw("defaults");
        let defaults_model = defaults.map(defaults_model).transpose()?.flatten();
        let options = BatchOptions {
            max_concurrency: number(fields, "max_concurrency", MAX_CONCURRENCY)?,
            on_error: word(fields, "on_error", &ON_ERROR)?,
            on_invalid: word(fields, "on_invalid", &ON_INVALID)?,
            request_timeout_ms: request_timeout(fields)?,
            max_attempts: number(fields, "max_attempts", MAX_ATTEMPTS)?,
            priority: number(fields, "priority", PRIORITY)?.unwrap_or(0),
            require_on_time: fields.take("require_on_time", "a boolean")?.unwrap_or(false),
            paused: false,
            defaults: defaults.map(ToOwned::to_owned),
            output_expires_after: output_expires_after(fields)?,
            retry_of: None,
        };
        Ok(Self { endpoint, completion_window, window, metadata, options, defaults_model })
    }
}

const ON_ERROR: [(&str, OnError); 2] = [("continue", OnError::Continue), ("fail_fast", OnError::FailFast)];
const ON_INVALID: [(&str, OnInvalid); 2] =
    [("fail_batch", OnInvalid::FailBatch), ("fail_item", OnInvalid::FailItem)];

/// The endpoint must be there: an explicit null says that lines differ.
fn endpoint(fields: &mut Fields<'_>) -> Result<Option<Endpoint>> {
    let Some(path) = fields.required::<Option<String>>("endpoint", "a string or null")? else {
        return Ok(None);
    };
    let known = Endpoint::from_path(&path);
    let refused = || not_one_of("endpoint", &path, Endpoint::ALL.iter().map(|endpoint| endpoint.path()));
    known.map(Some).ok_or_else(refused)
}

/// The completion window as written, and its length.
pub(crate) fn completion_window(fields: &mut Fields<'_>) -> Result<Option<(String, Duration)>> {
    let Some(text) = fields.take::<String>("completion_window", "a string")? else { return Ok(None) };
    let window = duration("completion_window", &text, WINDOW, "1s and 366d")?;
    Ok(Some((text.trim().to_owned(), window)))
}

fn request_timeout(fields: &mut Fields<'_>) -> Result<Option<u64>> {
    let Some(text) = fields.take::<String>("request_timeout", "a string")? else { return Ok(None) };
    let timeout = duration("request_timeout", &text, REQUEST_TIMEOUT, "1ms and 24h")?;
    Ok(u64::try_from(timeout.as_millis()).ok())
}

fn duration(name: &str, text: &str, range: RangeInclusive<Duration>, between: &str) -> Result<Duration> {
    let given: String = text.chars().take(100).collect();
    let refused = |expected: String| {
        ApiError::invalid(name, format!("Invalid value for '{name}': '{given}'. Expected {expected}."))
    };
    let duration = parse_duration(text).map_err(|error| refused(error.to_string()))?;
    if range.contains(&duration) {
        Ok(duration)
    } else {
        Err(refused(format!("a duration between {between}")))
    }
}

/// Labels; null takes them all away.
pub(crate) fn metadata(fields: &mut Fields<'_>) -> Result<Option<Vec<(String, String)>>> {
    let given = fields.nullable::<BTreeMap<String, Box<RawValue>>>("metadata", "an object or null")?;
    let Some(given) = given.map(Option::unwrap_or_default) else { return Ok(None) };
    let (most_pairs, longest_key, longest_value) = MAX_METADATA;
    if given.len() > most_pairs {
        let why = format!("Invalid 'metadata': at most {most_pairs} pairs are allowed.");
        return Err(ApiError::invalid("metadata", why));
    }
    let mut pairs = Vec::with_capacity(given.len());
    for (key, raw) in given {
        let name = format!("metadata.{}", key.chars().take(longest_key).collect::<String>());
        let value: String =
            serde_json::from_str(raw.get()).map_err(|_| wrong_type(&name, "a string", &raw))?;
        if key.chars().count() > longest_key || value.chars().count() > longest_value {
            let why = format!(
                "Invalid '{name}': a key has at most {longest_key} characters, a value {longest_value}."
            );
            return Err(ApiError::invalid(&name, why));
        }
        pairs.push((key, value));
    }
    Ok(Some(pairs))
}

fn defaults_model(defaults: &RawValue) -> Result<Option<String>> {
    if !defaults.get().starts_with('{') {
        return Err(wrong_type("defaults", "an object", defaults));
    }
    if defaults.get().len() > MAX_DEFAULTS {
        let why = format!(
            "'defaults' is longer than {MAX_DEFAULTS} bytes; put what is long into the bodies of the requests."
        );
        return Err(ApiError::invalid("defaults", why));
    }
    let read = Defaults::parse(defaults).map_err(|fault| {
        let param = fault.param.map_or_else(|| "defaults".to_owned(), |param| format!("defaults.{param}"));
        ApiError::invalid(&param, fault.message)
    })?;
    Ok(read.model().map(str::to_owned))
}

fn output_expires_after(fields: &mut Fields<'_>) -> Result<Option<u64>> {
    let (name, anchor, seconds) =
        ("output_expires_after", "output_expires_after.anchor", "output_expires_after.seconds");
    let Some(given) = fields.raw(name) else { return Ok(None) };
    if !given.get().starts_with('{') {
        return Err(wrong_type(name, "an object with 'anchor' and 'seconds'", given));
    }
    let mut parts = Fields::parse(given.get().as_bytes())?;
    if part::<String>(&mut parts, anchor, "a string")? != "created_at" {
        let why = "Invalid value. Supported values are: 'created_at'.";
        return Err(ApiError::invalid(anchor, why));
    }
    let given = part::<WholeNumber>(&mut parts, seconds, "a whole number")?;
    let given = u64::try_from(given.0).ok().filter(|given| OUTPUT_LIFETIME.contains(given));
    given.map(Some).ok_or_else(|| {
        let why = format!("Invalid '{seconds}': it must be from 3600 to 2592000.");
        ApiError::invalid(seconds, why)
    })
}

/// A field that an object within the body must have; `name` is its path from the outermost one.
fn part<T: DeserializeOwned>(parts: &mut Fields<'_>, name: &str, expected: &str) -> Result<T> {
    let own = name.rsplit('.').next().unwrap_or(name);
    let given = parts.raw(own).ok_or_else(|| ApiError::missing(name))?;
    serde_json::from_str(given.get()).map_err(|_| wrong_type(name, expected, given))
}

fn word<T: Copy + Default>(fields: &mut Fields<'_>, name: &str, words: &[(&str, T)]) -> Result<T> {
    let Some(given) = fields.take::<String>(name, "a string")? else { return Ok(T::default()) };
    let found = words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value);
    found.ok_or_else(|| not_one_of(name, &given, words.iter().map(|(word, _)| *word)))
}

fn number<T>(fields: &mut Fields<'_>, name: &str, range: RangeInclusive<T>) -> Result<Option<T>>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    let given = fields.take::<WholeNumber>(name, "a whole number")?;
    given.map(|value| within(name, value.0, range)).transpose()
}

/// The number, if it lies in the range.
///
/// # Errors
/// 400 `invalid_value` that tells the range.
pub(crate) fn within<T>(name: &str, value: i64, range: RangeInclusive<T>) -> Result<T>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    let found = T::try_from(value).ok().filter(|value| range.contains(value));
    found.ok_or_else(|| {
        let why = format!("Invalid '{name}': it must be from {} to {}.", range.start(), range.end());
        ApiError::new(Refusal::InvalidValue, why).param(name)
    })
}
