//! A batch's `defaults`: laid under every body as text, so that the body's own bytes stay as they are.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::model_name;
use super::problems::Fault;

/// Checked defaults.
#[derive(Clone, Debug)]
pub struct Defaults {
    members: Vec<(String, String)>,
    model: Option<String>,
}

impl Defaults {
    /// Reads and checks a `defaults` object.
    ///
    /// # Errors
    /// It is no object, or holds what no batch can run; `param` is the member's name.
    pub fn parse(defaults: &RawValue) -> Result<Self, Fault> {
        let members = members(defaults.get()).ok_or_else(|| Fault {
            code: "invalid_type",
            param: None,
            message: "Invalid type for 'defaults': expected an object.".to_owned(),
        })?;
        let mut model = None;
        for (name, value) in &members {
            match &**name {
                "stream" | "background" if value.get() == "true" => {
                    let param = if name == "stream" { "stream" } else { "background" };
                    let message = format!("'{param}' is not supported in a batch; leave it out.");
                    return Err(Fault::new("invalid_value", param, message));
                }
                "model" => model = Some(model_name(value, "model")?.into_owned()),
                _ => {}
            }
        }
        let members = members.iter().map(|(name, value)| (name.clone().into_owned(), value.get().to_owned()));
        Ok(Self { members: members.collect(), model })
    }

    /// The model of bodies that name none.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Bytes that they add to a body that has none of their members.
    pub fn bytes(&self) -> usize {
        // Quotes, colon and comma beside the name and the value.
        self.members.iter().map(|(name, value)| name.len() + value.len() + 4).sum()
    }

    /// The body with the members appended that it lacks.
    pub fn lay_under(&self, body: &[u8]) -> Vec<u8> {
        let own = std::str::from_utf8(body).ok().and_then(members).unwrap_or_default();
        let end = body.iter().rposition(|byte| *byte == b'}').unwrap_or(body.len());
        let mut laid = body[..end].to_vec();
        let mut empty = own.is_empty();
        for (name, value) in &self.members {
            if own.iter().any(|(own, _)| own == name) {
                continue;
            }
            if !std::mem::take(&mut empty) {
                laid.push(b',');
            }
            laid.extend_from_slice(serde_json::Value::from(name.as_str()).to_string().as_bytes());
            laid.push(b':');
            laid.extend_from_slice(value.as_bytes());
        }
        laid.extend_from_slice(&body[end..]);
        laid
    }
}

/// [`Defaults::lay_under`] of defaults that were checked when their batch was made.
pub fn lay_defaults(defaults: &RawValue, body: &[u8]) -> Vec<u8> {
    Defaults::parse(defaults).map_or_else(|_| body.to_vec(), |defaults| defaults.lay_under(body))
}

/// An object's members in order, values as they stand; `None` if it is no object.
pub(super) fn members(json: &str) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    serde_json::from_str::<Members<'_>>(json).ok().map(|members| members.0)
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
