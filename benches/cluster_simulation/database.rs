//! The database: the ledger's laws, and a row that one statement after the other locks.

use std::time::Duration;

use sluicegate::domain::exchange::{Answer, Ask, Slots, Spending};
use sluicegate::domain::shared_ledger::SharedLedger;
use sluicegate::domain::time::Timestamp;
use sluicegate::domain::worker::WorkerKey;

/// The database's time is so far behind that of the simulation, in microseconds.
const BEHIND: i64 = 3_600_000_000;
/// How long a statement waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Slots that are given back so long after their moment are handed out no more, in microseconds.
const REUSABLE: i64 = 200_000;

/// Units, by what became of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Units {
    /// Handed out.
    pub(crate) granted: u64,
    /// Given back while others could use them.
    pub(crate) returned: u64,
}

/// The database.
#[derive(Debug)]
pub(crate) struct Database {
    ledger: SharedLedger,
    /// How long a statement keeps the row.
    statement: Duration,
    free_at: Timestamp,
    pub(crate) units: Units,
    /// Exchanges that were answered.
    pub(crate) exchanges: u64,
    /// The longest wait for the row.
    pub(crate) longest: Duration,
}

impl Database {
    pub(crate) fn new(statement: Duration) -> Self {
        Self {
            ledger: SharedLedger::default(),
            statement,
            free_at: Timestamp::ZERO,
            units: Units::default(),
            exchanges: 0,
            longest: Duration::ZERO,
        }
    }

    /// An exchange comes: its answer, and when that leaves. None comes where the lock is waited for too long.
    pub(crate) fn exchange(
        &mut self,
        worker: WorkerKey,
        ask: &Ask,
        now: Timestamp,
    ) -> Option<(Answer, Timestamp)> {
        let locked = self.free_at.max(now);
        let waited = locked.since(now);
        if waited > LOCK_TIMEOUT {
            return None;
        }
        self.longest = self.longest.max(waited);
        self.free_at = locked + self.statement;
        let now_us = locked.micros() - BEHIND;
        for budget in &ask.budgets {
            for slots in &budget.unused {
                self.units.returned += reusable(*slots, (budget.spending, budget.limit), now_us);
            }
        }
        let mut answer = self.ledger.exchange(worker, ask, now_us);
        answer.came_us = now.micros() - BEHIND;
        let granted = answer.budgets.iter().flat_map(|grant| &grant.slots);
        self.units.granted += granted.map(|slots| slots.units).sum::<u64>();
        self.exchanges += 1;
        Some((answer, self.free_at))
    }

    /// A worker starts anew.
    pub(crate) fn restart(&mut self, worker: WorkerKey) {
        self.ledger.restart(worker);
    }
}

/// How many of slots that are given back others can still use.
fn reusable(slots: Slots, (spending, limit): (Spending, u64), now_us: i64) -> u64 {
    let past = now_us - REUSABLE - slots.at_us;
    let Spending::Paced { stretched_us } = spending else { return slots.units };
    if past <= 0 {
        return slots.units;
    }
    let due = past as f64 * limit as f64 / stretched_us as f64;
    slots.units.saturating_sub(due.ceil() as u64)
}
