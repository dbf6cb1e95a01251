//! The one task that owns the gate and decides what is sent next.
//!
//! Each round handles what happened, then leases, admits and records; nothing in a round waits, and
//! nothing is polled for: a freed slot arrives as an event and starts the next item in the same round.

use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::domain::ids::BatchKey;
use crate::domain::time::Timestamp;
use crate::gate::{Gate, LevelId};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::store::{Recorded, Store, StoreError};

use super::ahead::Ahead;
use super::apps::Apps;
use super::attempt::Reporter;
use super::batches::Batches;
use super::board::Board;
use super::completion::Running;
use super::crew::Crew;
use super::delayed::Delayed;
use super::estimate::Estimates;
use super::event::Event;
use super::growth::Growth;
use super::interactive::Desk;
use super::lanes::Lanes;
use super::recorder::{Carried, Recorder};
use super::sharing::Sharing;

/// Upkeep while there is work: rates, gauges, waiting reasons, a ledger that rode no flush.
const TICK: Duration = Duration::from_millis(250);
/// The same without work: what time alone changes, such as a pace that grows after a cooldown, shows no later.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// Events handled per round at most, so that no burst delays a timer.
const ROUND: usize = 512;

/// Whether new work is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    /// What is in flight finishes, up to a moment.
    Draining {
        until: Timestamp,
    },
}

/// An item that was alone in flight at earlier deaths of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    pub(super) batch: BatchKey,
    pub(super) line: u32,
    pub(super) deaths: u32,
}

#[derive(Debug)]
pub(super) struct Dispatcher {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) shutdown: Shutdown,
    /// Those who make the calls of batches.
    pub(super) crew: Crew,
    pub(super) drain_timeout: Duration,
    pub(super) reporter: Reporter,
    pub(super) gate: Gate,
    pub(super) service: LevelId,
    pub(super) memory: LevelId,
    /// Bytes that segments with items not yet started hold.
    pub(super) ahead: Ahead,
    pub(super) lanes: Lanes,
    pub(super) apps: Apps,
    pub(super) estimates: Estimates,
    pub(super) batches: Batches,
    /// Feeds whose model no lane serves: their items fail.
    pub(super) laneless: Vec<super::item::FeedId>,
    /// Feeds with segments that other workers left behind.
    pub(super) left: Vec<super::item::FeedId>,
    pub(super) delayed: Delayed,
    /// Calls of clients that wait.
    pub(super) interactive: Desk,
    pub(super) recorder: Recorder,
    pub(super) growth: Growth,
    pub(super) board: Board,
    pub(super) stage: Stage,
    pub(super) in_flight: u32,
    /// The batches' calls in flight, by line.
    pub(super) running: FxHashMap<(BatchKey, u32), Running>,
    /// Calls started so far: the number of the last one.
    pub(super) calls: u64,
    /// One item at a time, named before it starts, until one is recorded.
    pub(super) careful: bool,
    pub(super) suspect: Option<Suspect>,
    pub(super) disk_full: bool,
    /// What it takes to work beside other workers.
    pub(super) sharing: Sharing,
    pub(super) refreshing: bool,
    pub(super) refresh_again: bool,
    pub(super) next_tick: Timestamp,
    /// Whether the last tick showed that nothing is under way.
    pub(super) settled: bool,
}

