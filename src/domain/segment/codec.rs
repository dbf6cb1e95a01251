//! The frame: an index of varints, a blob of texts, then the lines' bytes, all under one zstd frame.

use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use super::{Endpoint, Entry, EntryKind, MAX_ITEMS, MAX_RAW_BYTES, OpenSegment, Segment, SegmentHead};

/// zstd level: 1 compresses JSON nearly as well as 3 at twice the speed.
const LEVEL: i32 = 1;
/// No frame opens to more than this: the longest line allowed anywhere, with its index.
const MAX_FRAME: usize = 512 * 1024 * 1024;

/// Why a stored segment can't be opened: the row is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// The zstd frame is damaged.
    #[error("the segment's compressed frame is damaged")]
    Frame,
    /// The index does not fit the bytes.
    #[error("the segment's index is damaged")]
    Index,
}

/// A line that can be run.
#[derive(Clone, Debug)]
pub struct ItemLine<'a> {
    /// Its number, from 1.
    pub line: u32,
    /// Its bytes, line end included.
    pub raw: &'a [u8],
    /// Where the request's body stands in `raw`.
    pub body: Range<usize>,
    /// The caller's name for it.
    pub custom_id: &'a str,
    /// Where it goes.
    pub endpoint: Endpoint,
}

/// Collects lines into one segment.
#[derive(Debug, Default)]
pub struct SegmentBuilder {
    entries: Vec<Entry>,
    texts: Vec<u8>,
    raw: Vec<u8>,
    item_count: u32,
    endpoints: u8,
}

impl SegmentBuilder {
    /// Adds a line that can be run.
    pub fn push_item(&mut self, item: ItemLine<'_>) {
        let ItemLine { line, raw, body, custom_id, endpoint } = item;
        self.endpoints |= endpoint.bit();
        self.push(EntryKind::Item, line, raw, Some(endpoint));
        let start = self.raw.len() - raw.len();
        let id = self.text(custom_id);
        if let Some(entry) = self.entries.last_mut() {
            entry.custom_id = id;
            entry.body = narrow(start + body.start..start + body.end);
        }
    }

    /// Adds a line that can't be run and says why; `custom_id` where it could be read.
    pub fn push_faulty(&mut self, line: u32, raw: &[u8], custom_id: Option<&str>, fault: &str) {
        self.push(EntryKind::Faulty, line, raw, None);
        let id = self.text(custom_id.unwrap_or_default());
        let fault = self.text(fault);
        if let Some(entry) = self.entries.last_mut() {
            entry.custom_id = id;
            entry.fault = fault;
        }
    }

    /// Adds a blank line.
    pub fn push_blank(&mut self, line: u32, raw: &[u8]) {
        self.push(EntryKind::Blank, line, raw, None);
    }

    /// Adds further bytes of the faulty line pushed last, here or in an earlier segment.
    pub fn push_continuation(&mut self, line: u32, raw: &[u8]) {
        self.push(EntryKind::Continuation, line, raw, None);
    }

    fn push(&mut self, kind: EntryKind, line: u32, raw: &[u8], endpoint: Option<Endpoint>) {
        let start = self.raw.len();
        self.raw.extend_from_slice(raw);
        self.item_count += u32::from(matches!(kind, EntryKind::Item | EntryKind::Faulty));
        let raw = narrow(start..self.raw.len());
        self.entries.push(Entry { line, kind, endpoint, custom_id: 0..0, body: 0..0, raw, fault: 0..0 });
    }

