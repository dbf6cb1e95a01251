//! The service's objects as far as the command line shows them.

use serde::Deserialize;

/// A batch.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Batch {
    pub(in crate::cli) id: String,
    pub(in crate::cli) status: String,
    pub(in crate::cli) model: Option<String>,
    pub(in crate::cli) created_at: u64,
    pub(in crate::cli) errors: Option<Errors>,
    pub(in crate::cli) request_counts: Counts,
    pub(in crate::cli) usage: Option<Usage>,
    pub(in crate::cli) sluicegate: Details,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Errors {
    pub(in crate::cli) data: Vec<Problem>,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Problem {
    pub(in crate::cli) line: Option<u64>,
    pub(in crate::cli) code: Option<String>,
    pub(in crate::cli) message: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(in crate::cli) struct Counts {
    pub(in crate::cli) total: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(in crate::cli) struct Usage {
    pub(in crate::cli) input_tokens: u64,
    pub(in crate::cli) output_tokens: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Details {
    pub(in crate::cli) counts: StateCounts,
    pub(in crate::cli) items_per_second: Option<f64>,
    pub(in crate::cli) success_rate: Option<f64>,
    pub(in crate::cli) item_seconds: ItemSeconds,
    pub(in crate::cli) estimated_completion_at: Option<f64>,
    #[serde(default)]
    pub(in crate::cli) waiting: Vec<Waiting>,
    pub(in crate::cli) retry_of: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(in crate::cli) struct StateCounts {
    pub(in crate::cli) succeeded: u64,
    pub(in crate::cli) failed: u64,
    pub(in crate::cli) expired: u64,
    pub(in crate::cli) cancelled: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(in crate::cli) struct ItemSeconds {
    pub(in crate::cli) mean: Option<f64>,
    pub(in crate::cli) min: Option<f64>,
    pub(in crate::cli) max: Option<f64>,
}

/// Why a batch does not go on.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Waiting {
    pub(in crate::cli) lane: Option<String>,
    pub(in crate::cli) reason: String,
}

impl Batch {
    /// Items that have ended.
    pub(in crate::cli) fn done(&self) -> u64 {
        let counts = &self.sluicegate.counts;
        counts.succeeded + counts.failed + counts.expired + counts.cancelled
    }

    /// Items that ended other than well.
    pub(in crate::cli) fn not_succeeded(&self) -> u64 {
        self.done() - self.sluicegate.counts.succeeded
    }

    /// Whether nothing of it changes any more.
    pub(in crate::cli) fn has_ended(&self) -> bool {
        has_ended(&self.status)
    }
}

/// Whether a batch of this status changes no more.
pub(in crate::cli) fn has_ended(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "expired" | "cancelled")
}

impl Waiting {
    /// The reason in words that say what is missing.
    pub(in crate::cli) fn described(&self) -> String {
        let of = self.lane.as_ref().map(|lane| format!(" of {lane}")).unwrap_or_default();
        match self.reason.as_str() {
            "rate" => format!("the request limit{of}"),
            "tokens" => format!("the token limit{of}"),
            "concurrency" => format!("a free slot{of}"),
            "memory" => "memory".to_owned(),
            "cooldown" => format!("the time that the provider asked for{of}"),
            "quota" => format!("quota: the provider says that it is used up{of}"),
            "credential" => format!("a good key: the provider refuses the one it gets{of}"),
            "breaker" => format!("the provider: its calls fail{of}"),
            "paused" => "being resumed: it is paused".to_owned(),
            "no_provider" => "a provider: none serves its model".to_owned(),
            "disk" => "room on the disk".to_owned(),
            other => other.to_owned(),
        }
    }
}
