//! Items that wait for a retry: a bounded heap by due time, outside of the windows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::domain::time::Timestamp;

use super::item::{FeedId, ReadyItem};

/// From here on no new segment is leased: what failed goes first.
pub(super) const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Delayed {
    heap: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    due: Timestamp,
    sequence: u64,
    feed: FeedId,
    item: ReadyItem,
}

impl Delayed {
    pub(super) fn push(&mut self, due: Timestamp, feed: FeedId, item: ReadyItem) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { due, sequence: self.sequence, feed, item }));
    }

    /// The next item that is due, the longest due first.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<(FeedId, ReadyItem)> {
        if self.heap.peek()?.0.due > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.feed, entry.item))
    }

    /// Drops the items of a feed that is gone: they would count as waiting until they are due.
    pub(super) fn forget(&mut self, feed: FeedId) {
        self.heap.retain(|Reverse(entry)| entry.feed != feed);
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse(entry)| entry.due)
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether so many wait that nothing new should be leased.
    pub(super) fn is_full(&self) -> bool {
        self.heap.len() >= MOST
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.sequence) == (other.due, other.sequence)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}
