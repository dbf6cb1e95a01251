//! What apps use, by day, until a commit moves their rows.

use std::collections::HashMap;

use crate::domain::day::{Day, DayUsage};
use crate::domain::ids::AppKey;
use crate::domain::result::{ItemStatus, NewResult};

/// What was used and is in no row yet.
#[derive(Clone, Debug, Default)]
pub(super) struct UsageSums {
    sums: HashMap<(AppKey, Day), DayUsage>,
}

impl UsageSums {
    /// Adds what an app used.
    pub(super) fn add(&mut self, app: AppKey, day: Day, used: &DayUsage) {
        self.sums.entry((app, day)).or_default().add(used);
    }

    /// Adds an item's result. One that ended before it was ever sent used nothing.
    pub(super) fn add_result(&mut self, app: AppKey, result: &NewResult) {
        let failed = result.status == ItemStatus::Failed;
        if failed || result.attempts > 0 {
            self.add(app, Day::of(result.finished_at), &DayUsage::of(failed, &result.usage));
        }
    }

    /// Adds another's sums.
    pub(super) fn merge(&mut self, other: Self) {
        for ((app, day), used) in other.sums {
            self.add(app, day, &used);
        }
    }

    /// Whether every use has its row.
    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Takes all of it, for a commit.
    pub(super) fn take(&mut self) -> impl Iterator<Item = ((AppKey, Day), DayUsage)> + use<> {
        std::mem::take(&mut self.sums).into_iter()
    }
}
