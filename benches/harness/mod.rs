//! What the benchmarks share: child processes, the HTTP API as a client sees it, and measures.

pub(crate) mod api;
pub(crate) mod bare_proxy;
pub(crate) mod database;
pub(crate) mod input;
pub(crate) mod law;
pub(crate) mod live;
pub(crate) mod measures;
pub(crate) mod oracle;
pub(crate) mod output;
pub(crate) mod process;
pub(crate) mod service;
pub(crate) mod setting;
pub(crate) mod tokens;
pub(crate) mod upstream;

use std::io::Write as _;

/// Prints a line. Results belong on standard output, whatever the lints say of prints elsewhere.
pub(crate) fn say(line: impl AsRef<str>) {
    // A reader that has gone away has no use for results.
    let _ = writeln!(std::io::stdout(), "{}", line.as_ref());
}

/// The middle of some numbers; 0 of none.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    quantile(numbers, 0.5)
}

/// The number that a share of them do not exceed; 0 of none.
pub(crate) fn quantile(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len() as f64 - 1.0) * share).round().max(0.0) as usize;
    sorted.get(index).copied().unwrap_or(0.0)
}
