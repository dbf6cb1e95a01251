//! When batches end: what limits their lanes, what goes before them, how their items went.

mod flow;
mod line;
mod range;
mod reach;
mod times;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::domain::ids::{AppKey, BatchKey};
use crate::domain::limits::Dimension;
use crate::domain::progress::Completion;
use crate::domain::time::Timestamp;
use crate::gate::{LaneState, LevelId, LevelKind};

use super::batches::ActiveBatch;
use super::dispatcher::Dispatcher;
use super::item::{FeedId, LaneId, RouteId};

use flow::{Bounds, Speed, UnderWay};
use line::Work;
use range::{Allowance, Course};
use times::ItemTimes;

pub(super) use flow::Flow;

/// Limits over longer periods are counted by the gate, not paced.
const LONGEST_PACED: Duration = Duration::from_secs(120);
/// A pace below this part of its limit is that of a ramp, which lasts for seconds only.
const RAMP: f64 = 0.8;

/// A call in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) lane: LaneId,
    pub(super) feed: FeedId,
    pub(super) since: Timestamp,
}

/// What is to be said of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prospect {
    /// When it ends; `None`: nobody knows.
    pub(super) completion: Option<Completion>,
    /// Seconds that it would take with its lanes for itself; 0 while that is unknown.
    pub(super) alone: f64,
}

/// One batch's items that wait for a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    /// `None`: of a batch that is only asked about.
    pub(super) batch: Option<BatchKey>,
    pub(super) app: AppKey,
    /// Items that have not started.
    pub(super) items: f64,
    pub(super) running: f64,
    /// Its calls in flight at most, if that is limited.
    pub(super) slots: Option<f64>,
}

/// What a route can do.
#[derive(Clone, Debug)]
struct Outlet {
    speed: Speed,
    times: ItemTimes,
    allowances: Vec<Allowance>,
    /// From when on.
    opens: Timestamp,
}

impl Dispatcher {
    /// Looks at how the lanes' items go.
    pub(super) fn observe_lanes(&mut self, now: Timestamp) {
        let mut under_way: HashMap<LaneId, UnderWay> = HashMap::new();
        for running in self.running.values() {
            let of_lane = under_way.entry(running.lane).or_default();
            of_lane.calls += 1;
            of_lane.seconds += now.since(running.since).as_secs_f64();
        }
        let mut held_back = HashSet::new();
        for (lane, head) in self.batches.feeds.values().flat_map(|feed| &feed.heads) {
            let by = self.gate.head_waiting(*head, now).map(|waiting| waiting.kind);
            // What a batch's or an app's own limit holds back says nothing of the lane.
            if !matches!(by, Some(LevelKind::Batch | LevelKind::App)) {
                held_back.insert(*lane);
            }
        }
        for id in self.lanes.ids() {
            let is_held_back = held_back.contains(&id) && self.lanes.is_open(id, &self.gate, now);
            let of_lane = under_way.get(&id).copied().unwrap_or_default();
            self.lanes.get_mut(id).flow.tick(is_held_back, of_lane, now);
        }
    }

    /// What is to be said of every batch.
    pub(super) fn prospects(&mut self, now: Timestamp) -> HashMap<BatchKey, Prospect> {
        let mut prospects: HashMap<BatchKey, Prospect> = HashMap::new();
        let mut open_ended: HashSet<BatchKey> = HashSet::new();
        let running = self.running_by_feed();
        for route in self.lanes.route_ids() {
            let line = self.line(route, &running);
            if line.is_empty() {
                continue;
            }
            let outlet = self.outlet(route, now);
            let completions = outlet.as_ref().map(|outlet| self.completions(outlet, &line, now));
            for (place, queued) in line.iter().enumerate() {
                let Some(batch) = queued.batch else { continue };
                let prospect = prospects.entry(batch).or_default();
                let alone = outlet.as_ref().map_or(0.0, |outlet| alone(outlet, queued));
                prospect.alone = prospect.alone.max(alone);
                match completions.as_ref().and_then(|all| all[place]) {
                    Some(at) => {
                        prospect.completion = Some(prospect.completion.map_or(at, |other| other.and(at)))
                    }
                    None => drop(open_ended.insert(batch)),
                }
            }
        }
        for (batch, prospect) in &mut prospects {
            let paused = self.batches.batches.get(batch).is_none_or(|batch| !batch.runs());
            if paused || self.disk_full || open_ended.contains(batch) {
                prospect.completion = None;
            }
        }
        prospects
    }

    fn running_by_feed(&self) -> HashMap<FeedId, u32> {
        let mut by_feed = HashMap::new();
        for running in self.running.values() {
            *by_feed.entry(running.feed).or_default() += 1;
        }
        by_feed
    }

    /// What waits for a route or runs on it, in its order.
    fn line(&self, route: RouteId, running: &HashMap<FeedId, u32>) -> Vec<Queued> {
        let feeds = self.lanes.route(route).feeds();
        let queued = feeds.filter_map(|id| {
            let feed = self.batches.feeds.get(&id).filter(|feed| feed.remaining > 0)?;
            let batch = self.batches.batches.get(&feed.batch)?;
            let running = f64::from(running.get(&id).copied().unwrap_or(0));
            let part = feed.remaining as f64 / batch.remaining.max(feed.remaining) as f64;
            let waiting = (feed.remaining as f64 - running).max(0.0);
            Some(Queued {
                batch: Some(feed.batch),
                app: batch.record.app,
                // What is paused takes nobody's turn.
                items: if batch.runs() { waiting } else { 0.0 },
                running,
                slots: slots(batch).map(|slots| slots * part),
            })
        });
        queued.collect()
    }

