//! Options of an NDJSON create: they stand in the query and mean what the JSON body's fields mean.

use serde_json::{Map, Value};

use super::super::error::{ApiError, Refusal, Result};
use super::super::query::Query;

/// Fields that are numbers, booleans or objects in JSON; all others are strings.
const JSON_FIELDS: [&str; 5] = ["max_concurrency", "max_attempts", "priority", "require_on_time", "defaults"];

/// The query as the JSON object of the same create, so that both are read by the same code.
///
/// An absent endpoint is null here: a query has no other way to say that lines differ.
///
/// # Errors
/// 400 `invalid_json` where `defaults` is none, `invalid_value` for an option that is given twice; wrong types are left
/// to the reading.
pub(crate) fn as_json(query: &Query) -> Result<Vec<u8>> {
    let mut object = Map::new();
    object.insert("endpoint".to_owned(), Value::Null);
    for (key, text) in query.pairs()? {
        match key.strip_suffix(']').and_then(|key| key.split_once('[')) {
            Some((outer, inner)) => {
                let nested = object.entry(outer).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(nested) = nested {
                    nested.insert(inner.to_owned(), inner_value(outer, inner, text));
                }
            }
            None => {
                object.insert(key.clone(), outer_value(key, text)?);
            }
        }
    }
    serde_json::to_vec(&object).map_err(|error| ApiError::internal(error.to_string()))
}

fn inner_value(outer: &str, inner: &str, text: &str) -> Value {
    match (outer, inner, text.parse::<u64>()) {
        ("output_expires_after", "seconds", Ok(seconds)) => seconds.into(),
        _ => text.into(),
    }
}

fn outer_value(key: &str, text: &str) -> Result<Value> {
    if !JSON_FIELDS.contains(&key) {
        return Ok(text.into());
    }
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if key != "defaults" => Ok(text.into()),
        Err(_) => Err(ApiError::new(Refusal::InvalidJson, "'defaults' is not a JSON object.").param(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_what_the_fields_are() {
        let pairs = [
            ("endpoint", "/v1/responses"),
            ("priority", "-5"),
            ("completion_window", "90s"),
            ("require_on_time", "true"),
            ("metadata[team]", "7"),
            ("output_expires_after[anchor]", "created_at"),
            ("output_expires_after[seconds]", "3600"),
            ("defaults", r#"{"model":"m"}"#),
            ("max_attempts", "many"),
        ];
        let query = Query::of(&pairs);
        let json = String::from_utf8(as_json(&query).unwrap()).unwrap();
        insta::assert_snapshot!(json, @r#"{"completion_window":"90s","defaults":{"model":"m"},"endpoint":"/v1/responses","max_attempts":"many","metadata":{"team":"7"},"output_expires_after":{"anchor":"created_at","seconds":3600},"priority":-5,"require_on_time":true}"#);
    }

    #[test]
    fn a_query_without_an_endpoint_lets_lines_differ() {
        assert_eq!(as_json(&Query::default()).unwrap(), br#"{"endpoint":null}"#);
    }
}
