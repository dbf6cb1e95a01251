//! Why nothing leaves, in the words that operators see.

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

/// Why a head waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A limit of requests per time.
    Rate,
    /// A limit of tokens per time.
    Tokens,
    /// All calls that may be in flight are.
    Concurrency,
    /// No room for its body.
    Memory,
    /// The lane was refused and is closed for a time.
    Cooldown,
    /// The provider says that its quota is used up.
    Quota,
    /// The provider refuses the key.
    Credential,
    /// The lane is parked because its calls fail.
    Breaker,
    /// Paused by an operator.
    Paused,
    /// Results can't be made durable fast enough, or at all.
    Disk,
}

impl Reason {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Tokens => "tokens",
            Self::Concurrency => "concurrency",
            Self::Memory => "memory",
            Self::Cooldown => "cooldown",
            Self::Quota => "quota",
            Self::Credential => "credential",
            Self::Breaker => "breaker",
            Self::Paused => "paused",
            Self::Disk => "disk",
        }
    }
}

/// Why a level is stopped until a probe succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The key is missing or refused.
    Credential,
    /// The account's quota is used up.
    Quota,
}

impl StopReason {
    /// As logs name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Quota => "quota",
        }
    }
}

impl From<StopReason> for Reason {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Credential => Self::Credential,
            StopReason::Quota => Self::Quota,
        }
    }
}

/// Why a level is paused until it is told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// An operator said so.
    Paused,
    /// The disk is full.
    Disk,
}

impl From<PauseReason> for Reason {
    fn from(reason: PauseReason) -> Self {
        match reason {
            PauseReason::Paused => Self::Paused,
            PauseReason::Disk => Self::Disk,
        }
    }
}

/// Whether a lane takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// It does, within its limits.
    Open,
    /// It was refused and waits.
    Cooldown,
    /// Its calls fail; probes find out when it is back.
    Breaker,
    /// Its key or quota is refused; probes find out when it is back.
    Stopped,
    /// Somebody paused it.
    Paused,
}

impl LaneState {
    /// Every state, as the metric lists them.
    pub const ALL: [Self; 5] = [Self::Open, Self::Cooldown, Self::Breaker, Self::Stopped, Self::Paused];

    /// The word on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cooldown => "cooldown",
            Self::Breaker => "breaker",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}

/// A refusal: why, and not before when, if time alone helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// The earliest moment; `None` until something is given back.
    pub(super) until: Option<Timestamp>,
    /// Why.
    pub(super) reason: Reason,
}

impl Blocked {
    /// Whether a head that both refuse should rather wait here.
    ///
    /// A closed lane comes first, then what only a release ends, then the later moment. Memory comes
    /// last: its first waiter keeps smaller ones back, which is fair only if nothing else stops it.
    pub(super) fn outlasts(self, other: Self) -> bool {
        self.rank() >= other.rank()
    }

    fn rank(self) -> (u8, Timestamp) {
        let class = match (self.reason, self.until) {
            (Reason::Memory, _) => 0,
            (Reason::Rate | Reason::Tokens | Reason::Concurrency, Some(_)) => 1,
            (Reason::Rate | Reason::Tokens | Reason::Concurrency, None) => 2,
            _ => 3,
        };
        (class, self.until.unwrap_or(Timestamp::ZERO))
    }
}
