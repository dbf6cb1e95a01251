//! Batches: made once, changed, cancelled, expired, listed, deleted; and never seen by another app.

use rstest::rstest;
use std::time::Duration;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::batch::BatchStatus;
use crate::domain::file::{FileSource, LineProblem};
use crate::domain::ids::{AppKey, BatchId};
use crate::domain::result::ItemStatus;
use crate::store::{
    BatchChange, BatchQuery, CancelOutcome, ChangeOutcome, CreateOutcome, DeleteOutcome, Flush, Idempotency,
    StoreError,
};

const APP: AppKey = AppKey::DEFAULT;
const OTHER: AppKey = AppKey(2);

fn problem() -> LineProblem {
    LineProblem { line: Some(7), code: "fail_fast".to_owned(), message: "stop".to_owned(), param: None }
}

#[rstest]
#[tokio::test]
async fn a_batch_comes_back_as_it_was_asked_for(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, file_id) = items(&store, FileSource::Upload, 3).await;
    let mut new = new_batch(file, 3);
    new.options.priority = 7;
    new.options.defaults = Some(serde_json::value::RawValue::from_string("{\"a\": 1.0}".to_owned()).unwrap());
    let made = create(&store, new.clone()).await;
    let store = place.crash_and_reopen(store).await;
    let read = store.batch(APP, &new.id).await.unwrap().unwrap();
    assert_eq!(format!("{read:?}"), format!("{made:?}"));
    assert_eq!((read.status, read.counts.total), (BatchStatus::InProgress, 3));
    assert_eq!((read.input_file_id, read.deadline), (Some(file_id), at(10) + Duration::from_secs(86_400)));
    assert_eq!(read.options.defaults.unwrap().get(), "{\"a\": 1.0}");
    assert_eq!((read.metadata, read.moments.in_progress_at), (new.metadata, Some(at(10))));
}

#[rstest]
#[tokio::test]
async fn problems_make_a_failed_batch_without_items(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 3).await;
    let mut new = new_batch(file, 3);
    new.problems = vec![problem()];
    let made = create(&store, new).await;
    assert_eq!((made.status, made.counts.total), (BatchStatus::Failed, 0));
    assert_eq!((made.errors, made.moments.failed_at), (vec![problem()], Some(at(10))));
    assert!(store.cursors(made.key).await.unwrap().is_empty());
    assert!(store.active_batches().await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_batch_of_nothing_is_complete_at_once(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 1).await;
    let made = create(&store, new_batch(file, 0)).await;
    assert_eq!(made.status, BatchStatus::Completed);
    assert_eq!((made.output_file_id, made.error_file_id), (None, None));
}

#[rstest]
#[tokio::test]
async fn a_batch_needs_a_complete_file_of_its_own_app(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let unfinished = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    let (complete, id) = items(&store, FileSource::Upload, 1).await;
    let foreign = crate::store::NewBatch { app: OTHER, ..new_batch(complete, 1) };
    for new in [new_batch(unfinished, 1), foreign] {
        assert!(matches!(store.create_batch(new).await, Err(StoreError::Damaged(_))));
    }
    store.delete_file(APP, &id).await.unwrap();
    assert!(matches!(store.create_batch(new_batch(complete, 1)).await, Err(StoreError::Damaged(_))));
}

#[rstest]
#[tokio::test]
async fn a_key_stands_for_one_request_as_long_as_its_batch_exists(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 1).await;
    let named = |app, print: u8| {
        let mut new = new_batch(file, 1);
        new.app = app;
        new.fingerprint = [print; 32];
        new.idempotency = Some(Idempotency::Key { key: "k".to_owned(), fingerprint: [print; 32] });
        new
    };
    let first = create(&store, named(APP, 1)).await;
    match store.create_batch(named(APP, 1)).await.unwrap() {
        CreateOutcome::Existing(record) => assert_eq!(record.id, first.id),
        other => panic!("{other:?}"),
    }
    assert!(matches!(store.create_batch(named(APP, 2)).await.unwrap(), CreateOutcome::KeyReused));

    record(&store, succeeded(first.key, [1])).await;
    assert_eq!(store.delete_batch(APP, &first.id).await.unwrap(), DeleteOutcome::Deleted);
    assert_ne!(create(&store, named(APP, 2)).await.id, first.id);
}

#[rstest]
#[tokio::test]
async fn a_retried_create_finds_an_equal_batch_of_late(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 1).await;
    let retried = |print: u8, since| {
        let mut new = new_batch(file, 1);
        new.fingerprint = [print; 32];
        new.idempotency = Some(Idempotency::RetriedCreate { fingerprint: [print; 32], since });
        new
    };
    let first = create(&store, crate::store::NewBatch { idempotency: None, ..retried(1, at(0)) }).await;
    match store.create_batch(retried(1, at(10))).await.unwrap() {
        CreateOutcome::Existing(record) => assert_eq!(record.id, first.id),
        other => panic!("{other:?}"),
    }
    for other in [retried(2, at(10)), retried(1, at(11))] {
        assert!(matches!(store.create_batch(other).await.unwrap(), CreateOutcome::Created(_)));
    }
}

