//! Claims and leases: what is to run, and what is to run after a restart.

use rstest::rstest;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::result::ItemStatus;
use crate::domain::worker::WorkerState;
use crate::store::{Claimed, ClaimedSegment, Cursor, Flush};

fn cursor(next_segment: u32) -> Cursor {
    Cursor { model: "m".to_owned(), next_segment }
}

fn numbers(claimed: &Claimed) -> Vec<(u32, bool)> {
    claimed.segments.iter().map(|ClaimedSegment { head, resumed }| (head.no, *resumed)).collect()
}

#[rstest]
#[tokio::test]
async fn a_lease_is_durable_with_the_first_result_after_it(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.start().await;
    let running = batch_of(&store, 35).await;
    let batch = running.key;
    assert_eq!(store.cursors(batch).await.unwrap(), [cursor(0)]);
    assert_eq!(take(&store, &running, 0, 2).await, [0, 1]);
    record(&store, succeeded(batch, [1])).await;
    let store = place.crash_and_reopen(store).await;
    assert_eq!(store.cursors(batch).await.unwrap(), [cursor(2)]);
    assert_eq!(store.leased_segments(batch).await.unwrap(), [0, 1]);
    assert_eq!(store.done_lines(batch, 1, 10).await.unwrap(), [1]);

    // The next boot leases them again, which moves nothing back.
    store.begin_boot(at(0)).await.unwrap();
    assert_eq!(take(&store, &running, 0, 1).await, [0]);
    let results = succeeded(batch, 2..=10);
    flush(&store, Flush { results, finished_segments: vec![(batch, 0)], ..Flush::default() }).await;
    assert_eq!(store.leased_segments(batch).await.unwrap(), [1]);
    assert_eq!(store.cursors(batch).await.unwrap(), [cursor(2)]);
}

#[rstest]
#[tokio::test]
async fn claims_go_through_a_model_in_order_and_say_when_there_is_no_more(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.start().await;
    let running = batch_of(&store, 45).await;
    let first = store.claim(claim(&running, 0, 2)).await.unwrap();
    assert_eq!((numbers(&first), first.more), (vec![(0, false), (1, false)], true));
    let head = store.segment_heads(running.file, None, 0, 1).await.unwrap().remove(0);
    assert_eq!(first.segments[0].head, head);
    let rest = store.claim(claim(&running, 2, 4)).await.unwrap();
    assert_eq!((numbers(&rest), rest.more), (vec![(2, false), (3, false), (4, false)], false));
    assert_eq!(store.claim(claim(&running, 5, 4)).await.unwrap(), Claimed::default());
    assert!(store.may_start() && !store.ownership_lost());
    store.release(running.key).await.unwrap();
    store.rejoin().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn an_ended_batch_leaves_no_work(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.start().await;
    let running = batch_of(&store, 12).await;
    let batch = running.key;
    let heads = store.segment_heads(running.file, Some("m"), 0, 9).await.unwrap();
    assert_eq!(take(&store, &running, 0, 2).await, [0, 1]);
    assert_eq!(store.active_batches().await.unwrap().len(), 1);
    record(&store, (1..=12).map(|line| result(batch, line, ItemStatus::Failed)).collect()).await;
    store.lease(batch, &heads[1]);
    flush(&store, Flush::default()).await;
    assert!(store.active_batches().await.unwrap().is_empty());
    assert!(store.leased_segments(batch).await.unwrap().is_empty());
    assert!(store.cursors(batch).await.unwrap().is_empty());
    assert!(store.orphans().await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_worker_sees_itself(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.start().await;
    let [first] = &store.workers().await.unwrap()[..] else { panic!("not one") };
    assert_eq!((&*first.name, &*first.version, first.epoch), ("host:1", "1", 1));
    assert_eq!(first.state, WorkerState::Alive);
    store.end_boot().await;
    store.close().await;
    let store = place.start().await;
    let [second] = &store.workers().await.unwrap()[..] else { panic!("not one") };
    assert_eq!((second.key, second.epoch, second.state), (first.key, 2, WorkerState::Alive));
}

#[rstest]
#[tokio::test]
async fn nobody_elses_levels_are_told_where_there_is_nobody_else(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.start().await;
    let ledger = vec![crate::store::LedgerEntry { name: "l".to_owned(), state: vec![1] }];
    flush(&store, Flush { ledger, ..Flush::default() }).await;
    let (entries, version) = store.ledger_since(0).await.unwrap();
    assert!(entries.is_empty());
    assert!(store.ledger_since(version).await.unwrap().0.is_empty());
}
