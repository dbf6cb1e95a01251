//! A disk that takes no writes: results wait, the rest is refused, and it goes on by itself.

use rusqlite::Connection;

use super::place::*;
use crate::domain::file::FileSource;
use crate::store::{Flush, StoreError};

/// A write lock held from outside stands for a disk that refuses: both reach the writer as an error of
/// its transaction, at a moment of the test's choosing.
#[tokio::test]
async fn results_wait_for_a_disk_that_refuses_and_nothing_new_is_taken() {
    let place = Place::new(Dialect::Sqlite);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 3).await;
    let batch = create(&store, new_batch(file, 3)).await.key;
    let heads = store.segment_heads(file, None, 0, 9).await.unwrap();

    let outside = Connection::open(place.path()).unwrap();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut bell = store.disk_wakeup().listen();
    store.lease(batch, &heads[0]);
    let waiting = store.record(Flush { results: succeeded(batch, [1, 2]), ..Flush::default() });
    bell.heard().await;
    assert!(store.health().disk_full);
    assert_eq!(store.create_batch(new_batch(file, 3)).await.unwrap_err(), StoreError::Full);
    assert!(matches!(store.begin_expiring(batch).await, Err(StoreError::Unavailable(_))));
    assert!(store.batch_by_key(batch).await.unwrap().is_some(), "reads go on");

    outside.execute_batch("ROLLBACK").unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().inserted, 2);
    while store.health().disk_full {
        bell.heard().await;
    }
    assert_eq!(store.leased_segments(batch).await.unwrap(), [0]);
    create(&store, new_batch(file, 3)).await;
}

/// Without anything to record, the writer finds out by itself that writes go through again.
#[tokio::test]
async fn an_idle_store_notices_that_the_disk_is_back() {
    let place = Place::new(Dialect::Sqlite);
    let store = place.open().await;
    let batch = batch_of(&store, 3).await.key;
    let outside = Connection::open(place.path()).unwrap();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut bell = store.disk_wakeup().listen();
    assert!(matches!(store.begin_expiring(batch).await, Err(StoreError::Unavailable(_))));
    while !store.health().disk_full {
        bell.heard().await;
    }
    outside.execute_batch("ROLLBACK").unwrap();
    while store.health().disk_full {
        bell.heard().await;
    }
    assert!(store.begin_expiring(batch).await.unwrap());
}
