//! The gate: one admission for everything that leaves the service.
//!
//! A call needs room at every *level* on its path: service, provider, lane, app, batch and memory. Heads,
//! one per (lane, app, batch), wait for their turn; [`Gate::poll`] hands out a [`Grant`] that has taken
//! every level, or nothing. The grant comes back in two steps: [`Gate::finish_call`] at the reply's last
//! byte, [`Gate::recorded`] when the result is durable.
//!
//! The gate is a plain structure with the present moment as an argument: no task, no lock, no clock.
//! One task owns it.

mod admission;
mod answer_times;
mod arrival;
mod base_rate;
mod breaker;
mod budget;
mod burst;
mod closure;
mod cooldown;
mod correction;
mod cost;
mod counting;
mod demand;
mod exchanges;
mod expected;
mod feedback;
mod gossip;
mod grant;
mod learning;
mod lease;
mod leased;
mod ledger;
mod level;
mod micros;
mod order;
mod overload;
mod pacing;
mod path;
mod places;
mod rate_factor;
mod reason;
mod registry;
mod release;
mod report;
mod rolling;
mod rooms;
mod settling;
mod shares;
mod silent;
mod slot_pool;
mod slots;
mod told_shares;
mod turns;
mod view;
mod window_sum;

#[cfg(test)]
mod tests;

pub use budget::BudgetState;
pub use cooldown::Refusal;
pub use cost::{Accounting, Cost, Misfit, TokensUsed};
pub use exchanges::SharedLimit;
pub use grant::{Grant, Permit};
pub use learning::LearnedLimit;
pub use ledger::{LevelState, SaveNeed, Snapshot};
pub use level::{LevelId, LevelKind, LevelSpec};
pub use overload::Sent;
pub use path::{Head, HeadId, MOST_LEVELS, PathId};
pub use reason::{LaneState, PauseReason, Reason, StopReason};
pub use registry::{Boot, Gate, GateOptions};
pub use view::{BudgetView, LevelView, Waiting};

/// A head that may leave now.
#[derive(Debug)]
pub struct Admitted {
    /// The head, which waits no more.
    pub head: HeadId,
    /// The caller's number for it.
    pub tag: u64,
    /// What it took.
    pub grant: Grant,
}

/// Why the gate can't do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The level was removed.
    #[error("the level is gone")]
    UnknownLevel,
    /// The path was removed.
    #[error("the path is gone")]
    UnknownPath,
    /// A path has at most [`MOST_LEVELS`] levels.
    #[error("a path has at most 6 levels")]
    PathTooLong,
}
