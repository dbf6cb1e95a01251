//! Taking in what a refresh found: new batches, changed ones, those told to stop.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::domain::batch::{BatchRecord, BatchStatus};
use crate::domain::ids::BatchKey;
use crate::domain::limits::Limits;
use crate::domain::time::Timestamp;
use crate::gate::{LevelKind, LevelSpec};
use crate::ingest::Defaults;

use super::batches::{ActiveBatch, Feed, Leasable, Phase};
use super::dispatcher::Dispatcher;
use super::estimate::Measure;
use super::event::Event;
use super::item::FeedId;
use super::loader::items_of;
use super::rate::ResultRate;
use super::refresh::{Found, Fresh, Refreshed, find};

impl Dispatcher {
    /// Asks the store which batches there are; one question at a time.
    pub(super) fn refresh(&mut self) {
        if self.refreshing {
            self.refresh_again = true;
            return;
        }
        self.refreshing = true;
        let known: HashSet<BatchKey> = self.batches.batches.keys().copied().collect();
        let (store, events) = (self.store.clone(), self.reporter.events.clone());
        tokio::spawn(async move {
            if let Some(refreshed) = find(&store, known).await {
                let _ = events.send(Event::Refreshed(refreshed));
            }
        });
    }

    pub(super) fn refreshed(&mut self, refreshed: Refreshed, now: Timestamp) {
        self.refreshing = false;
        refreshed.found.into_iter().for_each(|found| self.take_in(found, now));
        refreshed.ended.into_iter().for_each(|batch| self.ended_elsewhere(batch, now));
        for (batch, model) in refreshed.orphans {
            self.orphaned(batch, &model);
        }
        if std::mem::take(&mut self.refresh_again) {
            self.refresh();
        }
        self.batches.recompute_deadline();
        self.sort_feeds(now);
    }

    fn take_in(&mut self, found: Found, now: Timestamp) {
        let key = found.record.key;
        match (self.batches.batches.contains_key(&key), found.fresh) {
            (true, _) => self.change(found.record, now),
            (false, Some(fresh)) => self.activate(found.record, *fresh, now),
            // It ended while the question was under way.
            (false, None) => {}
        }
    }

    fn change(&mut self, record: BatchRecord, now: Timestamp) {
        let key = record.key;
        let Some(batch) = self.batches.batches.get_mut(&key) else {
            return;
        };
        let stopped = record.status != BatchStatus::InProgress;
        let limit_changed = batch.record.options.max_concurrency != record.options.max_concurrency;
        let pause_changed = batch.record.options.paused != record.options.paused;
        let recorded = record.counts.recorded().saturating_sub(batch.record.counts.recorded());
        batch.record = record;
        if self.sharing.is_on {
            self.see_progress(key, recorded);
        }
        if limit_changed {
            self.set_own_level(key, now);
        }
        if stopped && matches!(self.phase(key), Some(Phase::Running | Phase::Stopping { recorded: false })) {
            self.stop_starting(key, true);
        } else if limit_changed || pause_changed {
            self.requeue(key, now);
        }
        if self.batches.batches.get(&key).is_some_and(ActiveBatch::can_close) {
            self.close(key);
        }
    }

    /// All workers together recorded so many results of a batch since the last look.
    fn see_progress(&mut self, key: BatchKey, recorded: u64) {
        let Some(batch) = self.batches.batches.get_mut(&key) else {
            return;
        };
        batch.rate.count(recorded);
        batch.remaining = batch.record.counts.total.saturating_sub(batch.record.counts.recorded());
        for feed in &batch.feeds {
            if let Some(feed) = self.batches.feeds.get_mut(feed) {
                let others = if batch.feeds.len() == 1 { batch.remaining } else { feed.remaining };
                feed.remaining = others.min(batch.remaining);
                // Another worker ran it alone; nobody tells when it has let go of its last segment.
                feed.exhausted &= batch.record.options.max_concurrency.is_none();
            }
        }
    }

    /// Another worker recorded a batch's last result.
    fn ended_elsewhere(&mut self, key: BatchKey, now: Timestamp) {
        let Some(batch) = self.batches.batches.get(&key) else {
            return;
        };
        // What is under way here may be what ended it: its answer tells.
        if batch.phase != Phase::Closing && batch.in_flight == 0 && batch.unrecorded == 0 {
            self.forget(key, now);
        }
    }

    fn phase(&self, key: BatchKey) -> Option<Phase> {
        self.batches.batches.get(&key).map(|batch| batch.phase)
    }

    /// Heads take the batch's present limits and pause.
    fn requeue(&mut self, key: BatchKey, now: Timestamp) {
        let feeds = self.batches.batches.get(&key).map(|batch| batch.feeds.clone()).unwrap_or_default();
        for feed in feeds {
            self.withdraw(feed, now);
            self.enqueue(feed, now);
        }
    }

