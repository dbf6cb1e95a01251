//! Opening and closing: one process at a time, known schemas, nothing lost at a clean end.

use rstest::rstest;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::store::{Flush, StoreError};

#[rstest]
#[tokio::test]
async fn one_process_at_a_time_has_a_file_and_several_a_schema(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    match place.try_open().await {
        Err(StoreError::InUse(path)) => assert_eq!(path, place.root().join("data")),
        Ok(beside) => assert_eq!(beside.is_shared(), dialect == Postgres),
        Err(other) => panic!("{other:?}"),
    }
    store.close().await;
    drop(place.open().await);
    drop(place.open().await);
}

#[rstest]
#[tokio::test]
async fn a_newer_schema_is_refused_unless_it_says_it_is_compatible(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    place.open().await.close().await;
    place.execute("UPDATE schema SET version = 99, min_compatible = 98").await;
    assert_eq!(place.try_open().await.unwrap_err(), StoreError::NewerSchema { found: 98, supported: 7 });
    place.execute("UPDATE schema SET version = 99, min_compatible = 3").await;
    drop(place.open().await);
}

#[rstest]
#[tokio::test]
async fn a_clean_end_commits_what_is_queued(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 2).await.key;
    let answer = store.record(Flush { results: succeeded(batch, [1]), ..Flush::default() });
    store.close().await;
    assert_eq!(answer.await.unwrap().unwrap().inserted, 1);

    assert_eq!(store.batch_by_key(batch).await.unwrap_err(), StoreError::Closed);
    assert_eq!(store.begin_expiring(batch).await.unwrap_err(), StoreError::Closed);
    let refused = store.record(Flush { results: succeeded(batch, [2]), ..Flush::default() });
    assert_eq!(refused.await.unwrap(), Err(StoreError::Closed));
}
