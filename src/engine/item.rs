//! An item on its way through the engine, and the names it is known by there.

use crate::domain::ids::BatchKey;
use crate::domain::time::Timestamp;

use super::estimate::Measure;

/// A feed: one batch's items of one model. Never reused, so a late event of an ended batch finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FeedId(pub(super) u64);

/// A lane's place in the lane table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LaneId(pub(super) usize);

/// A route's place in the lane table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RouteId(pub(super) usize);

/// A leased segment of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeaseKey {
    pub(super) batch: BatchKey,
    pub(super) segment: u32,
}

/// An item that may be started as soon as the gate lets it; its bytes stay in its lease.
#[derive(Clone, Debug)]
pub(super) struct ReadyItem {
    pub(super) lease: LeaseKey,
    /// Its place among the segment's entries.
    pub(super) entry: usize,
    pub(super) line: u32,
    /// The feed it came from: tells whether its lease is still the one that it was started for.
    pub(super) feed: FeedId,
    /// Charged attempts so far.
    pub(super) attempts: u32,
    /// Its own rate refusals in a row, all by the lane it failed on last.
    pub(super) refusals: u32,
    /// Successes of that lane when the first of those came.
    pub(super) successes_before: u64,
    /// The lane whose attempt failed last: another one is preferred for the next.
    pub(super) failed_on: Option<LaneId>,
    /// What its tokens are estimated from, once that was needed.
    pub(super) measure: Option<Measure>,
    /// First send of its first attempt.
    pub(super) started_at: Option<Timestamp>,
    /// Since when it could have been sent.
    pub(super) ready_at: Timestamp,
}
