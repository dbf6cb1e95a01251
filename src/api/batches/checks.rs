//! What keeps a file's lines from being run, found when a batch is made of it.

use crate::domain::file::{FileSummary, LineProblem};
use crate::domain::ids::FileKey;
use crate::ingest::{LineCheck, ProblemList, request_param};
use crate::store::Store;

use super::super::error::{ApiError, Refusal, Result};
use super::super::input::open_segment;
use super::super::state::Board;
use super::options::Asked;

/// Heads read at once.
const HEADS: usize = 256;

/// How a client knows the lines that it sent within a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineNames {
    /// As elements of `requests`.
    Requests,
    /// As lines of the body.
    Lines,
}

/// 400 for a line that was sent within a create.
pub(crate) fn refuse_line(names: LineNames, problem: &LineProblem) -> ApiError {
    // Lines that come with a create have their URL from its endpoint.
    let is_without_endpoint =
        problem.code == "missing_required_parameter" && problem.param.as_deref() == Some("url");
    let hint =
        if is_without_endpoint { " Give the batch an 'endpoint', or each request a 'url'." } else { "" };
    let refused =
        |message: String| ApiError::new(Refusal::InvalidLine, message + hint).code(problem.code.as_str());
    match (names, &problem.param, problem.line) {
        (LineNames::Requests, _, _) => refused(problem.message.clone()).param(request_param(problem)),
        (LineNames::Lines, param, line) => {
            let line = line.map_or_else(String::new, |line| format!("Line {line}: "));
            let error = refused(format!("{line}{}", problem.message));
            match param {
                Some(param) => error.param(param.as_str()),
                None => error,
            }
        }
    }
}

/// Everything wrong with a file's lines for this batch, in line order: what its upload found, and
/// what only the endpoint and the lanes can tell.
///
/// # Errors
/// The store's.
pub(crate) async fn line_problems(
    store: &Store,
    board: &Board,
    file: FileKey,
    summary: &FileSummary,
    asked: &Asked,
) -> Result<Vec<LineProblem>> {
    let check = LineCheck {
        endpoint: asked.endpoint,
        defaults_model: asked.defaults_model.as_deref(),
        has_lane: &*board.has_lane,
    };
    let mut problems = ProblemList::from(summary.problems.clone());
    for model in check.suspects(summary) {
        scan(store, file, &model, &check, &mut problems).await?;
    }
    Ok(problems.into_vec())
}

/// Looks through one model's segments, as far as their problems can still be listed.
async fn scan(
    store: &Store,
    file: FileKey,
    model: &str,
    check: &LineCheck<'_>,
    problems: &mut ProblemList,
) -> Result<()> {
    let mut from_no = 0;
    loop {
        let heads = store.segment_heads(file, Some(model), from_no, HEADS).await?;
        let Some(last) = heads.last() else { return Ok(()) };
        from_no = last.no + 1;
        for head in heads.iter().filter(|head| check.concerns(head)) {
            if problems.is_full_before(head.first_line) {
                return Ok(());
            }
            let segment = open_segment(store, file, head.no).await?;
            for problem in check.scan(model, &segment) {
                problems.add(problem);
            }
        }
    }
}