#[rstest]
#[tokio::test]
async fn the_inline_file_of_a_repeated_create_is_given_up(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (first, _) = items(&store, FileSource::Inline, 1).await;
    let (second, _) = items(&store, FileSource::Inline, 1).await;
    let named = |file| {
        let mut new = new_batch(file, 1);
        new.idempotency = Some(Idempotency::Key { key: "k".to_owned(), fingerprint: [0; 32] });
        new
    };
    create(&store, named(first)).await;
    store.create_batch(named(second)).await.unwrap();
    while store.sweep(at(0)).await.unwrap().rows > 0 {}
    assert!(store.segment(first, 0).await.unwrap().is_some());
    assert!(store.segment(second, 0).await.unwrap().is_none());
}

#[rstest]
#[tokio::test]
async fn a_cancel_is_recorded_and_ends_with_the_last_row(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 3).await;
    record(&store, succeeded(batch.key, [1])).await;
    for _ in 0..2 {
        match store.cancel_batch(APP, &batch.id).await.unwrap() {
            CancelOutcome::Cancelling(record) => assert_eq!(record.status, BatchStatus::Cancelling),
            other => panic!("{other:?}"),
        }
    }
    assert!(!store.begin_expiring(batch.key).await.unwrap());
    // A call that was running when the cancel came may still succeed.
    record(&store, succeeded(batch.key, [2])).await;
    let last = record(&store, vec![result(batch.key, 3, ItemStatus::Cancelled)]).await;
    assert_eq!(last.ended, [(batch.key, BatchStatus::Cancelled)]);
    let ended = store.batch_by_key(batch.key).await.unwrap().unwrap();
    assert_eq!((ended.counts.succeeded, ended.counts.cancelled, ended.counts.recorded()), (2, 1, 3));
    assert!(ended.moments.cancelling_at.is_some() && ended.moments.cancelled_at.is_some());
    assert!(matches!(store.cancel_batch(APP, &batch.id).await.unwrap(), CancelOutcome::Cancelling(_)));
}

#[rstest]
#[tokio::test]
async fn a_cancel_after_the_end_changes_nothing(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 1).await;
    record(&store, succeeded(batch.key, [1])).await;
    match store.cancel_batch(APP, &batch.id).await.unwrap() {
        CancelOutcome::Ended(record) => assert_eq!(record.status, BatchStatus::Completed),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[tokio::test]
async fn an_expiring_batch_ends_as_expired(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 2).await;
    assert!(store.begin_expiring(batch.key).await.unwrap());
    assert!(!store.begin_expiring(batch.key).await.unwrap());
    assert!(!store.begin_cancelling(batch.key, problem()).await.unwrap());
    assert!(matches!(store.cancel_batch(APP, &batch.id).await.unwrap(), CancelOutcome::Ended(_)));
    let mut results = succeeded(batch.key, [1]);
    results.push(result(batch.key, 2, ItemStatus::Expired));
    assert_eq!(record(&store, results).await.ended, [(batch.key, BatchStatus::Expired)]);
    let ended = store.batch_by_key(batch.key).await.unwrap().unwrap();
    assert!(ended.moments.finalizing_at.is_some() && ended.moments.expired_at.is_some());
}

#[rstest]
#[tokio::test]
async fn fail_fast_cancels_with_its_error(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 2).await;
    assert!(store.begin_cancelling(batch.key, problem()).await.unwrap());
    assert!(!store.begin_cancelling(batch.key, problem()).await.unwrap());
    let read = store.batch_by_key(batch.key).await.unwrap().unwrap();
    assert_eq!((read.status, read.errors), (BatchStatus::Cancelling, vec![problem()]));
}

#[rstest]
#[tokio::test]
async fn only_a_running_batch_changes(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 1).await;
    let change = BatchChange {
        priority: Some(-3),
        max_concurrency: Some(Some(4)),
        window: Some(("2h".to_owned(), Duration::from_secs(7_200))),
        metadata: Some(Vec::new()),
        paused: Some(true),
    };
    let Some(ChangeOutcome::Changed(read)) = store.change_batch(APP, &batch.id, change).await.unwrap() else {
        panic!("not changed");
    };
    assert_eq!(
        (read.options.priority, read.options.max_concurrency, read.options.paused),
        (-3, Some(4), true)
    );
    assert_eq!((read.deadline, read.metadata.len()), (at(10 + 7_200), 0));
    let lifted = BatchChange { max_concurrency: Some(None), ..BatchChange::default() };
    let Some(ChangeOutcome::Changed(read)) = store.change_batch(APP, &batch.id, lifted).await.unwrap() else {
        panic!("not changed");
    };
    assert_eq!((read.options.priority, read.options.max_concurrency), (-3, None));

    record(&store, succeeded(batch.key, [1])).await;
    let late = store.change_batch(APP, &batch.id, BatchChange::default()).await.unwrap();
    assert!(matches!(late, Some(ChangeOutcome::Refused(BatchStatus::Completed))));
}