    /// What a route can do; `None` while it is closed for nobody knows how long, or nothing is known of it.
    fn outlet(&mut self, route: RouteId, now: Timestamp) -> Option<Outlet> {
        let (open, opens) = self.lanes_to_come(route, now)?;
        let mut outlet: Option<Outlet> = None;
        for lane in open {
            let (bounds, allowances) = self.bounds(lane, now);
            let flow = &self.lanes.get(lane).flow;
            // A lane that can't be foreseen adds nothing: the estimate is late rather than early.
            let Some(speed) = flow.speed(bounds) else { continue };
            let sharing = self.lanes.routes_of(lane).into_iter().filter(|id| self.is_wanted(*id)).count();
            let speed = speed.part(sharing as f64);
            let times = flow.times;
            outlet = Some(match outlet {
                None => Outlet { speed, times, allowances, opens },
                // The other lane's own counters stay out: the pace of both is not that of either.
                Some(sum) => Outlet { speed: sum.speed.and(speed), times: sum.times.longer(times), ..sum },
            });
        }
        outlet
    }

    fn is_wanted(&self, route: RouteId) -> bool {
        self.lanes.route(route).apps() > 0
    }

    /// The lanes that serve a route, now or from when on, as far as a time is known.
    fn lanes_to_come(&mut self, route: RouteId, now: Timestamp) -> Option<(Vec<LaneId>, Timestamp)> {
        let pulling = self.lanes.route(route).pulling(|lane| self.lanes.is_open(lane, &self.gate, now));
        let open: Vec<LaneId> =
            pulling.into_iter().filter(|lane| self.lanes.is_open(*lane, &self.gate, now)).collect();
        if !open.is_empty() {
            return Some((open, now));
        }
        let all: Vec<LaneId> = self.lanes.route(route).lanes().collect();
        let cooling = all.into_iter().filter_map(|lane| {
            // When a stopped lane is probed next is known too, but not what comes of it.
            let view = self.gate.view(self.lanes.get(lane).level, now)?;
            let until = view.closed_until.filter(|_| view.state == LaneState::Cooldown)?;
            Some((until, lane))
        });
        cooling.min().map(|(until, lane)| (vec![lane], until.max(now)))
    }

    /// What the gate knows of a lane's limits.
    fn bounds(&mut self, lane: LaneId, now: Timestamp) -> (Bounds, Vec<Allowance>) {
        let (path, levels) = (self.lanes.get(lane).path, self.lanes.get(lane).levels(self.service));
        let (mut bounds, mut allowances) = (Bounds::default(), Vec::new());
        for level in levels {
            let (of_level, more) = self.level_bounds(level, now);
            bounds = bounds.and(of_level);
            allowances.extend(more);
        }
        // The gate's own figure is exact, but that of the moment: within a ramp, and with counters of a day in it.
        let exact = self.gate.pace(path, now);
        if let (Some(pace), Some(exact)) = (&mut bounds.pace, exact)
            && (*pace * RAMP..*pace).contains(&exact)
        {
            *pace = exact;
        }
        (bounds, allowances)
    }

    fn level_bounds(&mut self, level: LevelId, now: Timestamp) -> (Bounds, Vec<Allowance>) {
        let Some(view) = self.gate.view(level, now) else { return Default::default() };
        let mut bounds = Bounds { pace: None, slots: view.max_concurrent };
        let mut allowances = Vec::new();
        for budget in view.budgets.iter().filter(|budget| budget.dimension == Dimension::Requests) {
            let per_second = budget.limit as f64 / budget.period.as_secs_f64();
            if budget.period <= LONGEST_PACED {
                bounds = bounds.and(Bounds { pace: Some(per_second * view.rate_factor), slots: None });
            } else {
                let left = budget.limit.saturating_sub(budget.used) as f64;
                allowances.push(Allowance { left, per_second });
            }
        }
        (bounds, allowances)
    }

    /// When each of a line ends.
    fn completions(&mut self, outlet: &Outlet, line: &[Queued], now: Timestamp) -> Vec<Option<Completion>> {
        let works = line.iter().map(|queued| Work {
            app: queued.app,
            weight: self.apps.weight(queued.app),
            items: queued.items,
        });
        let works: Vec<Work> = works.collect();
        let waiting = works.iter().filter(|work| work.items > 0.0).count();
        let through = line::through(&works);
        let mut paces: HashMap<AppKey, Option<f64>> = HashMap::new();
        let courses = line.iter().zip(through).map(|(queued, through)| {
            let pace = *paces.entry(queued.app).or_insert_with(|| self.pace_of_app(queued.app, now));
            let shared = waiting > usize::from(queued.items > 0.0);
            let course = Course {
                items: through.among_all,
                speed: outlet.speed,
                shared: shared && through.among_all > 0.0,
                slots: queued.slots,
                own: queued.items,
                running: queued.running,
                times: outlet.times,
                allowances: &outlet.allowances,
                opens: outlet.opens,
            };
            course.within_app(through.of_app, pace).completion()
        });
        courses.collect()
    }

    fn pace_of_app(&mut self, app: AppKey, now: Timestamp) -> Option<f64> {
        let level = self.apps.level(app, &mut self.gate, now);
        self.level_bounds(level, now).0.pace
    }
}

fn slots(batch: &ActiveBatch) -> Option<f64> {
    batch.record.options.max_concurrency.map(f64::from)
}

/// Seconds that a batch's items would take with the route for itself.
fn alone(outlet: &Outlet, queued: &Queued) -> f64 {
    let items = queued.items + queued.running;
    let lanes = items / outlet.speed.per_second;
    let own = queued.slots.zip(outlet.times.mean()).map(|(slots, mean)| items * mean / slots);
    own.map_or(lanes, |own| own.max(lanes))
}
