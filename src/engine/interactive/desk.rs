//! The dispatcher's side of interactive calls: who waits, who goes, and what comes back.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::domain::batch::Usage;
use crate::domain::ids::AppKey;
use crate::domain::interactive::Refusal;
use crate::domain::time::Timestamp;
use crate::gate::{Accounting, Admitted, Cost, Grant, Head, HeadId, PathId, Refusal as RateRefusal};
use crate::metrics::Kind;

use super::coming_back::Lines;
use super::passing::{End, Heard, Over, Pass, Ticket};
use super::{Asking, Calls, Note, ON_THE_WAY, TAG};
use crate::engine::attempt::Reporter;
use crate::engine::dispatcher::{Dispatcher, Stage};
use crate::engine::estimate::Estimates;
use crate::engine::feedback;
use crate::engine::item::{LaneId, RouteId};
use crate::engine::reserving::{count_refunds, figures, used};

/// Calls that wait at most; a further one is told to come back.
const MOST_WAITING: usize = 4_096;
/// Memory charged for what of a reply is between two sockets.
const REPLY_BYTES: u64 = 32 * 1024;
/// How long an aborted call keeps its place in flight: the upstream needs a moment to notice, and the next
/// call would find its slot taken.
const ABORTED: Duration = Duration::from_millis(500);

/// The place of interactive calls in the gate's order: before what its app has of batches, and within its
/// share before everybody's.
const fn head(number: u64, path: PathId, cost: Cost) -> Head {
    Head { tag: TAG | number, path, own: None, cost, turn: 0, interactive: true }
}

/// A call that waits for its turn.
pub(super) struct Waiting {
    pub(super) asking: Asking,
    pub(super) route: RouteId,
    /// One at each lane that pulls; the first to be admitted takes the call.
    pub(super) heads: Vec<(LaneId, HeadId)>,
    pub(super) since: Timestamp,
    /// Bytes of its body that the memory level holds already.
    held: u64,
    /// What it asks of the limits.
    pub(super) cost: Cost,
}

/// Everything the dispatcher knows of interactive calls.
pub(in crate::engine) struct Desk {
    asks: mpsc::Receiver<Asking>,
    reporter: Reporter,
    pub(super) waiting: HashMap<u64, Waiting>,
    /// When each gives up.
    until: BTreeSet<(Timestamp, u64)>,
    /// Those whose lane may be stopped: asked about once they had their chance.
    doubtful: Vec<u64>,
    /// Bytes that the bodies of waiting calls hold of the memory level.
    held: u64,
    /// What aborted calls give back, and when.
    aborted: VecDeque<(Timestamp, Grant)>,
    /// Those that were refused just now.
    pub(super) lines: Lines,
    in_flight: u32,
    /// Lanes that do not take calls that ask for their stream's usage.
    refuse_usage: HashSet<LaneId>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Desk")
            .field("waiting", &self.waiting.len())
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// Both ends: where calls are made, and where they are taken in.
    pub(in crate::engine) fn open(reporter: Reporter) -> (Calls, Self) {
        let (asks, heard) = mpsc::channel(ON_THE_WAY);
        let desk = Self {
            asks: heard,
            reporter: reporter.clone(),
            waiting: HashMap::new(),
            until: BTreeSet::new(),
            doubtful: Vec::new(),
            held: 0,
            aborted: VecDeque::new(),
            lines: Lines::default(),
            in_flight: 0,
            refuse_usage: HashSet::new(),
        };
        (Calls::new(asks, reporter), desk)
    }

    /// The next call that asks; `None` once nobody can ask any more. Cancel safe.
    pub(in crate::engine) async fn asked(&mut self) -> Option<Asking> {
        self.asks.recv().await
    }

    pub(in crate::engine) const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(in crate::engine) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty() && self.aborted.is_empty()
    }

    /// When something of it is due.
    pub(in crate::engine) fn next_due(&self) -> Option<Timestamp> {
        let until = self.until.first().map(|(until, _)| *until);
        let aborted = self.aborted.front().map(|(due, _)| *due);
        until.into_iter().chain(aborted).min()
    }

    /// A lane was stopped: calls that wait for it are to be told.
    pub(in crate::engine) fn doubt_all(&mut self) {
        self.doubtful = self.waiting.keys().copied().collect();
    }

    /// Calls of these lanes go elsewhere from now on: what their upstreams did not take, others may.
    pub(in crate::engine) fn forget_habits(&mut self, lanes: &[LaneId]) {
        self.refuse_usage.retain(|lane| !lanes.contains(lane));
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.until.remove(&(waiting.asking.until, number));
        self.held -= waiting.held;
        Some(waiting)
    }
}

