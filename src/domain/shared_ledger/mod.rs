//! The ledger that workers share, as a value: the laws of the database's function, without a database.
//!
//! The database holds the real one. This twin of it says what it must answer, and stands in where thousands of workers
//! are simulated.

mod budget;
mod day;
mod pace;
mod places;
#[cfg(test)]
pub(crate) mod script;
mod shares;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::budget::SharedBudget;
use self::places::SharedPlaces;
use self::shares::SharedShares;
use super::exchange::{Answer, Ask, BudgetName};
use super::worker::WorkerKey;

/// Every budget and every level's places, of all workers.
#[derive(Clone, Debug, Default)]
pub struct SharedLedger {
    /// The number of the last exchange whose `unused` and `settled` were taken.
    taken: HashMap<WorkerKey, u64>,
    budgets: HashMap<BudgetName, SharedBudget>,
    places: BTreeMap<Arc<str>, SharedPlaces>,
    shares: SharedShares,
}

impl SharedLedger {
    /// One exchange of a worker, at a moment in microseconds since the epoch.
    pub fn exchange(&mut self, worker: WorkerKey, ask: &Ask, now_us: i64) -> Answer {
        let tells = ask.budgets.iter().any(|budget| !budget.unused.is_empty() || !budget.settled.is_empty());
        let taken = self.taken.entry(worker).or_default();
        let is_new = tells && ask.number > *taken;
        if is_new {
            *taken = ask.number;
        }
        let mut answer = Answer { came_us: now_us, now_us, ..Answer::default() };
        for budget in &ask.budgets {
            let row = self.budgets.entry(budget.name.clone());
            let row = row.or_insert_with(|| SharedBudget::new(budget, now_us));
            answer.budgets.push(row.exchange(budget, is_new, now_us));
        }
        for places in &ask.places {
            let level = self.places.entry(Arc::clone(&places.level)).or_default();
            answer.places.push(level.exchange(worker, places));
        }
        answer.shares = self.shares.exchange(&ask.shares, &ask.contended, now_us);
        answer
    }

    /// A worker starts anew or was taken over: its numbers begin again, and it holds no places.
    pub fn restart(&mut self, worker: WorkerKey) {
        self.taken.remove(&worker);
        for places in self.places.values_mut() {
            places.forget(worker);
        }
    }
}
