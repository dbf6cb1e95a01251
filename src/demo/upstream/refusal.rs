//! Errors as providers word them.

use serde_json::{Value, json};

use super::script::Unit;
use crate::domain::endpoint::Endpoint;

/// Why a call gets an error.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Refusal {
    /// A status that the script asks for, with the seconds of its `Retry-After`.
    Scripted(u16, Option<u32>),
    /// The key is not among those let in.
    Key,
    /// The body is not one JSON object.
    Body,
    /// No such path, or not with this method.
    Path,
    /// Out of money: no wait helps.
    Quota,
    /// Every slot is taken.
    Slots(u16),
    /// A limit is used up; µs until it would fit.
    Rate { unit: Unit, limit: u64, requested: u64, wait: u64, retry_after: bool },
    /// Above the limit itself: no wait helps.
    TooLarge { unit: Unit, limit: u64, requested: u64 },
}

impl Refusal {
    /// The status of the answer.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Scripted(status, _) | Self::Slots(status) => *status,
            Self::Key => 401,
            Self::Body => 400,
            Self::Path => 404,
            Self::Quota | Self::Rate { .. } | Self::TooLarge { .. } => 429,
        }
    }

    /// The seconds of `Retry-After`, rounded up: coming back a little early would be refused.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Scripted(_, seconds) => seconds.map(u64::from),
            Self::Rate { wait, retry_after: true, .. } => Some(wait.div_ceil(1_000_000).max(1)),
            _ => None,
        }
    }

    /// The body of the answer, in the envelope of the endpoint's vendor.
    pub(super) fn body(&self, endpoint: Option<Endpoint>, model: &str, request_id: &str) -> Value {
        let message = self.message(model);
        if endpoint == Some(Endpoint::Messages) {
            return json!({
                "type": "error",
                "error": {"type": anthropic_type(self.status()), "message": message},
                "request_id": request_id,
            });
        }
        let (kind, code) = self.kind_and_code();
        json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
    }

    fn message(&self, model: &str) -> String {
        match self {
            Self::Scripted(status, _) => format!("The script asked for a {status} here."),
            Self::Key => "Incorrect API key provided.".to_owned(),
            Self::Body => "We could not parse the JSON body of your request.".to_owned(),
            Self::Path => "Unknown request URL.".to_owned(),
            Self::Quota => {
                "You exceeded your current quota, please check your plan and billing details.".to_owned()
            }
            Self::Slots(_) => "Too many requests in flight. Please try again soon.".to_owned(),
            Self::Rate { unit, limit, requested, wait, .. } => {
                let seconds = *wait as f64 / 1e6;
                format!(
                    "Rate limit reached for {model} in organization org-demo on {}: \
                     Limit {limit}, Requested {requested}. Please try again in {seconds:.3}s.",
                    per_minute(*unit)
                )
            }
            Self::TooLarge { unit, limit, requested } => format!(
                "Request too large for {model} in organization org-demo on {}: \
                 Limit {limit}, Requested {requested}.",
                per_minute(*unit)
            ),
        }
    }

    fn kind_and_code(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Quota => ("insufficient_quota", Some("insufficient_quota")),
            Self::Rate { unit, .. } | Self::TooLarge { unit, .. } => {
                (unit.word(), Some("rate_limit_exceeded"))
            }
            Self::Slots(429) | Self::Scripted(429, _) => ("requests", Some("rate_limit_exceeded")),
            Self::Key | Self::Scripted(401, _) => ("invalid_request_error", Some("invalid_api_key")),
            Self::Scripted(404, _) => ("invalid_request_error", Some("model_not_found")),
            Self::Scripted(500.., _) | Self::Slots(_) => ("server_error", None),
            Self::Scripted(..) | Self::Body | Self::Path => ("invalid_request_error", None),
        }
    }
}

fn per_minute(unit: Unit) -> &'static str {
    match unit {
        Unit::Requests => "requests per min (RPM)",
        Unit::Tokens | Unit::UsedTokens => "tokens per min (TPM)",
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}