    fn set_own_level(&mut self, key: BatchKey, now: Timestamp) {
        let Some(batch) = self.batches.batches.get_mut(&key) else {
            return;
        };
        let limits = Limits { max_concurrent: batch.record.options.max_concurrency, ..Limits::default() };
        match batch.own_level {
            Some(level) => {
                self.gate.set_limits(level, &limits, now);
            }
            None if limits.max_concurrent.is_some() => {
                let name = batch.record.id.to_string();
                let spec = LevelSpec { kind: LevelKind::Batch, name, limits, ..LevelSpec::default() };
                batch.own_level = Some(self.gate.add_level(spec, now));
            }
            None => {}
        }
    }

    fn activate(&mut self, record: BatchRecord, fresh: Fresh, now: Timestamp) {
        let key = record.key;
        let remaining = record.counts.total.saturating_sub(record.counts.recorded());
        let running = record.status == BatchStatus::InProgress;
        let phase = if running { Phase::Running } else { Phase::Stopping { recorded: true } };
        // Checked when the batch was made.
        let defaults =
            record.options.defaults.as_deref().and_then(|raw| Defaults::parse(raw).ok()).map(Arc::new);
        let defaults_measure = record
            .options
            .defaults
            .as_deref()
            .map(|raw| Measure::of(raw.get().as_bytes()))
            .unwrap_or_default();
        tracing::info!(batch = %record.id, items = remaining, status = record.status.as_str(), "batch taken up");
        let batch = ActiveBatch {
            record,
            own_level: None,
            feeds: Vec::new(),
            phase,
            in_flight: 0,
            remaining,
            unrecorded: 0,
            alone: 0.0,
            rate: ResultRate::default(),
            defaults,
            defaults_measure,
        };
        self.batches.batches.insert(key, batch);
        // However short it lives, one look afterwards: else the gauges would show what was before it.
        self.settled = false;
        if running {
            self.set_own_level(key, now);
            self.add_feeds(key, fresh, remaining, now);
        } else {
            self.close(key);
        }
    }

    fn add_feeds(&mut self, key: BatchKey, fresh: Fresh, remaining: u64, now: Timestamp) {
        let mut resumed: HashMap<Arc<str>, VecDeque<Leasable>> = HashMap::new();
        for head in fresh.resumed {
            let leasable = Leasable { head: head.clone(), resumed: true };
            resumed.entry(head.model).or_default().push_back(leasable);
        }
        let single = fresh.summary.models.len() == 1;
        let mut feeds: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        for cursor in &fresh.cursors {
            feeds.insert(Arc::from(cursor.model.as_str()), cursor.next_segment);
        }
        let Some(batch) = self.batches.batches.get(&key) else { return };
        // Of a batch whose lines may fail one by one, this may be one that never had a lane. Any other batch was only
        // taken with lanes for all of its models, so they were taken away since.
        let (app, waits_for_lane) = (batch.record.app, !batch.fails_items());
        for (model, next_no) in feeds {
            let route = self.route_for(key, &model, now);
            let feed = Feed {
                batch: key,
                route,
                waits_for_lane,
                leasable: resumed.remove(&model).unwrap_or_default(),
                next_no,
                exhausted: false,
                claiming: false,
                loads: 0,
                queue: VecDeque::new(),
                heads: Vec::new(),
                heads_since: now,
                remaining: if single { remaining } else { items_of(&fresh.summary, &model).min(remaining) },
                model,
            };
            let id = self.batches.add_feed(feed);
            if let Some(batch) = self.batches.batches.get_mut(&key) {
                batch.feeds.push(id);
            }
            match route {
                Some(route) => self.lanes.route_mut(route).add_feed(app, id),
                None if waits_for_lane => {}
                None => self.laneless.push(id),
            }
        }
    }

    /// The route of a feed's model: the one its lines name, or that of the batch's defaults.
    pub(super) fn route_for(
        &mut self,
        key: BatchKey,
        model: &Arc<str>,
        now: Timestamp,
    ) -> Option<super::item::RouteId> {
        let mut model = Arc::clone(model);
        let defaults = self.batches.batches.get(&key).and_then(|batch| batch.defaults.as_ref());
        if model.is_empty()
            && let Some(named) = defaults.and_then(|defaults| defaults.model())
        {
            model = named.into();
        }
        self.lanes.resolve(&model, &mut self.gate, now)
    }

    /// Puts each app's feeds on a route in the order of their batches' turns.
    pub(super) fn sort_feeds(&mut self, now: Timestamp) {
        let Self { batches, lanes, .. } = self;
        let turn_of = |feed: FeedId| {
            let feed = batches.feeds.get(&feed);
            let batch = feed.and_then(|feed| batches.batches.get(&feed.batch));
            batch.map_or(u64::MAX, |batch| super::order::turn(&super::leasing::standing(batch, now)))
        };
        for route in lanes.route_ids() {
            lanes.route_mut(route).sort_feeds(turn_of);
        }
    }
}
