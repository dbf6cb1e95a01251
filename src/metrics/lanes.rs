//! The metrics of lanes: families shared by all, and one lane's handles into them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use crate::domain::limits::Dimension;

use super::declare::{CALL_SECONDS, WAIT_SECONDS, metrics};
use super::label::{AttemptClass, Kind, LaneStateLabel, Outcome, RetryReason, TokenType, Upstream429};

metrics! {
    /// One family per metric; a lane is one set of series in each.
    struct Families {
        /// Seconds from an item's or interactive call's first send to its result, retries included.
        request_seconds: HistogramVec =
            "request_duration_seconds" ["kind", "provider", "model", "outcome"] CALL_SECONDS;
        /// Seconds of one upstream call.
        attempt_seconds: HistogramVec = "attempt_duration_seconds" ["provider", "model", "class"] CALL_SECONDS;
        /// Seconds from being ready to run until the first send.
        queue_wait_seconds: HistogramVec = "queue_wait_seconds" ["kind", "provider", "model"] WAIT_SECONDS;
        /// Items that have their final row.
        items: IntCounterVec = "items_total" ["provider", "model", "outcome"];
        /// Upstream calls that ended.
        attempts: IntCounterVec = "attempts_total" ["provider", "model", "class"];
        /// Items that were put back to be sent again.
        retries: IntCounterVec = "retries_total" ["provider", "model", "reason"];
        /// Replies 429 by what they were about.
        upstream_429: IntCounterVec = "upstream_429_total" ["provider", "model", "kind"];
        /// Tokens as the provider's usage reports them.
        tokens: IntCounterVec = "tokens_total" ["provider", "model", "type"];
        /// Units of budget that the gate let through, as reserved.
        admitted: IntCounterVec = "budget_admitted_total" ["provider", "model", "dimension"];
        /// Units of budget given back because less was used than reserved.
        refunded: IntCounterVec = "budget_refunded_total" ["provider", "model", "dimension"];
        /// The tightest limit in force, in units per second; 0: not limited.
        limit_per_second: GaugeVec = "budget_limit_per_second" ["provider", "model", "dimension"];
        /// Upstream calls under way.
        in_flight: IntGaugeVec = "in_flight" ["provider", "model"];
        /// Items accepted and not ended.
        pending: IntGaugeVec = "items_pending" ["provider", "model"];
        /// 1 for the state that the lane is in, 0 for the others; all 0 once it was taken away.
        state: IntGaugeVec = "lane_state" ["provider", "model", "state"];
    }
}

/// All lanes' handles, by provider and model.
pub(super) struct Lanes {
    families: Families,
    known: Mutex<HashMap<(String, String), Arc<LaneMetrics>>>,
}

impl fmt::Debug for Lanes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Lanes")
    }
}

impl Lanes {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self { families: Families::register(registry)?, known: Mutex::default() })
    }

    pub(super) fn get(&self, provider: &str, model: &str) -> Arc<LaneMetrics> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = known
            .entry((provider.to_owned(), model.to_owned()))
            .or_insert_with(|| Arc::new(LaneMetrics::new(&self.families, provider, model)));
        Arc::clone(lane)
    }

    pub(super) fn retire(&self, provider: &str, model: &str) {
        // The lock is held throughout, or a lane made anew in between would lose its series.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.remove(&(provider.to_owned(), model.to_owned())).is_some() {
            self.families.remove(provider, model);
        }
    }
}

impl Families {
    /// Each removal answers an error if the series is gone already, which is what is wanted.
    fn remove(&self, provider: &str, model: &str) {
        for kind in Kind::ALL {
            let _ = self.queue_wait_seconds.remove_label_values(&[kind.as_str(), provider, model]);
            for outcome in Outcome::ALL {
                let labels = [kind.as_str(), provider, model, outcome.as_str()];
                let _ = self.request_seconds.remove_label_values(&labels);
            }
        }
        for class in AttemptClass::ALL {
            let _ = self.attempt_seconds.remove_label_values(&[provider, model, class.as_str()]);
        }
        for (family, values) in [
            (&self.items, Outcome::ALL.map(Outcome::as_str).as_slice()),
            (&self.attempts, AttemptClass::ALL.map(AttemptClass::as_str).as_slice()),
            (&self.retries, RetryReason::ALL.map(RetryReason::as_str).as_slice()),
            (&self.upstream_429, Upstream429::ALL.map(Upstream429::as_str).as_slice()),
            (&self.tokens, TokenType::ALL.map(TokenType::as_str).as_slice()),
            (&self.admitted, Dimension::ALL.map(Dimension::as_str).as_slice()),
            (&self.refunded, Dimension::ALL.map(Dimension::as_str).as_slice()),
        ] {
            for value in values {
                let _ = family.remove_label_values(&[provider, model, value]);
            }
        }
        for dimension in Dimension::ALL {
            let _ = self.limit_per_second.remove_label_values(&[provider, model, dimension.as_str()]);
        }
        for state in LaneStateLabel::ALL {
            let _ = self.state.remove_label_values(&[provider, model, state.as_str()]);
        }
        let _ = self.in_flight.remove_label_values(&[provider, model]);
        let _ = self.pending.remove_label_values(&[provider, model]);
    }
}

