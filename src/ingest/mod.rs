//! Ingest: the bytes of a JSONL file in, segments, item keys and everything wrong with it out. Pure.
//!
//! [`Ingest`] splits lines ([`long_lines`] where they are too long to hold), [`envelope`] reads each once,
//! [`open_segments`] routes it to its model's segment, [`keys`] remembers its `custom_id` as a hash.
//! [`duplicates`] runs when all is written; [`check`] answers for a batch without reading lines again.

mod check;
mod content;
mod defaults;
mod depth;
mod duplicates;
mod envelope;
mod inline;
mod keys;
mod long_lines;
mod open_segments;
mod problems;
mod reading;
mod refusal;

pub use check::LineCheck;
pub use content::{ContentMerge, Step};
pub use defaults::{Defaults, lay_defaults};
pub use duplicates::{StoredFile, find_duplicates};
pub use inline::{EachRequestError, each_request, request_param};
pub use keys::hash_custom_id;
pub use open_segments::ClosedSegment;
pub use problems::{Fault, ProblemList};
pub use reading::{BOM, Finished, Ingest, IngestLimits};
pub use refusal::Refusal;

#[cfg(test)]
mod tests;
