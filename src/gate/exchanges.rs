//! Exchanges with the ledger that workers share: when to send one, what it says, what its answer brings.

use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use super::budget::Budget;
use super::leased::{AskTerms, Due, Leased};
use super::level::LevelId;
use super::pacing::Speed;
use super::told_shares::OfShares;
use crate::domain::exchange::{Answer, Ask, BudgetAsk, PlacesAsk};
use crate::domain::limits::Dimension;
use crate::domain::time::Timestamp;

/// Exchanges for batches follow each other no faster.
const BATCH_SPACING: Duration = Duration::from_millis(200);
/// The most that is added to it, in microseconds, and the part of that which is chance.
const SPREAD: u64 = 40_000;
const CHANCE_PART: u64 = 5;
/// How long that makes it from one exchange to the next, in microseconds.
const TURN: u64 = 220_000;
/// Exchanges for clients that wait follow each other no faster.
const URGENT_SPACING: Duration = Duration::from_millis(50);
/// How long an exchange that failed keeps the next one.
const PAUSE: Duration = Duration::from_millis(250);
/// The speed of a level that is not known yet.
const FULL_SPEED: Speed = Speed { factor: 10_000, ramp: 100 };

/// A limit that somebody has configured lower than we: the level, what is counted, the period in microseconds, and the
/// amount.
pub type SharedLimit = (Arc<str>, Dimension, i64, u64);

/// What a line of an exchange is about.
type BudgetPlace = (LevelId, (Dimension, Duration));

/// The exchanges of one worker.
#[derive(Debug)]
pub(super) struct Exchanges {
    number: u64,
    under_way: Option<UnderWay>,
    /// Whether the last one was not answered: the next one tells the same.
    again: bool,
    sent_at: Option<Timestamp>,
    not_before: Timestamp,
    /// When the next one should be sent, with no regard to the one under way.
    due: Option<Timestamp>,
    /// How far the time here is ahead of the database's, in microseconds.
    offset: Option<i64>,
    /// How long before the last one another worker had its exchange, as in [`Leased::gap`].
    gap: Option<u64>,
    draining: bool,
    /// When the last exchange was sent that said something of shares.
    pub(super) shares_told_at: Option<Timestamp>,
    /// When the last answer came that said something of them.
    pub(super) shares_heard_at: Option<Timestamp>,
    pub(super) lowest: Vec<SharedLimit>,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self {
            number: 1,
            under_way: None,
            again: false,
            sent_at: None,
            not_before: Timestamp::ZERO,
            due: None,
            offset: None,
            gap: None,
            draining: false,
            shares_told_at: None,
            shares_heard_at: None,
            lowest: Vec::new(),
        }
    }
}

/// The lines of the exchange that is not answered yet.
#[derive(Debug, Default)]
struct UnderWay {
    budgets: Vec<BudgetPlace>,
    places: Vec<LevelId>,
    contended: Vec<Arc<str>>,
}

impl Exchanges {
    /// When an exchange may be sent that is due for such reasons.
    fn spaced(&self, due: Due) -> Option<Timestamp> {
        let after = |moment: Option<Timestamp>, spacing: Duration| {
            let earliest = self.sent_at.map_or(Timestamp::ZERO, |sent| sent + spacing);
            moment.map(|moment| moment.max(earliest).max(self.not_before))
        };
        let batch =
            BATCH_SPACING + Duration::from_micros(self.sent_at.map_or(0, |sent| spread(sent, self.gap)));
        after(due.batch, batch).into_iter().chain(after(due.urgent, URGENT_SPACING)).min()
    }
}

/// By how many microseconds an exchange for batches follows the last one later than [`BATCH_SPACING`].
///
/// Where others take what there is, a worker is granted what became free since another one asked. In turns of one length
/// all would stay in one order, and who asks right after another would have little for ever, or nothing; with lengths by
/// chance alone, one of four has half of a limit for seconds. So whoever came soon after another comes later the next
/// time, until all are as far apart.
fn spread(sent: Timestamp, gap: Option<u64>) -> u64 {
    let chance = sent.micros().unsigned_abs() % SPREAD;
    let later = |gap: u64| SPREAD - SPREAD * gap.min(TURN) / TURN;
    gap.map_or(chance, |gap| later(gap) - later(gap) / CHANCE_PART + chance / CHANCE_PART)
}

