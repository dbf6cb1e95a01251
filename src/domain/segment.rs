//! A segment: a run of one file's lines for one model, compressed as one value.
//!
//! The frame inside holds an index (line number, endpoint, where `custom_id` and `body` stand)
//! followed by the exact bytes of the lines, so that dispatch never parses a line again and a file
//! is given back byte for byte.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::endpoint::Endpoint;

mod codec;

pub use codec::{ItemLine, SegmentBuilder, SegmentError};

/// Most items of one segment: one compressed row stays small, and a batch's turn is at most this long.
pub const MAX_ITEMS: u32 = 64;
/// Raw bytes after which a segment is closed; a single longer line makes a segment of its own.
pub const MAX_RAW_BYTES: usize = 256 * 1024;

/// What is known of a segment without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// Its number in its file, from 0, given when its first line is met: numbers ascend with
    /// `first_line`, though segments of several models close in another order.
    pub no: u32,
    /// The model its lines name; empty where they name none (blank and faulty lines too).
    pub model: Arc<str>,
    /// Items in it, faulty ones included, blank lines not.
    pub item_count: u32,
    /// The first line it holds, from 1.
    pub first_line: u32,
    /// The last line it holds.
    pub last_line: u32,
    /// The endpoints its lines name, as [`Endpoint::bit`]s.
    pub endpoints: u8,
    /// Bytes of its lines before compression: what holding it open costs.
    pub raw_bytes: u32,
}

/// A segment as stored: its head and the compressed frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What is known without opening it.
    pub head: SegmentHead,
    /// The zstd frame.
    pub data: Bytes,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A request that can be run.
    Item,
    /// A line that can't be run; it counts as an item, and [`OpenSegment::fault`] says why.
    Faulty,
    /// A blank line: kept for the bytes alone.
    Blank,
    /// Further bytes of a faulty line too long to be held at once; no item of its own.
    Continuation,
}

/// One line of an open segment; its ranges point into the segment's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The physical line in the file, from 1.
    pub line: u32,
    /// What the line is.
    pub kind: EntryKind,
    /// The endpoint its `url` names, where it is one of ours.
    pub endpoint: Option<Endpoint>,
    pub(super) custom_id: Range<u32>,
    pub(super) body: Range<u32>,
    pub(super) raw: Range<u32>,
    pub(super) fault: Range<u32>,
}

/// A decompressed segment. Cheap to clone; the bytes it lends keep the whole buffer alive.
#[derive(Clone, Debug)]
pub struct OpenSegment {
    entries: Arc<[Entry]>,
    buffer: Bytes,
}

impl OpenSegment {
    /// Its lines in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Its items, faulty ones included.
    pub fn items(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Item | EntryKind::Faulty))
    }

    /// The item of a line.
    pub fn entry_of(&self, line: u32) -> Option<&Entry> {
        self.items().find(|entry| entry.line == line)
    }

    /// The unescaped `custom_id`; `None` where the line has none that could be read.
    pub fn custom_id(&self, entry: &Entry) -> Option<&str> {
        let text = &self.buffer[to_usize(&entry.custom_id)];
        (!text.is_empty()).then(|| std::str::from_utf8(text).ok()).flatten()
    }

    /// The request body as sent, without a copy.
    pub fn body(&self, entry: &Entry) -> Bytes {
        self.buffer.slice(to_usize(&entry.body))
    }

    /// The line's exact bytes, its terminator and a byte order mark included.
    pub fn raw(&self, entry: &Entry) -> Bytes {
        self.buffer.slice(to_usize(&entry.raw))
    }

    /// Why a faulty line can't be run, as a sentence; empty for others.
    pub fn fault(&self, entry: &Entry) -> &str {
        std::str::from_utf8(&self.buffer[to_usize(&entry.fault)]).unwrap_or_default()
    }

    /// Bytes held while it is open.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len() + self.entries.len() * size_of::<Entry>()
    }
}

fn to_usize(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}