    fn text(&mut self, text: &str) -> Range<u32> {
        let start = self.texts.len();
        self.texts.extend_from_slice(text.as_bytes());
        narrow(start..self.texts.len())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the lines added so far.
    pub fn raw_bytes(&self) -> usize {
        self.raw.len()
    }

    /// Items added so far; blank lines don't count. The next item's index is this.
    pub fn item_count(&self) -> u32 {
        self.item_count
    }

    /// Whether it must be closed before `next` more bytes are added.
    pub fn is_full_for(&self, next: usize) -> bool {
        !self.is_empty()
            && (self.item_count >= MAX_ITEMS
                || self.entries.len() >= 4 * MAX_ITEMS as usize
                || self.raw.len() + next > MAX_RAW_BYTES)
    }

    /// Compresses what was collected as segment `no` of its file.
    pub fn finish(self, no: u32, model: Arc<str>) -> Segment {
        let head = SegmentHead {
            no,
            model,
            item_count: self.item_count,
            first_line: self.entries.first().map_or(0, |entry| entry.line),
            last_line: self.entries.last().map_or(0, |entry| entry.line),
            endpoints: self.endpoints,
            raw_bytes: u32::try_from(self.raw.len()).unwrap_or(u32::MAX),
        };
        let mut frame = Vec::with_capacity(self.raw.len() + self.texts.len() + self.entries.len() * 16);
        put(&mut frame, self.entries.len() as u64);
        put(&mut frame, self.texts.len() as u64);
        let mut line = 0;
        for entry in &self.entries {
            put(&mut frame, u64::from(entry.line - line));
            line = entry.line;
            frame.push(tag(entry));
            for range in [&entry.raw, &entry.custom_id, &entry.fault] {
                put(&mut frame, u64::from(range.end - range.start));
            }
            if entry.kind == EntryKind::Item {
                put(&mut frame, u64::from(entry.body.start - entry.raw.start));
                put(&mut frame, u64::from(entry.body.end - entry.body.start));
            }
        }
        frame.extend_from_slice(&self.texts);
        frame.extend_from_slice(&self.raw);
        // In memory, zstd fails only on a lack of memory, which aborts anyway.
        let data = compress(&frame).unwrap_or_default();
        Segment { head, data: data.into() }
    }
}

/// Compresses with a checksum, so that a disk that changes bits is found out where they are read.
fn compress(frame: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(frame)
}

impl Segment {
    /// Decompresses it.
    ///
    /// # Errors
    /// If the stored bytes are damaged.
    pub fn open(&self) -> Result<OpenSegment, SegmentError> {
        let size = zstd::zstd_safe::get_frame_content_size(&self.data).ok().flatten();
        let size = usize::try_from(size.ok_or(SegmentError::Frame)?).map_err(|_| SegmentError::Frame)?;
        if size > MAX_FRAME {
            return Err(SegmentError::Frame);
        }
        let buffer = zstd::bulk::decompress(&self.data, size).map_err(|_| SegmentError::Frame)?;
        let entries = read_index(&buffer).ok_or(SegmentError::Index)?;
        Ok(OpenSegment { entries: entries.into(), buffer: buffer.into() })
    }
}

/// Reads the index; `None` if it does not account for exactly the bytes there are.
fn read_index(buffer: &[u8]) -> Option<Vec<Entry>> {
    let mut index = buffer;
    let count = usize::try_from(take(&mut index)?).ok()?;
    let texts_len = usize::try_from(take(&mut index)?).ok()?;
    let mut entries = Vec::with_capacity(count.min(buffer.len()));
    let (mut line, mut raw, mut text) = (0_u32, 0_u32, 0_u32);
    for _ in 0..count {
        line = line.checked_add(take32(&mut index)?)?;
        let (tag, rest) = index.split_first()?;
        index = rest;
        let (kind, endpoint) = untag(*tag)?;
        let raw_len = take32(&mut index)?;
        let custom_id = advance(&mut text, take32(&mut index)?)?;
        let fault = advance(&mut text, take32(&mut index)?)?;
        let mut body = 0..0;
        if kind == EntryKind::Item {
            let start = raw.checked_add(take32(&mut index)?)?;
            body = start..start.checked_add(take32(&mut index)?)?;
        }
        let raw = advance(&mut raw, raw_len)?;
        if body.end > raw.end {
            return None;
        }
        entries.push(Entry { line, kind, endpoint, custom_id, body, raw, fault });
    }
    let texts_at = u32::try_from(buffer.len() - index.len()).ok()?;
    let raw_at = texts_at.checked_add(u32::try_from(texts_len).ok()?)?;
    if text as usize != texts_len || raw_at as usize + raw as usize != buffer.len() {
        return None;
    }
    for entry in &mut entries {
        entry.custom_id = shift(&entry.custom_id, texts_at);
        entry.fault = shift(&entry.fault, texts_at);
        entry.body = shift(&entry.body, raw_at);
        entry.raw = shift(&entry.raw, raw_at);
    }
    Some(entries)
}

fn tag(entry: &Entry) -> u8 {
    match (entry.kind, entry.endpoint) {
        (EntryKind::Blank, _) => 0,
        (EntryKind::Faulty, _) => 1,
        (EntryKind::Continuation, _) => 2,
        (EntryKind::Item, endpoint) => 3 + endpoint.map_or(0, Endpoint::index),
    }
}

fn untag(tag: u8) -> Option<(EntryKind, Option<Endpoint>)> {
    match tag {
        0 => Some((EntryKind::Blank, None)),
        1 => Some((EntryKind::Faulty, None)),
        2 => Some((EntryKind::Continuation, None)),
        _ => {
            let endpoint = Endpoint::ALL.get(usize::from(tag - 3))?;
            Some((EntryKind::Item, Some(*endpoint)))
        }
    }
}

fn advance(position: &mut u32, length: u32) -> Option<Range<u32>> {
    let start = *position;
    *position = start.checked_add(length)?;
    Some(start..*position)
}

fn shift(range: &Range<u32>, by: u32) -> Range<u32> {
    range.start + by..range.end + by
}

fn narrow(range: Range<usize>) -> Range<u32> {
    u32::try_from(range.start).unwrap_or(u32::MAX)..u32::try_from(range.end).unwrap_or(u32::MAX)
}

fn put(frame: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        frame.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    frame.push(value as u8);
}

fn take(index: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = index.split_first()?;
        *index = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take32(index: &mut &[u8]) -> Option<u32> {
    u32::try_from(take(index)?).ok()
}
