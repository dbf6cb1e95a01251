//! Attempts whose task panicked: a defect of ours must not lose their items.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use super::event::Event;
use super::item::{LaneId, ReadyItem};

/// What is left of an attempt that never reported: its permit came back by itself.
#[derive(Debug)]
pub(super) struct Lost {
    /// The call's number.
    pub(super) number: u64,
    pub(super) lane: LaneId,
    pub(super) item: ReadyItem,
}

/// Runs an attempt; if it panics, what is known of it is reported in its place.
///
/// Not an `async fn`, whose future would hold the attempt's twice: each is a few kilobytes, allocated and moved for
/// every item.
pub(super) fn guard(
    attempt: impl Future<Output = ()>,
    lost: Lost,
    events: mpsc::UnboundedSender<Event>,
) -> impl Future<Output = ()> {
    // Nothing that the attempt could have left half done is used again: it owned all that it touched.
    AssertUnwindSafe(attempt).catch_unwind().map(move |ended| {
        if ended.is_err() {
            // A dispatcher that is gone has given up on what is in flight.
            let _ = events.send(Event::Lost(lost));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::BatchKey;
    use crate::domain::time::Timestamp;
    use crate::engine::item::{FeedId, LeaseKey};

    fn lost() -> Lost {
        let item = ReadyItem {
            lease: LeaseKey { batch: BatchKey(1), segment: 0 },
            entry: 0,
            line: 7,
            feed: FeedId(1),
            attempts: 0,
            refusals: 0,
            successes_before: 0,
            failed_on: None,
            measure: None,
            started_at: None,
            ready_at: Timestamp::ZERO,
        };
        Lost { number: 3, lane: LaneId(0), item }
    }

    #[tokio::test]
    async fn only_an_attempt_that_panics_is_reported_here() {
        let (events, mut heard) = mpsc::unbounded_channel();
        guard(async {}, lost(), events.clone()).await;
        assert!(heard.try_recv().is_err());
        guard(async { panic!("tried") }, lost(), events).await;
        assert!(matches!(heard.try_recv(), Ok(Event::Lost(lost)) if lost.number == 3 && lost.item.line == 7));
    }
}
