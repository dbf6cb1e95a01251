//! A line of results as a person reads it.

use serde::Deserialize;
use serde_json::Value;

use super::answer_text::text_of;
use super::error::TableError;

/// What became of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Answer {
    /// The request's name.
    pub(in crate::cli) custom_id: String,
    /// `succeeded`, `failed`, `expired` or `cancelled`.
    pub(in crate::cli) status: &'static str,
    /// What the model said; empty unless it succeeded.
    pub(in crate::cli) text: String,
    /// Why it did not succeed; empty if it did.
    pub(in crate::cli) error: String,
    /// Tokens read, if the provider told.
    pub(in crate::cli) input_tokens: Option<u64>,
    /// Tokens written, if the provider told.
    pub(in crate::cli) output_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Line {
    custom_id: Option<String>,
    response: Option<Response>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Response {
    status_code: u16,
    body: Value,
}

#[derive(Deserialize)]
struct Failure {
    code: String,
    message: String,
}

impl Answer {
    /// Reads a line of results.
    ///
    /// # Errors
    /// It is none.
    pub(in crate::cli) fn read(line: &[u8]) -> Result<Self, TableError> {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| TableError::whole(format!("the service's results can't be read: {error}")))?;
        let custom_id = line.custom_id.unwrap_or_default();
        if let Some(Failure { code, message }) = line.error {
            let status = match code.as_str() {
                "batch_expired" => "expired",
                "batch_cancelled" | "fail_fast" => "cancelled",
                _ => "failed",
            };
            return Ok(Self { custom_id, status, error: format!("{code}: {message}"), ..Self::default() });
        }
        let Some(Response { status_code, body }) = line.response else {
            let error = "the service gave neither an answer nor an error".to_owned();
            return Ok(Self { custom_id, status: "failed", error, ..Self::default() });
        };
        if !(200..300).contains(&status_code) {
            return Ok(Self {
                custom_id,
                status: "failed",
                error: refusal(status_code, &body),
                ..Self::default()
            });
        }
        let usage = &body["usage"];
        let tokens = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64());
        Ok(Self {
            custom_id,
            status: "succeeded",
            error: String::new(),
            input_tokens: tokens(["prompt_tokens", "input_tokens"]),
            output_tokens: tokens(["completion_tokens", "output_tokens"]),
            text: text_of(body),
        })
    }
}

/// A provider's refusal in one line.
fn refusal(status: u16, body: &Value) -> String {
    let error = &body["error"];
    let said = error["message"].as_str().or_else(|| error.as_str()).or_else(|| body["message"].as_str());
    match (said, body) {
        (Some(said), _) => format!("{status}: {said}"),
        (None, Value::Null) => format!("{status}"),
        (None, Value::String(text)) => format!("{status}: {text}"),
        (None, other) => format!("{status}: {other}"),
    }
}
