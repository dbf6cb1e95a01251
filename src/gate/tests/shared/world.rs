//! Several workers' gates, one ledger, and the time that their messages take.

use std::collections::VecDeque;

use super::*;

/// The time of the ledger is so far behind that of the first worker.
const BEHIND: i64 = 3_600_000_000;

/// Numbers that look random and are the same every time.
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }
}

/// A call that left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) at: Timestamp,
    pub(super) worker: usize,
    pub(super) units: u64,
    pub(super) interactive: bool,
    /// How long it waited.
    pub(super) waited: Duration,
}

/// A message on its way.
#[derive(Debug)]
enum Message {
    Ask(usize, Ask),
    Answer(usize, Box<Answer>, Timestamp),
    Lost(usize),
}

/// One worker, with a backlog of items or without.
pub(super) struct Worker {
    pub(super) gate: Gate,
    pub(super) lane: LevelId,
    pub(super) path: PathId,
    /// What it sends next, over and over; nothing: it has no backlog.
    pub(super) backlog: Vec<Cost>,
    next: usize,
    next_live: usize,
    queued: bool,
    asked_since: Timestamp,
    /// How far its clock is ahead.
    skew: i64,
    /// When its calls end, with their grants and what they use of what they reserved, in percent.
    running: Vec<(Timestamp, Grant)>,
    pub(super) exchanges: usize,
    /// The last exchange that the ledger took.
    taken: u64,
    /// It does nothing until then.
    pub(super) frozen_until: Timestamp,
    pub(super) dead: bool,
    /// It starts no calls any more.
    drains: bool,
    interactive_at: VecDeque<Timestamp>,
}

/// All of it.
pub(super) struct World {
    pub(super) ledger: SharedLedger,
    pub(super) workers: Vec<Worker>,
    pub(super) now: Timestamp,
    pub(super) dice: Dice,
    pub(super) left: Vec<Left>,
    messages: Vec<(Timestamp, Message)>,
    /// The longest that a message takes, in microseconds, and how many of a thousand are lost.
    pub(super) delay: u64,
    pub(super) lost: u64,
    /// How long a lost one is waited for, in milliseconds.
    pub(super) patience: u64,
    /// How late timers fire, in microseconds.
    pub(super) late: u64,
    /// How long calls run, in milliseconds.
    pub(super) runs: u64,
    /// By how much that differs, up or down, in percent.
    pub(super) spread: u64,
    /// What calls use of what they reserve, in percent.
    pub(super) uses: u64,
    /// What live calls take, in turn at each worker.
    pub(super) live: Vec<Cost>,
    /// How many calls of a thousand are taken back before they are sent.
    pub(super) never_sent: u64,
    pub(super) most_in_flight: usize,
    /// Units in answers that arrived, units that were told unused, and what all that was settled comes to, once each.
    pub(super) granted: u64,
    pub(super) unused: u64,
    pub(super) settled: i64,
}

/// A worker of a lane with such limits.
pub(super) fn worker(limits: &Limits, accounting: Accounting, skew: i64, start: Timestamp) -> Worker {
    let options = GateOptions { shared: true, ledger: true, jitter: millis(300), ..GateOptions::default() };
    let start = Timestamp::from_micros(start.micros() + skew);
    let mut gate = Gate::new(options, start);
    let lane =
        gate.add_level(LevelSpec { accounting, ..level(LevelKind::Lane, "p/m", limits.clone()) }, start);
    let path = gate.add_path(&[lane]).unwrap();
    Worker {
        gate,
        lane,
        path,
        backlog: Vec::new(),
        next: 0,
        next_live: 0,
        queued: false,
        asked_since: start,
        skew,
        running: Vec::new(),
        exchanges: 0,
        taken: 0,
        frozen_until: Timestamp::ZERO,
        dead: false,
        drains: false,
        interactive_at: VecDeque::new(),
    }
}

impl Worker {
    /// A moment by its clock.
    pub(super) fn local(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_micros(at.micros() + self.skew)
    }

    fn global(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_micros(at.micros() - self.skew)
    }

    /// Interactive calls come at these moments.
    pub(super) fn interactive(&mut self, moments: impl IntoIterator<Item = Timestamp>) {
        self.interactive_at.extend(moments);
    }
}

impl World {
    pub(super) fn new(limits: &Limits, accounting: Accounting, workers: usize, seed: u64) -> Self {
        let skewed = |number: usize| number as i64 * 777_000_000;
        let workers = (0..workers).map(|number| worker(limits, accounting, skewed(number), START)).collect();
        Self {
            ledger: SharedLedger::default(),
            workers,
            now: START,
            dice: Dice(seed),
            left: Vec::new(),
            messages: Vec::new(),
            delay: 30_000,
            lost: 0,
            patience: 500,
            late: 1_000,
            runs: 0,
            spread: 0,
            uses: 100,
            never_sent: 0,
            live: vec![CALL],
            most_in_flight: 0,
            granted: 0,
            unused: 0,
            settled: 0,
        }
    }

