//! Working beside other workers: slots from the shared ledger, what others found out, and whether this one still
//! owns what it runs.

use std::time::Duration;

use crate::complaint::Complaint;
use crate::domain::exchange::Answer;
use crate::domain::ids::BatchKey;
use crate::domain::time::Timestamp;
use crate::gate::{LaneState, LevelState};
use crate::store::{LedgerEntry, StoreError};

use super::database_clock::DatabaseClock;
use super::dispatcher::{Dispatcher, Stage};
use super::event::Event;
use super::item::LaneId;
use super::limits_told::LimitsHeard;

/// How often a worker with batches looks at what the others did of them.
const LOOK: Duration = Duration::from_secs(2);
/// Pause after the store did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// What a worker keeps of its part in the whole.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Whether there may be other workers.
    pub(super) is_on: bool,
    /// Whether an exchange is under way.
    exchanging: bool,
    /// Of exchanges that fail.
    complaint: Complaint,
    clock: DatabaseClock,
    /// The newest version of the saved levels that was read.
    levels_read: i64,
    reading_levels: bool,
    /// Rung while they were being read.
    read_again: bool,
    next_look: Timestamp,
    /// What was told and heard of configured limits.
    pub(super) limits: LimitsHeard,
}

/// An exchange came to an end.
#[derive(Debug)]
pub(super) struct Exchanged {
    sent: Timestamp,
    received: Timestamp,
    answer: Result<Answer, StoreError>,
}

/// What other workers saved of levels.
#[derive(Debug)]
pub(super) struct LevelsRead {
    entries: Vec<LedgerEntry>,
    version: i64,
}

impl Sharing {
    pub(super) fn new(is_on: bool, now: Timestamp) -> Self {
        Self {
            is_on,
            exchanging: false,
            complaint: Complaint::default(),
            clock: DatabaseClock::default(),
            levels_read: 0,
            reading_levels: false,
            read_again: false,
            next_look: now,
            limits: LimitsHeard::default(),
        }
    }
}

impl Dispatcher {
    /// When an exchange is due, unless one is under way.
    pub(super) fn exchange_due(&self, now: Timestamp) -> Option<Timestamp> {
        let may = self.sharing.is_on && !self.sharing.exchanging && self.store.may_start();
        if may { self.gate.exchange_due(now) } else { None }
    }

    /// Sends an exchange if one is due.
    pub(super) fn exchange(&mut self, now: Timestamp) {
        if self.exchange_due(now).is_none_or(|due| due > now) {
            return;
        }
        self.sharing.exchanging = true;
        let ask = self.gate.ask(now);
        let (store, clock, events) = (self.store.clone(), self.clock, self.reporter.events.clone());
        tokio::spawn(async move {
            let sent = clock.now();
            let answer = store.exchange(&ask).await;
            let received = clock.now();
            let _ = events.send(Event::Exchanged(Box::new(Exchanged { sent, received, answer })));
        });
    }

    /// Slots arrived, or will not.
    pub(super) fn exchanged(&mut self, exchanged: Exchanged, now: Timestamp) {
        self.sharing.exchanging = false;
        let Exchanged { sent, received, answer } = exchanged;
        match answer {
            Ok(answer) => {
                self.sharing.complaint.end();
                let offset = self.sharing.clock.read((sent, received), (answer.came_us, answer.now_us));
                self.gate.exchanged(&answer, offset, now);
            }
            Err(error) => {
                // Fenced: the bell of the ownership tells what follows.
                let is_news = self.sharing.complaint.begin();
                if is_news && !matches!(error, StoreError::Fenced | StoreError::Closed) {
                    tracing::warn!(error = %error, "no slots came from the shared ledger; nothing new starts until some do");
                }
                self.gate.exchange_failed(now);
            }
        }
    }

    /// Whether a drain need not wait for the ledger any more: what was settled and not used is back there.
    pub(super) fn has_given_back(&self, now: Timestamp) -> bool {
        !self.sharing.is_on || (!self.sharing.exchanging && self.gate.exchange_due(now).is_none())
    }

