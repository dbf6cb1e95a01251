//! Apps at several workers: one share over all of them.

use super::*;

/// A worker, and how many calls of each app left; an app without a path is not there.
struct Office {
    gate: Gate,
    paths: Vec<Option<PathId>>,
    left: Vec<u64>,
}

impl Office {
    /// Apps of such weights at a lane of 6,000 a minute; 0: not at this worker.
    fn new(weights: &[u32]) -> Self {
        let options =
            GateOptions { shared: true, ledger: true, jitter: millis(300), ..GateOptions::default() };
        let mut gate = Gate::new(options, START);
        let lane = gate.add_level(level(LevelKind::Lane, "p/m", per(6_000, MINUTE)), START);
        let mut path = |(number, weight): (usize, &u32)| {
            let name = format!("{number}");
            let spec = LevelSpec { weight: *weight, ..level(LevelKind::App, &name, Limits::default()) };
            let app = gate.add_level(spec, START);
            (*weight > 0).then(|| gate.add_path(&[lane, app]).unwrap())
        };
        let paths: Vec<_> = weights.iter().enumerate().map(&mut path).collect();
        for (tag, path) in (0..).zip(&paths) {
            if let Some(path) = path {
                gate.enqueue(Head { tag, ..head(*path, 0) }, START).unwrap();
            }
        }
        Self { gate, left: vec![0; paths.len()], paths }
    }

    /// Sends what may leave; whoever left comes back at once.
    fn work(&mut self, now: Timestamp) {
        while let Some(admitted) = self.gate.poll(now) {
            let app = admitted.tag as usize;
            self.left[app] += 1;
            self.gate.recorded(admitted.grant, now);
            let path = self.paths[app].unwrap();
            self.gate.enqueue(Head { tag: admitted.tag, ..head(path, 0) }, now).unwrap();
        }
    }
}

/// Runs offices for a while; an exchange is answered at most 30 ms later, but for one of `lost`.
fn run(offices: &mut [Office], from: Timestamp, until: Timestamp, lost: u64, ledger: &mut SharedLedger) {
    let mut answers: Vec<Option<(Timestamp, Answer)>> = offices.iter().map(|_| None).collect();
    let (mut now, mut dice) = (from, Dice(7));
    while now < until {
        for (number, office) in offices.iter_mut().enumerate() {
            if dice.below(3) == 0 {
                // It has its turn a little later.
                continue;
            }
            if let Some((_, answer)) = answers[number].take_if(|(at, _)| *at <= now) {
                office.gate.exchanged(&answer, 0, now);
            }
            office.work(now);
            if office.gate.exchange_due(now).is_some_and(|due| due <= now) {
                let ask = office.gate.ask(now);
                let answer = ledger.exchange(WorkerKey(number as i64 + 1), &ask, now.micros());
                if lost > 0 && dice.below(lost) == 0 {
                    office.gate.exchange_failed(now);
                } else {
                    answers[number] = Some((now + millis(dice.below(31)), answer));
                }
            }
        }
        now = now + millis(2);
    }
}

fn of(offices: &[Office], app: usize) -> f64 {
    offices.iter().map(|office| office.left[app]).sum::<u64>() as f64
}

#[test]
fn an_app_at_some_workers_gets_its_share_of_all() {
    for (lost, within) in [(0, 0.03), (10, 0.06)] {
        // The first app waits at every worker, the second at two of them: it would have a third if each went by itself.
        let mut offices = [Office::new(&[1, 1]), Office::new(&[1, 1]), Office::new(&[1, 0])];
        run(&mut offices, START, START + MINUTE * 2, lost, &mut SharedLedger::default());
        let share = of(&offices, 1) / (of(&offices, 0) + of(&offices, 1));
        println!("{share:.4} for one of two, {lost} lost");
        assert!((share - 0.5).abs() <= within, "{share}");
    }
}

#[test]
fn weights_hold_over_all_workers() {
    let mut offices = [Office::new(&[1, 0, 2]), Office::new(&[1, 1, 0]), Office::new(&[0, 1, 2])];
    run(&mut offices, START, START + MINUTE * 2, 0, &mut SharedLedger::default());
    let all = (0..3).map(|app| of(&offices, app)).sum::<f64>();
    for (app, share) in [(0, 0.25), (1, 0.25), (2, 0.5)] {
        let found = of(&offices, app) / all;
        println!("{found:.4} of {share}");
        assert!((found - share).abs() <= 0.02, "{app}: {found}");
    }
}

#[test]
fn who_was_alone_owes_nothing_to_one_that_comes() {
    let mut ledger = SharedLedger::default();
    let mut offices = [Office::new(&[1, 0]), Office::new(&[1, 0]), Office::new(&[1, 0])];
    run(&mut offices, START, START + MINUTE * 5, 0, &mut ledger);
    let before = of(&offices, 0);
    let comes = START + MINUTE * 5;
    for office in &mut offices[..2] {
        let lane = office.gate.levels.indices().next().unwrap();
        let lane = LevelId(office.gate.levels.key(lane));
        let app = office.gate.add_level(level(LevelKind::App, "1", Limits::default()), comes);
        let path = office.gate.add_path(&[lane, app]).unwrap();
        office.paths[1] = Some(path);
        office.gate.enqueue(Head { tag: 1, ..head(path, 0) }, comes).unwrap();
    }
    run(&mut offices, comes, comes + MINUTE, 0, &mut ledger);
    let (old, new) = (of(&offices, 0) - before, of(&offices, 1));
    println!("{old} and {new}");
    assert!((new / (old + new) - 0.5).abs() <= 0.03, "{old} and {new}");
}

#[test]
fn who_heard_nothing_for_long_joins_anew() {
    let mut ledger = SharedLedger::default();
    let mut offices = [Office::new(&[1, 1])];
    run(&mut offices, START, START + MINUTE, 0, &mut ledger);
    let joins = |ask: &Ask| {
        let time = ask.shares.iter().find(|share| &*share.app == crate::domain::exchange::TURN).unwrap();
        time.taken == 1
    };
    let gate = &mut offices[0].gate;
    // Answers that are lost one after the other, however often it is asked.
    let (mut now, mut asks) = (START + MINUTE, Vec::new());
    while asks.len() < 12 {
        now = now + millis(1_000);
        if gate.exchange_due(now).is_some() {
            asks.push(joins(&gate.ask(now)));
            gate.exchange_failed(now);
        }
    }
    assert!(!asks[0] && asks[11], "{asks:?}");
}
