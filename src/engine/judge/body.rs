//! Reading a reply's body: one pass that proves it JSON and finds what is judged by.

use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::usage;
use crate::domain::batch::Usage;
use crate::domain::output_line::to_one_line;

/// Most bytes that are kept of an error body that is not JSON, which is a page for people.
const LONGEST_QUOTE: usize = 16 * 1024;

/// What a body says.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Whether it is JSON.
    pub(super) is_json: bool,
    /// Whether it is a JSON object, as every endpoint's answer is.
    pub(super) is_object: bool,
    /// Tokens used; `None`: unknown.
    pub(super) usage: Option<Usage>,
    /// The error that it tells of.
    pub(super) fault: Option<Fault>,
}

impl Reading {
    /// Reads a body. In that of an answer (`fine`), only what calls itself an error is one.
    pub(super) fn of(body: &[u8], fine: bool) -> Self {
        // Checked first: the JSON parser doesn't look into the strings that it skips.
        let Ok(text) = std::str::from_utf8(body) else { return Self::default() };
        match serde_json::from_str(text) {
            Err(_) => Self::default(),
            Ok(Top::Other) => Self { is_json: true, ..Self::default() },
            Ok(Top::Object(fields)) => Self {
                is_json: true,
                is_object: true,
                usage: fields.usage.and_then(|json| usage::read(json.get())),
                fault: fields.fault(fine),
            },
        }
    }
}

enum Top<'a> {
    Object(Fields<'a>),
    Other,
}

/// What is looked at of an answer or error; everything else is skipped where it stands.
#[derive(Default)]
struct Fields<'a> {
    usage: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    object: Option<&'a RawValue>,
    code: Option<&'a RawValue>,
    kind: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
}

impl Fields<'_> {
    fn fault(&self, fine: bool) -> Option<Fault> {
        let error = self.error.map(RawValue::get).filter(|json| *json != "null");
        if let Some(error) = error {
            return Some(Fault::of_error(error));
        }
        // Mistral and older vLLM put the error's fields on top.
        let is_error = self.object.is_some_and(|json| json.get() == r#""error""#);
        (is_error || !fine).then(|| Fault::new(self.code, self.kind, self.message))
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Usage,
    Error,
    Object,
    Code,
    Type,
    #[serde(alias = "detail")]
    Message,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Top<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TopVisitor;

        impl<'de> Visitor<'de> for TopVisitor {
            type Value = Top<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("JSON")
            }

            // By hand, since a derived reader refuses a key that comes twice; here the last one counts.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(field) = map.next_key()? {
                    let slot = match field {
                        Field::Usage => &mut fields.usage,
                        Field::Error => &mut fields.error,
                        Field::Object => &mut fields.object,
                        Field::Code => &mut fields.code,
                        Field::Type => &mut fields.kind,
                        Field::Message => &mut fields.message,
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *slot = Some(map.next_value()?);
                }
                Ok(Top::Object(fields))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Top::Other)
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Top::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Top::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Top::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Top::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Top::Other)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Top::Other)
            }
        }

        deserializer.deserialize_any(TopVisitor)
    }
}

/// A JSON body on one line; copied only if it has several and is shared.
pub(super) fn one_line(body: Bytes) -> Bytes {
    let body = body.slice_ref(body.trim_ascii());
    if memchr::memchr2(b'\n', b'\r', &body).is_none() {
        return body;
    }
    let mut body = body.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    to_one_line(&mut body);
    body.freeze()
}

/// A body that is not JSON as a JSON string, cut where it gets long.
pub(super) fn quoted(body: &[u8]) -> Bytes {
    let cut = &body[..body.len().min(LONGEST_QUOTE)];
    let text = String::from_utf8_lossy(cut);
    // Where a character was cut through, its half says nothing.
    let text = if cut.len() < body.len() { text.trim_end_matches('\u{fffd}') } else { &text };
    serde_json::Value::from(text).to_string().into()
}
