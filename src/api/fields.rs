//! A JSON object's fields, taken one by one, with refusals that name the field and what it should be.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Number;
use serde_json::value::RawValue;

use super::error::{ApiError, Refusal, Result};
use crate::ingest::BOM;

/// An object whose values are still JSON texts: a large one is never built as a tree.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    left: BTreeMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    /// Reads the object's outermost level. An empty body is an object without fields, and a byte order mark, which
    /// some editors and shells put at the start, is passed over.
    ///
    /// # Errors
    /// 400 `invalid_json`, and `invalid_type` for what is JSON but no object.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self> {
        let body = body.strip_prefix(BOM).unwrap_or(body);
        if body.trim_ascii().is_empty() {
            return Ok(Self { left: BTreeMap::new() });
        }
        match serde_json::from_slice(body) {
            Ok(left) => Ok(Self { left }),
            Err(error) if error.is_data() => {
                let why = "Invalid type for the request body: expected an object.";
                Err(ApiError::new(Refusal::InvalidType, why))
            }
            Err(error) => {
                let why = format!("We could not parse the JSON body of your request: {error}.");
                Err(ApiError::new(Refusal::InvalidJson, why))
            }
        }
    }

    /// Takes a field as its JSON text; null counts as absent.
    pub(crate) fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.left.remove(name).filter(|value| value.get() != "null")
    }

    /// Takes a field that may be null: absent, null, or a value of type `T`.
    ///
    /// # Errors
    /// 400 `invalid_type` unless it is null or `expected`, a phrase such as `a string`.
    pub(crate) fn nullable<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<Option<T>>> {
        let Some(value) = self.left.remove(name) else { return Ok(None) };
        match serde_json::from_str(value.get()) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(wrong_type(name, expected, value)),
        }
    }

    /// Takes a field of type `T`; null counts as absent.
    ///
    /// # Errors
    /// 400 `invalid_type` unless it is `expected`.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<Option<T>> {
        Ok(self.nullable(name, expected)?.flatten())
    }

    /// Takes a field that must be there; null is a value of the wrong type.
    ///
    /// # Errors
    /// 400 `missing_required_parameter`, or `invalid_type` unless it is `expected`.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<T> {
        let value = self.left.remove(name).ok_or_else(|| ApiError::missing(name))?;
        serde_json::from_str(value.get()).map_err(|_| wrong_type(name, expected, value))
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// 400 `unknown_parameter` for the first field nobody took, naming the nearest of `known`.
    pub(crate) fn finish(self, known: &[&str]) -> Result<()> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(unknown(name, known)),
        }
    }
}

/// A whole number as JSON has it: `3`, and `3.0` and `3e0` too, which are the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Number")]
pub(crate) struct WholeNumber(pub(crate) i64);

impl TryFrom<Number> for WholeNumber {
    type Error = &'static str;

    fn try_from(number: Number) -> std::result::Result<Self, Self::Error> {
        // Up to here every whole number has a floating one of its own, so that none is cut.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let whole = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= EXACT);
        let whole = whole.map(|value| value as i64);
        number.as_i64().or(whole).map(Self).ok_or("not a whole number")
    }
}

/// 400 `unknown_parameter` naming the nearest of `known`.
pub(crate) fn unknown(name: &str, known: &[&str]) -> ApiError {
    let short: String = name.chars().take(100).collect();
    let nearest = known.iter().map(|word| (strsim::jaro_winkler(&short, word), word));
    let nearest = nearest.filter(|(likeness, _)| *likeness > 0.75).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest.map_or_else(String::new, |(_, word)| format!(" Did you mean '{word}'?"));
    ApiError::new(Refusal::UnknownParameter, format!("Unknown parameter: '{short}'.{hint}")).param(short)
}

/// 400 `invalid_type` in `OpenAI`'s wording.
pub(crate) fn wrong_type(name: &str, expected: &str, got: &RawValue) -> ApiError {
    let got = match got.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    };
    // A number that is not the number wanted (a fraction, out of range) would read absurdly.
    let instead = if expected.contains("number") && got == "a number" { "another one" } else { got };
    let why = format!("Invalid type for '{name}': expected {expected}, but got {instead} instead.");
    ApiError::new(Refusal::InvalidType, why).param(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_may_be_written_with_a_point_or_an_exponent() {
        let read = |text: &str| serde_json::from_str::<WholeNumber>(text).ok().map(|number| number.0);
        let whole = [("3", 3), ("-99.0", -99), ("3e2", 300), ("9223372036854775807", i64::MAX)];
        for (text, number) in whole {
            assert_eq!(read(text), Some(number), "{text}");
        }
        for text in ["1.5", "\"3\"", "1e300", "18446744073709551615", "true", "null"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
