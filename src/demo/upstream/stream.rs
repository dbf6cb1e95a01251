//! Answers as streams of events, in the form of each endpoint that has one.

use std::fmt::Write as _;

use super::answer::{Json, Naming, Usage};
use super::prompt::Prompt;
use crate::domain::endpoint::Endpoint;

/// Whether an endpoint can stream.
pub(super) const fn can_stream(endpoint: Endpoint) -> bool {
    !matches!(endpoint, Endpoint::Embeddings | Endpoint::Moderations)
}

/// The events of one answer, each with its empty line.
pub(super) fn events(
    endpoint: Endpoint,
    prompt: &Prompt,
    text: &str,
    call: Naming<'_>,
    pieces: usize,
) -> Vec<String> {
    let stream = Stream { prompt, text, call, pieces: split(text, pieces), usage: Usage::of(prompt, text) };
    match endpoint {
        Endpoint::ChatCompletions => stream.chunks("chatcmpl", "chat.completion.chunk"),
        Endpoint::Completions => stream.chunks("cmpl", "text_completion"),
        Endpoint::Responses => stream.responses(),
        Endpoint::Messages => stream.messages(),
        Endpoint::Embeddings | Endpoint::Moderations => Vec::new(),
    }
}

/// A text in so many pieces of about one length; never more than it has characters.
fn split(text: &str, pieces: usize) -> Vec<&str> {
    let length = text.len().div_ceil(pieces.max(1)).max(1);
    let (mut rest, mut split) = (text, Vec::with_capacity(pieces));
    while !rest.is_empty() {
        let mut end = length.min(rest.len());
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let (piece, after) = rest.split_at(end);
        split.push(piece);
        rest = after;
    }
    split
}

struct Stream<'a> {
    prompt: &'a Prompt,
    text: &'a str,
    call: Naming<'a>,
    pieces: Vec<&'a str>,
    usage: Usage,
}

impl Stream<'_> {
    /// `OpenAI`'s older form: chunks without names, and a last line that is no JSON.
    fn chunks(&self, prefix: &str, object: &str) -> Vec<String> {
        let chat = prefix == "chatcmpl";
        let usage = if self.prompt.include_usage { r#","usage":null"# } else { "" };
        let head = format!(
            r#""id":"{prefix}-{:x}","object":"{object}","created":{},"model":{}"#,
            self.call.number,
            self.call.created,
            Json(&self.prompt.model)
        );
        let chunk = |content: &str, finish: &str| {
            format!(
                "data: {{{head},\"choices\":[{{\"index\":0,{content},\"logprobs\":null,\"finish_reason\":{finish}}}]{usage}}}\n\n"
            )
        };
        let mut events = Vec::with_capacity(self.pieces.len() + 4);
        if chat {
            events.push(chunk(r#""delta":{"role":"assistant","content":""}"#, "null"));
        }
        for piece in &self.pieces {
            let content = if chat {
                format!(r#""delta":{{"content":{}}}"#, Json(piece))
            } else {
                format!(r#""text":{}"#, Json(piece))
            };
            events.push(chunk(&content, "null"));
        }
        events.push(chunk(if chat { r#""delta":{}"# } else { r#""text":"""# }, r#""stop""#));
        if self.prompt.include_usage {
            let (input, output) = (self.usage.input, self.usage.output);
            events.push(format!(
                "data: {{{head},\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{}}}}}\n\n",
                self.usage.total()
            ));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    /// The responses endpoint's: named events, numbered.
    fn responses(&self) -> Vec<String> {
        let (number, created) = (self.call.number, self.call.created);
        let model = Json(&self.prompt.model).to_string();
        let message = |status: &str, content: &str| {
            format!(
                r#"{{"type":"message","id":"msg_{number:x}","status":"{status}","role":"assistant","content":[{content}]}}"#
            )
        };
        let response = |status: &str, output: &str, usage: &str| {
            format!(
                r#""response":{{"id":"resp_{number:x}","object":"response","created_at":{created},"status":"{status}","error":null,"incomplete_details":null,"model":{model},"output":[{output}],"usage":{usage}}}"#
            )
        };
        let place = format!(r#""item_id":"msg_{number:x}","output_index":0,"content_index":0"#);
        let part = |text: &str| format!(r#"{{"type":"output_text","text":{},"annotations":[]}}"#, Json(text));
        let mut all = vec![
            ("response.created", response("in_progress", "", "null")),
            (
                "response.output_item.added",
                format!(r#""output_index":0,"item":{}"#, message("in_progress", "")),
            ),
            ("response.content_part.added", format!(r#"{place},"part":{}"#, part(""))),
        ];
        for piece in &self.pieces {
            let delta = format!(r#"{place},"delta":{},"logprobs":[]"#, Json(piece));
            all.push(("response.output_text.delta", delta));
        }
        let (whole, done) = (part(self.text), message("completed", &part(self.text)));
        let text = format!(r#"{place},"text":{},"logprobs":[]"#, Json(self.text));
        all.push(("response.output_text.done", text));
        all.push(("response.content_part.done", format!(r#"{place},"part":{whole}"#)));
        all.push(("response.output_item.done", format!(r#""output_index":0,"item":{done}"#)));
        let usage = format!(
            r#"{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":0}},"output_tokens":{},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{}}}"#,
            self.usage.input,
            self.usage.output,
            self.usage.total()
        );
        all.push(("response.completed", response("completed", &done, &usage)));
        let events = all.iter().enumerate();
        events
            .map(|(at, (name, data))| {
                format!("event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{at},{data}}}\n\n")
            })
            .collect()
    }

    /// Anthropic's: named events, whose later usage is cumulative.
    fn messages(&self) -> Vec<String> {
        let event =
            |name: &str, data: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"{data}}}\n\n");
        let mut start = String::new();
        // Writing into memory can't fail.
        let _ = write!(
            start,
            r#","message":{{"id":"msg_{:x}","type":"message","role":"assistant","model":{},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}}"#,
            self.call.number,
            Json(&self.prompt.model),
            self.usage.input
        );
        let mut events = vec![
            event("message_start", &start),
            event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
            event("ping", ""),
        ];
        for piece in &self.pieces {
            let delta = format!(r#","index":0,"delta":{{"type":"text_delta","text":{}}}"#, Json(piece));
            events.push(event("content_block_delta", &delta));
        }
        events.push(event("content_block_stop", r#","index":0"#));
        let end = format!(
            r#","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{}}}"#,
            self.usage.output
        );
        events.push(event("message_delta", &end));
        events.push(event("message_stop", ""));
        events
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_event_is_json_and_the_pieces_make_up_the_text() {
        let body = br#"{"model":"m\"x","input":"abc","stream":true,"stream_options":{"include_usage":true}}"#;
        let prompt = Prompt::read(body).unwrap();
        assert!(prompt.stream && prompt.include_usage);
        let call = Naming { number: 10, id: None, created: 1_700_000_000 };
        for endpoint in Endpoint::ALL.into_iter().filter(|endpoint| can_stream(*endpoint)) {
            let mut text = String::new();
            for event in events(endpoint, &prompt, "zwölf \"Boxkämpfer\"", call, 5) {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
                if data == "[DONE]" {
                    continue;
                }
                let data: Value = serde_json::from_str(data).unwrap();
                let choice = &data["choices"][0];
                let pieces =
                    [&choice["delta"]["content"], &choice["text"], &data["delta"], &data["delta"]["text"]];
                text.extend(pieces.iter().filter_map(|piece| piece.as_str()));
            }
            assert_eq!(text, "zwölf \"Boxkämpfer\"", "{endpoint:?}");
        }
    }
}
