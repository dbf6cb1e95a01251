//! From a row to a request: which endpoint, which model, what it is asked.

use serde_json::{Map, Value, json};

use super::rows::Row;
use super::template::Template;
use crate::config::nearest;
use crate::domain::endpoint::Endpoint;

/// The most tokens of an answer where the endpoint wants that said and the user did not.
const MESSAGES_MAX_TOKENS: u32 = 1_024;

/// What a request is made from, beside its row.
#[derive(Clone, Debug)]
pub(in crate::cli) struct RecipeParts {
    /// What is asked.
    pub(in crate::cli) prompt: Template,
    /// What the model is told before.
    pub(in crate::cli) system: Option<Template>,
    /// Who is asked.
    pub(in crate::cli) model: String,
    /// Further fields of the body.
    pub(in crate::cli) params: Map<String, Value>,
    /// What is called.
    pub(in crate::cli) endpoint: Endpoint,
}

/// How a row becomes a request.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Recipe {
    parts: RecipeParts,
}

/// A request as a line of a batch.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The line, without its end.
    pub(super) line: Vec<u8>,
    /// Bytes of text in it that a model reads.
    pub(super) text_bytes: u64,
}

impl Recipe {
    /// Checks that the parts go together.
    ///
    /// # Errors
    /// What does not.
    pub(in crate::cli) fn new(parts: RecipeParts) -> Result<Self, String> {
        let takes_system =
            matches!(parts.endpoint, Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages);
        if parts.system.is_some() && !takes_system {
            return Err(format!("{} takes no --system", parts.endpoint.path()));
        }
        if parts.columns().next().is_none() {
            return Err(
                "the prompt names no column, so every row would be asked the same; a column's place is \
                        written {{name}}"
                    .to_owned(),
            );
        }
        if parts.params.get("stream") == Some(&Value::Bool(true)) {
            return Err("--param stream=true: batches have no streams".to_owned());
        }
        Ok(Self { parts })
    }

    /// What it is made from.
    pub(in crate::cli) const fn parts(&self) -> &RecipeParts {
        &self.parts
    }

    /// All that the requests depend on beside their rows.
    pub(super) fn identity(&self) -> Value {
        let RecipeParts { prompt, system, model, params, endpoint } = &self.parts;
        json!({
            "prompt": format!("{prompt:?}"),
            "system": system.as_ref().map(|system| format!("{system:?}")),
            "model": model,
            "params": params,
            "endpoint": endpoint.path(),
        })
    }

    /// Every column that it names is among these, which are all that the table has.
    ///
    /// # Errors
    /// The first that is not, with the nearest one and what there is.
    pub(super) fn check_columns(&self, columns: &[String]) -> Result<(), String> {
        let names: Vec<&str> = columns.iter().map(|name| name.trim()).collect();
        for wanted in self.parts.columns() {
            match names.iter().filter(|name| **name == wanted).count() {
                1 => {}
                0 => {
                    let meant = nearest(wanted, names.iter().copied())
                        .map(|meant| format!(" (did you mean {{{{{meant}}}}}?)"))
                        .unwrap_or_default();
                    return Err(format!(
                        "the prompt names a column {{{{{wanted}}}}} that is not there{meant}. The columns are: {}",
                        listed(&names)
                    ));
                }
                _ => return Err(format!("there are several columns named {wanted:?}: which one is meant?")),
            }
        }
        Ok(())
    }

    /// The `custom_id` of the row with this number, from 1.
    pub(super) fn custom_id(number: u64) -> String {
        format!("row-{number}")
    }

    /// The row's request; `None` if it has nothing in any column that the prompt names.
    pub(super) fn request(&self, row: &Row, number: u64) -> Option<Request> {
        let parts = &self.parts;
        let is_empty = |column: &str| row.cell(column).is_none_or(|text| text.trim().is_empty());
        if parts.columns().all(is_empty) {
            return None;
        }
        let prompt = parts.prompt.fill(|column| row.cell(column));
        let system = parts.system.as_ref().map(|system| system.fill(|column| row.cell(column)));
        let text_bytes = (prompt.len() + system.as_ref().map_or(0, String::len)) as u64;
        let line = json!({
            "custom_id": Self::custom_id(number),
            "method": "POST",
            "url": parts.endpoint.path(),
            "body": parts.body(prompt, system),
        });
        Some(Request { line: line.to_string().into_bytes(), text_bytes })
    }
}

impl RecipeParts {
    fn columns(&self) -> impl Iterator<Item = &str> {
        self.prompt.columns().chain(self.system.iter().flat_map(Template::columns))
    }

    fn body(&self, prompt: String, system: Option<String>) -> Value {
        let model = &self.model;
        let message = |role: &str, text: String| json!({"role": role, "content": text});
        let mut body = match self.endpoint {
            Endpoint::ChatCompletions => {
                let before = system.map(|system| message("system", system));
                let messages: Vec<Value> = before.into_iter().chain([message("user", prompt)]).collect();
                json!({"model": model, "messages": messages})
            }
            Endpoint::Messages => {
                let mut body = json!({"model": model, "max_tokens": MESSAGES_MAX_TOKENS});
                if let Some(system) = system {
                    body["system"] = system.into();
                }
                body["messages"] = json!([message("user", prompt)]);
                body
            }
            Endpoint::Responses => {
                let mut body = json!({"model": model, "input": prompt});
                if let Some(system) = system {
                    body["instructions"] = system.into();
                }
                body
            }
            Endpoint::Completions => json!({"model": model, "prompt": prompt}),
            Endpoint::Embeddings | Endpoint::Moderations => json!({"model": model, "input": prompt}),
        };
        for (name, value) in &self.params {
            body[name.as_str()] = value.clone();
        }
        body
    }
}

/// Names for a message, some of them if there are very many.
fn listed(names: &[&str]) -> String {
    const MOST: usize = 30;
    let mut text = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(&format!(" and {} more", names.len() - MOST));
    }
    text
}