/// One lane's handles; every method is a few atomic additions.
#[derive(Debug)]
pub struct LaneMetrics {
    request_seconds: [[Histogram; Outcome::ALL.len()]; Kind::ALL.len()],
    attempt_seconds: [Histogram; AttemptClass::ALL.len()],
    queue_wait_seconds: [Histogram; Kind::ALL.len()],
    items: [IntCounter; Outcome::ALL.len()],
    attempts: [IntCounter; AttemptClass::ALL.len()],
    retries: [IntCounter; RetryReason::ALL.len()],
    upstream_429: [IntCounter; Upstream429::ALL.len()],
    tokens: [IntCounter; TokenType::ALL.len()],
    admitted: [IntCounter; Dimension::ALL.len()],
    refunded: [IntCounter; Dimension::ALL.len()],
    limit_per_second: [Gauge; Dimension::ALL.len()],
    in_flight: IntGauge,
    pending: IntGauge,
    state: [IntGauge; LaneStateLabel::ALL.len()],
}

impl LaneMetrics {
    fn new(families: &Families, provider: &str, model: &str) -> Self {
        let counter = |family: &IntCounterVec, value| family.with_label_values(&[provider, model, value]);
        let lane = Self {
            request_seconds: Kind::ALL.map(|kind| {
                Outcome::ALL.map(|outcome| {
                    let labels = [kind.as_str(), provider, model, outcome.as_str()];
                    families.request_seconds.with_label_values(&labels)
                })
            }),
            attempt_seconds: AttemptClass::ALL
                .map(|class| families.attempt_seconds.with_label_values(&[provider, model, class.as_str()])),
            queue_wait_seconds: Kind::ALL
                .map(|kind| families.queue_wait_seconds.with_label_values(&[kind.as_str(), provider, model])),
            items: Outcome::ALL.map(|it| counter(&families.items, it.as_str())),
            attempts: AttemptClass::ALL.map(|it| counter(&families.attempts, it.as_str())),
            retries: RetryReason::ALL.map(|it| counter(&families.retries, it.as_str())),
            upstream_429: Upstream429::ALL.map(|it| counter(&families.upstream_429, it.as_str())),
            tokens: TokenType::ALL.map(|it| counter(&families.tokens, it.as_str())),
            admitted: Dimension::ALL.map(|it| counter(&families.admitted, it.as_str())),
            refunded: Dimension::ALL.map(|it| counter(&families.refunded, it.as_str())),
            limit_per_second: Dimension::ALL
                .map(|it| families.limit_per_second.with_label_values(&[provider, model, it.as_str()])),
            in_flight: families.in_flight.with_label_values(&[provider, model]),
            pending: families.pending.with_label_values(&[provider, model]),
            state: LaneStateLabel::ALL
                .map(|it| families.state.with_label_values(&[provider, model, it.as_str()])),
        };
        lane.set_state(LaneStateLabel::Open);
        lane
    }

    /// One upstream call ended.
    pub fn attempt_ended(&self, class: AttemptClass, took: Duration) {
        self.attempts[class.index()].inc();
        self.attempt_seconds[class.index()].observe(took.as_secs_f64());
    }

    /// An item has its final row; `took` from its first send, `None` if it was never sent.
    pub fn item_ended(&self, outcome: Outcome, took: Option<Duration>) {
        self.items[outcome.index()].inc();
        if let Some(took) = took {
            self.request_seconds[Kind::Batch.index()][outcome.index()].observe(took.as_secs_f64());
        }
    }

    /// An interactive call ended, `took` after its first send.
    pub fn interactive_ended(&self, outcome: Outcome, took: Duration) {
        self.request_seconds[Kind::Interactive.index()][outcome.index()].observe(took.as_secs_f64());
    }

    /// An item or call was sent for the first time, `waited` after it was ready.
    pub fn queue_waited(&self, kind: Kind, waited: Duration) {
        self.queue_wait_seconds[kind.index()].observe(waited.as_secs_f64());
    }

    /// An item goes back to be sent again.
    pub fn retried(&self, reason: RetryReason) {
        self.retries[reason.index()].inc();
    }

    /// The provider answered 429.
    pub fn refused_upstream(&self, about: Upstream429) {
        self.upstream_429[about.index()].inc();
    }

    /// Tokens that a reply's usage reports.
    pub fn tokens_used(&self, kind: TokenType, tokens: u64) {
        self.tokens[kind.index()].inc_by(tokens);
    }

    /// Units that the gate let through, as reserved.
    pub fn admitted(&self, dimension: Dimension, units: u64) {
        self.admitted[dimension.index()].inc_by(units);
    }

    /// Units that were reserved and not used.
    pub fn refunded(&self, dimension: Dimension, units: u64) {
        self.refunded[dimension.index()].inc_by(units);
    }

    /// The limit now in force, in units per second; 0: not limited.
    pub fn set_limit(&self, dimension: Dimension, per_second: f64) {
        self.limit_per_second[dimension.index()].set(per_second);
    }

    /// Upstream calls under way.
    pub fn in_flight(&self) -> &IntGauge {
        &self.in_flight
    }

    /// Items accepted and not ended.
    pub fn pending(&self) -> &IntGauge {
        &self.pending
    }

    /// The lane is in no state: it was taken away.
    pub fn clear_state(&self) {
        for state in &self.state {
            state.set(0);
        }
    }

    /// The lane is now in this state and in no other.
    pub fn set_state(&self, state: LaneStateLabel) {
        for each in LaneStateLabel::ALL {
            self.state[each.index()].set(i64::from(each == state));
        }
    }
}
