//! Batches of items that take tokens.

use std::fmt::Write as _;
use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// What text is made of; its length divides that of a token.
const FILLING: &str = "weir lock ";

/// What a batch's items take, each drawn evenly from the ranges.
#[derive(Clone, Debug)]
pub(crate) struct TokenMix {
    /// Input and the most that may be generated, in tokens.
    pub(crate) size: RangeInclusive<u64>,
    /// The share of it that is input.
    pub(crate) input: RangeInclusive<f64>,
    /// The share of what may be generated that is.
    pub(crate) output: RangeInclusive<f64>,
}

impl TokenMix {
    /// A file of so many chat requests, whose custom ids start with `item-`.
    ///
    /// Both vendors' endpoints take the body, so it serves the one that the lines name.
    pub(crate) fn file(&self, items: usize, model: &str, url: &str, seed: u64) -> Bytes {
        self.file_of(0..items, model, url, seed)
    }

    /// The same of items with these numbers: the upstream tells the items of two such files apart.
    pub(crate) fn file_of(&self, items: Range<usize>, model: &str, url: &str, seed: u64) -> Bytes {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut file = String::new();
        for item in items {
            let size = dice.random_range(self.size.clone());
            let input = ((size as f64 * dice.random_range(self.input.clone())) as u64).max(8);
            let most = size.saturating_sub(input).max(1);
            let output = (most as f64 * dice.random_range(self.output.clone())).ceil() as u64;
            let _ = write!(
                file,
                r#"{{"custom_id":"item-{item}","method":"POST","url":"{url}","body":{{"model":"{model}","max_tokens":{most},"messages":[{{"role":"user","content":""#
            );
            let start = file.len();
            let _ = write!(file, "[[id={item}]][[out={output}]]");
            // Four bytes are a token to the upstream.
            let text = usize::try_from(input * 4).unwrap_or(usize::MAX);
            while file.len() < start + text {
                let left = start + text - file.len();
                file.push_str(&FILLING[..FILLING.len().min(left)]);
            }
            file.push_str("\"}]}}\n");
        }
        file.into()
    }
}
