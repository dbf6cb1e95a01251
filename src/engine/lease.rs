//! A leased segment: which of its items are still to be done, and its bytes while they are needed.

use crate::domain::segment::{OpenSegment, SegmentHead};

use super::ahead::Holder;
use super::item::FeedId;

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) feed: FeedId,
    pub(super) head: SegmentHead,
    /// `None` while all that is left waits for a retry: the bytes are loaded again when one is due.
    pub(super) open: Option<OpenSegment>,
    /// Bytes charged to the memory level for `open`.
    pub(super) held: u64,
    /// The turn its items take.
    pub(super) turn: u64,
    /// Items without a result.
    pub(super) unfinished: u32,
    /// Items ready or in flight: what needs the bytes.
    pub(super) busy: u32,
    /// Of these, not started.
    pub(super) ready: u32,
    /// Due retries that wait for the bytes.
    pub(super) waiting_for_bytes: Vec<super::item::ReadyItem>,
    /// Whether the bytes are being loaded.
    pub(super) loading: bool,
    /// Whether others left it behind: its items go before those of the feed that are ready.
    pub(super) resumed: bool,
    /// Whether its items were sorted into ready, done and waiting.
    pub(super) entered: bool,
    /// Whose bytes count as held ahead: it has items that have not started.
    pub(super) ahead: Option<Holder>,
}

impl Lease {
    pub(super) fn new(feed: FeedId, head: SegmentHead, turn: u64) -> Self {
        Self {
            feed,
            unfinished: head.item_count,
            head,
            open: None,
            held: 0,
            turn,
            busy: 0,
            ready: 0,
            waiting_for_bytes: Vec::new(),
            loading: true,
            resumed: false,
            entered: false,
            ahead: None,
        }
    }

    /// Whether the bytes are held for nothing.
    pub(super) fn can_close(&self) -> bool {
        self.open.is_some() && self.busy == 0 && self.waiting_for_bytes.is_empty()
    }
}
