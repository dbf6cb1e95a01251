//! The ledger's function, held against its laws as they are written down in the domain.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::place::*;
use crate::config::Secret;
use crate::domain::exchange::{
    Answer, Ask, BudgetAsk, BudgetName, HORIZON, PlacesAsk, Settled, Slots, Spending,
};
use crate::domain::ids::AppKey;
use crate::domain::limits::Dimension;
use crate::domain::shared_ledger::SharedLedger;
use crate::domain::shared_ledger::script::{Habits, Script, Step, Subject, steps};
use crate::domain::worker::WorkerKey;
use crate::store::postgres::columns::Columns;
use crate::store::postgres::told::{Told, answer};
use crate::store::{CancelOutcome, Database, Result, Store, StoreError, StoreLocation, postgres};

const START: i64 = 1_700_000_000_000_000;
const SECOND: i64 = 1_000_000;
const WORKERS: usize = 4;

/// Several workers in their first epoch.
async fn with_workers(place: &Place) {
    let sql = "INSERT INTO worker (name, epoch, version, started_at, beat_at) \
               SELECT 'w' || i, 1, '1', 0, 0 FROM generate_series(1, 4) AS i";
    place.client().await.batch_execute(sql).await.unwrap();
}

/// One exchange at a moment.
async fn exchange(client: &Client, worker: i64, ask: &Ask, moment: i64) -> Answer {
    let told = Told::of((WorkerKey(worker), 1), ask);
    let mut arguments = told.arguments().to_vec();
    arguments.push((&moment, Type::INT8));
    let sql = "SELECT $24, answer.*, shares.* FROM ledger_exchange($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
               $11, $12, $13, $14, $15, $16, $17, $18, $24) AS answer \
               CROSS JOIN LATERAL ledger_shares(answer.now, $19, $20, $21, $22, $23) AS shares";
    let rows = client.query_typed(sql, &arguments).await.unwrap();
    answer(ask, &mut Columns::of(&rows[0])).unwrap()
}

fn name(level: &str, dimension: Dimension, period_us: i64) -> BudgetName {
    BudgetName { level: Arc::from(level), dimension, period_us }
}

fn paced(period: i64) -> Spending {
    Spending::Paced { stretched_us: period.unsigned_abs() + 325_000 }
}

/// Budgets of every kind, with limits from a handful to absurd ones.
fn subjects() -> impl Strategy<Value = Vec<Subject>> {
    let limit = prop_oneof![1_u64..50, 50_u64..5_000, 5_000_u64..3_000_000, 3_000_000_u64..9_000_000_000];
    let limits = proptest::collection::vec(limit, 6);
    limits.prop_map(|limits| {
        let day = 86_400 * SECOND;
        let kinds = [
            ("app/1", Dimension::Requests, 10 * SECOND, paced(10 * SECOND)),
            ("app/1", Dimension::Requests, day, Spending::Daily { starts: 3_600 }),
            ("lane/a/b", Dimension::Tokens, 2 * SECOND, paced(2 * SECOND)),
            ("lane/a/b", Dimension::OutputTokens, 60 * SECOND, paced(60 * SECOND)),
            ("provider/a", Dimension::Requests, 200_000, paced(200_000)),
            ("provider/a", Dimension::Tokens, 130 * SECOND, Spending::Rolling),
        ];
        let subject =
            |((level, dimension, period, spending), limit): ((&str, Dimension, i64, Spending), u64)| {
                // Each request is a call of its own.
                let limit = if dimension == Dimension::Requests { limit % 3_000 + 1 } else { limit };
                let (name, heaviest) = (name(level, dimension, period), (limit / 4).max(1));
                Subject { name, limit, spending, heaviest }
            };
        kinds.into_iter().zip(limits).map(subject).collect()
    })
}

/// Runs a script on both; steps back in time now and then.
async fn agree(client: &Client, subjects: Vec<Subject>, steps: &[Step]) {
    let sql =
        "TRUNCATE ledger_budget, ledger_slot, ledger_places, ledger_share; UPDATE worker SET exchange = 0";
    client.batch_execute(sql).await.unwrap();
    let mut script = Script::new(subjects, WORKERS, Habits { grows: true, changes: true });
    let (mut ledger, mut now) = (SharedLedger::default(), START);
    for (turn, step) in steps.iter().enumerate() {
        now += step.pause;
        match step.chance % 61 {
            0 => now -= 40 * SECOND,
            1 => now += 20 * SECOND,
            2 => now += 80 * 3_600 * SECOND,
            3 => now -= 26 * 3_600 * SECOND,
            _ => {}
        }
        let worker = step.worker as i64 + 1;
        let ask = script.ask(*step);
        let expected = ledger.exchange(WorkerKey(worker), &ask, now);
        let found = exchange(client, worker, &ask, now).await;
        if found != expected {
            panic!("turn {turn}\nfound {found:?}\nexpected {expected:?}\n{ask:?}")
        }
        if step.chance % 7 == 0 {
            // It did not arrive, and is sent again.
            let expected = ledger.exchange(WorkerKey(worker), &ask, now + 1_000);
            assert_eq!(exchange(client, worker, &ask, now + 1_000).await, expected, "turn {turn}, again");
        }
        script.take(*step, &ask, &expected);
    }
}

