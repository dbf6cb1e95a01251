//! The tokens that a reply reports, in the shape of each endpoint.

use serde::Deserialize;

use crate::domain::batch::Usage;

/// More than this in one reply is a defect of the sender, not a count.
const MOST_TOKENS: u64 = 1_000_000_000;

/// Chat and plain completions, and embeddings, say `prompt`; responses and messages say `input`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Reported {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<Details>,
    output_tokens_details: Option<Details>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    thinking_tokens: Option<u64>,
}

/// The usage in its JSON; `None` if it says nothing that can be believed.
pub(super) fn read(json: &str) -> Option<Usage> {
    let reported: Reported = serde_json::from_str(json).ok()?;
    let (input_tokens, cached_tokens) = match reported.prompt_tokens {
        Some(prompt) => (prompt, cached(reported.prompt_tokens_details.as_ref())),
        None => {
            // Anthropic counts what a cache served or took beside the input, OpenAI within it.
            let read = reported.cache_read_input_tokens.unwrap_or(0);
            let written = reported.cache_creation_input_tokens.unwrap_or(0);
            let input = reported.input_tokens?.checked_add(read)?.checked_add(written)?;
            (input, read.max(cached(reported.input_tokens_details.as_ref())))
        }
    };
    let output_tokens = reported.completion_tokens.or(reported.output_tokens).unwrap_or(0);
    let details = reported.completion_tokens_details.or(reported.output_tokens_details).unwrap_or_default();
    let reasoning_tokens = details.reasoning_tokens.or(details.thinking_tokens).unwrap_or(0);
    let believable = input_tokens <= MOST_TOKENS && output_tokens <= MOST_TOKENS;
    believable.then_some(Usage {
        input_tokens,
        cached_tokens: cached_tokens.min(input_tokens),
        output_tokens,
        reasoning_tokens: reasoning_tokens.min(output_tokens),
    })
}

/// A later usage of the same reply: it replaces an earlier one, or, where it holds the output alone as in
/// Anthropic's streams, completes it.
pub(in crate::engine) fn complete(known: Option<Usage>, json: &str) -> Option<Usage> {
    if let Some(usage) = read(json) {
        return Some(usage);
    }
    let mut known = known?;
    let reported: Reported = serde_json::from_str(json).unwrap_or_default();
    let output_tokens = reported.output_tokens.filter(|tokens| *tokens <= MOST_TOKENS);
    known.output_tokens = output_tokens.unwrap_or(known.output_tokens);
    let details = reported.output_tokens_details.unwrap_or_default();
    let reasoning = details.reasoning_tokens.or(details.thinking_tokens).unwrap_or(known.reasoning_tokens);
    known.reasoning_tokens = reasoning.min(known.output_tokens);
    Some(known)
}

fn cached(details: Option<&Details>) -> u64 {
    details.and_then(|details| details.cached_tokens).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(json: &str) -> Option<[u64; 4]> {
        let usage = read(json)?;
        Some([usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens])
    }

    #[test]
    fn every_endpoint_s_shape_is_read() {
        for (json, expected) in [
            (
                r#"{"prompt_tokens":120,"completion_tokens":40,"total_tokens":160,"prompt_tokens_details":
                {"cached_tokens":64,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":16}}"#,
                Some([120, 64, 40, 16]),
            ),
            (
                r#"{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":7,
                "output_tokens_details":{"reasoning_tokens":2},"total_tokens":16}"#,
                Some([9, 4, 7, 2]),
            ),
            (r#"{"prompt_tokens":8,"total_tokens":8}"#, Some([8, 0, 0, 0])),
            (
                r#"{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":30,
                "output_tokens":5,"output_tokens_details":{"thinking_tokens":3}}"#,
                Some([60, 30, 5, 3]),
            ),
            // A proxy that adds Anthropic's counts to OpenAI's total.
            (
                r#"{"prompt_tokens":50,"completion_tokens":1,"cache_read_input_tokens":30}"#,
                Some([50, 0, 1, 0]),
            ),
            (
                r#"{"prompt_tokens":5,"prompt_tokens_details":null,"completion_tokens":null}"#,
                Some([5, 0, 0, 0]),
            ),
            (r#"{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":9}}"#, Some([5, 5, 0, 0])),
        ] {
            assert_eq!(counts(json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_count_is_unknown() {
        for json in [
            "{}",
            "[]",
            "7",
            r#"{"total_tokens":8}"#,
            r#"{"prompt_tokens":-1}"#,
            r#"{"prompt_tokens":1.5}"#,
            r#"{"prompt_tokens":"5"}"#,
            r#"{"prompt_tokens":1000000001}"#,
            r#"{"prompt_tokens":1,"completion_tokens":99999999999999999999}"#,
            r#"{"input_tokens":18446744073709551615,"cache_read_input_tokens":1}"#,
            r#"{"prompt_tokens":1,"prompt_tokens":1}"#,
        ] {
            assert_eq!(counts(json), None, "{json}");
        }
    }
}
