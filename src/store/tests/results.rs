//! Results as they are read: both orders, filters, pages, the frontier.

use rstest::rstest;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::ids::BatchKey;
use crate::domain::result::{ItemStatus, NewResult, Payload};
use crate::store::{Flush, ResultFilter, ResultOrder, ResultQuery, Store};

fn mixed(batch: BatchKey) -> Vec<NewResult> {
    use ItemStatus::{Expired, Failed, Succeeded};
    let ended = [(5, Succeeded), (2, Failed), (9, Succeeded), (1, Expired), (4, Succeeded), (7, Failed)];
    ended.into_iter().map(|(line, status)| result(batch, line, status)).collect()
}

async fn lines(
    store: &Store,
    batch: BatchKey,
    (order, filter): (ResultOrder, ResultFilter),
    (after, limit): (u64, usize),
) -> Vec<u32> {
    let query = ResultQuery { batch, order, after, limit, filter, max_bytes: usize::MAX };
    store.results(query).await.unwrap().iter().map(|stored| stored.result.line).collect()
}

#[rstest]
#[tokio::test]
async fn pages_come_in_either_order_and_filtered(#[values(Sqlite, Postgres)] dialect: Dialect) {
    use ResultFilter::{All, NotSucceeded, Succeeded};
    use ResultOrder::{Completion, Input};
    let place = Place::new(dialect);
    let store = place.open().await;
    let (other, batch) = (batch_of(&store, 20).await.key, batch_of(&store, 20).await.key);
    let after = batch_of(&store, 20).await.key;
    for neighbour in [other, after] {
        record(&store, mixed(neighbour)).await;
    }
    record(&store, mixed(batch)).await;
    let read = async |order, filter, from| lines(&store, batch, (order, filter), from).await;
    assert_eq!(read(Completion, All, (0, 9)).await, [5, 2, 9, 1, 4, 7]);
    assert_eq!(read(Completion, All, (2, 3)).await, [9, 1, 4]);
    assert_eq!(read(Completion, Succeeded, (1, 9)).await, [9, 4]);
    assert_eq!(read(Completion, NotSucceeded, (0, 9)).await, [2, 1, 7]);
    assert_eq!(read(Completion, NotSucceeded, (2, 1)).await, [1]);
    assert_eq!(read(Input, All, (0, 9)).await, [1, 2, 4, 5, 7, 9]);
    assert_eq!(read(Input, All, (2, 2)).await, [4, 5]);
    assert_eq!(read(Input, Succeeded, (4, 9)).await, [5, 9]);
    assert_eq!(read(Input, NotSucceeded, (1, 9)).await, [2, 7]);
    assert_eq!(read(Completion, All, (u64::MAX, 9)).await, [0; 0]);
    assert_eq!(store.done_lines(batch, 2, 7).await.unwrap(), [2, 4, 5, 7]);
}

#[rstest]
#[tokio::test]
async fn a_result_comes_back_as_it_was_recorded(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 20).await.key;
    let mut recorded = mixed(batch);
    // Long enough to be compressed; and a line whose id could not be read.
    let long = format!("{{\"text\":\"{}\"}}", "lorem ipsum ".repeat(2_000));
    recorded[0].payload = Payload::Response { status: 201, request_id: String::new(), body: long.into() };
    recorded[1].custom_id = None;
    record(&store, recorded.clone()).await;
    let store = place.crash_and_reopen(store).await;
    for (position, recorded) in (1..).zip(recorded) {
        let read = store.result(batch, recorded.line).await.unwrap().unwrap();
        assert_eq!((read.position, read.result), (position, recorded));
    }
    assert_eq!(store.result(batch, 3).await.unwrap(), None);
}

#[rstest]
#[tokio::test]
async fn a_page_ends_at_its_bytes_but_never_empty(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 3).await.key;
    record(&store, succeeded(batch, 1..=3)).await;
    let page = async |max_bytes| {
        let (order, filter) = (ResultOrder::Completion, ResultFilter::All);
        let query = ResultQuery { batch, order, after: 0, limit: 9, filter, max_bytes };
        store.results(query).await.unwrap().len()
    };
    assert_eq!((page(0).await, page(300).await, page(100_000).await), (1, 1, 3));
}

#[rstest]
#[tokio::test]
async fn one_read_is_at_most_500_rows(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 600).await.key;
    record(&store, succeeded(batch, 1..=600)).await;
    let first = lines(&store, batch, (ResultOrder::Completion, ResultFilter::All), (0, 10_000)).await;
    assert_eq!(first.len(), 500);
}

#[rstest]
#[tokio::test]
async fn the_frontier_is_the_first_item_without_a_result(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.start().await;
    let running = batch_of(&store, 25).await;
    let batch = running.key;
    let frontier = async || store.input_frontier(batch).await.unwrap();
    assert_eq!(frontier().await, 1);
    assert_eq!(take(&store, &running, 0, 2).await, [0, 1]);
    record(&store, succeeded(batch, [1, 2, 4, 11])).await;
    assert_eq!(frontier().await, 3);
    record(&store, succeeded(batch, [3, 5, 6, 7, 8, 9, 10])).await;
    assert_eq!(frontier().await, 12);
    let finished_segments = vec![(batch, 0), (batch, 1)];
    let results = succeeded(batch, 12..=20);
    flush(&store, Flush { results, finished_segments, ..Flush::default() }).await;
    assert_eq!(frontier().await, 21);
    assert_eq!(take(&store, &running, 2, 2).await, [2]);
    record(&store, succeeded(batch, 21..=25)).await;
    assert_eq!(frontier().await, u32::MAX);
}
