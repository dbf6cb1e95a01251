//! What the end of a call tells the gate about its lane.

use crate::domain::quota::QuotaReading;
use crate::domain::time::Timestamp;
use crate::gate::{LaneState, Sent};
use crate::metrics::AttemptClass;

use super::dispatcher::Dispatcher;
use super::item::LaneId;

/// How a call went.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) lane: LaneId,
    /// `None`: nothing was sent.
    pub(super) class: Option<AttemptClass>,
    /// What its reply said of limits.
    pub(super) quota: &'a [QuotaReading],
    /// When it was admitted, and as one of how many.
    pub(super) sent: Sent,
}

impl Dispatcher {
    /// Hands on what was heard. Rate refusals and lanes that are stopped have ways of their own.
    pub(super) fn hear(&mut self, heard: &Heard<'_>, now: Timestamp) {
        let Heard { lane: lane_id, class, quota, sent } = *heard;
        let sent_at = sent.at;
        let level = self.lanes.get(lane_id).level;
        for reading in quota {
            self.gate.observe(level, reading, sent_at, now);
        }
        let before = self.gate.lane_state(level, now);
        match class {
            Some(AttemptClass::Ok | AttemptClass::ClientError) => self.gate.answered(level, sent, now),
            Some(AttemptClass::Overloaded | AttemptClass::Timeout) => {
                self.gate.overloaded(level, sent, now);
            }
            Some(AttemptClass::ServerError) => self.gate.failed(level, sent_at, now),
            Some(AttemptClass::Network) => self.gate.unreachable(level, sent_at, now),
            Some(AttemptClass::RateLimited) | None => {}
        }
        let after = self.gate.lane_state(level, now);
        if before == after {
            return;
        }
        let lane = &self.lanes.get(lane_id).name;
        if after == LaneState::Breaker {
            tracing::warn!(
                lane = %lane,
                class = class.map_or("", AttemptClass::as_str),
                "the lane is parked: its calls fail one after the other; look at the provider and the network. Items \
                 wait, single calls find out when it is back"
            );
        } else if before == LaneState::Breaker {
            tracing::info!(lane = %lane, "the lane is back");
        }
        self.lane_closed(lane_id, now);
    }
}
