//! What a model said, out of the reply of whichever endpoint.

use serde_json::Value;

/// The text of a reply. Where it is no text (vectors, verdicts, calls of tools), the JSON of that; where nothing is
/// known of the reply, all of it.
pub(super) fn text_of(mut body: Value) -> String {
    let found = chat(&body)
        .or_else(|| blocks(&body["content"]))
        .or_else(|| responses(&body))
        .or_else(|| body["choices"][0]["text"].as_str().map(str::to_owned));
    if let Some(text) = found {
        return text;
    }
    for place in ["/data/0/embedding", "/results", "/choices/0/message"] {
        if let Some(value) = body.pointer_mut(place) {
            return value.take().to_string();
        }
    }
    body.to_string()
}

/// A chat completion's, unless the model called tools instead of speaking.
fn chat(body: &Value) -> Option<String> {
    let message = &body["choices"][0]["message"];
    let text = message["content"].as_str().or_else(|| message["refusal"].as_str())?;
    Some(text.to_owned())
}

/// Anthropic's blocks, those of text.
fn blocks(content: &Value) -> Option<String> {
    let texts: Vec<&str> = content.as_array()?.iter().filter_map(|block| block["text"].as_str()).collect();
    (!texts.is_empty()).then(|| texts.concat())
}

/// OpenAI's responses: the text of every message of the output.
fn responses(body: &Value) -> Option<String> {
    let texts: Vec<String> =
        body["output"].as_array()?.iter().filter_map(|item| blocks(&item["content"])).collect();
    (!texts.is_empty()).then(|| texts.concat())
}