#[rstest]
#[tokio::test]
async fn another_app_finds_nothing(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, file_id) = items(&store, FileSource::Upload, 1).await;
    let batch = create(&store, new_batch(file, 1)).await;
    assert!(store.batch(OTHER, &batch.id).await.unwrap().is_none());
    assert!(matches!(store.cancel_batch(OTHER, &batch.id).await.unwrap(), CancelOutcome::Unknown));
    assert!(store.change_batch(OTHER, &batch.id, BatchChange::default()).await.unwrap().is_none());
    assert_eq!(store.delete_batch(OTHER, &batch.id).await.unwrap(), DeleteOutcome::Unknown);
    assert!(store.file(OTHER, &file_id).await.unwrap().is_none());
    assert!(!store.delete_file(OTHER, &file_id).await.unwrap());
    let query = BatchQuery { app: OTHER, after: None, limit: 5, status: None, metadata: Vec::new() };
    assert!(store.batches(query).await.unwrap().data.is_empty());
}

#[rstest]
#[tokio::test]
async fn lists_page_newest_first_and_filter(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 1).await;
    let mut made = Vec::new();
    for number in 0..5 {
        let mut new = new_batch(file, 1);
        new.metadata.push(("n".to_owned(), number.to_string()));
        made.push(create(&store, new).await);
    }
    record(&store, succeeded(made[1].key, [1])).await;
    let list = async |after: Option<&BatchId>, limit, status, metadata: &[(&str, &str)]| {
        let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let query = BatchQuery { app: APP, after: after.cloned(), limit, status, metadata };
        let page = store.batches(query).await.unwrap();
        let place = |id: &BatchId| made.iter().position(|batch| batch.id == *id).unwrap();
        (page.data.iter().map(|batch| place(&batch.id)).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(list(None, 2, None, &[]).await, (vec![4, 3], true));
    assert_eq!(list(Some(&made[3].id), 3, None, &[]).await, (vec![2, 1, 0], false));
    assert_eq!(list(None, 9, Some(BatchStatus::Completed), &[]).await, (vec![1], false));
    assert_eq!(list(None, 3, Some(BatchStatus::InProgress), &[]).await, (vec![4, 3, 2], true));
    assert_eq!(list(None, 9, None, &[("n", "2"), ("team", "x")]).await, (vec![2], false));
    assert_eq!(list(None, 9, None, &[("n", "2"), ("team", "y")]).await, (vec![], false));
    assert_eq!(list(Some(&BatchId::new("batch_none")), 9, None, &[]).await, (vec![], false));
}

#[rstest]
#[tokio::test]
async fn a_running_batch_is_not_deleted_and_an_ended_one_is_gone_at_once(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 1).await;
    assert_eq!(store.delete_batch(APP, &batch.id).await.unwrap(), DeleteOutcome::Active);
    record(&store, succeeded(batch.key, [1])).await;
    let output = store.batch_by_key(batch.key).await.unwrap().unwrap().output_file_id.unwrap();
    assert_eq!(store.delete_batch(APP, &batch.id).await.unwrap(), DeleteOutcome::Deleted);
    assert_eq!(store.delete_batch(APP, &batch.id).await.unwrap(), DeleteOutcome::Unknown);
    assert!(store.batch(APP, &batch.id).await.unwrap().is_none());
    assert!(store.batch_by_key(batch.key).await.unwrap().is_none());
    assert!(store.file(APP, &output).await.unwrap().is_none());
}

#[rstest]
#[tokio::test]
async fn a_command_that_fails_leaves_its_neighbours_alone(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 1).await;
    let twice = new_batch(file, 1);
    let (first, second, flushed) = tokio::join!(
        store.create_batch(twice.clone()),
        // The same public id: the insert breaks a constraint.
        store.create_batch(twice.clone()),
        store.record(Flush::default()),
    );
    // Whichever comes first.
    let (made, refused) = if first.is_ok() { (first, second) } else { (second, first) };
    assert!(matches!(made, Ok(CreateOutcome::Created(_))));
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    assert!(flushed.unwrap().is_ok());
    assert!(store.batch(APP, &twice.id).await.unwrap().is_some());
}
