//! What of a request's body its tokens are estimated from, found in one pass without keeping anything.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Texts at least this long that stand where an image, sound or file belongs are taken for base64.
const SHORTEST_PAYLOAD: usize = 256;
/// A token id in an embedding's input stands for about so much text.
const TOKEN_ID_BYTES: u64 = 4;

/// What of a request counts: all that its provider can charge it by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Bytes of text that the model reads: messages, instructions, tools.
    pub(crate) text_bytes: u64,
    /// Images, sounds and files in base64, whose bytes are left out of `text_bytes`.
    pub(crate) payloads: u32,
    /// The most output tokens that the request allows, over all of its choices; `None`: it doesn't say.
    pub(crate) max_output: Option<u64>,
}

impl Measure {
    /// Of a body, which is a JSON object; anything else measures nothing.
    pub(crate) fn of(body: &[u8]) -> Self {
        let mut found = Found::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        // What can't be read is the provider's to refuse; what was found until then is as good as nothing.
        let _ = Node { found: &mut found, place: Place::Top }.deserialize(&mut json);
        Self {
            text_bytes: found.text_bytes,
            payloads: found.payloads,
            max_output: found.max_output.map(|max| max.saturating_mul(found.choices.max(1))),
        }
    }

    /// With a batch's defaults laid under it, whose own limits count where the body has none.
    #[must_use]
    pub(crate) fn over(self, defaults: &Self) -> Self {
        Self {
            text_bytes: self.text_bytes.saturating_add(defaults.text_bytes),
            payloads: self.payloads.saturating_add(defaults.payloads),
            max_output: self.max_output.or(defaults.max_output),
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    text_bytes: u64,
    payloads: u32,
    max_output: Option<u64>,
    choices: u64,
}

/// Where in the body a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Max,
    Choices,
    /// Text that the model reads.
    Text,
    /// Where an image, sound or file may stand.
    Payload,
    /// Definitions that the model reads as they are: names and descriptions alike.
    Definitions,
}

struct Node<'a> {
    found: &'a mut Found,
    place: Place,
}

impl Node<'_> {
    fn below(&mut self, place: Place) -> Node<'_> {
        Node { found: self.found, place }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
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
            Place::Payload if text.len() < SHORTEST_PAYLOAD => {}
            // A document may be given as plain text in the same place; base64 has no spaces.
            Place::Payload if !text.as_bytes()[..SHORTEST_PAYLOAD].contains(&b' ') => {
                self.found.payloads += 1;
            }
            Place::Text | Place::Payload | Place::Definitions => {
                self.found.text_bytes += text.len() as u64;
            }
            Place::Top | Place::Max | Place::Choices => {}
        }
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        match self.place {
            Place::Text => self.found.text_bytes += TOKEN_ID_BYTES,
            Place::Max => self.found.max_output = Some(self.found.max_output.unwrap_or(0).max(number)),
            Place::Choices => self.found.choices = self.found.choices.max(number),
            Place::Top | Place::Payload | Place::Definitions => {}
        }
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<(), A::Error> {
        let place = self.place;
        while values.next_element_seed(self.below(place))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while let Some(Key(place, length)) = entries.next_key::<Key>()? {
            let place = match (self.place, place) {
                (Place::Definitions, _) => {
                    self.found.text_bytes += length as u64;
                    Some(Place::Definitions)
                }
                (Place::Payload, _) => Some(Place::Payload),
                (Place::Top, place) => place,
                // Limits are the request's own, and tools are defined on top only.
                (_, Some(place @ (Place::Text | Place::Payload))) => Some(place),
                _ => None,
            };
            match place {
                Some(place) => entries.next_value_seed(self.below(place))?,
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A key: where what it names stands, and its length.
struct Key(Option<Place>, usize);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                let place = match name {
                    "max_tokens" | "max_completion_tokens" | "max_output_tokens" => Some(Place::Max),
                    "n" | "best_of" => Some(Place::Choices),
                    "messages" | "content" | "text" | "input" | "prompt" | "system" | "instructions"
                    | "arguments" | "output" => Some(Place::Text),
                    "image_url" | "input_audio" | "file" | "file_data" | "source" => Some(Place::Payload),
                    "tools" | "functions" | "response_format" => Some(Place::Definitions),
                    _ => None,
                };
                Ok(Key(place, name.len()))
            }
        }

        deserializer.deserialize_identifier(Name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn measure(body: &serde_json::Value) -> (u64, u32, Option<u64>) {
        let measure = Measure::of(body.to_string().as_bytes());
        (measure.text_bytes, measure.payloads, measure.max_output)
    }

    #[test]
    fn text_is_counted_in_every_endpoint_s_shape() {
        for (body, bytes) in [
            (json!({"model": "m", "messages": [{"role": "user", "content": "12345"}]}), 5),
            (
                json!({"messages": [{"content": [{"type": "text", "text": "12"}, {"type": "text", "text": "3"}]}]}),
                3,
            ),
            (json!({"instructions": "12", "input": [{"content": [{"type": "input_text", "text": "3"}]}]}), 3),
            (json!({"input": ["a", "b", "c"]}), 3),
            (json!({"input": [1, 2, 3]}), 12),
            (json!({"system": [{"type": "text", "text": "1"}], "messages": [{"content": "2"}]}), 2),
            (json!({"prompt": "\u{e9}"}), 2),
            (json!({"metadata": {"content": "no"}, "user": "no"}), 0),
            (json!({"tools": [{"name": "ab", "parameters": {"text": "c"}}]}), 4 + 2 + 10 + 4 + 1),
        ] {
            assert_eq!(measure(&body), (bytes, 0, None), "{body}");
        }
    }

    #[test]
    fn base64_is_counted_apart() {
        let data = "A".repeat(10_000);
        let body = json!({"messages": [{"content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}"), "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
            {"type": "document", "source": {"type": "text", "data": "a ".repeat(500)}},
            {"type": "input_image", "image_url": format!("data:image/png;base64,{data}")},
        ]}]});
        assert_eq!(measure(&body), (4 + 1_000, 4, None));
    }

    #[test]
    fn limits_count_over_all_choices_and_only_on_top() {
        for (body, max) in [
            (json!({"max_tokens": 5}), Some(5)),
            (json!({"max_completion_tokens": 5, "max_tokens": 3, "n": 4}), Some(20)),
            (json!({"max_output_tokens": 5, "best_of": 2}), Some(10)),
            (json!({"n": 4}), None),
            (json!({"messages": [{"max_tokens": 5}]}), None),
            (json!({"max_tokens": null}), None),
            (json!({"max_tokens": "5"}), None),
            (json!({"max_tokens": u64::MAX, "n": 2}), Some(u64::MAX)),
        ] {
            assert_eq!(measure(&body).2, max, "{body}");
        }
    }

    #[test]
    fn defaults_lie_under() {
        let body = Measure { text_bytes: 3, payloads: 1, max_output: None };
        let defaults = Measure { text_bytes: 4, payloads: 0, max_output: Some(9) };
        assert_eq!(body.over(&defaults), Measure { text_bytes: 7, payloads: 1, max_output: Some(9) });
        assert_eq!(defaults.over(&body).max_output, Some(9));
    }

    proptest! {
        #[test]
        fn no_body_breaks_it(body in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
            let _ = Measure::of(&body);
            let measured = Measure::of(json!({"prompt": text}).to_string().as_bytes());
            prop_assert_eq!(measured.text_bytes, text.len() as u64);
        }
    }
}
