//! Headers and parameters: names with values that may be secret.

use http::{HeaderName, HeaderValue};

use super::description::{Notation, ValueKind};
use super::secret::{MASK, Secret, is_sensitive};
use super::setting::{Mismatch, Setting, quoted, text_of};
use super::tree::Value;

/// Names with values, as a table or, from a variable, as `name=value` with commas between.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pairs(pub(super) Vec<(String, Secret)>);

impl Pairs {
    /// With names as headers have them.
    pub(super) fn into_lowercase(self) -> Vec<(String, Secret)> {
        self.0.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
    }

    /// The first name that no header can have, or whose value none can have.
    pub(super) fn not_a_header(pairs: &[(String, Secret)]) -> Option<&str> {
        let fits = |(name, value): &&(String, Secret)| {
            name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value.expose()).is_ok()
        };
        pairs.iter().find(|pair| !fits(pair)).map(|(name, _)| name.as_str())
    }
}

impl Setting for Pairs {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "names with texts",
            examples: &["{ \"x-team\" = \"search\" }"],
            note: "in a variable `name=value,name=value`",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        let expected = || Mismatch::expected("names with texts, such as { \"x-team\" = \"search\" }");
        let pairs = match value {
            Value::Table(table) => table
                .iter()
                .map(|(name, node)| Some((name.clone(), Secret::new(text_of(&node.value)?))))
                .collect::<Option<Vec<_>>>(),
            Value::Raw(text) => text.split(',').filter(|pair| !pair.trim().is_empty()).map(pair).collect(),
            _ => None,
        };
        pairs.map(Self).ok_or_else(expected)
    }

    fn shown(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let show = |(name, value): &(String, Secret)| {
            let value = if is_sensitive(name) { MASK } else { value.expose() };
            format!("{} = {}", quoted(name), quoted(value))
        };
        Some(format!("{{ {} }}", self.0.iter().map(show).collect::<Vec<_>>().join(", ")))
    }
}

fn pair(text: &str) -> Option<(String, Secret)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim();
    (!name.is_empty()).then(|| (name.to_owned(), Secret::new(value.trim())))
}
