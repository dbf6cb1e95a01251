//! Answers as the endpoints give them.

use std::io::Write as _;

use serde::Serialize;

use super::chance::subject_of;
use super::prompt::Prompt;
use crate::domain::endpoint::Endpoint;

/// Length of the text that padding is cut from.
const PADDING: usize = 64 * 1024;

const WORDS: [&str; 48] = [
    "the", "gate", "lets", "one", "call", "pass", "while", "others", "wait", "for", "their", "turn", "and",
    "nothing", "is", "lost", "when", "a", "limit", "holds", "every", "window", "counts", "what", "came",
    "before", "so", "pace", "beats", "burst", "as", "water", "through", "narrow", "channel", "moves",
    "faster", "than", "waves", "against", "closed", "door", "after", "night", "morning", "queue", "empties",
    "again",
];

/// Texts for answers; made once.
#[derive(Debug)]
pub(super) struct Texts {
    padding: String,
}

impl Texts {
    /// Words in no order, so that the text compresses about as prose does.
    pub(super) fn new() -> Self {
        let mut padding = String::with_capacity(PADDING + 16);
        let mut number = 0_u64;
        while padding.len() < PADDING {
            number += 1;
            let pick = subject_of(&number.to_le_bytes()) as usize;
            padding.push(' ');
            padding.push_str(WORDS[pick % WORDS.len()]);
        }
        padding.truncate(PADDING);
        Self { padding }
    }

    /// The text of one answer.
    pub(super) fn answer(&self, answers: &[String], least: usize, call: &Naming<'_>) -> String {
        let mut text = match answers.get((call.number as usize).checked_rem(answers.len()).unwrap_or(0)) {
            Some(text) => text.clone(),
            None => format!(
                "Answer to {}.",
                call.id.map_or_else(|| format!("call {}", call.number), str::to_owned)
            ),
        };
        let mut start = (subject_of(text.as_bytes()) as usize) % PADDING;
        while text.len() < least {
            let end = PADDING.min(start + least - text.len());
            text.push_str(&self.padding[start..end]);
            start = 0;
        }
        text
    }
}

/// What a call is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming<'a> {
    /// Its number in order of arrival.
    pub(super) number: u64,
    /// Its `[[id=…]]`.
    pub(super) id: Option<&'a str>,
    /// Unix seconds at its arrival.
    pub(super) created: u64,
}

/// Tokens that an answer claims.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) input: u64,
    pub(super) output: u64,
}

impl Usage {
    /// Of an answer with this text.
    pub(super) fn of(prompt: &Prompt, text: &str) -> Self {
        let most = if prompt.max_tokens == 0 { u64::MAX } else { prompt.max_tokens };
        let spoken = (text.len() as u64).div_ceil(4).min(most);
        Self { input: prompt.input_tokens(), output: prompt.markers.out.unwrap_or(spoken) }
    }

    pub(super) fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// The tokens that an endpoint's answers report as used.
    pub(super) fn charged(self, endpoint: Endpoint) -> u64 {
        match endpoint {
            Endpoint::Embeddings => self.input,
            Endpoint::Moderations => 0,
            _ => self.total(),
        }
    }
}

/// Writes the body of a usual answer, and tells at which byte of it spaces may be added at will.
pub(super) fn write(
    body: &mut Vec<u8>,
    endpoint: Endpoint,
    prompt: &Prompt,
    text: &str,
    call: Naming<'_>,
) -> usize {
    let usage = Usage::of(prompt, text);
    let model = Json(&prompt.model);
    let (number, created) = (call.number, call.created);
    match endpoint {
        Endpoint::ChatCompletions => {
            put(
                body,
                format_args!(
                    r#"{{"id":"chatcmpl-{number:x}","object":"chat.completion","created":{created},"model":{model},"choices":[{{"index":0,"message":{{"role":"assistant","content":{text},"refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"#,
                    text = Json(text)
                ),
            );
            spoken_usage(body, usage);
        }
        Endpoint::Completions => {
            put(
                body,
                format_args!(
                    r#"{{"id":"cmpl-{number:x}","object":"text_completion","created":{created},"model":{model},"choices":[{{"index":0,"text":{text},"logprobs":null,"finish_reason":"stop"}}],"#,
                    text = Json(text)
                ),
            );
            spoken_usage(body, usage);
        }
        Endpoint::Responses => put(
            body,
            format_args!(
                r#"{{"id":"resp_{number:x}","object":"response","created_at":{created},"status":"completed","error":null,"incomplete_details":null,"model":{model},"output":[{{"type":"message","id":"msg_{number:x}","status":"completed","role":"assistant","content":[{{"type":"output_text","text":{text},"annotations":[]}}]}}],"usage":{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{total}}}}}"#,
                text = Json(text),
                input = usage.input,
                output = usage.output,
                total = usage.total()
            ),
        ),
        Endpoint::Messages => put(
            body,
            format_args!(
                r#"{{"id":"msg_{number:x}","type":"message","role":"assistant","model":{model},"content":[{{"type":"text","text":{text}}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":{input},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{output},"service_tier":"standard"}}}}"#,
                text = Json(text),
                input = usage.input,
                output = usage.output
            ),
        ),
        Endpoint::Embeddings => embeddings(body, prompt, usage),
        Endpoint::Moderations => moderation(body, prompt, number),
    }
    // JSON allows spaces before the last brace, whatever stands there.
    body.len() - 1
}

