//! Asking a stream for its usage: one member put into a body, every other byte as it was.

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny};

/// What is put behind the body's opening brace. The comma is right, since a stream's body has `stream`.
/// From OpenAI's API reference: one more chunk before `[DONE]`, without choices, with the usage of all.
const ASKING: &[u8] = br#""stream_options":{"include_usage":true},"#;

/// What decides whether a body is asked for more.
#[derive(serde::Deserialize)]
struct Body {
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Present,
}

/// Whether a member is there, whatever it holds: a client that names it has decided.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok(Self(true))
    }
}

/// The body of a chat or plain completion that asks for a stream, asking for its usage as well; `None` if it
/// asks for no stream, has `stream_options` of its own, or can't be read.
pub fn with_usage(body: &Bytes) -> Option<Bytes> {
    let asked: Body = serde_json::from_slice(body).ok()?;
    if asked.stream != Some(true) || asked.stream_options.0 {
        return None;
    }
    let inside = body.iter().position(|byte| *byte == b'{')? + 1;
    let mut asking = Vec::with_capacity(body.len() + ASKING.len());
    asking.extend_from_slice(&body[..inside]);
    asking.extend_from_slice(ASKING);
    asking.extend_from_slice(&body[inside..]);
    Some(asking.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_without_options_is_asked_for_more() {
        for (body, asking) in [
            (
                "\n{ \"stream\" : true ,\"n\": 1.50,\"x\":\"\\u00e9\" }\n",
                Some(
                    "\n{\"stream_options\":{\"include_usage\":true}, \"stream\" : true ,\"n\": 1.50,\"x\":\"\\u00e9\" }\n",
                ),
            ),
            (
                r#"{"a":{"stream_options":{}},"stream":true}"#,
                Some(r#"{"stream_options":{"include_usage":true},"a":{"stream_options":{}},"stream":true}"#),
            ),
            (r#"{"stream":false}"#, None),
            (r#"{"stream":null}"#, None),
            (r#"{"stream":"true"}"#, None),
            (r#"{"a":{"stream":true}}"#, None),
            (r#"{"stream":true,"stream":true}"#, None),
            (r#"{"stream":true,"stream_options":{"include_usage":false}}"#, None),
            (r#"{"stream":true,"stream_options":null}"#, None),
            (r#"{"stream":true,"stream\u005foptions":{}}"#, None),
            (r#"["stream"]"#, None),
            (r#"{"stream":true"#, None),
            ("{}", None),
        ] {
            let found = with_usage(&Bytes::from(body));
            assert_eq!(found.as_deref(), asking.map(str::as_bytes), "{body}");
        }
    }
}
