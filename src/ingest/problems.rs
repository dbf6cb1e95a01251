//! What is wrong with lines: faults, and the bounded list of them.

use crate::domain::file::{LineProblem, MAX_PROBLEMS};

/// Why one line can't be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// OpenAI's code.
    pub code: &'static str,
    /// The field, such as `body.model`.
    pub param: Option<&'static str>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Fault {
    pub(super) fn new(code: &'static str, param: &'static str, message: impl Into<String>) -> Self {
        Self { code, param: Some(param), message: message.into() }
    }

    pub(super) fn missing(param: &'static str) -> Self {
        Self::new("missing_required_parameter", param, format!("Missing required parameter: '{param}'."))
    }

    pub(super) fn not_json(reason: impl std::fmt::Display) -> Self {
        let message = format!("This line is not parseable as valid JSON: {reason}.");
        Self { code: "invalid_json_line", param: None, message }
    }

    pub(super) fn not_an_object() -> Self {
        let message = "This line is JSON, but no object: a request is an object with 'custom_id', 'method', 'url' and 'body'.";
        Self { code: "invalid_json_line", param: None, message: message.to_owned() }
    }

    /// The fault as a batch lists it.
    pub fn at(self, line: u32) -> LineProblem {
        LineProblem {
            line: Some(line),
            code: self.code.to_owned(),
            message: self.message,
            param: self.param.map(str::to_owned),
        }
    }
}

/// The first [`MAX_PROBLEMS`] problems by line, however they come.
#[derive(Clone, Debug, Default)]
pub struct ProblemList {
    problems: Vec<LineProblem>,
}

impl From<Vec<LineProblem>> for ProblemList {
    fn from(problems: Vec<LineProblem>) -> Self {
        let mut list = Self { problems };
        list.cut();
        list
    }
}

impl ProblemList {
    /// Adds one.
    pub fn add(&mut self, problem: LineProblem) {
        self.problems.push(problem);
        // Sorted now and then: a file of a million bad lines must not sort a million times.
        if self.problems.len() >= 2 * MAX_PROBLEMS {
            self.cut();
        }
    }

    /// Whether problems of this line on could not be listed any more.
    pub fn is_full_before(&self, line: u32) -> bool {
        self.problems.iter().filter(|problem| problem.line.is_none_or(|at| at < line)).count() >= MAX_PROBLEMS
    }

    /// The list, in line order.
    pub fn into_vec(mut self) -> Vec<LineProblem> {
        self.cut();
        self.problems
    }

    fn cut(&mut self) {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems.truncate(MAX_PROBLEMS);
    }
}
