//! Calls in flight that workers share.

use super::*;

fn in_flight(world: &mut World, number: usize) -> u32 {
    let worker = &mut world.workers[number];
    worker.gate.view(worker.lane, START).unwrap().in_flight
}

#[test]
fn workers_share_them_evenly_and_one_alone_has_them_all() {
    let mut world = World::new(&slots(40), Accounting::Admission, 4, 3);
    world.runs = 700;
    batches(&mut world, 1, &[CALL]);
    world.run(START + Duration::from_secs(10));
    assert_eq!(in_flight(&mut world, 0), 40);
    batches(&mut world, 4, &[CALL]);
    world.run(START + Duration::from_secs(30));
    for number in 0..4 {
        let in_flight = in_flight(&mut world, number);
        assert!((8..=12).contains(&in_flight), "{in_flight}");
    }
    assert_eq!(world.most_in_flight, 40);
    // Whoever has nothing to do gives its part to the others.
    for worker in &mut world.workers[1..] {
        worker.backlog.clear();
    }
    world.run(START + Duration::from_secs(40));
    let in_flight = in_flight(&mut world, 0);
    assert!(in_flight >= 36, "{in_flight}");
}

#[test]
fn an_idle_worker_holds_none_and_asks_nothing() {
    let mut world = World::new(&slots(40), Accounting::Admission, 2, 3);
    world.runs = 700;
    batches(&mut world, 1, &[CALL]);
    world.run(START + Duration::from_secs(5));
    world.workers[0].backlog.clear();
    world.run(START + Duration::from_secs(10));
    let exchanges = world.workers[0].exchanges;
    world.run(START + MINUTE * 5);
    assert_eq!(world.workers[0].exchanges, exchanges);
}

#[test]
fn all_levels_share_them_but_a_batch_that_runs_at_one_worker() {
    use LevelKind::{App, Batch, Lane, Provider, Service};
    for kind in [Service, Provider, Lane, App, Batch] {
        let options = GateOptions { shared: true, jitter: millis(300), ..GateOptions::default() };
        let mut gate = Gate::new(options, START);
        let level = gate.add_level(level(kind, "l", slots(4)), START);
        let path = gate.add_path(&[level]).unwrap();
        gate.enqueue(head(path, 0), START).unwrap();
        let leaves = kind == Batch;
        assert_eq!(gate.poll(START).is_some(), leaves, "{kind:?}");
        assert_eq!(gate.exchange_due(START).is_some(), !leaves, "{kind:?}");
    }
}

#[test]
fn a_level_whose_places_are_its_own_may_share_them_later_and_not_any_more() {
    let options = GateOptions { shared: true, jitter: millis(300), ..GateOptions::default() };
    let mut gate = Gate::new(options, START);
    let spec = LevelSpec { own_places: true, ..level(LevelKind::Service, "s", slots(2)) };
    let service = gate.add_level(spec, START);
    let path = gate.add_path(&[service]).unwrap();
    gate.enqueue(head(path, 0), START).unwrap();
    let _first = gate.poll(START).unwrap();
    assert_eq!(gate.exchange_due(START), None);
    gate.share_places(service, true, START);
    gate.enqueue(head(path, 1), START).unwrap();
    assert!(gate.poll(START).is_none(), "there is a place here, but it may be another worker's");
    let ask = gate.ask(START);
    assert_eq!(ask.places[0].used, 1, "the call in flight counts");
    gate.exchange_failed(START);
    gate.share_places(service, false, START);
    assert!(gate.poll(START).is_some());
}

#[test]
fn places_pledged_in_an_exchange_that_failed_are_had_again() {
    let mut world = World::new(&slots(8), Accounting::Admission, 1, 3);
    world.runs = 20;
    batches(&mut world, 1, &[CALL]);
    world.run(START + Duration::from_secs(2));
    assert_eq!(in_flight(&mut world, 0), 8);
    // All calls end, and no exchange comes through for a while.
    world.workers[0].backlog.clear();
    world.lost = 2_000;
    world.run(START + Duration::from_secs(10));
    assert_eq!(in_flight(&mut world, 0), 0);
    let before = world.left.len();
    batches(&mut world, 1, &[CALL]);
    world.lost = 0;
    world.run(START + Duration::from_secs(12));
    assert!(world.left.len() > before + 100, "{} more", world.left.len() - before);
}

#[test]
fn where_most_of_them_are_needed_several_workers_use_the_rate_as_one_does() {
    let limits = Limits { max_concurrent: Some(128), ..per(6_000, MINUTE) };
    let end = START + MINUTE * 4;
    // 90, 100 and 109 of them are needed for the rate.
    for (runs, least) in [(900, 0.99), (1_000, 0.99), (1_100, 0.98)] {
        for active in [1, 2, 4] {
            let mut world = World::new(&limits, Accounting::Admission, 4, 7);
            (world.runs, world.spread) = (runs, 30);
            batches(&mut world, active, &[CALL]);
            world.run(end);
            let used = world.units_between(START + MINUTE, end) as f64 / 18_000.0;
            println!("{used:.4} used by calls of {runs} ms on {active}");
            assert!(used >= least, "{runs} ms on {active}: {used}");
            assert!(world.most_in_flight <= 128);
        }
    }
}

#[test]
fn a_worker_whose_places_are_limited_no_more_ends_all_the_same() {
    let limits = Limits { max_concurrent: Some(40), ..per(6_000, MINUTE) };
    let mut world = World::new(&limits, Accounting::Admission, 2, 3);
    world.runs = 700;
    batches(&mut world, 2, &[CALL]);
    world.run(START + Duration::from_secs(10));
    for worker in &mut world.workers {
        let now = worker.local(world.now);
        worker.gate.set_limits(worker.lane, &per(6_000, MINUTE), now);
    }
    // It says so if an exchange is due for ever.
    world.drain();
}
