//! Reading a file as it arrives: lines out of chunks, each to its segment.

use super::envelope::{Unreadable, read};
use super::inline::complete;
use super::keys::{Keys, hash_custom_id};
use super::long_lines;
use super::open_segments::{ClosedSegment, MAX_MODELS, OpenSegments};
use super::problems::Fault;
use super::refusal::Refusal;
use crate::domain::endpoint::Endpoint;
use crate::domain::file::{FileSummary, ItemKey, KeyBlock, LineProblem, MAX_PROBLEMS};
use crate::domain::segment::ItemLine;

/// What one file may be.
#[derive(Clone, Copy, Debug)]
pub struct IngestLimits {
    /// Most bytes of a line; longer ones are faulty.
    pub max_line: usize,
    /// Most items.
    pub max_items: u64,
    /// Most bytes.
    pub max_bytes: u64,
}

/// What is left when the last byte was read.
#[derive(Debug)]
pub struct Finished {
    /// The last segments.
    pub closed: Vec<ClosedSegment>,
    /// The last item keys.
    pub keys: Vec<KeyBlock>,
    /// Sorted chunks of item keys in all.
    pub chunks: u32,
    /// What was found out about the file.
    pub summary: FileSummary,
}

/// A file being read.
#[derive(Debug)]
pub struct Ingest {
    limits: IngestLimits,
    salt: u64,
    /// Requests may leave out what the batch's endpoint says; `None`: an uploaded file, kept as it is.
    completing: Option<Option<Endpoint>>,
    /// Whether the lines were taken in before, bad ones too.
    again: bool,
    segments: OpenSegments,
    keys: Keys,
    /// The first of them, in line order.
    problems: Vec<LineProblem>,
    /// The bytes of a line whose end has not come yet.
    pending: Vec<u8>,
    /// Whether the present line is above the cap and its bytes go away as they come.
    long: bool,
    line: u32,
    bytes: u64,
    items: u64,
    faulty: u64,
}

/// The byte order mark, which some editors and shells put before text in UTF-8.
pub const BOM: &[u8] = b"\xef\xbb\xbf";

impl Ingest {
    /// Of an uploaded file.
    pub fn new(limits: IngestLimits, salt: u64) -> Self {
        Self {
            limits,
            salt,
            completing: None,
            again: false,
            segments: OpenSegments::default(),
            keys: Keys::default(),
            problems: Vec::new(),
            pending: Vec::new(),
            long: false,
            line: 1,
            bytes: 0,
            items: 0,
            faulty: 0,
        }
    }

    /// Of requests that a client posts with the batch: bare bodies and lines without method or url are completed.
    pub fn for_endpoint(limits: IngestLimits, salt: u64, endpoint: Option<Endpoint>) -> Self {
        Self { completing: Some(endpoint), ..Self::new(limits, salt) }
    }

    /// Of lines that were taken in before: what they are was seen then, and bad ones fail by themselves again.
    pub fn again(limits: IngestLimits, salt: u64) -> Self {
        Self { again: true, ..Self::new(limits, salt) }
    }

