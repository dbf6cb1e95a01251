//! Batches to run.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;

const WORDS: [&str; 24] = [
    "weir", "lock", "gate", "water", "level", "keeper", "barge", "morning", "narrow", "towpath", "summit",
    "basin", "paddle", "winding", "bridge", "tunnel", "mooring", "freight", "current", "season", "ledger",
    "toll", "rope", "reach",
];

/// The characters of base64, of which images are made.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What prompts are filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// Words, which compress well.
    Words,
    /// Random base64, which hardly compresses: what an image in a message is.
    Noise,
}

/// A batch's input file, and where its bodies are in it.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// The file.
    pub(crate) file: Bytes,
    bodies: Vec<Range<usize>>,
}

impl Input {
    /// So many chat requests for a model, each about `body_bytes` long; line `n` has the custom id
    /// `item-n` and the marker `[[id=n]]`.
    pub(crate) fn chat(items: usize, model: &str, body_bytes: usize) -> Self {
        Self::filled(0, items, model, body_bytes, Filling::Words)
    }

    /// The same with numbers from `first` on: the upstream tells the items of two such files apart.
    pub(crate) fn chat_from(first: usize, items: usize, model: &str, body_bytes: usize) -> Self {
        Self::filled(first, items, model, body_bytes, Filling::Words)
    }

    /// The same with prompts of another kind.
    pub(crate) fn filled(
        first: usize,
        items: usize,
        model: &str,
        body_bytes: usize,
        filling: Filling,
    ) -> Self {
        let mut file = String::with_capacity(items * (body_bytes + 100));
        let mut bodies = Vec::with_capacity(items);
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        for item in first..first + items {
            let _ = write!(
                file,
                r#"{{"custom_id":"item-{item}","method":"POST","url":"/v1/chat/completions","body":"#
            );
            let start = file.len();
            let _ =
                write!(file, r#"{{"model":"{model}","messages":[{{"role":"user","content":"[[id={item}]]"#);
            while file.len() < start + body_bytes.saturating_sub(34) {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if filling == Filling::Noise {
                    let letters = (0..5).map(|letter| BASE64[(dice >> (33 + 6 * letter)) as usize % 64]);
                    file.extend(letters.map(char::from));
                    continue;
                }
                file.push(' ');
                file.push_str(WORDS[(dice >> 33) as usize % WORDS.len()]);
            }
            file.push_str(r#""}],"max_completion_tokens":256}"#);
            bodies.push(start..file.len());
            file.push_str("}\n");
        }
        Self { file: file.into(), bodies }
    }

    /// The number of items.
    pub(crate) fn items(&self) -> usize {
        self.bodies.len()
    }

    /// The body of one item, as the upstream gets it.
    pub(crate) fn body(&self, item: usize) -> Option<Bytes> {
        self.bodies.get(item).map(|range| self.file.slice(range.clone()))
    }
}
