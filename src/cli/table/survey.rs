//! Everything about a file before anything of it is sent: is it whole, how much is it, which run is it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::error::TableError;
use super::layout::Layout;
use super::lines::Lines;
use super::recipe::{Recipe, Request};
use super::rows::{Row, Rows};

/// Models of one file that are told apart.
const MOST_MODELS: usize = 64;

/// A file and what is to be made of it.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Job {
    /// The file.
    pub(in crate::cli) input: PathBuf,
    /// How it is laid out.
    pub(in crate::cli) layout: Layout,
    /// How rows become requests; `None`: its lines are requests.
    pub(in crate::cli) recipe: Option<Recipe>,
    /// Only so many of its first requests.
    pub(in crate::cli) limit: Option<u64>,
}

/// Lines to send, each with its end.
pub(in crate::cli) type Requests = Box<dyn Iterator<Item = Result<Vec<u8>, TableError>> + Send>;

/// What one batch may hold.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct PartLimits {
    /// Lines.
    pub(in crate::cli) items: u64,
    /// Bytes.
    pub(in crate::cli) bytes: u64,
}

/// A run of requests that makes one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Part {
    /// Lines.
    pub(in crate::cli) items: u64,
    /// Bytes, line ends included.
    pub(in crate::cli) bytes: u64,
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Survey {
    /// Names the file's content and everything that its answers depend on.
    pub(in crate::cli) fingerprint: String,
    /// The columns, in the order of their first appearance.
    pub(in crate::cli) columns: Vec<String>,
    /// The batches that it makes, in order; at least one.
    pub(in crate::cli) parts: Vec<Part>,
    /// Rows with nothing in the columns of the prompt, which are not sent.
    pub(in crate::cli) empty_rows: u64,
    /// The line of the first of these.
    pub(in crate::cli) first_empty: Option<u64>,
    /// Rows whose last cells are missing.
    pub(in crate::cli) short_rows: u64,
    /// The line of the first of these.
    pub(in crate::cli) first_short: Option<u64>,
    /// Bytes of text that models read.
    pub(in crate::cli) text_bytes: u64,
    /// Requests by the model that they name; a file with very many of them has the rest under "".
    pub(in crate::cli) models: BTreeMap<String, u64>,
    /// The most tokens that all answers together may have, if every request says its most.
    pub(in crate::cli) max_output_tokens: Option<u64>,
}

impl Survey {
    /// Requests in all.
    pub(in crate::cli) fn items(&self) -> u64 {
        self.parts.iter().map(|part| part.items).sum()
    }

    fn count(&mut self, request: &Request, limits: &PartLimits) {
        let bytes = request.line.len() as u64 + 1;
        match self.parts.last_mut() {
            Some(part) if part.items < limits.items && part.bytes + bytes <= limits.bytes => {
                part.items += 1;
                part.bytes += bytes;
            }
            _ => self.parts.push(Part { items: 1, bytes }),
        }
        self.text_bytes += request.text_bytes;
    }

    fn note_model(&mut self, model: &str, max_tokens: Option<u64>) {
        let known = self.models.len() < MOST_MODELS || self.models.contains_key(model);
        *self.models.entry(if known { model.to_owned() } else { String::new() }).or_default() += 1;
        self.max_output_tokens =
            self.max_output_tokens.zip(max_tokens).map(|(sum, more)| sum.saturating_add(more));
    }

    fn note_row(&mut self, row: &Row) {
        if row.missing() > 0 {
            self.short_rows += 1;
            self.first_short.get_or_insert(row.line);
        }
    }
}

/// The fields of a request that a survey looks at.
#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    body: Map<String, Value>,
}

impl Job {
    /// Reads all of it once.
    ///
    /// # Errors
    /// The file can't be read, is no table, or lacks a column that the prompt names.
    pub(in crate::cli) fn survey(&self, limits: &PartLimits) -> Result<Survey, TableError> {
        let mut survey = Survey { max_output_tokens: Some(0), ..Survey::default() };
        match &self.recipe {
            Some(recipe) => self.survey_table(recipe, limits, &mut survey)?,
            None => self.survey_lines(limits, &mut survey)?,
        }
        if survey.parts.is_empty() {
            let message = if survey.empty_rows == 0 {
                "there are no rows in it"
            } else {
                "all rows are empty in the columns that the prompt names"
            };
            return Err(TableError::whole(message));
        }
        survey.fingerprint = self.fingerprint(&survey.parts)?;
        Ok(survey)
    }