#[tokio::test]
async fn the_function_keeps_the_laws() {
    let place = Place::new(Dialect::Postgres);
    place.open().await.close().await;
    with_workers(&place).await;
    let client = place.client().await;
    let cases = std::env::var("PROPTEST_CASES").map_or(12, |cases| cases.parse().unwrap());
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..cases {
        let script = (subjects(), steps(WORKERS, 120)).new_tree(&mut runner).unwrap();
        let (subjects, steps) = script.current();
        agree(&client, subjects, &steps).await;
    }
}

fn ask(number: u64, budgets: Vec<BudgetAsk>) -> Ask {
    Ask { number, budgets, ..Ask::default() }
}

fn budget(name: BudgetName, limit: u64, spending: Spending, need: u64) -> BudgetAsk {
    BudgetAsk { name, limit, spending, need, want: need, unused: Vec::new(), settled: Vec::new() }
}

/// An exchange of any worker in its first epoch.
async fn exchange_of(store: &Store, worker: WorkerKey, ask: &Ask) -> Result<Answer> {
    let Database::Postgres(database) = &store.database else { panic!("not shared") };
    postgres::exchange::exchange_of(database, (worker, 1), ask).await
}

async fn key_of(place: &Place, name: &str) -> WorkerKey {
    let sql = "SELECT key FROM worker WHERE name = $1";
    WorkerKey(place.client().await.query_one(sql, &[&name]).await.unwrap().get(0))
}

#[tokio::test]
async fn an_exchange_is_one_statement_by_the_databases_clock() {
    let place = Place::new(Dialect::Postgres);
    let store = place.open().await;
    with_workers(&place).await;
    let me = key_of(&place, "w1").await;
    let requests = budget(name("lane/a", Dimension::Requests, 60 * SECOND), 6_000, paced(60 * SECOND), 3);
    let places = vec![PlacesAsk { level: Arc::from("lane/a"), limit: 8, used: 0, want: 9 }];
    let asked = Ask { number: 1, budgets: vec![requests.clone()], places, ..Ask::default() };
    let answer = exchange_of(&store, me, &asked).await.unwrap();
    assert_eq!(answer.places, [8]);
    assert_eq!(answer.budgets[0].slots, [Slots { at_us: answer.now_us, units: 3 }]);
    let unused = BudgetAsk { need: 0, want: 0, unused: answer.budgets[0].slots.clone(), ..requests };
    let answer = exchange_of(&store, me, &ask(2, vec![unused.clone()])).await.unwrap();
    assert_eq!(answer.budgets[0].used, 0);
    store.close().await;
    assert_eq!(exchange_of(&store, me, &asked).await, Err(StoreError::Closed));
}

#[tokio::test]
async fn a_worker_whose_work_was_taken_over_gets_nothing() {
    let place = Place::new(Dialect::Postgres);
    let store = place.open().await;
    with_workers(&place).await;
    let me = key_of(&place, "w2").await;
    let requests = budget(name("lane/a", Dimension::Requests, 60 * SECOND), 6_000, paced(60 * SECOND), 3);
    let unused = vec![Slots { at_us: START, units: 3 }];
    let asked = ask(1, vec![BudgetAsk { unused, ..requests }]);
    assert!(exchange_of(&store, me, &asked).await.is_ok());
    place.execute("UPDATE worker SET epoch = 2").await;
    assert_eq!(exchange_of(&store, me, &asked).await, Err(StoreError::Fenced));
    assert_eq!(place.rows("ledger_budget").await, 1);
    store.close().await;
}

#[tokio::test]
async fn places_of_the_dead_and_the_ended_are_free() {
    let place = Place::new(Dialect::Postgres);
    let store = place.open().await;
    with_workers(&place).await;
    let [one, two, three] =
        [key_of(&place, "w1").await, key_of(&place, "w2").await, key_of(&place, "w3").await];
    let places = |used, want| Ask {
        number: 1,
        places: vec![PlacesAsk { level: Arc::from("lane/a"), limit: 9, used, want }],
        ..Ask::default()
    };
    let held =
        async |worker, used, want| exchange_of(&store, worker, &places(used, want)).await.unwrap().places[0];
    assert_eq!(held(one, 0, 20).await, 9);
    assert_eq!(held(two, 0, 20).await, 0, "not before the others hold less");
    assert_eq!(held(one, 4, 20).await, 4);
    assert_eq!(held(two, 0, 20).await, 5);
    assert_eq!(held(three, 0, 1).await, 0);
    place.execute("UPDATE worker SET epoch = 2 WHERE name = 'w1'").await;
    assert_eq!(held(three, 0, 1).await, 1);
    assert_eq!(held(two, 5, 20).await, 8);
    place.execute("UPDATE worker SET ended_at = 1 WHERE name = 'w2'").await;
    assert_eq!(held(three, 0, 20).await, 9);
    assert_eq!(held(three, 0, 0).await, 0);
    assert_eq!(place.rows("ledger_places").await, 1, "the level's own");
    store.close().await;
}

