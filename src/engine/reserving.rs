//! Tokens of a head, and what becomes of an item that no limit has room for.

use crate::domain::batch::Usage;
use crate::domain::limits::Dimension;
use crate::domain::result::{ErrorCode, ItemStatus, Payload};
use crate::domain::time::Timestamp;
use crate::gate::{Accounting, Cost, Grant, Misfit, TokensUsed};
use crate::metrics::AttemptClass;

use super::attempt::unsent;
use super::dispatcher::Dispatcher;
use super::estimate::{Estimates, Expected, Measure};
use super::item::{FeedId, LaneId, ReadyItem};
use super::judge::Judgement;
use super::lanes::Lane;

/// Memory charged for each call's reply until its length is known; longer ones ask for more.
const REPLY_BYTES: u64 = 32 * 1024;

/// What a batch's item takes of every level; `copied` are the bytes of a body that is not sent as its segment has it.
pub(super) fn cost(tokens: Expected, copied: u64) -> Cost {
    let memory = REPLY_BYTES + copied;
    Cost { requests: 1, input_tokens: tokens.input, output_tokens: tokens.output, memory }
}

impl Dispatcher {
    /// What a call turned out to have used goes to the budgets, and to what the next estimates are made of.
    pub(super) fn settle_tokens(
        &mut self,
        (lane, item): (LaneId, &ReadyItem),
        judgement: &Judgement,
        grant: &mut Grant,
        now: Timestamp,
    ) {
        let Some(measure) = item.measure else { return };
        let usage = judgement.usage;
        let Some(used) = used(usage, judgement.class) else { return };
        count_refunds(self.lanes.get(lane), &grant.cost(), used);
        self.gate.settle(grant, used, now);
        let lease = self.batches.leases.get(&item.lease);
        let feed = lease.and_then(|lease| self.batches.feeds.get(&lease.feed));
        if let (Some(usage), Some(feed)) = (usage, feed) {
            self.estimates.learn(Some(feed.batch), &feed.model, Some(&measure), &usage);
        }
    }

    /// A ready item that can never be let through fails, with the figures.
    pub(super) fn fail_misfit(&mut self, feed_id: FeedId, misfit: &Misfit, now: Timestamp) {
        let Some(item) = self.batches.feeds.get_mut(&feed_id).and_then(|feed| feed.queue.pop_front()) else {
            return;
        };
        let key = item.lease;
        let mut custom_id = None;
        if let Some(lease) = self.batches.leases.get_mut(&key) {
            lease.busy -= 1;
            lease.ready -= 1;
            let entry = lease.open.as_ref().and_then(|open| Some((open, open.entries().get(item.entry)?)));
            custom_id = entry.and_then(|(open, entry)| open.custom_id(entry)).map(str::to_owned);
        }
        let message = figures(misfit);
        let ending = (ItemStatus::Failed, Payload::Error { code: ErrorCode::TokenBudgetExceeded, message });
        let mut result = unsent(key.batch, item.line, custom_id.as_deref(), ending, now);
        result.attempts = item.attempts;
        let route = self.batches.feeds.get(&feed_id).and_then(|feed| feed.route);
        self.finish_item(key, route.and_then(|route| self.lanes.preferred(route)), result, None);
        self.settle_lease(key, now);
    }
}

/// What a provider that charges what was used gave back of a call's reservation. One that charges on admission
/// gives nothing back.
pub(super) fn count_refunds(lane: &Lane, reserved: &Cost, used: TokensUsed) {
    if lane.provider.accounting == Accounting::Admission {
        return;
    }
    let used = Cost { input_tokens: used.input, output_tokens: used.output, ..Cost::default() };
    for ((dimension, reserved), (_, used)) in
        reserved.by_dimension().into_iter().zip(used.by_dimension()).skip(1)
    {
        lane.metrics.refunded(dimension, reserved.saturating_sub(used));
    }
}

/// What a call used, where that is known.
pub(super) fn used(usage: Option<Usage>, class: Option<AttemptClass>) -> Option<TokensUsed> {
    match (usage, class) {
        (Some(usage), _) => Some(TokensUsed {
            input: usage.input_tokens,
            output: usage.output_tokens,
            cached: usage.cached_tokens,
        }),
        // What was refused used nothing, whatever its provider charged for it on admission. A call that timed
        // out or broke off may have used everything: it stays charged.
        (None, Some(AttemptClass::ClientError | AttemptClass::RateLimited | AttemptClass::Overloaded)) => {
            Some(TokensUsed::default())
        }
        _ => None,
    }
}

/// What a limit says of a request that it will never let through.
pub(super) fn figures(misfit: &Misfit) -> String {
    let Misfit { level, dimension, limit, needed } = misfit;
    format!(
        "This request needs at least {needed} {} at once, and '{level}' allows {limit} per period.",
        words(*dimension)
    )
}

/// What an item is likely to take, and what it takes at least.
pub(super) fn tokens(
    estimates: &Estimates,
    of: (crate::domain::ids::BatchKey, &str),
    measure: &Measure,
    accounting: Accounting,
) -> (Expected, Cost) {
    let expected = estimates.expect(Some(of.0), of.1, measure, accounting == Accounting::Admission);
    (expected, cost(Estimates::certain(measure), 0))
}

fn words(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Requests => "requests",
        Dimension::Tokens => "tokens",
        Dimension::InputTokens => "input tokens",
        Dimension::OutputTokens => "output tokens",
    }
}
