//! Duplicate `custom_id`s: a merge over the sorted chunks of item keys, confirmed on the ids themselves.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};

use super::problems::{Fault, ProblemList};
use crate::domain::file::{FileSummary, ItemKey, KeyBlock};
use crate::domain::segment::OpenSegment;

/// Lines remembered before they are recorded.
const RECORD_AT: usize = 65_536;

/// The file's stored parts, one at a time.
pub trait StoredFile {
    /// What reading can fail with.
    type Error;

    /// A block of item keys; `None` past the chunk's last.
    ///
    /// # Errors
    /// If it can't be read.
    fn key_block(&mut self, chunk: u32, no: u32) -> Result<Option<KeyBlock>, Self::Error>;

    /// A segment.
    ///
    /// # Errors
    /// If it can't be read.
    fn segment(&mut self, no: u32) -> Result<OpenSegment, Self::Error>;

    /// Lines of a segment that repeat an earlier line's id; more of the same segment may follow.
    ///
    /// # Errors
    /// If they can't be written.
    fn record_duplicates(&mut self, segment: u32, lines: Vec<u32>) -> Result<(), Self::Error>;
}

/// Finds every line that repeats an earlier line's `custom_id`, records it and lists it in the summary.
///
/// One block of each chunk is in memory at a time, so a million ids take no more than a few megabytes.
///
/// # Errors
/// What the file's parts fail with.
pub fn find_duplicates<S: StoredFile>(
    file: &mut S,
    chunks: u32,
    summary: &mut FileSummary,
) -> Result<(), S::Error> {
    let mut merge = Merge::open(file, chunks)?;
    let mut found =
        Found { problems: ProblemList::from(std::mem::take(&mut summary.problems)), ..Found::default() };
    let mut group: Vec<ItemKey> = Vec::new();
    while let Some(key) = merge.next(file)? {
        if group.first().is_some_and(|first| first.hash != key.hash) {
            found.confirm(file, &group)?;
            group.clear();
        }
        group.push(key);
    }
    found.confirm(file, &group)?;
    found.record(file)?;
    summary.faulty += found.count;
    summary.problems = found.problems.into_vec();
    Ok(())
}

/// The keys of all chunks in one order.
struct Merge {
    heads: BinaryHeap<Reverse<(ItemKey, usize)>>,
    chunks: Vec<Chunk>,
}

struct Chunk {
    block: KeyBlock,
    next: usize,
}

impl Merge {
    fn open<S: StoredFile>(file: &mut S, chunks: u32) -> Result<Self, S::Error> {
        let mut merge = Self { heads: BinaryHeap::new(), chunks: Vec::new() };
        for chunk in 0..chunks {
            if let Some(block) = file.key_block(chunk, 0)? {
                merge.chunks.push(Chunk { block, next: 0 });
                merge.advance(file, merge.chunks.len() - 1)?;
            }
        }
        Ok(merge)
    }

    fn next<S: StoredFile>(&mut self, file: &mut S) -> Result<Option<ItemKey>, S::Error> {
        let Some(Reverse((key, place))) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(file, place)?;
        Ok(Some(key))
    }

    fn advance<S: StoredFile>(&mut self, file: &mut S, place: usize) -> Result<(), S::Error> {
        let chunk = &mut self.chunks[place];
        if chunk.next == chunk.block.keys.len() {
            match file.key_block(chunk.block.chunk, chunk.block.no + 1)? {
                Some(block) => *chunk = Chunk { block, next: 0 },
                None => return Ok(()),
            }
        }
        if let Some(key) = chunk.block.keys.get(chunk.next) {
            chunk.next += 1;
            self.heads.push(Reverse((*key, place)));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Found {
    problems: ProblemList,
    count: u64,
    unrecorded: BTreeMap<u32, Vec<u32>>,
    unrecorded_lines: usize,
    open: Option<(u32, OpenSegment)>,
}

impl Found {
    /// Tells equal ids from equal hashes.
    fn confirm<S: StoredFile>(&mut self, file: &mut S, group: &[ItemKey]) -> Result<(), S::Error> {
        if group.len() < 2 {
            return Ok(());
        }
        let mut seen: HashSet<String> = HashSet::new();
        for key in group {
            if self.open.as_ref().is_none_or(|(no, _)| *no != key.segment) {
                self.open = Some((key.segment, file.segment(key.segment)?));
            }
            let Some((_, open)) = &self.open else {
                continue;
            };
            let id = open.entry_of(key.line).and_then(|entry| open.custom_id(entry)).unwrap_or_default();
            if seen.contains(id) {
                self.add(key, id.to_owned());
            } else {
                seen.insert(id.to_owned());
            }
        }
        if self.unrecorded_lines >= RECORD_AT {
            self.record(file)?;
        }
        Ok(())
    }

    fn add(&mut self, key: &ItemKey, id: String) {
        self.count += 1;
        self.unrecorded_lines += 1;
        self.unrecorded.entry(key.segment).or_default().push(key.line);
        let message =
            format!("The custom_id '{id}' was used on an earlier line; ids must be unique in a file.");
        self.problems.add(Fault::new("duplicate_custom_id", "custom_id", message).at(key.line));
    }

    fn record<S: StoredFile>(&mut self, file: &mut S) -> Result<(), S::Error> {
        self.unrecorded_lines = 0;
        for (segment, lines) in std::mem::take(&mut self.unrecorded) {
            file.record_duplicates(segment, lines)?;
        }
        Ok(())
    }
}
