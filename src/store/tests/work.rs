//! Leases: what is to run after a restart.

use rstest::rstest;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::file::FileSource;
use crate::domain::result::ItemStatus;
use crate::store::{Cursor, Flush};

fn cursor(next_segment: u32) -> Cursor {
    Cursor { model: "m".to_owned(), next_segment }
}

#[rstest]
#[tokio::test]
async fn a_lease_is_durable_with_the_first_result_after_it(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 35).await;
    let batch = create(&store, new_batch(file, 35)).await.key;
    let heads = store.segment_heads(file, Some("m"), 0, 9).await.unwrap();
    assert_eq!(store.cursors(batch).await.unwrap(), [cursor(0)]);
    store.lease(batch, &heads[0]);
    store.lease(batch, &heads[1]);
    record(&store, succeeded(batch, [1])).await;
    let store = place.crash_and_reopen(store).await;
    assert_eq!(store.cursors(batch).await.unwrap(), [cursor(2)]);
    assert_eq!(store.leased_segments(batch).await.unwrap(), [0, 1]);
    assert_eq!(store.done_lines(batch, 1, 10).await.unwrap(), [1]);

    // The next boot leases them again, which moves nothing back.
    store.lease(batch, &heads[0]);
    let results = succeeded(batch, 2..=10);
    flush(&store, Flush { results, finished_segments: vec![(batch, 0)], ..Flush::default() }).await;
    assert_eq!(store.leased_segments(batch).await.unwrap(), [1]);
    assert_eq!(store.cursors(batch).await.unwrap(), [cursor(2)]);
}

#[rstest]
#[tokio::test]
async fn an_ended_batch_leaves_no_work(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 12).await;
    let batch = create(&store, new_batch(file, 12)).await.key;
    let heads = store.segment_heads(file, Some("m"), 0, 9).await.unwrap();
    store.lease(batch, &heads[0]);
    store.lease(batch, &heads[1]);
    assert_eq!(store.active_batches().await.unwrap().len(), 1);
    record(&store, (1..=12).map(|line| result(batch, line, ItemStatus::Failed)).collect()).await;
    store.lease(batch, &heads[1]);
    flush(&store, Flush::default()).await;
    assert!(store.active_batches().await.unwrap().is_empty());
    assert!(store.leased_segments(batch).await.unwrap().is_empty());
    assert!(store.cursors(batch).await.unwrap().is_empty());
}
