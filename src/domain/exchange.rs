//! What a worker and the ledger that several of them share tell each other.
//!
//! The ledger hands out *slots*: the right to start calls from a moment on. A worker asks for what its heads
//! will need next, gives back what it can't use, and tells what settled calls used in the end; all of it in one
//! exchange. Moments are the database's, in microseconds since the epoch: no worker's clock counts.

use std::sync::Arc;

use super::limits::Dimension;

/// How long after its moment a slot may be used, in microseconds. With what the way to the provider varies it stays
/// within the jitter that intervals between slots allow for.
pub const SLOT_LIFE: i64 = 250_000;
/// How far ahead slots are handed out, in microseconds: what a worker that dies takes with it.
pub const HORIZON: i64 = 250_000;

/// A budget of one level, as every worker names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BudgetName {
    /// The level: its kind and name, as `lane/openai/gpt-4o`.
    pub level: Arc<str>,
    /// What it counts.
    pub dimension: Dimension,
    /// Its period, in microseconds.
    pub period_us: i64,
}

/// Units that may be used from a moment on: at once where the budget is counted, else one after the other at the
/// budget's interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// When the first of them is due, by the database.
    pub at_us: i64,
    /// How many.
    pub units: u64,
}

/// A charge that turned out different when its call was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The moment of the slots that it was charged in.
    pub at_us: i64,
    /// Units used beyond the charge, or below zero what was not used of it.
    pub change: i64,
}

/// How a budget spends its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    /// At an even pace: a limit's worth of units over so many microseconds, no less than the period.
    Paced {
        /// The period, lengthened by the rate factor, a ramp, and what the way to the provider varies.
        stretched_us: u64,
    },
    /// As fast as asked for, within a rolling period.
    Rolling,
    /// As fast as asked for, within a day that starts so many seconds after midnight UTC.
    Daily {
        /// Seconds after midnight.
        starts: u32,
    },
}

/// What a worker wants of one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetAsk {
    /// Which.
    pub name: BudgetName,
    /// Units per period, as this worker knows it.
    pub limit: u64,
    /// How it is spent.
    pub spending: Spending,
    /// Fewer units than these are of no use; 0: nothing is asked for.
    pub need: u64,
    /// Units that would be used within the horizon; at least `need`.
    pub want: u64,
    /// Slots that will not be used.
    pub unused: Vec<Slots>,
    /// Charges that were settled.
    pub settled: Vec<Settled>,
}

/// What a worker wants of one level's calls in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacesAsk {
    /// The level, named as in [`BudgetName`].
    pub level: Arc<str>,
    /// Calls that may be in flight over all workers, as this one knows it.
    pub limit: u32,
    /// Calls in flight here.
    pub used: u32,
    /// Calls that would be, if they might; at least `used`.
    pub want: u32,
}

/// What an app has taken of a level, told by one worker. Both are virtual time: units by their weight, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareTold {
    /// The level, named as in [`BudgetName`].
    pub level: Arc<str>,
    /// The app's level, named so too; [`NO_APP`] for calls without one, [`TURN`] for the level's own time.
    pub app: Arc<str>,
    /// Where the counter stood at least, before what follows.
    pub base: u64,
    /// By how much it grew by calls of this worker since it told last. Of a level's own time: 1 if this worker joins, and
    /// its counters start the common ones where nobody competes at present; else 0.
    pub taken: u64,
}

/// Stands for the app of calls that have none.
pub const NO_APP: &str = "app";
/// Stands for a level's own time: where the last one started that left in order.
pub const TURN: &str = "";

/// What an app has taken of a level at all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareHeard {
    /// As in [`ShareTold`].
    pub level: Arc<str>,
    /// As in [`ShareTold`].
    pub app: Arc<str>,
    /// Where its counter stands.
    pub served: u64,
}

/// One exchange, as the worker sends it.
///
/// Sent again under the same number with the same `unused` and `settled` if no answer came: the ledger takes
/// these once per number. What was asked for is granted anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Counts up with every exchange of one epoch, from 1.
    pub number: u64,
    /// In the order of their names, each once.
    pub budgets: Vec<BudgetAsk>,
    /// In the order of their levels, each once.
    pub places: Vec<PlacesAsk>,
    /// Levels that calls of apps wait at here: asked for is what apps took of them, where several want the same.
    pub contended: Vec<Arc<str>>,
    /// In the order of levels and apps, each once. Taken again if sent again: a lost answer makes a share a little
    /// unequal, and never a limit.
    pub shares: Vec<ShareTold>,
}

/// What a budget grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetGrant {
    /// Empty if there was no room within the horizon.
    pub slots: Vec<Slots>,
    /// When asking again makes sense, if `need` was not granted; by the database.
    pub not_before_us: Option<i64>,
    /// What all workers charged in the last period.
    pub used: u64,
}

/// The ledger's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The database's time when the question came.
    pub came_us: i64,
    /// The same when all rows were locked, which others may have held: what is granted is so from then on.
    pub now_us: i64,
    /// One for each budget asked about, in the same order.
    pub budgets: Vec<BudgetGrant>,
    /// Calls that may be in flight here, one for each of the places asked about; fewer than are, where others are to have
    /// some of them.
    pub places: Vec<u32>,
    /// Of the levels asked about, those where several apps have competed lately.
    pub shares: Vec<ShareHeard>,
}
