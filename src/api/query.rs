//! Query strings, with refusals that name the parameter.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::extract::Query as Pairs;
use http::request::Parts;

use super::error::{ApiError, Refusal, Result};

/// A call's query. Parameters nobody asks for are ignored: some SDKs carry over what stood in the
/// base URL.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let pairs = Pairs::try_from_uri(&parts.uri).map_err(|_| {
            ApiError::new(Refusal::InvalidValue, "The query string is not percent-encoded UTF-8.")
        })?;
        Ok(Self(pairs.0))
    }
}

impl Query {
    /// A parameter's text; an empty one counts as absent.
    ///
    /// # Errors
    /// 400 `invalid_value` if it is there twice: whichever of both were taken, whoever meant the other one would get an
    /// answer to something else.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next().filter(|value| !value.is_empty());
        if values.next().is_some() { Err(given_twice(name)) } else { Ok(value) }
    }

    /// The first parameter that has one of these names, with or without brackets.
    pub(crate) fn first_of(&self, names: &[&'static str]) -> Option<&'static str> {
        self.0.iter().find_map(|(key, _)| {
            let outer = key.split('[').next();
            names.iter().copied().find(|name| outer == Some(*name))
        })
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// 400 `invalid_type` if it is no number, `invalid_value` outside of the range or as in [`Self::text`].
    pub(crate) fn number<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<Option<T>>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let outside = || {
            let why = format!("Invalid '{name}': it must be from {} to {}.", range.start(), range.end());
            ApiError::invalid(name, why)
        };
        match text.parse::<T>() {
            Ok(value) if range.contains(&value) => Ok(Some(value)),
            Ok(_) => Err(outside()),
            // A number too large or too small for its type is outside of the range too.
            Err(_) if is_whole_number(text) => Err(outside()),
            Err(_) => {
                let why = format!("Invalid type for '{name}': expected a whole number.");
                Err(ApiError::new(Refusal::InvalidType, why).param(name))
            }
        }
    }

    /// One of several words.
    ///
    /// # Errors
    /// 400 `invalid_value` that lists them, or as in [`Self::text`].
    pub(crate) fn choice<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => Err(not_one_of(name, text, words.iter().map(|(word, _)| *word))),
        }
    }

    /// `true`, `false`, `1` or `0`; absent is false.
    ///
    /// # Errors
    /// 400 `invalid_value` for anything else, or as in [`Self::text`].
    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        let words = [("true", true), ("1", true), ("false", false), ("0", false)];
        Ok(self.choice(name, &words)?.unwrap_or(false))
    }

    /// The pairs of a bracketed object, such as `metadata[team]=x`.
    ///
    /// # Errors
    /// 400 `invalid_value` if it is given without brackets, which says nothing that a list could be filtered by; if one
    /// of its keys is there twice, since no object has two values for one, or has brackets of its own: its values are
    /// text.
    pub(crate) fn object(&self, name: &str) -> Result<Vec<(String, String)>> {
        if self.0.iter().any(|(key, _)| key == name) {
            let why = format!("Invalid value for '{name}': write each of its fields as '{name}[key]=value'.");
            return Err(ApiError::invalid(name, why));
        }
        let inner =
            |key: &str| Some(key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?.to_owned());
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (key, value) in self.0.iter().filter_map(|(key, value)| Some((inner(key)?, value.clone()))) {
            let param = || format!("{name}[{}]", key.chars().take(100).collect::<String>());
            if key.contains("][") {
                let why = format!("'{}' is an object or a list; text is expected.", param());
                return Err(ApiError::invalid(&param(), why));
            }
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(given_twice(&param()));
            }
            pairs.push((key, value));
        }
        Ok(pairs)
    }

    /// Every pair, for calls that take their options from the query.
    ///
    /// # Errors
    /// 400 `invalid_value` if one of them is there twice.
    pub(crate) fn pairs(&self) -> Result<&[(String, String)]> {
        let mut names: Vec<&str> = self.0.iter().map(|(key, _)| key.as_str()).collect();
        names.sort_unstable();
        match names.array_windows().find(|[one, next]| one == next) {
            Some([name, _]) => Err(given_twice(name)),
            None => Ok(&self.0),
        }
    }
}

fn given_twice(name: &str) -> ApiError {
    let name: String = name.chars().take(100).collect();
    ApiError::invalid(&name, format!("'{name}' is given twice."))
}

/// 400 `invalid_value` that lists what is possible, in `OpenAI`'s wording.
pub(crate) fn not_one_of<'a>(name: &str, given: &str, words: impl Iterator<Item = &'a str>) -> ApiError {
    let listed: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    let given: String = given.chars().take(100).collect();
    ApiError::invalid(name, format!("Invalid value: '{given}'. Supported values are: {}.", listed.join(", ")))
}

fn is_whole_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    impl Query {
        /// A query of these pairs.
        pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
            Self(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        }
    }

    #[rstest]
    #[case("5", Ok(Some(5)))]
    #[case("", Ok(None))]
    #[case("0", Err(Refusal::InvalidValue))]
    #[case("101", Err(Refusal::InvalidValue))]
    #[case("-1", Err(Refusal::InvalidValue))]
    #[case("99999999999999999999999", Err(Refusal::InvalidValue))]
    #[case("1.5", Err(Refusal::InvalidType))]
    #[case("x", Err(Refusal::InvalidType))]
    fn numbers(#[case] text: &str, #[case] expected: std::result::Result<Option<usize>, Refusal>) {
        let query = Query::of(&[("limit", text)]);
        assert_eq!(query.number("limit", 1..=100).map_err(|error| error.refusal()), expected);
    }

    #[rstest]
    #[case(&["", "5"])]
    #[case(&["5", ""])]
    #[case(&["5", "5"])]
    fn of_two_values_none_is_taken(#[case] values: &[&str]) {
        let pairs: Vec<_> = values.iter().map(|value| ("limit", *value)).collect();
        let query = Query::of(&pairs);
        let error = query.number::<usize>("limit", 1..=100).unwrap_err();
        assert_eq!(error.refusal(), Refusal::InvalidValue);
        assert!(query.pairs().is_err());
        assert_eq!(query.text("after").unwrap(), None, "what nobody asks for is passed over");
    }

    #[test]
    fn brackets_make_objects() {
        let query =
            Query::of(&[("metadata[a]", "1"), ("metadata[b c]", "2"), ("metadatas", "3"), ("x[a]", "4")]);
        let expected = [("a".to_owned(), "1".to_owned()), ("b c".to_owned(), "2".to_owned())];
        assert_eq!(query.object("metadata").unwrap(), expected);
        let twice = Query::of(&[("metadata[a]", "1"), ("metadata[a]", "2")]);
        assert_eq!(twice.object("metadata").unwrap_err().refusal(), Refusal::InvalidValue);
        for text in ["", "x"] {
            let plain = Query::of(&[("metadata[a]", "1"), ("metadata", text)]);
            assert_eq!(plain.object("metadata").unwrap_err().refusal(), Refusal::InvalidValue);
        }
        let nested = Query::of(&[("metadata[a][0]", "1")]);
        assert_eq!(nested.object("metadata").unwrap_err().refusal(), Refusal::InvalidValue);
    }
}