    fn post(&mut self, message: Message) {
        let at = self.now + Duration::from_micros(self.dice.below(self.delay + 1));
        self.messages.push((at, message));
    }

    /// Runs until a moment.
    pub(super) fn run(&mut self, until: Timestamp) {
        while self.now < until {
            for number in 0..self.workers.len() {
                self.work(number);
            }
            let mut next = self.messages.iter().map(|(at, _)| *at).min().unwrap_or(until);
            for number in 0..self.workers.len() {
                next = self.next_of(number).map_or(next, |moment| moment.min(next));
            }
            self.now = next.max(self.now + Duration::from_micros(1)).min(until);
            self.deliver();
        }
    }

    fn next_of(&mut self, number: usize) -> Option<Timestamp> {
        let late = Duration::from_micros(self.dice.below(self.late + 1));
        let worker = &self.workers[number];
        if worker.dead {
            return None;
        }
        let local = worker.local(self.now);
        let timers = worker.gate.next_at(local).into_iter().chain(worker.gate.exchange_due(local));
        let timers = timers.map(|at| worker.global(at) + late);
        let ends = worker.running.iter().map(|(at, _)| *at);
        let next = timers.chain(ends).chain(worker.interactive_at.front().copied()).min();
        next.map(|next| next.max(worker.frozen_until))
    }

    fn deliver(&mut self) {
        let now = self.now;
        let frozen = |workers: &[Worker], message: &Message| match message {
            Message::Ask(..) => false,
            Message::Answer(number, ..) | Message::Lost(number) => workers[*number].frozen_until > now,
        };
        let mut due = Vec::new();
        let mut place = 0;
        while place < self.messages.len() {
            if self.messages[place].0 <= now && !frozen(&self.workers, &self.messages[place].1) {
                due.push(self.messages.swap_remove(place));
            } else {
                if self.messages[place].0 <= now {
                    self.messages[place].0 = now + millis(1);
                }
                place += 1;
            }
        }
        due.sort_by_key(|(at, _)| *at);
        for (_, message) in due {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ask(number, ask) => {
                let lost = self.dice.below(1_000);
                // Of those that are lost, half never arrive.
                if lost < self.lost / 2 {
                    self.messages.push((self.now + millis(self.patience), Message::Lost(number)));
                    return;
                }
                let key = WorkerKey(number as i64 + 1);
                let taken = &mut self.workers[number].taken;
                if ask.number > *taken {
                    *taken = ask.number;
                    let lines = || ask.budgets.iter();
                    self.unused +=
                        lines().flat_map(|line| &line.unused).map(|slots| slots.units).sum::<u64>();
                    let settled = lines().flat_map(|line| &line.settled).map(|settled| settled.change);
                    self.settled += settled.sum::<i64>();
                }
                let answer = self.ledger.exchange(key, &ask, self.now.micros() - BEHIND);
                if lost < self.lost {
                    self.messages.push((self.now + millis(self.patience), Message::Lost(number)));
                } else {
                    let answered = self.now;
                    self.post(Message::Answer(number, Box::new(answer), answered));
                }
            }
            Message::Answer(number, answer, answered) => {
                let now = self.now;
                let worker = &mut self.workers[number];
                if worker.dead {
                    return;
                }
                if now.since(answered) > millis(400) {
                    // Whoever waits so long has given it up.
                    worker.gate.exchange_failed(worker.local(now));
                    return;
                }
                let slots = answer.budgets.iter().flat_map(|grant| &grant.slots);
                self.granted += slots.map(|slots| slots.units).sum::<u64>();
                // The way back is what the clocks may be told apart wrong by: half of it here.
                let way = i64::try_from(now.since(answered).as_micros()).unwrap() / 2;
                let offset = worker.skew + BEHIND + way;
                let local = worker.local(now);
                worker.gate.exchanged(&answer, offset, local);
            }
            Message::Lost(number) => {
                let local = self.workers[number].local(self.now);
                self.workers[number].gate.exchange_failed(local);
            }
        }
    }