fn spoken_usage(body: &mut Vec<u8>, usage: Usage) {
    put(
        body,
        format_args!(
            r#""usage":{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}}}}"#,
            usage.input,
            usage.output,
            usage.total()
        ),
    );
}

fn embeddings(body: &mut Vec<u8>, prompt: &Prompt, usage: Usage) {
    put(body, format_args!(r#"{{"object":"list","data":["#));
    for index in 0..prompt.texts.max(1) {
        let comma = if index == 0 { "" } else { "," };
        put(
            body,
            format_args!(
                r#"{comma}{{"object":"embedding","index":{index},"embedding":[0.25,-0.5,0.125,0.0625]}}"#
            ),
        );
    }
    put(
        body,
        format_args!(
            r#"],"model":{},"usage":{{"prompt_tokens":{input},"total_tokens":{input}}}}}"#,
            Json(&prompt.model),
            input = usage.input
        ),
    );
}

fn moderation(body: &mut Vec<u8>, prompt: &Prompt, number: u64) {
    // The model may be left out of such a request; the answer names one all the same.
    let model = if prompt.model.is_empty() { "demo-moderation" } else { &prompt.model };
    put(
        body,
        format_args!(
            r#"{{"id":"modr-{number:x}","model":{},"results":[{{"flagged":false,"categories":{{"violence":false,"harassment":false}},"category_scores":{{"violence":0.001,"harassment":0.001}}}}]}}"#,
            Json(model)
        ),
    );
}

/// Writing into memory can't fail.
fn put(body: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = body.write_fmt(text);
}

/// A string printed as JSON.
pub(super) struct Json<'a>(pub(super) &'a str);

impl std::fmt::Display for Json<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut quoted = Vec::with_capacity(self.0.len() + 2);
        self.0.serialize(&mut serde_json::Serializer::new(&mut quoted)).map_err(|_| std::fmt::Error)?;
        formatter.write_str(std::str::from_utf8(&quoted).map_err(|_| std::fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const CALL: Naming<'_> = Naming { number: 10, id: Some("a\"1"), created: 1_700_000_000 };

    #[test]
    fn every_answer_is_json_with_room_for_spaces() {
        let prompt = Prompt::read(br#"{"model":"m\"x","input":["a","b"],"max_tokens":3}"#).unwrap();
        let text = Texts::new().answer(&[], 300, &CALL);
        assert_eq!(text.len(), 300);
        for endpoint in Endpoint::ALL {
            let mut body = Vec::new();
            let room = write(&mut body, endpoint, &prompt, &text, CALL);
            body.splice(room..room, *b"   ");
            let value: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value["model"], "m\"x", "{endpoint:?}");
        }
    }

    #[test]
    fn usage_follows_the_text_and_the_markers() {
        let body = br#"{"input":"12345","max_tokens":7}"#;
        let prompt = Prompt::read(body).unwrap();
        assert_eq!((Usage::of(&prompt, "12345").output, Usage::of(&prompt, &"x".repeat(99)).output), (2, 7));
        let prompt = Prompt::read(br#"{"input":"[[out=37]]"}"#).unwrap();
        let usage = Usage::of(&prompt, "1");
        assert_eq!((usage.input, usage.output, usage.total()), (3, 37, 40));
    }

    #[test]
    fn given_answers_are_used_in_turn() {
        let (texts, given) = (Texts::new(), ["one".to_owned(), "two".to_owned()]);
        let answer = |number| texts.answer(&given, 0, &Naming { number, ..CALL });
        assert_eq!([answer(0), answer(1), answer(2)], ["one", "two", "one"]);
        assert_eq!(texts.answer(&[], 0, &CALL), "Answer to a\"1.");
    }
}
