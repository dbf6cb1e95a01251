//! One line: read once, borrowed, and only as far as the service needs it.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::depth::{MAX_DEPTH, is_too_deep};
use super::problems::Fault;
use crate::domain::endpoint::Endpoint;

/// Longest `custom_id`, in bytes.
const MAX_CUSTOM_ID: usize = 512;
/// Longest model name, in bytes.
const MAX_MODEL: usize = 256;

/// A line that can be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    pub(super) custom_id: Cow<'a, str>,
    pub(super) endpoint: Endpoint,
    /// Empty where the body names none.
    pub(super) model: Cow<'a, str>,
    /// Where the body stands in the line.
    pub(super) body: Range<usize>,
}

/// A line that can't; its `custom_id` where it could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) custom_id: Option<String>,
    pub(super) fault: Fault,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    custom_id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
    #[serde(borrow)]
    background: Option<&'a RawValue>,
}

/// Reads a line without its terminator.
pub(super) fn read(line: &[u8]) -> Result<Envelope<'_>, Unreadable> {
    let unreadable = |fault| Unreadable { custom_id: None, fault };
    let text = std::str::from_utf8(line)
        .map_err(|error| unreadable(Fault::not_json(format!("not UTF-8, {error}"))))?;
    let parsed: Line<'_> =
        serde_json::from_str(text).map_err(|error| unreadable(line_fault(text, &error)))?;
    // An array of the fields' values in their order would be read as well.
    if !is_object(text) {
        return Err(unreadable(Fault::not_an_object()));
    }
    let custom_id = custom_id(parsed.custom_id).map_err(unreadable)?;
    match rest(line, &parsed) {
        Ok((endpoint, model, body)) => Ok(Envelope { custom_id, endpoint, model, body }),
        Err(fault) => Err(Unreadable { custom_id: Some(custom_id.into_owned()), fault }),
    }
}

type Rest<'a> = (Endpoint, Cow<'a, str>, Range<usize>);

fn rest<'a>(line: &[u8], parsed: &Line<'a>) -> Result<Rest<'a>, Fault> {
    if is_too_deep(line) {
        return Err(Fault::not_json(format!("it nests deeper than {MAX_DEPTH} levels")));
    }
    let method = text_of(parsed.method, "method")?;
    if method != "POST" {
        return Err(Fault::new(
            "invalid_method",
            "method",
            format!("Invalid method '{}': only POST is supported.", shown(&method)),
        ));
    }
    let url = text_of(parsed.url, "url")?;
    let endpoint = Endpoint::from_path(&url).ok_or_else(|| {
        let known = Endpoint::ALL.map(Endpoint::path).join(", ");
        Fault::new("invalid_url", "url", format!("The URL '{}' is not one of {known}.", shown(&url)))
    })?;
    let body = parsed.body.ok_or_else(|| Fault::missing("body"))?;
    if !body.get().starts_with('{') {
        return Err(Fault::new("invalid_type", "body", "Invalid type for 'body': expected an object."));
    }
    let fields: Body<'_> = serde_json::from_str(body.get()).map_err(|error| json_fault(&error))?;
    let model = model_of(&fields)?;
    // The body is a part of the line: serde_json lends raw values from its input.
    let start = body.get().as_ptr() as usize - line.as_ptr() as usize;
    Ok((endpoint, model, start..start + body.get().len()))
}

fn model_of<'a>(fields: &Body<'a>) -> Result<Cow<'a, str>, Fault> {
    if fields.stream.is_some_and(|stream| stream.get() == "true") {
        let message = "Streaming is not supported in a batch; leave 'stream' out.";
        return Err(Fault::new("streaming_unsupported", "body.stream", message));
    }
    if fields.background.is_some_and(|background| background.get() == "true") {
        let message = "Background responses are not supported in a batch; leave 'background' out.";
        return Err(Fault::new("invalid_request", "body.background", message));
    }
    let Some(model) = fields.model else {
        return Ok(Cow::Borrowed(""));
    };
    model_name(model, "body.model")
}

/// A model's name that a batch may have; it is shown in metrics, logs and terminals.
pub(super) fn model_name<'a>(model: &'a RawValue, param: &'static str) -> Result<Cow<'a, str>, Fault> {
    let wrong_type =
        || Fault::new("invalid_type", param, format!("Invalid type for '{param}': expected a string."));
    let model = string(model).ok_or_else(wrong_type)?;
    if model.is_empty() || model.len() > MAX_MODEL || model.chars().any(char::is_control) {
        let message = format!("'{param}' must have 1 to {MAX_MODEL} bytes and no control characters.");
        return Err(Fault::new("invalid_value", param, message));
    }
    Ok(model)
}

fn custom_id(raw: Option<&RawValue>) -> Result<Cow<'_, str>, Fault> {
    let raw = raw.ok_or_else(|| Fault::missing("custom_id"))?;
    let id = string(raw).ok_or_else(|| {
        Fault::new("invalid_type", "custom_id", "Invalid type for 'custom_id': expected a string.")
    })?;
    if id.is_empty() || id.len() > MAX_CUSTOM_ID || id.chars().any(char::is_control) {
        let message = format!("'custom_id' must have 1 to {MAX_CUSTOM_ID} bytes and no control characters.");
        return Err(Fault::new("invalid_value", "custom_id", message));
    }
    Ok(id)
}

fn text_of<'a>(raw: Option<&'a RawValue>, param: &'static str) -> Result<Cow<'a, str>, Fault> {
    let raw = raw.ok_or_else(|| Fault::missing(param))?;
    let wrong =
        || Fault::new("invalid_type", param, format!("Invalid type for '{param}': expected a string."));
    string(raw).ok_or_else(wrong)
}

/// A JSON string, borrowed where it has no escapes.
pub(super) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Whether a text that is JSON is an object.
fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}

/// Why a line could not be read: it is JSON of another kind, or none.
fn line_fault(line: &str, error: &serde_json::Error) -> Fault {
    let is_other = !is_object(line) && serde_json::from_str::<IgnoredAny>(line).is_ok();
    if is_other { Fault::not_an_object() } else { json_fault(error) }
}

fn json_fault(error: &serde_json::Error) -> Fault {
    // To the parser every line is line 1, whichever of the file it is.
    let place = format!(" at line {} column {}", error.line(), error.column());
    Fault::not_json(error.to_string().replace(&place, &format!(" at column {}", error.column())))
}

fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(100).collect()
}
