//! Input lines.

use serde_json::{Value, json};

/// A chat line whose prompt names the item for the upstream's log; `text` may hold markers.
pub(crate) fn chat(id: &str, text: &str) -> Value {
    let content = format!("[[id={id}]]{text}");
    let body = json!({"model": "demo-small", "messages": [{"role": "user", "content": content}]});
    line(id, "/v1/chat/completions", &body)
}

/// A line of any endpoint.
pub(crate) fn line(id: &str, url: &str, body: &Value) -> Value {
    json!({"custom_id": id, "method": "POST", "url": url, "body": body})
}

/// A chat line of about `input` tokens by OpenAI's formula, and `max` of output at most.
pub(crate) fn sized(id: &str, input: usize, max: u64) -> Value {
    let mark = format!("[[id={id}]]");
    let content = format!("{mark}{}", "word ".repeat(input)).chars().take(input * 4).collect::<String>();
    let messages = json!([{"role": "user", "content": content}]);
    line(id, "/v1/chat/completions", &json!({"model": "demo-small", "messages": messages, "max_tokens": max}))
}

/// So many chat lines, `item-0` and on, all with the same text.
pub(crate) fn chats(count: usize, text: &str) -> Vec<Value> {
    (0..count).map(|number| chat(&format!("item-{number}"), text)).collect()
}

/// Lines as a file.
pub(crate) fn jsonl(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
