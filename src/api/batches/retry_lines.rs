//! The lines of a batch that did not succeed, read back in input order.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};

use crate::domain::batch::BatchRecord;
use crate::domain::ids::{BatchKey, FileKey};
use crate::domain::segment::{OpenSegment, SegmentHead};
use crate::store::{ResultFilter, ResultOrder, ResultQuery, Store, StoreError};

use super::super::input::open_segment;
use super::super::result_lines::{PAGE_BYTES, PAGE_ROWS};

/// Heads read at once.
const HEADS: usize = 256;
/// A byte order mark stands only before a file's first line; elsewhere it would be an error.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Walks the results that did not succeed and the segments that hold their lines, side by side:
/// both ascend, so that no more is open than was open at once while the file was written.
pub(crate) struct RetryLines {
    store: Store,
    batch: BatchKey,
    file: FileKey,
    /// Line numbers read ahead, and the last one.
    lines: VecDeque<u32>,
    read_to: u64,
    /// Heads read ahead, and the next number to read from.
    heads: VecDeque<SegmentHead>,
    heads_from: Option<u32>,
    /// Segments that reach to the present line or beyond.
    open: Vec<(u32, OpenSegment)>,
}

impl RetryLines {
    pub(crate) fn new(store: Store, batch: &BatchRecord) -> Self {
        Self {
            store,
            batch: batch.key,
            file: batch.file,
            lines: VecDeque::new(),
            read_to: 0,
            heads: VecDeque::new(),
            heads_from: Some(0),
            open: Vec::new(),
        }
    }

    /// The next line's bytes with a line feed at the end; `None` after the last.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn next(&mut self) -> Result<Option<BytesMut>, StoreError> {
        let Some(line) = self.next_line().await? else { return Ok(None) };
        self.open.retain(|(last_line, _)| *last_line >= line);
        while let Some(head) = self.head_up_to(line).await? {
            if head.last_line >= line {
                self.open.push((head.last_line, open_segment(&self.store, self.file, head.no).await?));
            }
        }
        let raw = self.open.iter().find_map(|(_, segment)| Some(segment.raw(segment.entry_of(line)?)));
        let raw =
            raw.ok_or_else(|| StoreError::Damaged(format!("line {line} has a result, yet no segment")))?;
        let bytes = raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&raw);
        let mut copy = BytesMut::with_capacity(bytes.len() + 1);
        copy.put_slice(bytes);
        if !copy.ends_with(b"\n") {
            copy.put_u8(b'\n');
        }
        Ok(Some(copy))
    }

    async fn next_line(&mut self) -> Result<Option<u32>, StoreError> {
        if self.lines.is_empty() {
            let query = ResultQuery {
                batch: self.batch,
                order: ResultOrder::Input,
                after: self.read_to,
                limit: PAGE_ROWS,
                filter: ResultFilter::NotSucceeded,
                max_bytes: PAGE_BYTES,
            };
            let rows = self.store.results(query).await?;
            self.lines.extend(rows.iter().map(|row| row.result.line));
            self.read_to = self.lines.back().map_or(self.read_to, |line| u64::from(*line));
        }
        Ok(self.lines.pop_front())
    }

    /// The next segment that begins at or before a line.
    async fn head_up_to(&mut self, line: u32) -> Result<Option<SegmentHead>, StoreError> {
        if let (true, Some(from_no)) = (self.heads.is_empty(), self.heads_from) {
            let heads = self.store.segment_heads(self.file, None, from_no, HEADS).await?;
            self.heads_from = heads.last().map(|last| last.no + 1);
            self.heads.extend(heads);
        }
        let begins = self.heads.front().is_some_and(|head| head.first_line <= line);
        Ok(if begins { self.heads.pop_front() } else { None })
    }
}
