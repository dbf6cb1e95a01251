//! JSON columns: lists that are only ever read whole. The same text in every database.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{StoreError, damaged};
use crate::domain::file::{FileSummary, LineProblem, ModelShape};

/// A value as its column holds it.
pub(super) fn to_text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| damaged(&format!("a value can't be stored: {error}")))
}

/// A column's value.
pub(super) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged(&format!("a stored value can't be read: {error}")))
}

/// A [`LineProblem`] as stored; the names are part of the schema.
#[derive(Serialize, Deserialize)]
struct Problem {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    line: Option<u32>,
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    param: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Shape {
    model: String,
    items: u64,
    endpoints: u8,
    first_line: u32,
}

#[derive(Serialize, Deserialize)]
struct Summary {
    bytes: u64,
    lines: u32,
    items: u64,
    faulty: u64,
    segments: u32,
    models: Vec<Shape>,
    problems: Vec<Problem>,
}

/// Problems as their column holds them.
pub(super) fn problems_to_text(problems: &[LineProblem]) -> Result<String, StoreError> {
    to_text(&problems.iter().cloned().map(Problem::from).collect::<Vec<_>>())
}

/// A column's problems.
pub(super) fn problems_from_text(text: &str) -> Result<Vec<LineProblem>, StoreError> {
    let problems: Vec<Problem> = from_text(text)?;
    Ok(problems.into_iter().map(LineProblem::from).collect())
}

/// A summary as its column holds it.
pub(super) fn summary_to_text(summary: &FileSummary) -> Result<String, StoreError> {
    let summary = summary.clone();
    to_text(&Summary {
        bytes: summary.bytes,
        lines: summary.lines,
        items: summary.items,
        faulty: summary.faulty,
        segments: summary.segments,
        models: summary.models.into_iter().map(Shape::from).collect(),
        problems: summary.problems.into_iter().map(Problem::from).collect(),
    })
}

/// A column's summary.
pub(super) fn summary_from_text(text: &str) -> Result<FileSummary, StoreError> {
    let stored: Summary = from_text(text)?;
    Ok(FileSummary {
        bytes: stored.bytes,
        lines: stored.lines,
        items: stored.items,
        faulty: stored.faulty,
        segments: stored.segments,
        models: stored.models.into_iter().map(ModelShape::from).collect(),
        problems: stored.problems.into_iter().map(LineProblem::from).collect(),
    })
}

/// Labels as their column holds them: an array of pairs, since their order is the client's.
pub(super) fn labels_to_text(labels: &[(String, String)]) -> Result<String, StoreError> {
    to_text(&labels)
}

/// One label as it stands among the others in their column.
pub(super) fn label_to_text(label: &(String, String)) -> Result<String, StoreError> {
    to_text(label)
}

impl From<LineProblem> for Problem {
    fn from(problem: LineProblem) -> Self {
        let LineProblem { line, code, message, param } = problem;
        Self { line, code, message, param }
    }
}

impl From<Problem> for LineProblem {
    fn from(problem: Problem) -> Self {
        let Problem { line, code, message, param } = problem;
        Self { line, code, message, param }
    }
}

impl From<ModelShape> for Shape {
    fn from(shape: ModelShape) -> Self {
        let ModelShape { model, items, endpoints, first_line } = shape;
        Self { model, items, endpoints, first_line }
    }
}

impl From<Shape> for ModelShape {
    fn from(shape: Shape) -> Self {
        let Shape { model, items, endpoints, first_line } = shape;
        Self { model, items, endpoints, first_line }
    }
}