    fn work(&mut self, number: usize) {
        let now = self.now;
        let (runs, uses) = (self.runs, self.uses);
        let worker = &mut self.workers[number];
        if worker.dead || worker.frozen_until > now {
            return;
        }
        let local = worker.local(now);
        end_calls(worker, uses, now);
        while let Some(at) = worker.interactive_at.pop_front_if(|at| *at <= now) {
            let cost = self.live[worker.next_live % self.live.len()];
            worker.next_live += 1;
            let tag = worker.local(at).micros() as u64;
            let head = Head { tag, interactive: true, cost, ..head(worker.path, 0) };
            worker.gate.enqueue(head, local).unwrap();
        }
        loop {
            if !worker.queued && !worker.backlog.is_empty() {
                let cost = worker.backlog[worker.next % worker.backlog.len()];
                worker.next += 1;
                worker.gate.enqueue(Head { cost, ..head(worker.path, 0) }, local).unwrap();
                (worker.queued, worker.asked_since) = (true, local);
            }
            if worker.drains {
                break;
            }
            let Some(admitted) = worker.gate.poll(local) else { break };
            if self.dice.below(1_000) < self.never_sent {
                worker.queued = false;
                worker.gate.unused(admitted.grant, local);
                continue;
            }
            let interactive = admitted.tag > 0;
            let since =
                if interactive { Timestamp::from_micros(admitted.tag as i64) } else { worker.asked_since };
            worker.queued &= interactive;
            let cost = admitted.grant.cost();
            let tokens = cost.input_tokens + cost.output_tokens;
            let units = if tokens > 0 { tokens } else { 1 };
            self.left.push(Left { at: now, worker: number, units, interactive, waited: local.since(since) });
            let half = runs * self.spread / 100;
            let runs = if half > 0 { runs - half + self.dice.below(2 * half + 1) } else { runs };
            worker.running.push((now + millis(runs), admitted.grant));
        }
        if worker.gate.exchange_due(local).is_some_and(|due| due <= local) {
            let ask = worker.gate.ask(local);
            worker.exchanges += 1;
            self.post(Message::Ask(number, ask));
        }
        let in_flight = self.workers.iter().map(|worker| worker.running.len()).sum();
        self.most_in_flight = self.most_in_flight.max(in_flight);
    }

    /// A worker dies, and is there again at once.
    pub(super) fn restart(&mut self, number: usize, limits: &Limits) {
        self.ledger.restart(WorkerKey(number as i64 + 1));
        let old = &self.workers[number];
        let mut new = worker(limits, Accounting::Admission, old.skew, self.now);
        new.backlog.clone_from(&old.backlog);
        self.workers[number] = new;
        self.drop_messages(number);
    }

    /// A worker was taken for dead, and goes on as another life of itself.
    pub(super) fn rejoin(&mut self, number: usize) {
        self.ledger.restart(WorkerKey(number as i64 + 1));
        self.workers[number].taken = 0;
        self.workers[number].gate.restart_exchanges();
        self.drop_messages(number);
    }

    fn drop_messages(&mut self, number: usize) {
        self.messages.retain(|(_, message)| match message {
            Message::Ask(other, _) | Message::Answer(other, ..) | Message::Lost(other) => *other != number,
        });
    }

    /// A worker gets a backlog of items, or has none any more.
    pub(super) fn turn(&mut self, number: usize, items: &[Cost]) {
        let worker = &mut self.workers[number];
        if worker.backlog.is_empty() {
            worker.backlog = items.to_vec();
        } else {
            worker.backlog.clear();
        }
    }

    /// All workers end in order.
    pub(super) fn drain(&mut self) {
        for worker in &mut self.workers {
            let local = worker.local(self.now);
            worker.backlog.clear();
            worker.gate.give_back_all(local);
            worker.drains = true;
        }
        self.run(self.now + Duration::from_secs(5));
        for worker in self.workers.iter().filter(|worker| !worker.dead) {
            assert_eq!(worker.gate.exchange_due(worker.local(self.now)), None);
        }
    }

    /// The most units within any window of a length.
    pub(super) fn most_within(&self, window: Duration) -> u64 {
        self.most_of(window, |left| left.units)
    }

    /// The most calls within any window of a length.
    pub(super) fn most_calls_within(&self, window: Duration) -> u64 {
        self.most_of(window, |_| 1)
    }

    fn most_of(&self, window: Duration, amount: impl Fn(&Left) -> u64) -> u64 {
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for left in &self.left {
            sum += amount(left);
            while left.at.since(self.left[first].at) >= window {
                sum -= amount(&self.left[first]);
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }

    /// Units that left between two moments.
    pub(super) fn units_between(&self, from: Timestamp, until: Timestamp) -> u64 {
        self.left.iter().filter(|left| left.at >= from && left.at < until).map(|left| left.units).sum()
    }
}

/// The calls of a worker that are over by now end, having used so many percent of what they took.
fn end_calls(worker: &mut Worker, uses: u64, now: Timestamp) {
    let local = worker.local(now);
    let mut place = 0;
    while place < worker.running.len() {
        if worker.running[place].0 > now {
            place += 1;
            continue;
        }
        let (_, mut grant) = worker.running.swap_remove(place);
        let cost = grant.cost();
        worker.gate.finish_call(&mut grant, local);
        let used = |units: u64| units * uses / 100;
        let used = TokensUsed { input: used(cost.input_tokens), output: used(cost.output_tokens), cached: 0 };
        worker.gate.settle(&mut grant, used, local);
        worker.gate.recorded(grant, local);
    }
}