    /// Reads the next bytes. Drain [`Ingest::take_closed`] and [`Ingest::take_keys`] after each call.
    ///
    /// # Errors
    /// If the file as a whole is refused; nothing more may be pushed then.
    pub fn push(&mut self, mut chunk: &[u8]) -> Result<(), Refusal> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.limits.max_bytes {
            return Err(Refusal::TooLarge { max: self.limits.max_bytes });
        }
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (head, rest) = chunk.split_at(end + 1);
            chunk = rest;
            if self.pending.is_empty() || self.long {
                self.end_line(head)?;
            } else {
                let mut line = std::mem::take(&mut self.pending);
                line.extend_from_slice(head);
                let ended = self.end_line(&line);
                line.clear();
                self.pending = line;
                ended?;
            }
        }
        self.hold(chunk)
    }

    /// Keeps the start of a line, or gives it away if it is too long already.
    fn hold(&mut self, start: &[u8]) -> Result<(), Refusal> {
        if start.is_empty() {
            return Ok(());
        }
        if self.long {
            long_lines::store(&mut self.segments, self.line, start, false, self.limits.max_line);
            return Ok(());
        }
        self.pending.extend_from_slice(start);
        if self.pending.len() > self.limits.max_line + BOM.len() {
            let line = std::mem::take(&mut self.pending);
            self.begin_long(&line)?;
        }
        Ok(())
    }

    fn begin_long(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.count_item()?;
        self.faulty += 1;
        self.list(long_lines::fault(self.limits.max_line));
        long_lines::store(&mut self.segments, self.line, bytes, true, self.limits.max_line);
        self.segments.name("", self.line);
        self.long = true;
        Ok(())
    }

    /// The last bytes of a line: all of it, unless it is long.
    fn end_line(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.long {
            long_lines::store(&mut self.segments, self.line, bytes, false, self.limits.max_line);
            self.long = false;
        } else {
            self.whole_line(bytes)?;
        }
        self.line = self.line.checked_add(1).ok_or(Refusal::TooManyItems { max: self.limits.max_items })?;
        Ok(())
    }

    fn whole_line(&mut self, raw: &[u8]) -> Result<(), Refusal> {
        let mut start = 0;
        if self.line == 1 && raw.starts_with(BOM) {
            start = BOM.len();
        }
        let content = raw[start..].trim_ascii_end();
        if content.trim_ascii_start().is_empty() {
            let (line, model) = (self.line, self.segments.last());
            self.segments.add(&model, raw.len(), |builder| builder.push_blank(line, raw));
            return Ok(());
        }
        if content.len() > self.limits.max_line {
            self.begin_long(raw)?;
            self.long = false;
            return Ok(());
        }
        self.count_item()?;
        if let Some(endpoint) = self.completing
            && let Some(completed) = complete(content, endpoint)
        {
            return self.request(&completed, 0, completed.len() - 1);
        }
        self.request(raw, start, start + content.len())
    }

    /// A line of which `start..end` is the JSON.
    fn request(&mut self, raw: &[u8], start: usize, end: usize) -> Result<(), Refusal> {
        let (line, content) = (self.line, &raw[start..end]);
        let refused = match read(content) {
            Ok(envelope) => match self.segments.name(&envelope.model, line) {
                Some(model) => {
                    self.segments.count(&model, envelope.endpoint);
                    let body = start + envelope.body.start..start + envelope.body.end;
                    let (id, endpoint) = (envelope.custom_id.as_ref(), envelope.endpoint);
                    let item = ItemLine { line, raw, body, custom_id: id, endpoint };
                    let segment = self.segments.add(&model, raw.len(), |builder| builder.push_item(item));
                    self.keys.push(ItemKey { hash: hash_custom_id(self.salt, id), line, segment });
                    return Ok(());
                }
                None => Unreadable {
                    custom_id: Some(envelope.custom_id.into_owned()),
                    fault: Fault::new(
                        "invalid_value",
                        "body.model",
                        format!("The file names more than {MAX_MODELS} models; split it."),
                    ),
                },
            },
            Err(unreadable) => unreadable,
        };
        let Unreadable { custom_id, fault } = refused;
        let may_be_no_file = self.items == 1 && self.completing.is_none() && !self.again;
        if may_be_no_file && fault.code == "invalid_json_line" {
            return Err(Refusal::FirstLineNotJson { reason: fault.message });
        }
        self.faulty += 1;
        if let Some(model) = self.segments.name("", line) {
            self.segments.add(&model, raw.len(), |builder| {
                builder.push_faulty(line, raw, custom_id.as_deref(), &fault.message);
            });
        }
        self.list(fault);
        Ok(())
    }

    fn count_item(&mut self) -> Result<(), Refusal> {
        self.items += 1;
        if self.items > self.limits.max_items {
            return Err(Refusal::TooManyItems { max: self.limits.max_items });
        }
        Ok(())
    }

    fn list(&mut self, fault: Fault) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(fault.at(self.line));
        }
    }

    /// Problems so far, in line order.
    pub fn problems(&self) -> &[LineProblem] {
        &self.problems
    }

    /// Segments closed since the last call.
    pub fn take_closed(&mut self) -> Vec<ClosedSegment> {
        self.segments.take_closed()
    }

    /// Item keys sorted since the last call.
    pub fn take_keys(&mut self) -> Vec<KeyBlock> {
        self.keys.take()
    }

    /// The end of the file.
    ///
    /// # Errors
    /// If the file as a whole is refused.
    pub fn finish(mut self) -> Result<Finished, Refusal> {
        if self.bytes == 0 {
            return Err(Refusal::Empty);
        }
        let line = std::mem::take(&mut self.pending);
        let unended = self.long || !line.is_empty();
        if !line.is_empty() {
            self.whole_line(&line)?;
        }
        if self.items == 0 {
            return Err(Refusal::OnlyBlankLines);
        }
        self.segments.close_all();
        self.keys.sort();
        let summary = FileSummary {
            bytes: self.bytes,
            lines: self.line - u32::from(!unended),
            items: self.items,
            faulty: self.faulty,
            segments: self.segments.next_no,
            models: std::mem::take(&mut self.segments.models),
            problems: std::mem::take(&mut self.problems),
        };
        let (closed, keys) = (self.segments.take_closed(), self.keys.take());
        Ok(Finished { closed, keys, chunks: self.keys.chunks, summary })
    }
}