impl Gate {
    /// When the next exchange with the ledger that workers share should be sent; `None` while one is under way, or
    /// nothing is wanted.
    pub fn exchange_due(&self, now: Timestamp) -> Option<Timestamp> {
        let exchanges = self.exchanges.as_ref().filter(|exchanges| exchanges.under_way.is_none())?;
        exchanges.due.map(|due| due.max(now))
    }

    /// The next exchange, which is under way from now on: [`Gate::exchanged`] or [`Gate::exchange_failed`] ends it.
    pub fn ask(&mut self, now: Timestamp) -> Ask {
        let now = self.move_clock(now);
        let Some(exchanges) = &mut self.exchanges else { return Ask::default() };
        exchanges.sent_at = Some(now);
        exchanges.due = None;
        let (number, draining) = (exchanges.number, exchanges.draining);
        let (again, offset) = (std::mem::take(&mut exchanges.again), exchanges.offset);
        let terms = AskTerms { speed: FULL_SPEED, draining, again, offset, room: None, shut: false, now };
        let (mut budgets, mut places) = (Vec::new(), Vec::new());
        let rooms = self.rooms(now);
        for index in self.levels.indices().collect::<Vec<u32>>() {
            if self.levels[index].lease.is_some() {
                let terms = AskTerms { room: rooms.get(&index).copied(), ..terms };
                self.ask_level(index, terms, &mut budgets, &mut places);
            }
        }
        budgets.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        places.sort_by(|(one, _): &(PlacesAsk, LevelId), (other, _)| one.level.cmp(&other.level));
        merge_alike(&mut budgets, &mut places);
        let (budgets, budget_places) = budgets.into_iter().unzip();
        let (places, level_places) = places.into_iter().unzip();
        let OfShares { contended, told: shares } = self.tell_shares(now);
        if let Some(exchanges) = &mut self.exchanges {
            exchanges.under_way =
                Some(UnderWay { budgets: budget_places, places: level_places, contended: contended.clone() });
        }
        Ask { number, budgets, places, contended, shares }
    }

    fn ask_level(
        &mut self,
        index: u32,
        terms: AskTerms,
        budgets: &mut Vec<(BudgetAsk, BudgetPlace)>,
        places: &mut Vec<(PlacesAsk, LevelId)>,
    ) {
        let id = LevelId(self.levels.key(index));
        let first = self.first_waiting(index, terms.now).and_then(|(_, path)| {
            let (_, head) = self.paths[path].heads.first()?;
            Some((self.heads[head].cost, self.who_waits(index, path)))
        });
        let level = &mut self.levels[index];
        level.ask_budgets(first, terms, |line, place| budgets.push((line, (id, place))));
        places.extend(level.ask_places(terms.draining, terms.now).map(|line| (line, id)));
    }

    /// The answer to the exchange under way. `offset_us`: how far the time here is ahead of the database's, in
    /// microseconds.
    pub fn exchanged(&mut self, answer: &Answer, offset_us: i64, now: Timestamp) {
        let now = self.move_clock(now);
        let Some(exchanges) = &mut self.exchanges else { return };
        let Some(UnderWay { budgets, places, contended }) = exchanges.under_way.take() else { return };
        exchanges.number += 1;
        exchanges.offset = Some(offset_us);
        self.each_leased(Leased::confirm);
        self.hear_shares(&contended, &answer.shares, now);
        let mut gap = None;
        for ((id, (dimension, period)), grant) in budgets.iter().zip(&answer.budgets) {
            let Some(level) = self.levels.find(id.0).map(|index| &mut self.levels[index]) else { continue };
            let found = level.budgets.iter_mut().find(|budget| budget.has_period(*dimension, *period));
            if let Some(leased) = found.and_then(Budget::leased) {
                leased.grant(grant, offset_us, now);
                gap = gap.max(leased.gap(grant));
            }
        }
        for (id, granted) in places.iter().zip(&answer.places) {
            let Some(level) = self.levels.find(id.0).map(|index| &mut self.levels[index]) else { continue };
            if let Some(lease) = &mut level.lease {
                lease.grant(*granted, now);
            }
        }
        self.give_back_in_vain(now);
        for index in self.levels.indices().collect::<Vec<u32>>() {
            if self.levels[index].lease.is_some() {
                self.offer_waiters(index, now);
            }
        }
        if let Some(exchanges) = &mut self.exchanges {
            exchanges.gap = gap;
        }
        self.plan_exchange(now);
    }

