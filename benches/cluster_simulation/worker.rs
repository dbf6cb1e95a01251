//! One worker: its gate, its clock, its backlog.

use std::collections::VecDeque;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use sluicegate::domain::exchange::{Answer, Ask};
use sluicegate::domain::time::Timestamp;
use sluicegate::gate::{
    Accounting, Cost, Gate, GateError, GateOptions, Head, LevelKind, LevelSpec, PathId, TokensUsed,
};

use super::plan::{Counted, Plan};

/// What arrivals at the provider vary by: what the service allows for where limits are shared.
const JITTER: Duration = Duration::from_millis(300);
/// Exchanges whose ways are compared for the clock, and how long one is worth anything: as in the service.
const KEPT: usize = 32;
const WORTH: Duration = Duration::from_secs(60);

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    gate: Gate,
    path: PathId,
    /// How far its clock is ahead, in microseconds.
    skew: i64,
    /// Of exchanges of late: when the answer came, half of the way, and how far the time here is ahead of the
    /// database's by that. The quickest one is believed.
    readings: VecDeque<(Timestamp, i64, i64)>,
    /// When the exchange under way was sent, and its number among all.
    pub(crate) under_way: Option<(Timestamp, u64)>,
    /// Exchanges sent so far.
    pub(crate) exchanges: u64,
    /// Timers set so far: only the last one counts.
    pub(crate) timer: u64,
    /// How often it started.
    pub(crate) life: u64,
    pub(crate) has_backlog: bool,
    is_queued: bool,
}

impl Worker {
    /// A worker that has just started.
    pub(crate) fn new(plan: &Plan, skew: i64, now: Timestamp) -> Result<Self, GateError> {
        let now = Timestamp::from_micros(now.micros() + skew);
        let options = GateOptions { shared: true, ledger: true, jitter: JITTER, ..GateOptions::default() };
        let mut gate = Gate::new(options, now);
        let spec = LevelSpec {
            kind: LevelKind::Lane,
            name: "provider/model".into(),
            limits: plan.limits(),
            accounting: Accounting::Admission,
            ..LevelSpec::default()
        };
        let lane = gate.add_level(spec, now);
        let path = gate.add_path(&[lane])?;
        Ok(Self {
            gate,
            path,
            skew,
            readings: VecDeque::new(),
            under_way: None,
            exchanges: 0,
            timer: 0,
            life: 0,
            has_backlog: false,
            is_queued: false,
        })
    }

    /// It dies, and starts anew with the same backlog and the same clock.
    pub(crate) fn restart(&mut self, plan: &Plan, now: Timestamp) -> Result<(), GateError> {
        let new = Self::new(plan, self.skew, now)?;
        let (exchanges, timer, life) = (self.exchanges, self.timer, self.life + 1);
        *self = Self { exchanges, timer, life, has_backlog: self.has_backlog, ..new };
        Ok(())
    }

    fn local(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_micros(at.micros() + self.skew)
    }

    /// A call that leaves now, with its units; its successor waits from then on.
    pub(crate) fn send(
        &mut self,
        plan: &Plan,
        random: &mut StdRng,
        now: Timestamp,
    ) -> Result<Option<u64>, GateError> {
        let local = self.local(now);
        if self.has_backlog && !self.is_queued {
            self.is_queued = true;
            let cost = cost(plan, random);
            let head = Head { tag: 0, path: self.path, own: None, cost, turn: 0, interactive: false };
            self.gate.enqueue(head, local)?;
        }
        let Some(admitted) = self.gate.poll(local) else { return Ok(None) };
        self.is_queued = false;
        let mut grant = admitted.grant;
        let cost = grant.cost();
        self.gate.finish_call(&mut grant, local);
        let used = TokensUsed { input: cost.input_tokens, output: cost.output_tokens, cached: 0 };
        self.gate.settle(&mut grant, used, local);
        self.gate.recorded(grant, local);
        Ok(Some(match plan.counted {
            Counted::Requests => cost.requests.into(),
            Counted::Tokens => cost.input_tokens + cost.output_tokens,
        }))
    }

    /// The exchange that is due.
    pub(crate) fn ask(&mut self, now: Timestamp) -> Option<Ask> {
        let local = self.local(now);
        if self.under_way.is_some() || self.gate.exchange_due(local).is_none_or(|due| due > local) {
            return None;
        }
        self.exchanges += 1;
        self.under_way = Some((now, self.exchanges));
        Some(self.gate.ask(local))
    }

    /// The answer to the exchange under way.
    pub(crate) fn answered(&mut self, answer: &Answer, now: Timestamp) {
        let Some((sent, _)) = self.under_way.take() else { return };
        let took = i64::try_from(now.since(sent).as_micros()).unwrap_or(i64::MAX);
        let half = (took - (answer.now_us - answer.came_us)) / 2;
        let offset = self.local(sent).micros() + half - answer.came_us;
        self.readings.retain(|(received, ..)| now.since(*received) <= WORTH);
        self.readings.push_back((now, half, offset));
        if self.readings.len() > KEPT {
            self.readings.pop_front();
        }
        let best = self.readings.iter().min_by_key(|(_, half, _)| *half).map_or(offset, |best| best.2);
        let local = self.local(now);
        self.gate.exchanged(answer, best, local);
    }

    /// No answer came to the exchange under way.
    pub(crate) fn give_up(&mut self, now: Timestamp) {
        self.under_way = None;
        let local = self.local(now);
        self.gate.exchange_failed(local);
    }

    /// When it has something to do next.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let local = self.local(now);
        let asks = self.gate.exchange_due(local).filter(|_| self.under_way.is_none());
        let next = self.gate.next_at(local).into_iter().chain(asks).min()?;
        Some(Timestamp::from_micros(next.micros() - self.skew))
    }
}

fn cost(plan: &Plan, random: &mut StdRng) -> Cost {
    let (least, most) = plan.sizes();
    let all = match plan.counted {
        Counted::Requests => 0,
        Counted::Tokens => random.random_range(least..=most),
    };
    Cost { requests: 1, input_tokens: all / 4, output_tokens: all - all / 4, memory: 1_000 }
}
