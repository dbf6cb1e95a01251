//! Values above one row's size: in pieces, whole again when read.

use bytes::Bytes;
use rstest::rstest;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::batch::BatchStatus;
use crate::domain::file::FileSource;
use crate::domain::ids::{AppKey, BatchKey};
use crate::domain::result::{ItemStatus, NewResult, Payload, RetryRecord};
use crate::domain::segment::Segment;
use crate::store::{DeleteOutcome, Flush, LedgerEntry};

/// Bytes that no compression shortens.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'a' + ((state >> 59) as u8 % 26)
    };
    (0..length).map(|_| next()).collect()
}

fn large(batch: BatchKey, line: u32, length: usize) -> NewResult {
    let body = Bytes::from(noise(length));
    let payload = Payload::Response { status: 200, request_id: "r".to_owned(), body };
    NewResult { payload, ..result(batch, line, ItemStatus::Succeeded) }
}

const MIB: usize = 1024 * 1024;

#[rstest]
#[tokio::test]
async fn a_large_segment_comes_back(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let file = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    let mut segments = vec![segment(0, "m", 1..=3)];
    for length in [MIB, MIB + 1, 3 * MIB + 7] {
        let no = segments.len() as u32;
        let head = segment(no, "m", 1..=3).head;
        segments.push(Segment { head, data: noise(length).into() });
    }
    store.append_segments(file, segments.clone()).await.unwrap();
    for segment in segments {
        assert_eq!(store.segment(file, segment.head.no).await.unwrap(), Some(segment));
    }
}

#[rstest]
#[tokio::test]
async fn large_results_come_back_and_share_their_flush_with_small_ones(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 4).await.key;
    let results = vec![
        large(batch, 3, 2 * MIB + 5),
        result(batch, 1, ItemStatus::Failed),
        large(batch, 2, MIB),
        large(batch, 4, MIB + 1),
    ];
    let big = store.record(Flush { results: results.clone(), ..Flush::default() });
    let ended = big.await.unwrap().unwrap();
    assert_eq!((ended.inserted, ended.ended), (4, vec![(batch, BatchStatus::Completed)]));
    let store = place.crash_and_reopen(store).await;
    for (position, expected) in (1..).zip(results) {
        let read = store.result(batch, expected.line).await.unwrap().unwrap();
        assert_eq!(read.position, position);
        assert!(read.result == expected);
    }
}

#[rstest]
#[tokio::test]
async fn small_results_overtake_large_ones_but_segments_wait_for_all(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.start().await;
    let running = batch_of(&store, 20).await;
    let batch = running.key;
    assert_eq!(take(&store, &running, 0, 9).await, [0, 1]);
    let retry = RetryRecord {
        batch,
        line: 9,
        attempts: 1,
        not_before: at(1),
        started_at: at(0),
        last_error: "http_500".to_owned(),
    };
    let ledger = vec![LedgerEntry { name: "l".to_owned(), state: vec![1] }];
    let slow = store.record(Flush {
        results: vec![large(batch, 1, 4 * MIB)],
        retries: vec![retry.clone()],
        ledger,
        ..Flush::default()
    });
    let newer = LedgerEntry { name: "l".to_owned(), state: vec![2] };
    let quick = store.record(Flush {
        results: succeeded(batch, 2..=8),
        finished_segments: vec![(batch, 0)],
        ledger: vec![newer.clone()],
        ..Flush::default()
    });
    quick.await.unwrap().unwrap();
    assert_eq!(store.retry(batch, 9).await.unwrap(), Some(retry));
    // In this order: the large result may be recorded between the two.
    let leased = store.leased_segments(batch).await.unwrap();
    if store.result(batch, 1).await.unwrap().is_none() {
        assert_eq!(leased, [0, 1]);
    }
    slow.await.unwrap().unwrap();
    assert_eq!(store.leased_segments(batch).await.unwrap(), [1]);
    assert_eq!(store.ledger().await.unwrap(), [newer]);
}

#[rstest]
#[tokio::test]
async fn a_second_large_result_of_a_line_does_not_touch_the_first(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 3).await.key;
    let first = large(batch, 1, 2 * MIB);
    let answers = [
        store.record(Flush { results: vec![first.clone()], ..Flush::default() }),
        store.record(Flush { results: vec![large(batch, 1, 3 * MIB)], ..Flush::default() }),
    ];
    let mut inserted = Vec::new();
    for answer in answers {
        inserted.push(answer.await.unwrap().unwrap().inserted);
    }
    assert_eq!(inserted, [1, 0]);
    assert!(store.result(batch, 1).await.unwrap().unwrap().result == first);
}

#[rstest]
#[tokio::test]
async fn pieces_left_by_a_crash_do_no_harm(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 3).await;
    let cut_off = store.record(Flush { results: vec![large(batch.key, 1, 8 * MIB)], ..Flush::default() });
    drop(store);
    let was_recorded = cut_off.await.is_ok();
    let store = place.open().await;
    let again = large(batch.key, 1, MIB + 9);
    let recorded = record(&store, vec![again.clone()]).await;
    assert_eq!(recorded.inserted, u32::from(!was_recorded));
    if !was_recorded {
        assert!(store.result(batch.key, 1).await.unwrap().unwrap().result == again);
    }
    record(&store, succeeded(batch.key, 2..=3)).await;
    let deleted = store.delete_batch(AppKey::DEFAULT, &batch.id).await.unwrap();
    assert_eq!(deleted, DeleteOutcome::Deleted);
    while store.sweep(at(0)).await.unwrap().rows > 0 {}
    assert_eq!(place.rows("result_chunk").await, 0);
}
