//! What of the engine may change while it runs: limits, providers and their lanes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::limits::Limits;
use crate::gate::Accounting;
use crate::upstream::{PhaseTimeouts, Upstream};

use super::backoff::Backoff;
use super::judge::RetryOn;

/// How a provider's failed attempts are repeated.
#[derive(Clone, Debug)]
pub struct RetrySetup {
    /// Most charged attempts of an item.
    pub max_attempts: u32,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// What is worth repeating.
    pub on: RetryOn,
}

/// A provider as the engine needs it.
#[derive(Debug)]
pub struct ProviderSetup {
    /// Its name in the configuration.
    pub name: String,
    /// Its client. Calls made with the one before go on with that.
    pub upstream: Arc<Upstream>,
    /// Limits over all of its lanes.
    pub limits: Limits,
    /// Limits of one call's phases.
    pub timeouts: PhaseTimeouts,
    /// Its retries.
    pub retry: RetrySetup,
    /// How it charges tokens.
    pub accounting: Accounting,
    /// The budget that it shares with other providers of the same account and limits; `None`: its own.
    pub budget: Option<String>,
}

impl ProviderSetup {
    /// The name of the budget that its lanes spend.
    pub(super) fn budget_name(&self) -> &str {
        self.budget.as_deref().unwrap_or(&self.name)
    }

    /// Whether calls go to the same place with the same key as another one's.
    pub(super) fn has_upstream_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.upstream, &other.upstream)
    }
}

/// A lane that may serve a model.
#[derive(Clone, Debug)]
pub struct LaneChoice {
    /// The provider's place in [`EngineSettings::providers`].
    pub provider: usize,
    /// The configured pattern, or the model itself where the provider names no lanes.
    pub lane: String,
    /// Whether the lane is configured; those that are not are capped at [`super::MOST_MODEL_LANES`].
    pub configured: bool,
    /// The lane's own limits.
    pub limits: Limits,
    /// Lanes of a lower order are preferred.
    pub order: i32,
    /// The share among lanes of the same order; at least 1.
    pub weight: u32,
    /// The provider's name for the lane's model; `None`: the same.
    pub upstream_model: Option<Arc<str>>,
}

/// Finds the lanes of a model; none: nothing serves it.
pub type RouteModel = Arc<dyn Fn(&str) -> Vec<LaneChoice> + Send + Sync>;

/// What of the engine may change while it runs.
pub struct EngineSettings {
    /// Limits over all providers.
    pub limits: Limits,
    /// The part of a lane's budget up to which interactive calls go before batches, 0–1.
    pub interactive_share: f64,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// The providers.
    pub providers: Vec<Arc<ProviderSetup>>,
    /// Which lane serves a model.
    pub route: RouteModel,
}

impl fmt::Debug for EngineSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let providers: Vec<&str> = self.providers.iter().map(|provider| provider.name.as_str()).collect();
        formatter.debug_struct("EngineSettings").field("providers", &providers).finish_non_exhaustive()
    }
}
