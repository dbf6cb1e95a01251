//! What one level has in hand of limits that several workers share, and what it wants of them.

use std::sync::Arc;
use std::time::Duration;

use super::leased::{AskTerms, Due, Leased, Waits};
use super::level::{Level, LevelKind, LevelSpec};
use super::micros::micros_of;
use super::places::Places;
use crate::domain::exchange::{BudgetAsk, BudgetName, PlacesAsk};
use crate::domain::limits::Dimension;
use crate::domain::time::Timestamp;

/// How long after an interactive call a place is kept in hand for the next one.
const KEPT: Duration = Duration::from_secs(10);

/// The shared side of a level.
#[derive(Debug)]
pub(super) struct Lease {
    /// How all workers name it: its kind and its name.
    pub(super) name: Arc<str>,
    places: Places,
    /// Whether its level's calls in flight are those of all workers together.
    shares_places: bool,
    kept_until: Timestamp,
    /// Until when each of its heads lacks units of some limit on its path.
    shut_until: Timestamp,
}

impl Lease {
    /// Nothing in hand.
    pub(super) fn new(spec: &LevelSpec) -> Self {
        let (places, never) = (Places::default(), Timestamp::ZERO);
        let (name, shares_places) = (name_of(spec.kind, &spec.name), !spec.own_places);
        Self { name, places, shares_places, kept_until: never, shut_until: never }
    }

    /// Its level has another name.
    pub(super) fn rename(&mut self, kind: LevelKind, name: &str) {
        self.name = name_of(kind, name);
    }

    /// Its level's calls in flight are shared from now on, or not any more; tells whether that is another way.
    pub(super) fn share_places(&mut self, shares: bool) -> bool {
        let changes = std::mem::replace(&mut self.shares_places, shares) != shares;
        if changes {
            self.places.drop_all();
        }
        changes
    }

    /// Calls that may be in flight here.
    pub(super) fn slots(&self) -> u32 {
        self.places.limit()
    }

    /// Whether no places were granted yet.
    pub(super) fn starts(&self) -> bool {
        self.shares_places && !self.places.are_there()
    }

    /// Whether there is a place for one more call; `most`: calls that may be in flight for other reasons.
    pub(super) fn probe(&mut self, in_flight: u32, most: u32, interactive: bool) -> bool {
        let fits = in_flight < self.places.limit();
        if !fits {
            self.places.refuse(most, interactive);
        }
        fits
    }

    /// A call leaves as one of so many.
    pub(super) fn took(&mut self, in_flight: u32, interactive: bool, now: Timestamp) {
        self.places.took(in_flight);
        if interactive {
            self.kept_until = now + KEPT;
        }
    }

    /// What an exchange granted.
    pub(super) fn grant(&mut self, granted: u32, now: Timestamp) {
        self.places.grant(granted, now);
    }

    /// Another life of the worker begins.
    pub(super) fn start_over(&mut self) {
        self.reopen();
        self.places.drop_all();
    }

    /// Whether units are of use is to be seen by the next exchange.
    pub(super) fn reopen(&mut self) {
        self.shut_until = Timestamp::ZERO;
    }

    /// Calls that places are there for, as in [`Places::room`].
    fn room(&self, in_flight: u32) -> Option<u32> {
        self.places.room(in_flight)
    }

    fn kept(&self, now: Timestamp) -> u32 {
        u32::from(now < self.kept_until)
    }
}

/// How all workers name a level.
pub(super) fn name_of(kind: LevelKind, name: &str) -> Arc<str> {
    format!("{}/{name}", kind.as_str()).into()
}

/// What the first waiting head of a level takes of a budget, and who waits for it.
pub(super) type FirstHead = Option<(super::cost::Cost, Waits)>;

impl Level {
    /// Calls that may be in flight at all workers together; `None`: not limited, or each process's own.
    pub(super) fn shared_concurrent(&self) -> Option<u32> {
        self.max_concurrent.filter(|_| self.lease.as_ref().is_some_and(|lease| lease.shares_places))
    }

    /// When an exchange should be sent for it; `draining`: the worker ends.
    pub(super) fn any_exchange_due(&self, draining: bool, now: Timestamp) -> Due {
        if draining { self.return_due(now) } else { self.exchange_due(now) }
    }