impl Dispatcher {
    /// Runs until drained.
    pub(super) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        let mut work = self.store.work_wakeup().listen();
        let mut disk = self.store.disk_wakeup().listen();
        let mut apps = self.store.apps_wakeup().listen();
        let mut levels = self.store.levels_wakeup().listen();
        let mut ownership = self.store.ownership_wakeup().listen();
        let mut others = self.store.others_wakeup().listen();
        let mut releases = self.gate.release_bell().listen();
        let mut heard = Vec::with_capacity(ROUND);
        let sleep = tokio::time::sleep_until(Instant::now());
        tokio::pin!(sleep);
        // The bells were hung up after the store opened: what rang before is looked at once.
        self.look_at_disk();
        self.refresh();
        self.read_levels();
        loop {
            let now = self.clock.now();
            self.round(now);
            if self.is_drained(now) {
                return;
            }
            let wake_at = self.clock.instant_of(self.next_wake(now));
            if sleep.deadline() != wake_at {
                sleep.as_mut().reset(wake_at);
            }
            tokio::select! {
                _ = events.recv_many(&mut heard, ROUND) => {
                    // Tasks that are about to report do so first, so that a busy moment makes one large
                    // round and one flush instead of many small ones; an idle runtime comes back at once.
                    tokio::task::yield_now().await;
                    self.handle_all(&mut events, &mut heard);
                }
                (carried, recorded) = self.recorder.acknowledged() => {
                    self.recorded(carried, recorded);
                    while let Some((carried, recorded)) = self.recorder.acknowledged_now() {
                        self.recorded(carried, recorded);
                    }
                }
                Some(asking) = self.interactive.asked() => {
                    // What its client saw before it asked comes first, as a refusal that stops the lane.
                    self.handle_all(&mut events, &mut heard);
                    let now = self.clock.now();
                    self.take_in_call(asking, now);
                }
                () = work.heard() => self.refresh(),
                () = apps.heard() => self.refresh_apps(),
                () = levels.heard() => self.read_levels(),
                () = ownership.heard() => {
                    let now = self.clock.now();
                    self.look_at_ownership(now);
                }
                // A tick follows what they told: without work there would be none until something else happens.
                () = others.heard() => self.next_tick = self.clock.now(),
                () = disk.heard() => self.look_at_disk(),
                () = releases.heard() => self.collect_releases(),
                () = &mut sleep => {}
                () = self.shutdown.begun(), if self.stage == Stage::Running => self.begin_drain(),
            }
        }
    }

    /// What follows from what happened: due things, leases, starts, one flush.
    fn round(&mut self, now: Timestamp) {
        for batch in self.batches.overdue(now) {
            self.expire(batch);
        }
        self.release_due(now);
        let mut ticked = false;
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tick(now);
            ticked = true;
        }
        if self.stage == Stage::Running {
            self.top_up(now);
            self.admit(now);
        }
        self.attend_calls(now);
        self.exchange(now);
        self.look_at_others(now);
        self.growth.settle(&mut self.gate, self.memory, now);
        self.recorder.send(&self.store, &mut self.gate, ticked, now);
    }

    fn next_wake(&self, now: Timestamp) -> Timestamp {
        let mut wake = now + IDLE_TICK;
        if self.has_work() || !self.settled {
            wake = wake.min(self.next_tick);
        }
        wake = self.interactive.next_due().map_or(wake, |due| wake.min(due));
        wake = self.exchange_due(now).map_or(wake, |due| wake.min(due));
        if let Stage::Draining { until } = self.stage {
            return wake.min(until).max(now);
        }
        // While the one item of a careful start runs, or while nothing may start, the gate has heads to let go that may
        // not.
        let held_back = self.must_wait_alone() || !self.store.may_start();
        let admits = if held_back { None } else { self.gate.next_at(now) };
        let times = [admits, self.delayed.next_due(), self.batches.next_deadline()];
        times.into_iter().flatten().fold(wake, Timestamp::min).max(now)
    }

    pub(super) fn has_work(&self) -> bool {
        !self.batches.batches.is_empty()
            || !self.interactive.is_idle()
            || !self.recorder.is_idle()
            || self.disk_full
    }

    /// Handles what was heard and what else has come by now, as much as one round takes.
    fn handle_all(&mut self, events: &mut mpsc::UnboundedReceiver<Event>, heard: &mut Vec<Event>) {
        while heard.len() < ROUND
            && let Ok(event) = events.try_recv()
        {
            heard.push(event);
        }
        let now = self.clock.now();
        for event in heard.drain(..) {
            self.handle(event, now);
        }
    }

    pub(super) fn handle(&mut self, event: Event, now: Timestamp) {
        // A tick that came a moment before did not show what follows from it.
        self.settled = false;
        match event {
            Event::Several(events) => events.into_iter().for_each(|event| self.handle(event, now)),
            Event::Ended(ended) => self.ended(*ended, now),
            Event::Lost(lost) => self.lost(lost, now),
            Event::Loaded { lease, loaded } => self.loaded(lease, *loaded, now),
            Event::Claimed { feed, batch, claimed } => self.claimed(feed, batch, claimed),
            Event::Refreshed(refreshed) => self.refreshed(refreshed, now),
            Event::Exchanged(exchanged) => self.exchanged(*exchanged, now),
            Event::LevelsRead(read) => self.levels_read(*read, now),
            Event::Rejoined => self.rejoined(),
            Event::StopRecorded { batch } => self.stop_recorded(batch),
            Event::Closed { batch, ended } => self.closed(batch, ended, now),
            Event::Grow { call, bytes, reply } => self.growth.ask(call, bytes, reply),
            Event::KeyChanged { provider } => self.key_changed(&provider, now),
            Event::Interactive(note) => self.noted(*note, now),
            Event::Apps(apps) => self.apps.refresh(apps, &mut self.gate, now),
            Event::ShowLimits { of_app, reply } => {
                // Whoever asked may have left meanwhile.
                let _ = reply.send(self.limits(of_app, now));
            }
            Event::ShowItem { lease, line, reply } => {
                let _ = reply.send(self.item_progress(lease, line, now));
            }
            Event::Reach { question, reply } => {
                let _ = reply.send(self.would_fit(&question, now));
            }
            Event::Reload { settings, reply } => {
                self.reload(*settings, now);
                let _ = reply.send(());
            }
            Event::PauseLane { provider, model, paused, reply } => {
                let _ = reply.send(self.pause_lane(&provider, &model, paused, now));
            }
        }
    }

    /// A flush is durable, or never will be.
    fn recorded(&mut self, carried: Carried, recorded: Result<Recorded, StoreError>) {
        let now = self.clock.now();
        for grant in carried.grants {
            self.gate.recorded(grant, now);
        }
        if carried.reply_bytes > 0 {
            self.gate.release_held(self.memory, carried.reply_bytes, now);
        }
        for call in carried.calls {
            self.growth.ended(call);
        }
        for key in carried.batches {
            if let Some(batch) = self.batches.batches.get_mut(&key) {
                // Of one that was given up and taken up again, what was under way is not counted any more.
                batch.unrecorded = batch.unrecorded.saturating_sub(1);
                if !self.sharing.is_on {
                    batch.rate.count(1);
                }
                if batch.can_close() {
                    self.close(key);
                }
            }
        }
        match recorded {
            Ok(recorded) => {
                self.careful &= recorded.inserted == 0;
                if let Some(version) = carried.ledger {
                    self.gate.saved(version, now);
                }
                for (batch, status) in recorded.ended {
                    self.batch_ended(batch, status, now);
                }
            }
            Err(error) => {
                tracing::error!(error = %error, "results could not be recorded");
                if let Some(version) = carried.ledger {
                    self.gate.save_failed(version);
                }
            }
        }
    }

    fn collect_releases(&mut self) {
        let now = self.clock.now();
        self.gate.collect_releases(now);
    }

    fn begin_drain(&mut self) {
        let now = self.clock.now();
        self.stage = Stage::Draining { until: now + self.drain_timeout };
        self.gate.give_back_all(now);
        let in_flight = self.in_flight + self.interactive.in_flight();
        tracing::info!(in_flight, "draining: nothing new starts");
    }

    fn is_drained(&self, now: Timestamp) -> bool {
        let Stage::Draining { until } = self.stage else {
            return false;
        };
        let idle = self.in_flight == 0
            && self.interactive.in_flight() == 0
            && self.recorder.is_idle()
            && self.has_given_back(now);
        if !idle && now >= until {
            tracing::warn!(
                in_flight = self.in_flight,
                "the drain's time is up; what is in flight will be sent again"
            );
        }
        idle || now >= until
    }
}
