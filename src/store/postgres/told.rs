//! What an exchange tells the ledger, as lists by column, and what is answered.

use crate::domain::exchange::{Answer, Ask, BudgetAsk, BudgetGrant, ShareHeard, Slots, Spending};
use crate::domain::worker::WorkerKey;

use super::arguments::{Argument, arguments};
use super::columns::{Columns, int};
use super::fault::{Attempt, damaged};

/// The arguments of one exchange.
#[derive(Default)]
pub(in crate::store) struct Told {
    worker: i64,
    epoch: i64,
    number: i64,
    levels: Vec<String>,
    dimensions: Vec<String>,
    periods: Vec<i64>,
    limits: Vec<i64>,
    spendings: Vec<i64>,
    needs: Vec<i64>,
    wants: Vec<i64>,
    told_of: Vec<i64>,
    told_at: Vec<i64>,
    told_units: Vec<i64>,
    told_unused: Vec<bool>,
    place_levels: Vec<String>,
    place_limits: Vec<i64>,
    place_used: Vec<i64>,
    place_wants: Vec<i64>,
    share_levels: Vec<String>,
    share_apps: Vec<String>,
    share_bases: Vec<i64>,
    share_taken: Vec<i64>,
    contended: Vec<String>,
}

impl Told {
    pub(in crate::store) fn of((worker, epoch): (WorkerKey, i64), ask: &Ask) -> Self {
        let mut told = Self { worker: worker.0, epoch, number: int(ask.number), ..Self::default() };
        for (number, budget) in (1..).zip(&ask.budgets) {
            told.add_budget(number, budget);
        }
        for places in &ask.places {
            told.place_levels.push(places.level.to_string());
            told.place_limits.push(places.limit.into());
            told.place_used.push(places.used.into());
            told.place_wants.push(places.want.into());
        }
        for share in &ask.shares {
            told.share_levels.push(share.level.to_string());
            told.share_apps.push(share.app.to_string());
            told.share_bases.push(int(share.base));
            told.share_taken.push(int(share.taken));
        }
        told.contended = ask.contended.iter().map(ToString::to_string).collect();
        told
    }

    fn add_budget(&mut self, number: i64, budget: &BudgetAsk) {
        self.levels.push(budget.name.level.to_string());
        self.dimensions.push(budget.name.dimension.as_str().to_owned());
        self.periods.push(budget.name.period_us);
        self.limits.push(int(budget.limit));
        self.spendings.push(match budget.spending {
            Spending::Paced { stretched_us } => int(stretched_us.max(1)),
            Spending::Rolling => 0,
            Spending::Daily { starts } => -1 - i64::from(starts),
        });
        self.needs.push(int(budget.need));
        self.wants.push(int(budget.want));
        let mut unused = budget.unused.clone();
        // Runs that follow each other move the arrival time back one by one.
        unused.sort_by_key(|slots| std::cmp::Reverse(slots.at_us));
        for slots in unused {
            self.tell(number, slots.at_us, int(slots.units), true);
        }
        for settled in &budget.settled {
            self.tell(number, settled.at_us, settled.change.max(-i64::MAX), false);
        }
    }

    fn tell(&mut self, number: i64, at: i64, units: i64, is_unused: bool) {
        self.told_of.push(number);
        self.told_at.push(at);
        self.told_units.push(units);
        self.told_unused.push(is_unused);
    }

    /// In the order in which the function takes them.
    pub(in crate::store) fn arguments(&self) -> [Argument<'_>; 23] {
        arguments![
            self.worker,
            self.epoch,
            self.number,
            self.levels,
            self.dimensions,
            self.periods,
            self.limits,
            self.spendings,
            self.needs,
            self.wants,
            self.told_of,
            self.told_at,
            self.told_units,
            self.told_unused,
            self.place_levels,
            self.place_limits,
            self.place_used,
            self.place_wants,
            self.share_levels,
            self.share_apps,
            self.share_bases,
            self.share_taken,
            self.contended,
        ]
    }
}

/// Reads what the function answered to an ask.
pub(in crate::store) fn answer(ask: &Ask, columns: &mut Columns<'_>) -> Attempt<Answer> {
    let (came_us, now_us) = (columns.take()?, columns.take()?);
    let (used, not_before): (Vec<i64>, Vec<i64>) = (columns.take()?, columns.take()?);
    let (slot_of, slot_at): (Vec<i64>, Vec<i64>) = (columns.take()?, columns.take()?);
    let (slot_units, places): (Vec<i64>, Vec<i64>) = (columns.take()?, columns.take()?);
    let wrong = || damaged("the ledger answered something else than what it was asked");
    if used.len() != ask.budgets.len() || not_before.len() != used.len() || places.len() != ask.places.len() {
        return Err(wrong());
    }
    let budgets = used.into_iter().zip(not_before).map(|(used, until)| BudgetGrant {
        slots: Vec::new(),
        not_before_us: (until > 0).then_some(until),
        used: u64::try_from(used).unwrap_or(0),
    });
    let mut budgets: Vec<_> = budgets.collect();
    for ((of, at_us), units) in slot_of.into_iter().zip(slot_at).zip(slot_units) {
        let place = usize::try_from(of - 1).map_err(|_| wrong())?;
        let units = u64::try_from(units).map_err(|_| wrong())?;
        budgets.get_mut(place).ok_or_else(wrong)?.slots.push(Slots { at_us, units });
    }
    let places = places.into_iter().map(|places| u32::try_from(places).unwrap_or(u32::MAX)).collect();
    let (levels, apps): (Vec<String>, Vec<String>) = (columns.take()?, columns.take()?);
    let served: Vec<i64> = columns.take()?;
    let shares = levels.into_iter().zip(apps).zip(served).map(|((level, app), served)| ShareHeard {
        level: level.into(),
        app: app.into(),
        served: served.unsigned_abs(),
    });
    Ok(Answer { came_us, now_us, budgets, places, shares: shares.collect() })
}
