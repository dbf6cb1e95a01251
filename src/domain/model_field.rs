//! The `model` of a request's body: found without reading the rest, and replaced without touching it.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Longest model name, in bytes.
const MAX_MODEL: usize = 256;

/// Why no model can be read off a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelFault {
    /// It is not one JSON object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// Its `model` is no string.
    #[error("expected a string")]
    NotText,
    /// Its `model` is longer than any name.
    #[error("expected a name of at most 256 bytes")]
    TooLong,
    /// Its `model` holds control characters. Names are shown in terminals, logs and metrics, which obey them.
    #[error("expected a name without control characters")]
    Unprintable,
}

/// The model that a body names; `None` where it names none or null. Of several, the last counts, as with
/// most parsers.
///
/// # Errors
/// Why it can't be told.
pub fn model_of(body: &[u8]) -> Result<Option<String>, ModelFault> {
    let places = places(body).ok_or(ModelFault::NotAnObject)?;
    let Some(last) = places.last() else { return Ok(None) };
    let name: Option<String> =
        serde_json::from_slice(&body[last.clone()]).map_err(|_| ModelFault::NotText)?;
    name.map(|name| check_name(&name).map(|()| name)).transpose()
}

/// Whether a model may be called so.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), ModelFault> {
    if name.len() > MAX_MODEL {
        return Err(ModelFault::TooLong);
    }
    if name.chars().any(char::is_control) { Err(ModelFault::Unprintable) } else { Ok(()) }
}

/// The body with another model in its place, every other byte as it was; unchanged if it names none.
pub fn with_model(body: &Bytes, model: &str) -> Bytes {
    let places = places(body).unwrap_or_default();
    if places.is_empty() {
        return body.clone();
    }
    let name = serde_json::Value::from(model).to_string();
    let mut rewritten = Vec::with_capacity(body.len() + places.len() * name.len());
    let mut rest = 0;
    for place in places {
        rewritten.extend_from_slice(&body[rest..place.start]);
        rewritten.extend_from_slice(name.as_bytes());
        rest = place.end;
    }
    rewritten.extend_from_slice(&body[rest..]);
    rewritten.into()
}

/// Where the values of the top-level `model` stand; `None` if the body is no JSON object.
fn places(body: &[u8]) -> Option<Vec<Range<usize>>> {
    let text = std::str::from_utf8(body).ok()?;
    let Fields(models) = serde_json::from_str(text).ok()?;
    let start = text.as_ptr() as usize;
    let place = |value: &RawValue| {
        let at = value.get().as_ptr() as usize - start;
        at..at + value.get().len()
    };
    Some(models.into_iter().map(place).collect())
}

struct Fields<'a>(Vec<&'a RawValue>);

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Model,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut models = Vec::new();
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Model => models.push(map.next_value()?),
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Fields(models))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_model_is_read_off_any_body() {
        for (body, model) in [
            (r#"{"model":"gpt-4o","input":"x"}"#, Ok(Some("gpt-4o"))),
            (r#" { "input" : {"model":"no"} , "model" : "a\"\u00e9" } "#, Ok(Some("a\"é"))),
            (r#"{"m\u006fdel":"escaped"}"#, Ok(Some("escaped"))),
            (r#"{"model":"a","model":"b"}"#, Ok(Some("b"))),
            (r#"{"model":null}"#, Ok(None)),
            (r#"{"input":"x"}"#, Ok(None)),
            (r#"{"model":7}"#, Err(ModelFault::NotText)),
            (r#"{"model":"a\u001b[2Jb"}"#, Err(ModelFault::Unprintable)),
            (r#"{"model":"a\u0000"}"#, Err(ModelFault::Unprintable)),
            (r#"{"model":"#, Err(ModelFault::NotAnObject)),
            (r#"["model"]"#, Err(ModelFault::NotAnObject)),
            ("", Err(ModelFault::NotAnObject)),
            (r#"{"model":"a"} {}"#, Err(ModelFault::NotAnObject)),
        ] {
            assert_eq!(model_of(body.as_bytes()), model.map(|model| model.map(str::to_owned)), "{body}");
        }
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(257));
        assert_eq!(model_of(long.as_bytes()), Err(ModelFault::TooLong));
        assert_eq!(model_of(b"{\"model\":\"\xff\"}"), Err(ModelFault::NotAnObject));
    }

    #[test]
    fn only_the_model_is_replaced() {
        for (body, rewritten) in [
            (r#"{ "model" : "a" ,"n": 1.50 }"#, r#"{ "model" : "x\"y" ,"n": 1.50 }"#),
            (r#"{"model":"a","model":null}"#, r#"{"model":"x\"y","model":"x\"y"}"#),
            (r#"{"n":{"model":"a"}}"#, r#"{"n":{"model":"a"}}"#),
            ("no JSON", "no JSON"),
        ] {
            assert_eq!(with_model(&Bytes::from(body), "x\"y"), rewritten);
        }
    }

    proptest! {
        #[test]
        fn a_replaced_model_is_the_one_that_is_read(before in "[a-z ]{0,9}", model in "\\PC{0,40}") {
            let body = Bytes::from(format!("{{\"{before}\":[1,{{}}],\"model\" :\t\"old\"}}"));
            prop_assert_eq!(model_of(&with_model(&body, &model)), Ok(Some(model)));
        }
    }
}
