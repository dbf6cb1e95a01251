//! Results: once each, dense, counted, and only while their batch takes them.

use rstest::rstest;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::batch::BatchStatus;
use crate::domain::file::FileSource;
use crate::domain::ids::{AppKey, BatchKey};
use crate::domain::output_line::file_line_bytes;
use crate::domain::result::{ItemStatus, RetryRecord};
use crate::store::{Flush, LedgerEntry, Recorded, ResultFilter, ResultOrder, ResultQuery, Store};

async fn all(store: &Store, batch: BatchKey) -> Vec<(u64, u32)> {
    let query = ResultQuery {
        batch,
        order: ResultOrder::Completion,
        after: 0,
        limit: 500,
        filter: ResultFilter::All,
        max_bytes: usize::MAX,
    };
    let page = store.results(query).await.unwrap();
    page.iter().map(|stored| (stored.position, stored.result.line)).collect()
}

#[rstest]
#[tokio::test]
async fn a_line_is_recorded_once_and_positions_follow_the_order_of_recording(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 5).await.key;
    let first = record(&store, succeeded(batch, [4, 2, 4])).await;
    assert_eq!(first, Recorded { inserted: 2, dropped: 1, ended: Vec::new() });
    let second = record(&store, succeeded(batch, [2, 1])).await;
    assert_eq!(second, Recorded { inserted: 1, dropped: 1, ended: Vec::new() });
    assert_eq!(all(&store, batch).await, [(1, 4), (2, 2), (3, 1)]);
}

#[rstest]
#[tokio::test]
async fn the_last_result_ends_the_batch_and_makes_its_files(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 3).await;
    let results = vec![
        result(batch.key, 1, ItemStatus::Succeeded),
        result(batch.key, 2, ItemStatus::Failed),
        result(batch.key, 3, ItemStatus::Succeeded),
    ];
    let recorded = record(&store, results.clone()).await;
    assert_eq!(recorded.ended, [(batch.key, BatchStatus::Completed)]);

    let ended = store.batch(AppKey::DEFAULT, &batch.id).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.counts.succeeded, ended.counts.failed), (BatchStatus::Completed, 2, 1));
    assert!(ended.moments.completed_at.is_some() && ended.moments.finalizing_at.is_some());
    assert_eq!(ended.moments.started_at, Some(at(20)));
    assert_eq!(ended.moments.last_result_at, Some(at(23)));
    assert_eq!((ended.sums.attempts, ended.sums.retries, ended.sums.timed_items), (3, 0, 3));
    assert_eq!((ended.sums.min_item_micros, ended.sums.max_item_micros), (Some(1_000_000), Some(3_000_000)));
    assert_eq!(ended.sums.usage.input_tokens, 9);

    let output = store.file(AppKey::DEFAULT, &ended.output_file_id.unwrap()).await.unwrap().unwrap();
    let errors = store.file(AppKey::DEFAULT, &ended.error_file_id.unwrap()).await.unwrap().unwrap();
    assert_eq!((output.source, output.items), (FileSource::Output(batch.key), 2));
    assert_eq!((errors.source, errors.items), (FileSource::Errors(batch.key), 1));
    let bytes = |line: usize| file_line_bytes(&batch.id, &results[line - 1]);
    assert_eq!((output.bytes, errors.bytes), (bytes(1) + bytes(3), bytes(2)));
}

#[rstest]
#[tokio::test]
async fn files_are_made_only_for_what_there_is(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 2).await;
    record(&store, succeeded(batch.key, 1..=2)).await;
    let ended = store.batch_by_key(batch.key).await.unwrap().unwrap();
    assert!(ended.output_file_id.is_some() && ended.error_file_id.is_none());
}

#[rstest]
#[tokio::test]
async fn an_ended_batch_takes_nothing_more(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 1).await;
    record(&store, succeeded(batch.key, [1])).await;
    let late = record(&store, succeeded(batch.key, [2])).await;
    assert_eq!((late.inserted, late.dropped), (0, 1));
    let unknown = record(&store, succeeded(BatchKey(99), [1])).await;
    assert_eq!((unknown.inserted, unknown.dropped), (0, 1));
}

#[rstest]
#[tokio::test]
async fn flushes_that_share_a_commit_each_hear_of_their_own(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (one, two) = (batch_of(&store, 2).await.key, batch_of(&store, 1).await.key);
    let flush = |results| Flush { results, ..Flush::default() };
    let answers = [
        store.record(flush(succeeded(one, [1]))),
        store.record(flush(succeeded(two, [1, 1]))),
        store.record(flush(succeeded(one, [1, 2]))),
    ];
    let mut told = Vec::new();
    for answer in answers {
        let recorded = answer.await.unwrap().unwrap();
        told.push((recorded.inserted, recorded.dropped, recorded.ended.len()));
    }
    assert_eq!(told, [(1, 0, 0), (1, 1, 1), (1, 1, 1)]);
}

#[rstest]
#[tokio::test]
async fn a_retry_lasts_until_its_line_has_a_result(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 5).await.key;
    let retry = |line, attempts| RetryRecord {
        batch,
        line,
        attempts,
        not_before: at(30),
        started_at: at(20),
        last_error: "http_503".to_owned(),
    };
    flush(&store, Flush { retries: vec![retry(2, 1), retry(3, 1)], ..Flush::default() }).await;
    flush(&store, Flush { retries: vec![retry(3, 2)], ..Flush::default() }).await;
    assert_eq!(store.retries(batch, 1, 5).await.unwrap(), [retry(2, 1), retry(3, 2)]);
    assert_eq!(store.retry(batch, 3).await.unwrap(), Some(retry(3, 2)));

    record(&store, succeeded(batch, [3])).await;
    flush(&store, Flush { retries: vec![retry(3, 3)], ..Flush::default() }).await;
    assert_eq!(store.retries(batch, 1, 5).await.unwrap(), [retry(2, 1)]);

    let store = place.crash_and_reopen(store).await;
    record(&store, succeeded(batch, [2])).await;
    assert_eq!(store.retries(batch, 1, 5).await.unwrap(), []);
}

#[rstest]
#[tokio::test]
async fn the_ledger_keeps_each_levels_latest_state(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let entry = |name: &str, state: &[u8]| LedgerEntry { name: name.to_owned(), state: state.to_vec() };
    flush(&store, Flush { ledger: vec![entry("b", b"1"), entry("a", b"1")], ..Flush::default() }).await;
    flush(&store, Flush { ledger: vec![entry("b", b"2")], ..Flush::default() }).await;
    let store = place.crash_and_reopen(store).await;
    assert_eq!(store.ledger().await.unwrap(), [entry("a", b"1"), entry("b", b"2")]);
}

#[rstest]
#[tokio::test]
async fn bells_ring_after_what_they_tell_of(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (mut work, mut progress) = (store.work_wakeup().listen(), store.progress_wakeup().listen());
    let batch = batch_of(&store, 2).await.key;
    work.heard().await;
    progress.heard().await;
    record(&store, succeeded(batch, [1])).await;
    progress.heard().await;
    record(&store, succeeded(batch, [2])).await;
    progress.heard().await;
    work.heard().await;
}
