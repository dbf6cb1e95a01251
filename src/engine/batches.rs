//! What the engine knows of the batches it runs: batches, their feeds, their leases.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::domain::batch::{BatchRecord, OnError, OnInvalid};
use crate::domain::ids::BatchKey;
use crate::domain::segment::SegmentHead;
use crate::domain::time::Timestamp;
use crate::gate::{HeadId, LevelId};
use crate::ingest::Defaults;

use super::estimate::Measure;
use super::item::{FeedId, LaneId, LeaseKey, ReadyItem, RouteId};
use super::lease::Lease;
use super::rate::ResultRate;

/// Where a batch stands in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Items are leased and started.
    Running,
    /// Nothing starts any more; what runs finishes. `recorded`: the store knows.
    Stopping {
        /// Whether the batch's row says so too.
        recorded: bool,
    },
    /// The closer writes the rest.
    Closing,
}

/// A batch that is being run.
#[derive(Debug)]
pub(super) struct ActiveBatch {
    pub(super) record: BatchRecord,
    /// Its own level in the gate, if it has a limit of its own.
    pub(super) own_level: Option<LevelId>,
    pub(super) feeds: Vec<FeedId>,
    pub(super) phase: Phase,
    pub(super) in_flight: u32,
    /// Items without a result.
    pub(super) remaining: u64,
    /// Results on their way to the store.
    pub(super) unrecorded: u32,
    /// Laid under every body.
    pub(super) defaults: Option<Arc<Defaults>>,
    /// What its defaults add to each request's tokens.
    pub(super) defaults_measure: Measure,
    /// Seconds that the rest takes with the lanes for itself; 0 while that is unknown.
    pub(super) alone: f64,
    /// Results since this process runs it.
    pub(super) rate: ResultRate,
}

impl ActiveBatch {
    pub(super) fn runs(&self) -> bool {
        self.phase == Phase::Running && !self.record.options.paused
    }

    /// Whether it may start another item as far as its own limit is concerned.
    pub(super) fn has_room(&self) -> bool {
        self.runs() && self.record.options.max_concurrency.is_none_or(|most| self.in_flight < most)
    }

    pub(super) fn fails_fast(&self) -> bool {
        self.record.options.on_error == OnError::FailFast
    }

    pub(super) fn fails_items(&self) -> bool {
        self.record.options.on_invalid == OnInvalid::FailItem
    }

    /// Whether the closer may begin: told to stop, durably, and nothing of it is under way.
    pub(super) fn can_close(&self) -> bool {
        self.phase == (Phase::Stopping { recorded: true }) && self.in_flight == 0 && self.unrecorded == 0
    }
}

/// A segment that can be leased.
#[derive(Clone, Debug)]
pub(super) struct Leasable {
    pub(super) head: SegmentHead,
    /// Somebody ran it before: some of its lines may be done.
    pub(super) resumed: bool,
}

/// One batch's items of one model.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) batch: BatchKey,
    /// The model as the segments name it; empty where the lines name none.
    pub(super) model: Arc<str>,
    /// The lanes that serve it; `None`: there is none at present.
    pub(super) route: Option<RouteId>,
    /// Whether its items wait as long as there is none; else they fail with `model_not_found`.
    pub(super) waits_for_lane: bool,
    pub(super) leasable: VecDeque<Leasable>,
    /// The next segment that nobody has claimed yet, where nobody else claims any.
    pub(super) next_no: u32,
    /// Nothing to claim beyond `leasable`, as far as is known.
    pub(super) exhausted: bool,
    /// Whether segments are being claimed.
    pub(super) claiming: bool,
    /// Segments being loaded.
    pub(super) loads: u32,
    /// Items ready to be sent, in order.
    pub(super) queue: VecDeque<ReadyItem>,
    /// Its heads in the gate: one at each lane that pulls, all for whichever item is first.
    pub(super) heads: Vec<(LaneId, HeadId)>,
    /// Since when they wait.
    pub(super) heads_since: Timestamp,
    /// Items without a result.
    pub(super) remaining: u64,
}

impl Feed {
    /// Whether its items are run, now or once there is a lane.
    pub(super) fn is_served(&self) -> bool {
        self.route.is_some() || self.waits_for_lane
    }

    /// Whether items are left, and none of them waits or is about to wait at this worker.
    pub(super) fn has_none_here(&self) -> bool {
        self.remaining > 0 && self.heads.is_empty() && self.queue.is_empty() && self.loads == 0
    }

    /// Whether it can be asked for another segment.
    pub(super) fn has_more(&self) -> bool {
        !self.leasable.is_empty() || !self.exhausted
    }
}

/// The three tables, each entry owned here alone. Looked into a dozen times for an item, by keys that nobody outside
/// chooses: a hash against chosen keys would cost more than all else of a look.
#[derive(Debug, Default)]
pub(super) struct Batches {
    pub(super) batches: FxHashMap<BatchKey, ActiveBatch>,
    pub(super) feeds: FxHashMap<FeedId, Feed>,
    pub(super) leases: FxHashMap<LeaseKey, Lease>,
    last_feed: u64,
    next_deadline: Option<Timestamp>,
}

impl Batches {
    pub(super) fn add_feed(&mut self, feed: Feed) -> FeedId {
        self.last_feed += 1;
        let id = FeedId(self.last_feed);
        self.feeds.insert(id, feed);
        id
    }

    /// The earliest deadline of a running batch.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.next_deadline
    }

    /// To be called when a batch comes, goes, stops or gets another deadline.
    pub(super) fn recompute_deadline(&mut self) {
        let running = self.batches.values().filter(|batch| batch.phase == Phase::Running);
        self.next_deadline = running.map(|batch| batch.record.deadline).min();
    }

    /// Running batches past their deadline.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<BatchKey> {
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let running = self.batches.values().filter(|batch| batch.phase == Phase::Running);
        running.filter(|batch| batch.record.deadline <= now).map(|batch| batch.record.key).collect()
    }
}