#[tokio::test]
async fn a_lock_that_somebody_holds_is_not_waited_for_long() {
    let place = Place::new(Dialect::Postgres);
    let store = place.open().await;
    with_workers(&place).await;
    let me = key_of(&place, "w1").await;
    let tokens = budget(name("lane/a", Dimension::Tokens, 60 * SECOND), 6_000, paced(60 * SECOND), 3);
    let settled = vec![Settled { at_us: START, change: 500 }];
    let asked = ask(1, vec![BudgetAsk { settled, ..tokens }]);
    exchange_of(&store, me, &ask(1, Vec::new())).await.unwrap();
    let other = place.client().await;
    other.batch_execute("BEGIN; LOCK ledger_budget").await.unwrap();
    let late = exchange_of(&store, me, &asked).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    other.batch_execute("ROLLBACK").await.unwrap();
    let used = exchange_of(&store, me, &asked).await.unwrap().budgets[0].used;
    let again = exchange_of(&store, me, &asked).await.unwrap().budgets[0].used;
    assert!(again <= used, "the debt was charged once: {used}, {again}");
    store.close().await;
}

#[tokio::test]
async fn the_isolation_that_is_usual_for_the_user_does_not_matter() {
    let mut place = Place::new(Dialect::Postgres);
    if let StoreLocation::Postgres { url, .. } = &mut place.settings.location {
        *url = Secret::new(format!(
            "{}?options=-c%20default_transaction_isolation%3Dserializable",
            url.expose()
        ));
    }
    let store = place.start().await;
    let batch = batch_of(&store, 3).await;
    let (holder, looking) = (place.client().await, place.client().await);
    let held: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    // Somebody waits for its lock, and goes on with the row as it is then.
    let let_go = async |waits: &str| {
        let sql = "SELECT 1 FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)) AND query LIKE $2";
        let waits = format!("%{waits}%");
        while looking.query(sql, &[&held, &waits]).await.unwrap().is_empty() {}
        holder.batch_execute("COMMIT").await.unwrap();
    };
    holder.batch_execute("BEGIN; UPDATE worker SET version = '2'").await.unwrap();
    let settled = vec![Settled { at_us: START, change: 1 }];
    let tokens = budget(name("lane/a", Dimension::Tokens, SECOND), 10, paced(SECOND), 1);
    let asked = ask(1, vec![BudgetAsk { settled, ..tokens }]);
    let (answer, ()) = tokio::join!(store.exchange(&asked), let_go("ledger_exchange"));
    assert_eq!(answer.unwrap().budgets.len(), 1);
    holder.batch_execute("BEGIN; UPDATE batch SET status = status").await.unwrap();
    let (cancelled, ()) = tokio::join!(store.cancel_batch(AppKey::DEFAULT, &batch.id), let_go("batch"));
    assert!(matches!(cancelled, Ok(CancelOutcome::Cancelling(_))), "{cancelled:?}");
    store.close().await;
}

#[tokio::test]
async fn what_one_process_saved_is_gone_on_with() {
    let place = Place::new(Dialect::Postgres);
    place.open().await.close().await;
    with_workers(&place).await;
    let client = place.client().await;
    let day = 86_400 * SECOND;
    let state = format!(
        r#"{{"kind":"lane","name":"a","rate_factor":9950,"closed_until_us":null,"budgets":[
            {{"dimension":"tokens","period_us":{day},"arrival_us":null,"parts":[[{},70],[{},5]]}},
            {{"dimension":"requests","period_us":{day},"arrival_us":null,"parts":[[{},3]]}}]}}"#,
        START - 3_600 * SECOND,
        START - 2 * day,
        START - START % day,
    );
    let insert = "INSERT INTO ledger (name, state) VALUES ('lane/a', $1), ('lane/b', 'what')";
    client.execute(insert, &[&state.as_bytes()]).await.unwrap();
    let budgets = vec![
        budget(name("lane/a", Dimension::Requests, day), 10, Spending::Daily { starts: 0 }, 7),
        budget(name("lane/a", Dimension::Tokens, day), 100, Spending::Rolling, 31),
        budget(name("lane/b", Dimension::Tokens, day), 100, Spending::Rolling, 31),
    ];
    let answer = exchange(&client, 1, &ask(1, budgets), START).await;
    let used: Vec<_> = answer.budgets.iter().map(|budget| budget.used).collect();
    assert_eq!(used, [10, 70, 31]);
    assert!(answer.budgets[1].not_before_us.unwrap() > START + day - 2 * 3_600 * SECOND - HORIZON);
}

#[tokio::test]
async fn a_database_file_is_not_shared() {
    let place = Place::new(Dialect::Sqlite);
    let store = place.open().await;
    let answer = store.exchange(&ask(1, Vec::new())).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}
