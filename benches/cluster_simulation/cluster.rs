//! All workers, the database, and the time that passes between them.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sluicegate::domain::time::Timestamp;
use sluicegate::domain::worker::WorkerKey;
use sluicegate::gate::GateError;

use super::database::{Database, Units};
use super::event::{Agenda, Event, Sender};
use super::outcome::{Counts, Outcome, Share};
use super::plan::{Plan, START};
use super::worker::Worker;

/// How long an exchange is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How late timers fire at most, in microseconds.
const LATE: u64 = 1_200;
/// How much the way to the provider varies, in microseconds.
const WAY: u64 = 20_000;

/// All of it.
pub(crate) struct Cluster {
    plan: Plan,
    workers: Vec<Worker>,
    shares: Vec<Share>,
    database: Database,
    agenda: Agenda,
    random: StdRng,
    /// When calls came to the provider, with their units.
    arrivals: Vec<(Timestamp, u64)>,
    given_up: u64,
    /// The first worker that has the backlog.
    first_active: usize,
}

/// What was so far when measuring began.
struct Before {
    counts: Counts,
    exchanges: Vec<u64>,
    given_up: u64,
}

impl Cluster {
    /// All workers, of which the first ones have a backlog.
    pub(crate) fn new(plan: Plan) -> Result<Self, GateError> {
        let mut random = StdRng::seed_from_u64(plan.course.seed());
        let mut workers = Vec::new();
        for _ in 0..plan.workers {
            let skew = random.random_range(0..=plan.course.skew());
            workers.push(Worker::new(&plan, i64::try_from(skew).unwrap_or_default(), START)?);
        }
        Ok(Self {
            plan,
            shares: vec![Share::default(); workers.len()],
            workers,
            database: Database::new(plan.course.statement()),
            agenda: Agenda::default(),
            random,
            arrivals: Vec::new(),
            given_up: 0,
            first_active: 0,
        })
    }

    /// Runs it.
    pub(crate) fn run(mut self) -> Result<Outcome, GateError> {
        let course = self.plan.course;
        let (from, end) = course.measured();
        self.hand_out(START)?;
        course.between_deaths().into_iter().for_each(|pause| self.agenda.add(START + pause, Event::Dies));
        course.turn().into_iter().for_each(|pause| self.agenda.add(START + pause, Event::Turns));
        let mut before = None;
        while let Some((now, event)) = self.agenda.next(end) {
            if now >= from && before.is_none() {
                before = Some(self.begin(from));
            }
            self.happens(event, now)?;
        }
        let before = before.unwrap_or_else(|| self.begin(from));
        Ok(self.end(&before, end))
    }

    fn counts(&self) -> Counts {
        Counts { exchanges: self.database.exchanges, units: self.database.units }
    }

    fn begin(&mut self, now: Timestamp) -> Before {
        self.shares.iter_mut().for_each(|share| share.begin(now));
        self.database.longest = Duration::ZERO;
        let exchanges = self.workers.iter().map(|worker| worker.exchanges).collect();
        Before { counts: self.counts(), exchanges, given_up: self.given_up }
    }

    fn end(mut self, before: &Before, end: Timestamp) -> Outcome {
        self.shares.iter_mut().for_each(|share| share.waited(end));
        let (first, last) = (before.counts, self.counts());
        let counts = Counts {
            exchanges: last.exchanges - first.exchanges,
            units: Units {
                granted: last.units.granted - first.units.granted,
                returned: last.units.returned - first.units.returned,
            },
        };
        let sent =
            self.workers.iter().zip(&before.exchanges).map(|(worker, before)| worker.exchanges - before);
        let most = sent.max().unwrap_or(0);
        let given_up = self.given_up - before.given_up;
        let outcome = Outcome::new(self.plan, &mut self.arrivals, &self.shares, counts);
        outcome.with(most, given_up, self.database.longest)
    }

