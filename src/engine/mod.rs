//! The engine: leases segments, orders items, sends them through the gate, judges the replies, records the ends.
//!
//! The path: [`refresh`] finds batches, [`filling`] and [`leasing`] fill each lane's window, [`starting`] admits heads,
//! [`attempt`] calls and judges, [`ending`] and [`recorder`] turn verdicts into rows, [`stopping`] and
//! [`closer`] end what was cancelled or expired, [`claiming`] and [`sharing`] divide the work with other workers, [`completion`] foresees when batches end. Calls of clients that wait
//! go through [`interactive`]. [`dispatcher`] is the one task that does all but the waiting.

mod activating;
mod ahead;
mod apps;
mod attempt;
mod batches;
mod board;
mod claiming;
mod closer;
mod completion;
mod crew;
mod database_clock;
mod delayed;
mod dispatcher;
mod ending;
mod estimate;
mod event;
mod feedback;
mod filling;
mod growth;
mod interactive;
mod item;
mod lanes;
mod lease;
mod leasing;
mod limits_told;
mod loader;
mod lost;
mod order;
mod rate;
mod recorder;
mod refresh;
mod reload;
mod reserving;
mod retrying;
mod routes;
mod settings;
mod sharing;
mod showing;
mod start;
mod starting;
mod stopping;
mod upkeep;

pub mod backoff;
pub mod judge;
pub mod retry_budget;

pub use board::Board;
pub use interactive::Calls;
pub use lanes::{MOST_MODEL_LANES, OTHER};
pub use settings::{EngineSettings, LaneChoice, ProviderSetup, RetrySetup, RouteModel};
pub use start::{Engine, EngineError, EngineParts, spawn};
