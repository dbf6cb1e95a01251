//! Giving a file back byte for byte: its segments merged in line order, only those open that overlap.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::domain::segment::{OpenSegment, SegmentHead};

/// What a [`ContentMerge`] wants or gives next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give the next heads, ascending from this number; none if there are no more.
    Heads {
        /// The first number wanted.
        from_no: u32,
    },
    /// Give this segment, opened.
    Segment(u32),
    /// The next bytes of the file.
    Bytes(Bytes),
    /// The file is complete.
    End,
}

/// Merges segments; it reads nothing itself, so that the caller decides how.
#[derive(Debug, Default)]
pub struct ContentMerge {
    heads: VecDeque<SegmentHead>,
    next_no: u32,
    all_heads: bool,
    open: Vec<Reading>,
}

#[derive(Debug)]
struct Reading {
    no: u32,
    open: OpenSegment,
    next: usize,
}

impl Reading {
    fn place(&self) -> Option<(u32, u32)> {
        self.open.entries().get(self.next).map(|entry| (entry.line, self.no))
    }
}

impl ContentMerge {
    /// At the start of the file.
    pub fn new() -> Self {
        Self::default()
    }

    /// The answer to [`Step::Heads`].
    pub fn add_heads(&mut self, heads: Vec<SegmentHead>) {
        match heads.last() {
            Some(last) => self.next_no = last.no + 1,
            None => self.all_heads = true,
        }
        self.heads.extend(heads);
    }

    /// The answer to [`Step::Segment`].
    pub fn add_segment(&mut self, no: u32, open: OpenSegment) {
        self.heads.retain(|head| head.no != no);
        self.open.push(Reading { no, open, next: 0 });
    }

    /// What comes next.
    pub fn step(&mut self) -> Step {
        if self.heads.is_empty() && !self.all_heads {
            return Step::Heads { from_no: self.next_no };
        }
        self.open.retain(|reading| reading.place().is_some());
        let first = self.open.iter_mut().min_by_key(|reading| reading.place());
        let at = first.as_ref().and_then(|reading| reading.place());
        // Numbers ascend with first lines: what is not open yet starts at the next head or later.
        if let Some(head) = self.heads.front()
            && at.is_none_or(|(line, _)| head.first_line <= line)
        {
            return Step::Segment(head.no);
        }
        let Some(reading) = first else {
            return Step::End;
        };
        let bytes = reading.open.entries().get(reading.next).map(|entry| reading.open.raw(entry));
        reading.next += 1;
        bytes.map_or(Step::End, Step::Bytes)
    }
}