    fn happens(&mut self, event: Event, now: Timestamp) -> Result<(), GateError> {
        match event {
            Event::Wakes { worker, timer } if self.workers[worker].timer == timer => self.work(worker, now),
            Event::Wakes { .. } => Ok(()),
            Event::Asks(sender, ask) => {
                if let Some((answer, leaves)) = self.database.exchange(key(sender.worker), &ask, now) {
                    let way = self.way();
                    self.agenda.add(leaves + way, Event::Answers(sender, Box::new(answer)));
                }
                Ok(())
            }
            Event::Answers(sender, answer) if self.is_awaited(sender) => {
                self.workers[sender.worker].answered(&answer, now);
                self.work(sender.worker, now)
            }
            Event::GivesUp(sender) if self.is_awaited(sender) => {
                self.given_up += 1;
                self.workers[sender.worker].give_up(now);
                self.work(sender.worker, now)
            }
            Event::Answers(..) | Event::GivesUp(_) => Ok(()),
            Event::Dies => self.die(now),
            Event::Turns => {
                self.first_active = (self.first_active + self.plan.active) % self.plan.workers;
                self.plan
                    .course
                    .turn()
                    .into_iter()
                    .for_each(|pause| self.agenda.add(now + pause, Event::Turns));
                self.hand_out(now)
            }
        }
    }

    /// Whether a worker still waits for an answer.
    fn is_awaited(&self, sender: Sender) -> bool {
        let worker = &self.workers[sender.worker];
        let waits = worker.under_way.is_some_and(|(_, exchange)| exchange == sender.exchange);
        waits && worker.life == sender.life
    }

    /// A worker sends what it may, and asks for more.
    fn work(&mut self, number: usize, now: Timestamp) -> Result<(), GateError> {
        let worker = &mut self.workers[number];
        while let Some(units) = worker.send(&self.plan, &mut self.random, now)? {
            let way = Duration::from_micros(self.random.random_range(0..=WAY));
            self.arrivals.push((now + way, units));
            self.shares[number].sent(units, now);
        }
        if let Some(ask) = worker.ask(now) {
            let sender = Sender { worker: number, life: worker.life, exchange: worker.exchanges };
            let way = self.way();
            self.agenda.add(now + way, Event::Asks(sender, Box::new(ask)));
            self.agenda.add(now + PATIENCE, Event::GivesUp(sender));
        }
        let late = Duration::from_micros(self.random.random_range(1..=LATE));
        let worker = &mut self.workers[number];
        worker.timer += 1;
        if let Some(next) = worker.next(now) {
            let wakes = Event::Wakes { worker: number, timer: worker.timer };
            self.agenda.add(next.max(now) + late, wakes);
        }
        Ok(())
    }

    /// Half of a way to the database and back.
    fn way(&mut self) -> Duration {
        let (quickest, slowest) = self.plan.course.round_trip();
        Duration::from_micros(self.random.random_range(quickest..=slowest) / 2)
    }

    /// Gives the backlog to those whose turn it is, within a second.
    fn hand_out(&mut self, now: Timestamp) -> Result<(), GateError> {
        for number in 0..self.workers.len() {
            let place = (number + self.plan.workers - self.first_active) % self.plan.workers;
            let has_backlog = place < self.plan.active;
            let worker = &mut self.workers[number];
            if worker.has_backlog == has_backlog {
                continue;
            }
            worker.has_backlog = has_backlog;
            self.shares[number].turn(has_backlog, now);
            if !has_backlog {
                continue;
            }
            worker.timer += 1;
            let wakes = Event::Wakes { worker: number, timer: worker.timer };
            let pause = Duration::from_micros(self.random.random_range(0..=1_000_000));
            self.agenda.add(now + pause, wakes);
        }
        Ok(())
    }

    /// A worker dies with what it has in hand, and starts anew.
    fn die(&mut self, now: Timestamp) -> Result<(), GateError> {
        let number = self.random.random_range(0..self.workers.len());
        self.database.restart(key(number));
        self.workers[number].restart(&self.plan, now)?;
        self.plan
            .course
            .between_deaths()
            .into_iter()
            .for_each(|pause| self.agenda.add(now + pause, Event::Dies));
        self.work(number, now)
    }
}

fn key(worker: usize) -> WorkerKey {
    WorkerKey(i64::try_from(worker).unwrap_or_default() + 1)
}
