//! Boots: how this one ended is what the next one hears.

use rstest::rstest;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::store::{BootReport, Store};

async fn boot(store: &Store) -> BootReport {
    store.begin_boot(at(0)).await.unwrap()
}

#[rstest]
#[tokio::test]
async fn the_first_boot_and_one_after_a_clean_end_are_clean(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let first = boot(&store).await;
    assert_eq!(first, BootReport { boot: 1, clean: true, recorded_before: true, alone: None });
    store.end_boot().await;
    store.close().await;
    let second = boot(&place.open().await).await;
    assert_eq!((second.boot, second.clean, second.alone), (2, true, None));
}

#[rstest]
#[tokio::test]
async fn a_boot_that_recorded_makes_the_next_one_careless(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 3).await.key;
    boot(&store).await;
    store.name_alone(batch, 1).await.unwrap();
    record(&store, succeeded(batch, [1])).await;
    let store = place.crash_and_reopen(store).await;
    let next = boot(&store).await;
    assert_eq!((next.clean, next.recorded_before, next.alone), (false, true, None));
}

#[rstest]
#[tokio::test]
async fn deaths_of_one_item_in_a_row_add_up(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let mut store = place.open().await;
    let batch = batch_of(&store, 3).await.key;
    boot(&store).await;
    store.name_alone(batch, 2).await.unwrap();
    for deaths in 1..=2 {
        store = place.crash_and_reopen(store).await;
        let next = boot(&store).await;
        assert_eq!((next.recorded_before, next.alone), (false, Some((batch, 2, deaths))));
        store.name_alone(batch, 2).await.unwrap();
    }
    // A boot that died before it named anyone says nothing about the item.
    store = place.crash_and_reopen(store).await;
    assert_eq!(boot(&store).await.alone, Some((batch, 2, 3)));
    store = place.crash_and_reopen(store).await;
    assert_eq!(boot(&store).await.alone, Some((batch, 2, 3)));
    // Another item begins at one.
    store.name_alone(batch, 3).await.unwrap();
    store = place.crash_and_reopen(store).await;
    assert_eq!(boot(&store).await.alone, Some((batch, 3, 1)));
}

#[rstest]
#[tokio::test]
async fn a_dropped_result_counts_as_nothing_recorded(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 3).await.key;
    record(&store, succeeded(batch, [1])).await;
    boot(&store).await;
    record(&store, succeeded(batch, [1])).await;
    let store = place.crash_and_reopen(store).await;
    assert!(!boot(&store).await.recorded_before);
}
