//! Which batch of an app goes next: pure.

use std::time::Duration;

use crate::domain::segment::MAX_ITEMS;

/// What a batch's turn is decided by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// −100…100, higher first.
    pub(super) priority: i32,
    /// Items of the batch.
    pub(super) total: u64,
    /// Whether its deadline can't be met any more, even with its lanes for itself.
    pub(super) hopeless: bool,
    /// Deadline − now − remaining work at what its lanes can do; zero when it can't be met.
    pub(super) slack: Duration,
    /// The batch's row: submission order.
    pub(super) submission: i64,
}

const SLACK_BITS: u32 = 34;
const SUBMISSION_BITS: u32 = 20;

/// The turn of one lease of a batch, lower first: priority, then batches that can make their deadline before those
/// that can't any more, then batches that fit one lease, then the least slack, then submission.
///
/// It is fixed when a segment is leased, so batches of equal standing alternate in runs of at most
/// [`MAX_ITEMS`] and keep neighbouring prompts together; deciding per item would interleave them.
pub(super) fn turn(standing: &Standing) -> u64 {
    let priority = u64::try_from((100 - standing.priority).clamp(0, 200)).unwrap_or(200);
    let large = u64::from(standing.total > u64::from(MAX_ITEMS));
    let slack = u64::try_from(standing.slack.as_millis()).unwrap_or(u64::MAX).min((1 << SLACK_BITS) - 1);
    let submission = standing.submission.unsigned_abs() & ((1 << SUBMISSION_BITS) - 1);
    (priority << (2 + SLACK_BITS + SUBMISSION_BITS))
        | (u64::from(standing.hopeless) << (1 + SLACK_BITS + SUBMISSION_BITS))
        | (large << (SLACK_BITS + SUBMISSION_BITS))
        | (slack << SUBMISSION_BITS)
        | submission
}

/// Leases of batches in time for one of a batch that can't be any more: a floor of a tenth, so that none starves.
const LEASES_AHEAD: u32 = 9;

/// When a batch that can't make its deadline any more goes before those that can.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    ahead: u32,
}

impl Floor {
    /// A batch in time got a lease: whether a hopeless one goes next.
    pub(super) fn is_due(&mut self) -> bool {
        self.ahead = (self.ahead + 1) % LEASES_AHEAD;
        self.ahead == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standing() -> impl Strategy<Value = Standing> {
        let (totals, slacks) = (1..1_000_000_u64, 0..400_u64 * 24 * 3600 * 1000);
        (-100..=100, totals, any::<bool>(), slacks, 1..1_000_000_i64).prop_map(
            |(priority, total, hopeless, slack, submission)| Standing {
                priority,
                total,
                hopeless,
                slack: Duration::from_millis(slack),
                submission,
            },
        )
    }

    proptest! {
        #[test]
        fn orders_by_priority_then_hope_then_size_then_slack_then_submission(a in standing(), b in standing()) {
            let key = |s: &Standing| {
                let slack = s.slack.as_millis().min((1 << SLACK_BITS) - 1);
                (-s.priority, s.hopeless, s.total > 64, slack, s.submission)
            };
            prop_assert_eq!(key(&a).cmp(&key(&b)), turn(&a).cmp(&turn(&b)));
        }

        #[test]
        fn of_any_ten_leases_in_a_row_one_is_of_the_hopeless(before in 0..1_000_u32) {
            let mut floor = Floor::default();
            (0..before).for_each(|_| { let _ = floor.is_due(); });
            // Nine of those in time, and the one that goes in between.
            prop_assert_eq!((0..9).filter(|_| floor.is_due()).count(), 1);
        }
    }
}