    fn survey_table(
        &self,
        recipe: &Recipe,
        limits: &PartLimits,
        survey: &mut Survey,
    ) -> Result<(), TableError> {
        let rows = Rows::open(&self.input, &self.layout)?;
        if let Some(header) = rows.header() {
            survey.columns = header.to_vec();
            recipe.check_columns(&survey.columns).map_err(TableError::whole)?;
        }
        let (objects, mut items) = (rows.header().is_none(), 0);
        let max_tokens = max_tokens(&recipe.parts().params);
        for (number, row) in (1..).zip(rows) {
            let row = row?;
            row.add_columns(&mut survey.columns);
            survey.note_row(&row);
            match recipe.request(&row, number) {
                Some(request) => {
                    survey.count(&request, limits);
                    survey.note_model(&recipe.parts().model, max_tokens);
                    items += 1;
                }
                None => {
                    survey.empty_rows += 1;
                    survey.first_empty.get_or_insert(row.line);
                }
            }
            if self.limit == Some(items) {
                break;
            }
        }
        if objects && !survey.columns.is_empty() {
            recipe.check_columns(&survey.columns).map_err(TableError::whole)?;
        }
        Ok(())
    }

    fn survey_lines(&self, limits: &PartLimits, survey: &mut Survey) -> Result<(), TableError> {
        for line in self.limited(Lines::open(&self.input, &self.layout)?) {
            let (_, line) = line?;
            // What is no request is for the service to refuse: it lists every such line.
            let body = serde_json::from_slice(&line).map_or_else(|_| Map::new(), |peek: Peek| peek.body);
            survey.note_model(body.get("model").and_then(Value::as_str).unwrap_or(""), max_tokens(&body));
            survey.count(&Request { text_bytes: line.len() as u64, line }, limits);
        }
        Ok(())
    }

    fn limited<I: Iterator>(&self, all: I) -> impl Iterator<Item = I::Item> + use<I> {
        all.take(self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    /// The lines to send, each with its end, in order. The file is one that a survey found whole.
    ///
    /// # Errors
    /// The file can't be read any more.
    pub(in crate::cli) fn requests(&self) -> Result<Requests, TableError> {
        let ended = |mut line: Vec<u8>| {
            line.push(b'\n');
            line
        };
        let Some(recipe) = self.recipe.clone() else {
            let lines = self.limited(Lines::open(&self.input, &self.layout)?);
            return Ok(Box::new(lines.map(move |line| line.map(|(_, line)| ended(line)))));
        };
        let rows = Rows::open(&self.input, &self.layout)?;
        let requests = (1..).zip(rows).filter_map(move |(number, row)| match row {
            Ok(row) => recipe.request(&row, number).map(|request| Ok(ended(request.line))),
            Err(error) => Some(Err(error)),
        });
        Ok(Box::new(self.limited(requests)))
    }

    /// A hash of the file and of all that shapes its requests: the same run goes on, a changed one starts anew.
    fn fingerprint(&self, parts: &[Part]) -> Result<String, TableError> {
        let mut file = File::open(&self.input)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 256 * 1024]);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
        // A file of requests that is run whole is its bytes and nothing else.
        if self.recipe.is_some() || self.limit.is_some() {
            let recipe = self.recipe.as_ref().map(Recipe::identity);
            hash.update(json!({"recipe": recipe, "limit": self.limit}).to_string());
        }
        // Where it is cut must stay where it was.
        if parts.len() > 1 {
            let cuts: Vec<u64> = parts.iter().map(|part| part.items).collect();
            hash.update(json!({ "parts": cuts }).to_string());
        }
        Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The most tokens that a request's answer may have, if it says so.
fn max_tokens(body: &Map<String, Value>) -> Option<u64> {
    let names = ["max_completion_tokens", "max_output_tokens", "max_tokens"];
    names.iter().find_map(|name| body.get(*name)?.as_u64())
}