    /// Looks now and then at what others did of the batches that are run here too.
    pub(super) fn look_at_others(&mut self, now: Timestamp) {
        if self.sharing.is_on && now >= self.sharing.next_look && !self.batches.batches.is_empty() {
            self.sharing.next_look = now + LOOK;
            self.refresh();
        }
    }

    /// Reads what other workers saved of levels.
    pub(super) fn read_levels(&mut self) {
        if !self.sharing.is_on {
            return;
        }
        if std::mem::replace(&mut self.sharing.reading_levels, true) {
            self.sharing.read_again = true;
            return;
        }
        let (store, events, from) =
            (self.store.clone(), self.reporter.events.clone(), self.sharing.levels_read);
        tokio::spawn(async move {
            let mut complaint = Complaint::default();
            loop {
                match store.ledger_since(from).await {
                    Ok((entries, version)) => {
                        let _ = events.send(Event::LevelsRead(Box::new(LevelsRead { entries, version })));
                        return;
                    }
                    Err(StoreError::Closed) => return,
                    Err(error) => {
                        if complaint.begin() {
                            tracing::warn!(error = %error, "what other workers found out could not be read; trying again");
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        });
    }

    pub(super) fn levels_read(&mut self, read: LevelsRead, now: Timestamp) {
        self.sharing.reading_levels = false;
        self.sharing.levels_read = self.sharing.levels_read.max(read.version);
        let states: Vec<LevelState> =
            read.entries.iter().filter_map(|entry| serde_json::from_slice(&entry.state).ok()).collect();
        if !states.is_empty() {
            let lanes: Vec<LaneId> = self.lanes.ids().collect();
            let state = |of: &Self, lane: LaneId| of.gate.lane_state(of.lanes.get(lane).level, now);
            let before: Vec<LaneState> = lanes.iter().map(|lane| state(self, *lane)).collect();
            self.gate.adopt(&states, now);
            for (lane, before) in lanes.into_iter().zip(before) {
                log_heard(&self.lanes.get(lane).name, before, state(self, lane));
                // Another lane of its routes may pull now, or this one again.
                self.lane_closed(lane, now);
            }
        }
        if std::mem::take(&mut self.sharing.read_again) {
            self.read_levels();
        }
    }

    /// The ownership changed: lost, or in doubt, or beyond doubt again.
    pub(super) fn look_at_ownership(&mut self, now: Timestamp) {
        if !self.store.ownership_lost() {
            return;
        }
        tracing::warn!(
            in_flight = self.in_flight,
            "other workers took this one's work over; it starts anew beside them"
        );
        // Calls in flight go on: what they bring is recorded where nobody was quicker.
        let known: Vec<BatchKey> = self.batches.batches.keys().copied().collect();
        for batch in known {
            self.forget(batch, now);
        }
        self.gate.restart_exchanges();
        let (store, events) = (self.store.clone(), self.reporter.events.clone());
        tokio::spawn(async move {
            loop {
                match store.rejoin().await {
                    Ok(()) => break,
                    Err(StoreError::Closed) => return,
                    Err(error) => {
                        tracing::warn!(error = %error, "this worker could not join again; trying again");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
            let _ = events.send(Event::Rejoined);
        });
    }

    /// Under a new epoch.
    pub(super) fn rejoined(&mut self) {
        self.gate.restart_exchanges();
        if self.stage == Stage::Running {
            self.refresh();
        }
        self.read_levels();
    }
}

/// Says what became of a lane by what another worker found or was told: there, a log line says more.
fn log_heard(lane: &str, before: LaneState, after: LaneState) {
    let is_closed = |state| matches!(state, LaneState::Paused | LaneState::Stopped);
    if after == before {
        return;
    }
    if is_closed(after) {
        tracing::warn!(
            lane,
            state = after.as_str(),
            "another worker closed the lane: nothing goes through it here either"
        );
    } else if is_closed(before) {
        tracing::info!(lane, state = after.as_str(), "another worker opened the lane again");
    }
}