impl Dispatcher {
    /// A client's call asks to be let through, and with it those that came at the same moment.
    pub(in crate::engine) fn take_in_call(&mut self, asking: Asking, now: Timestamp) {
        let mut next = Some(asking);
        while let Some(asking) = next {
            self.take_in_one(asking, now);
            next = self.interactive.asks.try_recv().ok();
        }
    }

    fn take_in_one(&mut self, mut asking: Asking, now: Timestamp) {
        self.settled = false;
        if self.stage != Stage::Running {
            return asking.refuse(Refusal::Draining);
        }
        if self.interactive.waiting.len() >= MOST_WAITING {
            let refusal = self.crowded(&asking, now);
            return asking.refuse(refusal);
        }
        let Some(route) = self.lanes.resolve(&asking.model, &mut self.gate, now) else {
            return asking.refuse(Refusal::NoLane);
        };
        // Bodies that wait hold a quarter of the level at most: what goes needs room beside them.
        let may_hold = self.interactive.held + asking.bytes <= self.ahead.limit();
        let held = if may_hold && self.gate.try_hold(self.memory, asking.bytes) { asking.bytes } else { 0 };
        if held > 0 {
            asking.room = None;
        }
        let (number, until) = (asking.number, asking.until);
        self.interactive.held += held;
        self.interactive.until.insert((until, number));
        self.interactive.doubtful.push(number);
        let waiting = Waiting { asking, route, heads: Vec::new(), since: now, held, cost: Cost::default() };
        self.interactive.waiting.insert(number, waiting);
        self.enqueue_call(number, now);
    }

    /// Puts a call into the gate, at each lane that pulls; refuses it if none will ever have room for it.
    fn enqueue_call(&mut self, number: u64, now: Timestamp) {
        let Some(waiting) = self.interactive.waiting.get_mut(&number) else { return };
        let asking = &waiting.asking;
        let memory = REPLY_BYTES + asking.bytes - waiting.held;
        let app = self.apps.level(asking.app, &mut self.gate, now);
        let mut misfit = None;
        for lane in self.lanes.pulling(waiting.route, &VecDeque::new(), &self.gate, now) {
            let Some(path) = self.lanes.path(lane, app, &mut self.gate) else { continue };
            let mut cost = Cost { requests: 1, memory, ..Cost::default() };
            if self.gate.counts_tokens(path) {
                let certain = Estimates::certain(&asking.measure);
                let certain = Cost { input_tokens: certain.input, output_tokens: certain.output, ..cost };
                misfit = self.gate.never_fits(path, None, certain);
                if misfit.is_some() {
                    continue;
                }
                let on_admission = self.lanes.get(lane).provider.accounting == Accounting::Admission;
                let expected = self.estimates.expect(None, &asking.model, &asking.measure, on_admission);
                (cost.input_tokens, cost.output_tokens) = (expected.input, expected.output);
            }
            waiting.cost = cost;
            match self.gate.enqueue(head(number, path, cost), now) {
                Ok(head) => waiting.heads.push((lane, head)),
                Err(error) => tracing::error!(error = %error, "a call could not be put into the gate"),
            }
        }
        if let Some(misfit) = misfit.filter(|_| waiting.heads.is_empty()) {
            self.refuse(number, Refusal::NeverFits { detail: figures(&misfit) }, now);
        }
    }

    /// A lane closed: calls that wait for it go to those that take over.
    pub(in crate::engine) fn move_calls(&mut self, lane: LaneId, now: Timestamp) {
        let moved = self.interactive.waiting.iter_mut().filter(|(_, waiting)| {
            let route = self.lanes.route(waiting.route);
            route.has_choice() && route.lanes().any(|of_route| of_route == lane)
        });
        let mut numbers = Vec::new();
        for (number, waiting) in moved {
            for (_, head) in waiting.heads.drain(..) {
                self.gate.withdraw(head, now);
            }
            numbers.push(*number);
        }
        numbers.sort_unstable();
        for number in numbers {
            self.enqueue_call(number, now);
        }
    }

