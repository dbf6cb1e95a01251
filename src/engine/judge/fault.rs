//! The error that an upstream tells of, in the words of the several kinds of upstreams.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::StopReason;

/// Most characters of an upstream's words that are shown to operators.
const LONGEST_DETAIL: usize = 300;

/// Codes and types by which upstreams say that money or a quota is used up.
const QUOTA_WORDS: [&str; 6] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "insufficient_credits",
    "spend_limit_exceeded",
];

/// An error's fields as text; empty where it doesn't have them.
#[derive(Debug, Default)]
pub(super) struct Fault {
    code: String,
    kind: String,
    message: String,
}

/// What a 429 speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Money or a quota that waiting doesn't bring back.
    Quota,
    /// Calls at the same time.
    Concurrency,
    /// Requests per time.
    Requests,
    /// Tokens per time, or it doesn't say.
    Other,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorObject<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

impl Fault {
    /// From the value of `error`: an object, or a message alone.
    pub(super) fn of_error(json: &str) -> Self {
        match serde_json::from_str::<ErrorObject<'_>>(json) {
            Ok(error) => Self::new(error.code, error.kind, error.message),
            Err(_) => Self { message: as_text(json), ..Self::default() },
        }
    }

    /// From the fields as they stand.
    pub(super) fn new(code: Option<&RawValue>, kind: Option<&RawValue>, message: Option<&RawValue>) -> Self {
        let text = |json: Option<&RawValue>| json.map(|json| as_text(json.get())).unwrap_or_default();
        Self { code: text(code), kind: text(kind), message: text(message) }
    }

    /// The status that an error in an answer of status 200 stands for.
    pub(super) fn status(&self) -> u16 {
        let number = self.code.parse::<u16>().ok().filter(|code| (400..600).contains(code));
        let known = || [&self.code, &self.kind].into_iter().find_map(|word| status_of(word));
        // What nobody knows is tried again: an item that is given up is worse than a call too many.
        number.or_else(known).unwrap_or(500)
    }

    /// Why an answer of this status stops the lane, if it does: it is not the item's fault then.
    pub(super) fn stops_lane(&self, status: u16, lane_succeeded: bool) -> Option<StopReason> {
        match status {
            401 => Some(StopReason::Credential),
            402 => Some(StopReason::Quota),
            403 if self.names_quota() => Some(StopReason::Quota),
            403 if !lane_succeeded => Some(StopReason::Credential),
            // Anthropic says it so. Only at the start: further on a message may quote its request.
            400 if self.message.starts_with("Your credit balance is too low") => Some(StopReason::Quota),
            _ => None,
        }
    }

    /// What a 429 speaks of.
    pub(super) fn subject(&self) -> Subject {
        let says = |word: &str| [&self.code, &self.kind].into_iter().any(|text| text.contains(word));
        let message = self.message.to_ascii_lowercase();
        if self.names_quota() {
            Subject::Quota
        } else if says("concurren") || message.contains("concurren") || message.contains("in flight") {
            Subject::Concurrency
        } else if self.kind == "requests" || message.contains("(rpm)") {
            Subject::Requests
        } else {
            Subject::Other
        }
    }

    /// Whether a 429 says that the request would not fit into an empty limit either.
    pub(super) fn names_more_than_the_limit(&self) -> bool {
        let number = |name| number_after(&self.message, name);
        self.message.starts_with("Request too large")
            || matches!((number("Limit "), number("Requested ")), (Some(limit), Some(asked)) if asked > limit)
    }

    /// Whether a 409 is about a lock, which another call will have let go.
    pub(super) fn names_a_lock(&self) -> bool {
        [&self.code, &self.kind, &self.message].into_iter().any(|text| {
            let words = text.split(|character: char| !character.is_ascii_alphanumeric());
            words.map(str::to_ascii_lowercase).any(|word| matches!(&word[..], "lock" | "locked" | "locking"))
        })
    }

    /// The error in a line for operators.
    pub(super) fn detail(&self, status: u16) -> String {
        let name = if self.code.is_empty() { &self.kind } else { &self.code };
        let mut detail = format!("HTTP {status}");
        for (separator, text) in [(" ", name), (": ", &self.message)] {
            if !text.is_empty() {
                detail.push_str(separator);
                detail.push_str(text);
            }
        }
        if let Some((end, _)) = detail.char_indices().nth(LONGEST_DETAIL) {
            detail.truncate(end);
        }
        detail
    }

    fn names_quota(&self) -> bool {
        QUOTA_WORDS.iter().any(|word| self.code == *word || self.kind == *word)
    }
}

fn status_of(word: &str) -> Option<u16> {
    Some(match word {
        "authentication_error" | "invalid_api_key" => 401,
        "billing_error" | "insufficient_credits" => 402,
        "permission_error" => 403,
        "not_found_error" | "model_not_found" => 404,
        "request_too_large" => 413,
        "rate_limit_exceeded" | "rate_limit_error" | "insufficient_quota" => 429,
        "server_error" | "api_error" | "internal_error" => 500,
        "unavailable_error" => 503,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ if word.starts_with("invalid_") => 400,
        // Of the responses endpoint: all of them about what the request holds.
        _ if ["image", "policy", "content_filter", "context_length"]
            .iter()
            .any(|part| word.contains(part)) =>
        {
            400
        }
        _ => return None,
    })
}

/// The text of a JSON string, or another value as it is written; nothing for null.
fn as_text(json: &str) -> String {
    match serde_json::from_str::<String>(json) {
        Ok(text) => text,
        Err(_) if json == "null" => String::new(),
        Err(_) => json.to_owned(),
    }
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = &text[text.find(name)? + name.len()..];
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
