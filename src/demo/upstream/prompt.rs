//! What the upstream reads off a request's body: model, text, limits of the answer, markers.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::marker::Markers;

/// A request's body, as far as it matters here.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    /// The `model`, empty without one.
    pub(super) model: String,
    /// The most tokens that may be generated; 0 if the body doesn't say.
    pub(super) max_tokens: u64,
    /// Bytes of text in messages, input, prompt, system and instructions; a token id counts 4.
    pub(super) text_bytes: u64,
    /// How many texts there are.
    pub(super) texts: usize,
    /// The markers in those texts.
    pub(super) markers: Markers,
    /// Whether the answer is to be a stream.
    pub(super) stream: bool,
    /// Whether a stream is to end with its usage.
    pub(super) include_usage: bool,
}

impl Prompt {
    /// Reads a body; `None` if it isn't one JSON object.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut prompt = Self::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        Node { prompt: &mut prompt, place: Place::Top }.deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(prompt)
    }

    /// ⌈text bytes / 4⌉.
    pub(super) fn input_tokens(&self) -> u64 {
        self.text_bytes.div_ceil(4)
    }

    /// What a token law charges on arrival.
    pub(super) fn charge(&self) -> u64 {
        self.input_tokens().saturating_add(self.max_tokens)
    }

    fn take_text(&mut self, text: &str) {
        self.text_bytes += text.len() as u64;
        self.texts += 1;
        self.markers.read(text);
    }
}

/// Where in the body a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Model,
    Max,
    Text,
    Stream,
    StreamOptions,
    IncludeUsage,
}

struct Node<'a> {
    prompt: &'a mut Prompt,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.place == Place::Top {
            return deserializer.deserialize_map(self);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a request's body")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        match self.place {
            Place::Text => self.prompt.take_text(text),
            Place::Model => text.clone_into(&mut self.prompt.model),
            _ => {}
        }
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        match self.place {
            Place::Text => self.prompt.text_bytes += 4,
            Place::Max => self.prompt.max_tokens = self.prompt.max_tokens.max(number),
            _ => {}
        }
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, on: bool) -> Result<(), E> {
        match self.place {
            Place::Stream => self.prompt.stream = on,
            Place::IncludeUsage => self.prompt.include_usage = on,
            _ => {}
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(Node { prompt: self.prompt, place: self.place })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<Key>()? {
            let place = match key {
                Key::Text => Place::Text,
                Key::Model if self.place == Place::Top => Place::Model,
                Key::Max if self.place == Place::Top => Place::Max,
                Key::Stream if self.place == Place::Top => Place::Stream,
                Key::StreamOptions if self.place == Place::Top => Place::StreamOptions,
                Key::IncludeUsage if self.place == Place::StreamOptions => Place::IncludeUsage,
                _ => {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            entries.next_value_seed(Node { prompt: self.prompt, place })?;
        }
        Ok(())
    }
}

/// The keys that matter; the others, base64 images among them, are skipped unread.
enum Key {
    Model,
    Max,
    Text,
    Stream,
    StreamOptions,
    IncludeUsage,
    Other,
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(match name {
                    "model" => Key::Model,
                    "max_tokens" | "max_completion_tokens" | "max_output_tokens" => Key::Max,
                    "messages" | "content" | "text" | "input" | "prompt" | "system" | "instructions" => {
                        Key::Text
                    }
                    "stream" => Key::Stream,
                    "stream_options" => Key::StreamOptions,
                    "include_usage" => Key::IncludeUsage,
                    _ => Key::Other,
                })
            }
        }

        deserializer.deserialize_identifier(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_in_every_shape() {
        for (body, bytes, texts) in [
            (r#"{"messages":[{"role":"user","content":"12345"}]}"#, 5, 1),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"1234"},{"type":"image_url","image_url":{"url":"data:xxxx"}}]}]}"#,
                4,
                1,
            ),
            (
                r#"{"instructions":"12","input":[{"role":"user","content":[{"type":"input_text","text":"3"}]}]}"#,
                3,
                2,
            ),
            (r#"{"input":["a","b","c"]}"#, 3, 3),
            (r#"{"input":[1,2,3]}"#, 12, 0),
            (r#"{"prompt":"a\"\u00e9"}"#, 4, 1),
            (
                r#"{"system":"1","messages":[{"role":"user","content":"2"}],"tools":[{"text":"no","name":"text"}]}"#,
                2,
                2,
            ),
            (r#"{"metadata":{"content":"no"}}"#, 0, 0),
        ] {
            let prompt = Prompt::read(body.as_bytes()).unwrap();
            assert_eq!((prompt.text_bytes, prompt.texts), (bytes, texts), "{body}");
        }
    }

    #[test]
    fn model_limits_and_markers_are_read() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"[[id=7]] [[500 x1]]"}],"max_completion_tokens":64}"#;
        let prompt = Prompt::read(body).unwrap();
        assert_eq!((prompt.model.as_str(), prompt.max_tokens), ("m", 64));
        assert_eq!(prompt.charge(), 19_u64.div_ceil(4) + 64);
        assert_eq!(prompt.markers.id.as_deref(), Some("7"));
        assert!(prompt.markers.has_acts());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "[]", "1", "{", r#"{"a":1} x"#, "\"text\""] {
            assert!(Prompt::read(body.as_bytes()).is_none(), "{body}");
        }
    }
}
