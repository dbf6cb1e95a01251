//! What one admitted call took from every level.

use std::sync::{Arc, Mutex, PoisonError};

use super::cost::Cost;
use super::overload::Sent;
use crate::domain::time::Timestamp;
use crate::wakeup::Wakeup;

/// What one call took: plain data, of which the gate must get every one back.
///
/// It has two shares: the call in flight, which ends at the reply's last byte, and what is unrecorded,
/// which ends when the result is durable. A task that may die holds it as a [`Permit`].
#[derive(Debug)]
#[must_use = "a grant that is not given back takes its room for ever"]
pub struct Grant {
    pub(super) path: u32,
    pub(super) own: Option<u32>,
    pub(super) cost: Cost,
    pub(super) at: Timestamp,
    /// Calls in flight on its lane, with itself, when it was admitted.
    pub(super) among: u32,
    /// Counts up with every call admitted.
    pub(super) number: u64,
    /// Whether a client waits for it.
    pub(super) interactive: bool,
    /// Whether its tokens were settled.
    pub(super) settled: bool,
    pub(super) in_flight: bool,
    pub(super) probe: bool,
}

impl Grant {
    /// What is left in a permit whose grant was taken out.
    const NONE: Self = Self {
        path: u32::MAX,
        own: None,
        cost: Cost { requests: 0, input_tokens: 0, output_tokens: 0, memory: 0 },
        at: Timestamp::ZERO,
        among: 0,
        number: 0,
        interactive: false,
        settled: true,
        in_flight: false,
        probe: false,
    };

    /// When the call was admitted; what it charged counts from here.
    pub fn admitted_at(&self) -> Timestamp {
        self.at
    }

    /// When the call was admitted, and as one of how many in flight on its lane.
    pub fn sent(&self) -> Sent {
        Sent { at: self.at, among: self.among }
    }

    /// Whether this call finds out if a stopped level works again.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// What it took.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Bytes held for its bodies.
    pub fn memory(&self) -> u64 {
        self.cost.memory
    }
}

/// Grants of permits that were dropped, waiting for the gate's owner.
#[derive(Debug, Default)]
pub(super) struct Releases {
    dropped: Mutex<Vec<Grant>>,
    bell: Wakeup,
}

impl Releases {
    /// Every grant dropped since the last call.
    pub(super) fn take(&self) -> Vec<Grant> {
        std::mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bell that rings for them.
    pub(super) fn bell(&self) -> Wakeup {
        self.bell.clone()
    }

    fn drop_off(&self, grant: Grant) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(grant);
        self.bell.ring();
    }
}

/// The right to have one call in flight: a [`Grant`] that comes back even if its task panics or is aborted.
#[derive(Debug)]
pub struct Permit {
    grant: Grant,
    releases: Arc<Releases>,
}

impl Permit {
    pub(super) fn new(grant: Grant, releases: Arc<Releases>) -> Self {
        Self { grant, releases }
    }

    /// The grant inside.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Hands the grant to whoever gives it back: the normal way, without any lock.
    pub fn into_grant(mut self) -> Grant {
        std::mem::replace(&mut self.grant, Grant::NONE)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let grant = std::mem::replace(&mut self.grant, Grant::NONE);
        if grant.path != Grant::NONE.path {
            self.releases.drop_off(grant);
        }
    }
}
