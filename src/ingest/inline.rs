//! Requests that come with the batch: an array's elements as lines, completed from the batch's endpoint.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::defaults::members;
use crate::domain::endpoint::Endpoint;
use crate::domain::file::LineProblem;

/// Why walking `requests` ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EachRequestError<E> {
    /// It is no array.
    NotAnArray,
    /// The caller stopped it.
    Stopped(E),
}

/// Gives each element of a JSON array as one line with its line feed.
///
/// # Errors
/// If it is no array, or `each` fails: then the walk ends there.
pub fn each_request<E>(
    requests: &RawValue,
    each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), EachRequestError<E>> {
    let mut walk = Walk { each, stopped: None, line: Vec::new(), marker: PhantomData };
    let mut json = serde_json::Deserializer::from_str(requests.get());
    let walked = (&mut walk).deserialize(&mut json);
    match (walked, walk.stopped) {
        (_, Some(error)) => Err(EachRequestError::Stopped(error)),
        (Err(_), None) => Err(EachRequestError::NotAnArray),
        (Ok(()), None) => Ok(()),
    }
}

struct Walk<F, E> {
    each: F,
    stopped: Option<E>,
    line: Vec<u8>,
    marker: PhantomData<E>,
}

impl<'de, E, F: FnMut(&[u8]) -> Result<(), E>> DeserializeSeed<'de> for &mut Walk<F, E> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, E, F: FnMut(&[u8]) -> Result<(), E>> Visitor<'de> for &mut Walk<F, E> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of requests")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            self.line.clear();
            self.line.extend_from_slice(element.get().as_bytes());
            crate::domain::output_line::to_one_line(&mut self.line);
            self.line.push(b'\n');
            if let Err(error) = (self.each)(&self.line) {
                self.stopped = Some(error);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// The parameter name that an error about an inline request carries: `requests[3].body.model`.
pub fn request_param(problem: &LineProblem) -> String {
    let place = problem.line.unwrap_or(1).saturating_sub(1);
    match &problem.param {
        Some(param) => format!("requests[{place}].{param}"),
        None => format!("requests[{place}]"),
    }
}

/// A line with what the endpoint says filled in, its line feed included; `None` if it is whole, or beyond help.
pub(super) fn complete(content: &[u8], endpoint: Option<Endpoint>) -> Option<Vec<u8>> {
    let members = members(std::str::from_utf8(content).ok()?)?;
    let has = |name: &str| members.iter().any(|(member, _)| member == name);
    if has("body") && has("method") && has("url") {
        return None;
    }
    let mut line = Vec::with_capacity(content.len() + 96);
    let mut put = |name: &str, value: &str| {
        line.push(if line.is_empty() { b'{' } else { b',' });
        line.extend_from_slice(serde_json::Value::from(name).to_string().as_bytes());
        line.push(b':');
        line.extend_from_slice(value.as_bytes());
    };
    let (of_line, of_body): (Vec<_>, Vec<_>) = if has("body") {
        (members.iter().collect(), Vec::new())
    } else {
        members.iter().partition(|(name, _)| matches!(&**name, "custom_id" | "method" | "url"))
    };
    for (name, value) in of_line {
        put(name, value.get());
    }
    if !has("method") {
        put("method", "\"POST\"");
    }
    if !has("url")
        && let Some(endpoint) = endpoint
    {
        put("url", &format!("\"{}\"", endpoint.path()));
    }
    if !has("body") {
        let body: Vec<String> = of_body
            .iter()
            .map(|(name, value)| format!("{}:{}", serde_json::Value::from(&**name), value.get()))
            .collect();
        put("body", &format!("{{{}}}", body.join(",")));
    }
    line.extend_from_slice(b"}\n");
    Some(line)
}