    /// Nobody knows what became of the exchange under way: the next one tells the same again.
    pub fn exchange_failed(&mut self, now: Timestamp) {
        let now = self.move_clock(now);
        let Some(exchanges) = &mut self.exchanges else { return };
        if exchanges.under_way.take().is_none() {
            return;
        }
        exchanges.again = true;
        exchanges.not_before = now + PAUSE;
        self.shares_untold();
        for index in self.levels.indices().collect::<Vec<u32>>() {
            if self.levels[index].lease.is_some() {
                self.offer_waiters(index, now);
            }
        }
        self.plan_exchange(now);
        if let Some(exchanges) = &mut self.exchanges {
            // What was told must arrive, whether anything is wanted or not.
            let next = now + PAUSE;
            exchanges.due = Some(exchanges.due.map_or(next, |due| due.min(next)));
        }
    }

    /// The worker begins another life in the ledger: exchanges count from 1 again, and nothing is in hand.
    pub fn restart_exchanges(&mut self) {
        let now = self.now;
        let Some(exchanges) = &mut self.exchanges else { return };
        let (offset, lowest) = (exchanges.offset, std::mem::take(&mut exchanges.lowest));
        let draining = exchanges.draining;
        **exchanges = Exchanges { offset, lowest, draining, ..Exchanges::default() };
        self.each_leased(Leased::start_over);
        self.shares_untold();
        for index in self.levels.indices().collect::<Vec<u32>>() {
            if let Some(lease) = &mut self.levels[index].lease {
                lease.start_over();
                self.offer_waiters(index, now);
            }
        }
        self.plan_exchange(now);
    }

    /// The worker ends: slots in hand go into the next exchange, and nothing is wanted any more.
    pub fn give_back_all(&mut self, now: Timestamp) {
        let now = self.move_clock(now);
        if let Some(exchanges) = &mut self.exchanges {
            exchanges.draining = true;
            exchanges.due = Some(now);
        }
    }

    /// Something happened at a level for which an exchange may be due earlier.
    pub(super) fn hasten_exchange(&mut self, index: u32) {
        let Some(exchanges) = &mut self.exchanges else { return };
        let level = &self.levels[index];
        if level.lease.is_none() {
            return;
        }
        if let Some(due) = exchanges.spaced(level.any_exchange_due(exchanges.draining, self.now)) {
            exchanges.due = Some(exchanges.due.map_or(due, |held| held.min(due)));
        }
    }

    /// Looks whether an exchange that was due is so still.
    pub(super) fn check_exchange_due(&mut self, now: Timestamp) {
        let Some(exchanges) = &self.exchanges else { return };
        let reached = exchanges.due.is_some_and(|due| due <= now);
        if reached && exchanges.under_way.is_none() && !exchanges.again {
            self.plan_exchange(now);
        }
    }

    fn plan_exchange(&mut self, now: Timestamp) {
        let Some(exchanges) = &mut self.exchanges else { return };
        let leased = self.levels.indices().map(|index| &self.levels[index]).filter(|it| it.lease.is_some());
        let draining = exchanges.draining;
        let due = leased.fold(Due::default(), |due, level| due.or(level.any_exchange_due(draining, now)));
        exchanges.due = exchanges.spaced(due);
    }

    fn each_leased(&mut self, mut change: impl FnMut(&mut Leased)) {
        for index in self.levels.indices().collect::<Vec<u32>>() {
            self.levels[index].budgets.iter_mut().filter_map(Budget::leased).for_each(&mut change);
        }
    }
}

/// A level that is being removed and the one that takes its place have one name: one line speaks for both.
fn merge_alike(budgets: &mut Vec<(BudgetAsk, BudgetPlace)>, places: &mut Vec<(PlacesAsk, LevelId)>) {
    budgets.dedup_by(|(next, next_place), (first, first_place)| {
        if next.name != first.name {
            return false;
        }
        let (mut unused, mut settled) = (std::mem::take(&mut next.unused), std::mem::take(&mut next.settled));
        if next.want > first.want {
            std::mem::swap(first, next);
            std::mem::swap(first_place, next_place);
            std::mem::swap(&mut first.unused, &mut next.unused);
            std::mem::swap(&mut first.settled, &mut next.settled);
        }
        first.unused.append(&mut unused);
        first.settled.append(&mut settled);
        true
    });
    places.dedup_by(|(next, next_place), (first, first_place)| {
        if next.level != first.level {
            return false;
        }
        if next.want > first.want {
            std::mem::swap(first_place, next_place);
            first.limit = next.limit;
        }
        first.used = first.used.saturating_add(next.used);
        first.want = first.want.saturating_add(next.want);
        true
    });
}
