//! Files: uploaded JSONL, and the views over a batch's results.

use super::ids::{BatchKey, FileId, FileKey};
use super::time::Timestamp;

/// What a file's bytes are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSource {
    /// Uploaded by a client; `purpose` is `batch`.
    Upload,
    /// Made from a batch's inline requests; never listed.
    Inline,
    /// The succeeded lines of a batch; `purpose` is `batch_output`.
    Output(BatchKey),
    /// The lines of a batch that did not succeed; `purpose` is `batch_output`.
    Errors(BatchKey),
}

/// A file's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// The store's key.
    pub key: FileKey,
    /// The public id.
    pub id: FileId,
    /// What it is made of.
    pub source: FileSource,
    /// The name its uploader gave, or ours.
    pub filename: String,
    /// Length of its content.
    pub bytes: u64,
    /// Items in it.
    pub items: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When retention may erase it; `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// One thing wrong with one line, as `errors.data[]` of a batch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// The physical line, from 1; `None` where it concerns the whole file.
    pub line: Option<u32>,
    /// OpenAI's code, such as `invalid_json_line` or `duplicate_custom_id`.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The field, such as `body.model`.
    pub param: Option<String>,
}

/// Most problems listed for one file.
pub const MAX_PROBLEMS: usize = 1_000;

/// What one file holds of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// The model; empty where lines name none.
    pub model: String,
    /// Runnable items.
    pub items: u64,
    /// The endpoints they name, as bits.
    pub endpoints: u8,
    /// The first line that names it.
    pub first_line: u32,
}

/// What an upload found out about its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSummary {
    /// Length of the content.
    pub bytes: u64,
    /// Physical lines.
    pub lines: u32,
    /// Items, faulty ones included.
    pub items: u64,
    /// Faulty items, duplicates included.
    pub faulty: u64,
    /// Segments written.
    pub segments: u32,
    /// The models met, in order of first appearance.
    pub models: Vec<ModelShape>,
    /// The first [`MAX_PROBLEMS`] things wrong, in line order.
    pub problems: Vec<LineProblem>,
}

/// One entry of a file's item keys: finds duplicates at upload and one item later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemKey {
    /// Hash of the `custom_id`, keyed by the file's salt.
    pub hash: u64,
    /// The item's line.
    pub line: u32,
    /// The segment that holds it.
    pub segment: u32,
}

/// A run of item keys sorted by hash; a file has a few sorted chunks, each of many blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBlock {
    /// The sorted chunk it belongs to.
    pub chunk: u32,
    /// Its place in the chunk.
    pub no: u32,
    /// At most [`KeyBlock::MAX_KEYS`] keys, sorted.
    pub keys: Vec<ItemKey>,
}

impl KeyBlock {
    /// Keys of one block: 64 KiB as stored.
    pub const MAX_KEYS: usize = 4_096;
}