    /// When an exchange should be sent for it, if the worker ends.
    fn return_due(&self, now: Timestamp) -> Due {
        let mut leased = self.budgets.iter().filter_map(|budget| budget.as_leased());
        // Of places that are not limited any more the ledger is told nothing.
        let places = self.shared_concurrent().and(self.lease.as_ref()).map(|lease| lease.slots());
        let any = leased.any(Leased::has_to_return) || places.is_some_and(|places| places > self.in_flight);
        if any { Due::default().and_at(now, false) } else { Due::default() }
    }

    fn exchange_due(&self, now: Timestamp) -> Due {
        let Some(lease) = &self.lease else { return Due::default() };
        let leased = self.budgets.iter().filter_map(|budget| budget.as_leased());
        let due = leased.fold(Due::default(), |due, leased| due.or(leased.due(lease.shut_until, now)));
        let places =
            self.shared_concurrent().and_then(|_| lease.places.due(self.in_flight, lease.kept(now), now));
        places.map_or(due, |(moment, urgent)| due.and_at(moment, urgent))
    }

    /// Calls that its shared places are there for, where those are scarce.
    fn placed(&self) -> Option<u32> {
        self.shared_concurrent()?;
        self.lease.as_ref()?.room(self.in_flight)
    }

    /// Until when one of its shared limits lets no call leave, if one does.
    pub(super) fn shut_until(&self) -> Option<Timestamp> {
        self.budgets.iter().filter_map(|budget| budget.as_leased()?.shut_until()).max()
    }

    /// No call leaves before a moment: what will be too old by then goes back.
    pub(super) fn shut(&mut self, until: Timestamp, now: Timestamp) {
        if let Some(lease) = &mut self.lease {
            lease.shut_until = until;
        }
        let leased = self.budgets.iter_mut().filter_map(super::budget::Budget::leased);
        leased.for_each(|leased| leased.give_back_in_vain(until, now));
    }

    /// Calls that its shared limits let go until the next exchange, where those are scarce.
    pub(super) fn room(&self, now: Timestamp) -> Option<u32> {
        let rooms = self.budgets.iter().filter_map(|budget| budget.room(now));
        rooms.chain(self.placed()).min()
    }

    /// What to ask of its budgets, each with what finds it again.
    ///
    /// A call needs units of all of them, and slots that wait for those of another one grow too old: so of each no more is
    /// asked for than places and the others let go, and other levels as `terms` says.
    pub(super) fn ask_budgets(
        &mut self,
        first: FirstHead,
        mut terms: AskTerms,
        mut line: impl FnMut(BudgetAsk, (Dimension, Duration)),
    ) {
        let Some(lease) = &self.lease else { return };
        let level = Arc::clone(&lease.name);
        terms.shut = terms.now < lease.shut_until;
        let placed = self.placed().into_iter().chain(terms.room).min();
        terms.speed = self.speed(terms.now);
        let accounting = self.accounting;
        let rooms: Vec<Option<u32>> = self.budgets.iter().map(|budget| budget.room(terms.now)).collect();
        for (place, budget) in self.budgets.iter_mut().enumerate() {
            let others = rooms.iter().enumerate().filter(|(other, _)| *other != place);
            terms.room = others.filter_map(|(_, room)| *room).chain(placed).min();
            let (dimension, rate) = budget.rate();
            let head = first.map(|(cost, waits)| (budget.amount(&cost, accounting), waits));
            let Some(leased) = budget.leased() else { continue };
            let name = BudgetName { level: Arc::clone(&level), dimension, period_us: micros_of(rate.period) };
            if let Some(ask) = leased.ask(name, head, terms) {
                line(ask, (dimension, rate.period));
            }
        }
    }

    /// What to ask of its places, once its budgets were asked for; `None`: nothing to say.
    pub(super) fn ask_places(&mut self, draining: bool, now: Timestamp) -> Option<PlacesAsk> {
        let limit = self.shared_concurrent()?;
        let most = self.slots().unwrap_or(limit);
        let leased = self.budgets.iter().filter_map(|budget| budget.as_leased());
        let slots = leased.map(|leased| u32::try_from(leased.calls_in_hand()).unwrap_or(u32::MAX)).min();
        let (lease, used) = (self.lease.as_mut()?, self.in_flight);
        let kept = if draining { 0 } else { lease.kept(now) };
        // What is held and pledged to nobody is held all the same: unless that is told, the pledge stands for ever.
        let had = lease.places.are_there();
        let (used, want) = if draining { (used, used) } else { lease.places.ask(used, most, kept, slots) };
        let level = Arc::clone(&lease.name);
        (had || want > 0).then_some(PlacesAsk { level, limit, used, want })
    }
}