    /// Lanes or limits changed: calls that wait go by the routes that their models have now.
    pub(in crate::engine) fn reroute_calls(&mut self, limited: &HashSet<LaneId>, now: Timestamp) {
        let mut numbers: Vec<u64> = self.interactive.waiting.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(waiting) = self.interactive.waiting.get(&number) else { continue };
            let before = waiting.route;
            let model = std::sync::Arc::clone(&waiting.asking.model);
            let Some(route) = self.lanes.resolve(&model, &mut self.gate, now) else {
                self.refuse(number, Refusal::NoLane, now);
                continue;
            };
            if route == before && !self.is_limited(route, limited) {
                continue;
            }
            if let Some(waiting) = self.interactive.waiting.get_mut(&number) {
                waiting.route = route;
                for (_, head) in waiting.heads.drain(..) {
                    self.gate.withdraw(head, now);
                }
            }
            self.enqueue_call(number, now);
        }
        self.interactive.doubt_all();
    }

    /// The gate lets a call through.
    pub(in crate::engine) fn let_pass(&mut self, number: u64, admitted: Admitted, now: Timestamp) {
        let Admitted { head, grant, .. } = admitted;
        let Some((lane_id, waiting)) = self.take_call(number, head, now) else {
            self.gate.unused(grant, now);
            return;
        };
        let Waiting { asking, since, held, .. } = waiting;
        self.metrics.gate().waited(now.since(since));
        let asks_usage = self.asks_usage(lane_id, asking.app, now);
        let lane = self.lanes.get(lane_id);
        if !asking.again {
            lane.metrics.queue_waited(Kind::Interactive, now.since(asking.asked_at));
        }
        lane.metrics.in_flight().inc();
        for (dimension, units) in grant.cost().by_dimension() {
            lane.metrics.admitted(dimension, units);
        }
        self.interactive.in_flight += 1;
        let over = Over {
            lane: lane_id,
            permit: self.gate.permit(grant),
            held,
            end: End::Unsent,
            goes_on: false,
            app: asking.app,
            model: asking.model,
            measure: asking.measure,
            heard: Heard::default(),
        };
        let ticket = Ticket::new(over, self.interactive.reporter.clone());
        let pass = Pass {
            provider: std::sync::Arc::clone(&lane.provider),
            provider_name: lane.provider.name.as_str().into(),
            lane: lane.name.as_str().into(),
            upstream_model: lane.upstream_model.clone(),
            metrics: std::sync::Arc::clone(&lane.metrics),
            lane_succeeded: lane.succeeded,
            asks_usage,
            ticket,
        };
        // To a client that has left it comes back: dropping the ticket tells.
        let _ = asking.reply.send(Ok(pass));
    }

    /// Whether a stream's usage is asked for in its client's place: where tokens are counted, and the lane
    /// can tell. Those that charge on admission speak `OpenAI`'s dialect; Anthropic's streams always tell.
    fn asks_usage(&mut self, lane_id: LaneId, app: AppKey, now: Timestamp) -> bool {
        if self.interactive.refuse_usage.contains(&lane_id)
            || self.lanes.get(lane_id).provider.accounting != Accounting::Admission
        {
            return false;
        }
        let app = self.apps.level(app, &mut self.gate, now);
        self.lanes.path(lane_id, app, &mut self.gate).is_some_and(|path| self.gate.counts_tokens(path))
    }

    /// The call whose head was admitted, and at which lane; its other heads are taken back.
    fn take_call(&mut self, number: u64, head: HeadId, now: Timestamp) -> Option<(LaneId, Waiting)> {
        let mut waiting = self.interactive.remove(number)?;
        let place = waiting.heads.iter().position(|(_, waiting)| *waiting == head)?;
        let (lane, _) = waiting.heads.swap_remove(place);
        for (_, other) in waiting.heads.drain(..) {
            self.gate.withdraw(other, now);
        }
        let route = self.lanes.route_mut(waiting.route);
        if route.has_choice() {
            route.started(lane);
        }
        Some((lane, waiting))
    }

    /// What is due among interactive calls, once those that could go went.
    pub(in crate::engine) fn attend_calls(&mut self, now: Timestamp) {
        let draining = self.stage != Stage::Running;
        while let Some((due, _)) = self.interactive.aborted.front()
            && (*due <= now || draining)
            && let Some((_, grant)) = self.interactive.aborted.pop_front()
        {
            self.gate.recorded(grant, now);
        }
        while let Some((until, number)) = self.interactive.until.first().copied()
            && (until <= now || draining)
        {
            let refusal = if draining { Refusal::Draining } else { self.waited_for(number, now) };
            self.refuse(number, refusal, now);
        }
        for number in std::mem::take(&mut self.interactive.doubtful) {
            if let Some(refusal) = self.stopped_for(number, now) {
                self.refuse(number, refusal, now);
            }
        }
    }

    fn refuse(&mut self, number: u64, refusal: Refusal, now: Timestamp) {
        if let Some(waiting) = self.withdraw_call(number, now) {
            waiting.asking.refuse(refusal);
        }
    }

    fn withdraw_call(&mut self, number: u64, now: Timestamp) -> Option<Waiting> {
        let waiting = self.interactive.remove(number)?;
        for (_, head) in &waiting.heads {
            self.gate.withdraw(*head, now);
        }
        self.gate.release_held(self.memory, waiting.held, now);
        Some(waiting)
    }

    /// What a call's task tells.
    pub(in crate::engine) fn noted(&mut self, note: Note, now: Timestamp) {
        match note {
            Note::Again(asking) => self.take_in_one(asking, now),
            Note::Left { number } => {
                self.withdraw_call(number, now);
            }
            Note::Answers { lane } => {
                let lane = self.lanes.get_mut(lane);
                lane.succeeded = true;
                tracing::info!(lane = %lane.name, "the lane answers again");
                self.gate.resume(lane.level, now);
            }
            Note::RefusesUsage { lane } => {
                if self.interactive.refuse_usage.insert(lane) {
                    let lane = &self.lanes.get(lane).name;
                    tracing::info!(lane = %lane, "the lane does not tell the usage of streams");
                }
            }
            Note::Unanswered { app } => self.store.count_call(app, now, true, &Usage::default()),
            Note::Over(over) => self.call_over(*over, now),
        }
    }

    /// Counts a call among what its app used, if it was sent and is not sent again.
    fn count_usage(&self, over: &Over, now: Timestamp) {
        let sent = over.heard.class.is_some() || matches!(over.end, End::Aborted);
        if sent && !over.goes_on {
            let failed = !matches!(over.end, End::Succeeded | End::Aborted);
            self.store.count_call(over.app, now, failed, &over.heard.usage.unwrap_or_default());
        }
    }

    fn call_over(&mut self, over: Over, now: Timestamp) {
        self.count_usage(&over, now);
        let Over { lane: lane_id, permit, held, end, goes_on: _, app: _, model, measure, heard } = over;
        self.interactive.in_flight -= 1;
        self.lanes.get(lane_id).metrics.in_flight().dec();
        let mut grant = permit.into_grant();
        self.gate.release_held(self.memory, held, now);
        let Heard { class, usage, broken_off, quota } = heard;
        // Of what broke off the usage is a part at most: it stays charged.
        let usage = usage.filter(|_| !broken_off);
        if let Some(used) = used(usage, class) {
            count_refunds(self.lanes.get(lane_id), &grant.cost(), used);
            self.gate.settle(&mut grant, used, now);
        }
        if !matches!(end, End::Unsent | End::Aborted) {
            self.gate.finish_call(&mut grant, now);
        }
        if let (Some(usage), End::Succeeded) = (usage, &end) {
            self.estimates.learn(None, &model, Some(&measure), &usage);
        }
        let sent = grant.sent();
        self.hear(&feedback::Heard { lane: lane_id, class, quota: &quota, sent }, now);
        let lane = self.lanes.get_mut(lane_id);
        let level = lane.level;
        match end {
            End::Unsent => return self.gate.unused(grant, now),
            End::Aborted => {
                let bytes = grant.memory();
                self.gate.shrink(&mut grant, bytes, now);
                return self.interactive.aborted.push_back((now + ABORTED, grant));
            }
            End::Succeeded => {
                lane.successes += 1;
                lane.succeeded = true;
            }
            // An answer about the request proves that the lane answers.
            End::Refused if grant.is_probe() => self.gate.resume(level, now),
            End::Refused | End::Failed => {}
            End::RateLimited { retry_after } => {
                let refusal = RateRefusal { sent_at: grant.admitted_at(), retry_after };
                self.gate.rate_limited(level, refusal, now);
                self.lane_closed(lane_id, now);
            }
            End::Stopped { reason, detail } => {
                self.stop_lane(lane_id, (reason, detail), &grant, now);
                self.lane_closed(lane_id, now);
            }
        }
        self.gate.recorded(grant, now);
    }
}
