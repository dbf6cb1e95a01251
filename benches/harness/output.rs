//! Whether a batch's output has every item once, with the answer to its own question.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::Value;

/// What is wrong with an output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Items that are not there.
    pub(crate) lost: usize,
    /// Items that are there again.
    pub(crate) twice: usize,
    /// All that is wrong, wrong answers too, in words.
    pub(crate) faults: Vec<String>,
}

/// Checks the output of a batch whose items have these numbers.
pub(crate) fn check(output: &[u8], items: Range<usize>) -> anyhow::Result<Findings> {
    let mut found = Findings::default();
    let mut seen = HashSet::with_capacity(items.len());
    for line in output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_slice(line)?;
        let custom_id = line["custom_id"].as_str().unwrap_or_default();
        let item = custom_id.strip_prefix("item-").unwrap_or_default();
        let answer = &line["response"]["body"]["choices"][0]["message"]["content"];
        // A script that says how long answers are has words after it.
        let right = format!("Answer to {item}.");
        if !answer.as_str().is_some_and(|answer| answer.starts_with(&right)) {
            found.faults.push(format!("{custom_id} has the answer {answer}"));
        }
        if !seen.insert(custom_id.to_owned()) {
            found.twice += 1;
            found.faults.push(format!("{custom_id} is there twice"));
        }
    }
    found.lost = items.filter(|item| !seen.contains(&format!("item-{item}"))).count();
    if found.lost > 0 {
        found.faults.push(format!("{} items are lost", found.lost));
    }
    Ok(found)
}
