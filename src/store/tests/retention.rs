//! Erasing: what is old, deleted or left over goes; what is in use stays.

use rstest::rstest;
use std::time::Duration;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::file::FileSource;
use crate::domain::ids::AppKey;
use crate::domain::result::ItemStatus;
use crate::domain::time::Timestamp;
use crate::store::{NewFile, Store};

const APP: AppKey = AppKey::DEFAULT;
const TABLES: [&str; 9] = [
    "file_summary",
    "segment",
    "item_key",
    "duplicate_line",
    "batch",
    "batch_detail",
    "cursor",
    "result",
    "retry",
];

async fn sweep_all(store: &Store, now: Timestamp) {
    while store.sweep(now).await.unwrap().rows > 0 {}
}

#[rstest]
#[tokio::test]
async fn a_deleted_batch_leaves_no_row_and_its_upload_stays(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, id) = items(&store, FileSource::Upload, 300).await;
    let batch = create(&store, new_batch(file, 300)).await;
    record(&store, (1..=300).map(|line| result(batch.key, line, ItemStatus::Failed)).collect()).await;
    store.delete_batch(APP, &batch.id).await.unwrap();
    sweep_all(&store, at(0)).await;
    assert!(store.file(APP, &id).await.unwrap().is_some());
    for table in ["batch", "batch_detail", "cursor", "result"] {
        assert_eq!(place.rows(table).await, 0, "{table}");
    }
    assert_eq!(place.rows("file").await, 1);
}

#[rstest]
#[tokio::test]
async fn an_inline_input_goes_with_its_batch(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Inline, 2).await;
    let batch = create(&store, new_batch(file, 2)).await;
    assert_eq!(batch.input_file_id, None);
    sweep_all(&store, at(0)).await;
    record(&store, succeeded(batch.key, 1..=2)).await;
    sweep_all(&store, at(0)).await;
    assert!(store.segment(file, 0).await.unwrap().is_some());
    store.delete_batch(APP, &batch.id).await.unwrap();
    sweep_all(&store, at(0)).await;
    for table in TABLES.iter().chain(&["file"]) {
        assert_eq!(place.rows(table).await, 0, "{table}");
    }
}

#[rstest]
#[tokio::test]
async fn unfinished_uploads_of_a_boot_before_are_erased(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.start().await;
    let file = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    store.append_segments(file, vec![segment(0, "m", 1..=9)]).await.unwrap();
    items(&store, FileSource::Inline, 5).await;
    sweep_all(&store, at(0)).await;
    assert_eq!(place.rows("file").await, 2, "they may still be going on");
    let store = place.crash_and_reopen(store).await;
    store.begin_boot(at(0)).await.unwrap();
    sweep_all(&store, at(0)).await;
    for table in TABLES.iter().chain(&["file"]) {
        assert_eq!(place.rows(table).await, 0, "{table}");
    }
}

#[rstest]
#[tokio::test]
async fn files_go_at_their_own_time_or_after_retention(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let mut place = Place::new(dialect);
    place.settings.files_retention = Some(Duration::from_secs(100));
    let store = place.open().await;
    let (_, old) = items(&store, FileSource::Upload, 1).await;
    let read = store.file(APP, &old).await.unwrap().unwrap();
    assert_eq!(read.expires_at, Some(read.created_at + Duration::from_secs(100)));
    let new = NewFile { created_at: at(50), expires_at: Some(at(60)), ..new_file(FileSource::Upload) };
    let (short, short_id) = (store.begin_file(new.clone()).await.unwrap(), new.id);
    store.finish_file(short, crate::domain::file::FileSummary::default(), Some(at(60))).await.unwrap();
    let seen = async |id| store.file(APP, id).await.unwrap().is_some();
    sweep_all(&store, at(59)).await;
    assert!(seen(&old).await && seen(&short_id).await);
    sweep_all(&store, at(60)).await;
    assert!(seen(&old).await && !seen(&short_id).await);
    sweep_all(&store, at(100)).await;
    assert!(!seen(&old).await);
    assert_eq!((place.rows("file").await, place.rows("segment").await), (0, 0));
}

#[rstest]
#[tokio::test]
async fn ended_batches_go_after_retention_and_running_ones_stay(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let mut place = Place::new(dialect);
    place.settings.results_retention = Some(Duration::from_secs(3_600));
    let store = place.open().await;
    let (ended, running) = (batch_of(&store, 2).await, batch_of(&store, 2).await);
    record(&store, succeeded(ended.key, 1..=2)).await;
    record(&store, succeeded(running.key, [1])).await;
    let end = store.batch_by_key(ended.key).await.unwrap().unwrap().moments.completed_at.unwrap();
    sweep_all(&store, end + Duration::from_secs(3_599)).await;
    assert!(store.batch_by_key(ended.key).await.unwrap().is_some());
    sweep_all(&store, end + Duration::from_secs(3_601)).await;
    assert!(store.batch_by_key(ended.key).await.unwrap().is_none());
    assert!(store.batch_by_key(running.key).await.unwrap().is_some());
    assert_eq!((place.rows("result").await, place.rows("batch").await), (1, 1));
}

#[rstest]
#[tokio::test]
async fn output_files_go_when_their_client_said_and_results_stay(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, _) = items(&store, FileSource::Upload, 1).await;
    let mut new = new_batch(file, 1);
    new.options.output_expires_after = Some(3_600);
    let batch = create(&store, new).await;
    record(&store, succeeded(batch.key, [1])).await;
    let output = store.batch_by_key(batch.key).await.unwrap().unwrap().output_file_id.unwrap();
    let view = store.file(APP, &output).await.unwrap().unwrap();
    assert_eq!(view.expires_at, Some(view.created_at + Duration::from_secs(3_600)));
    sweep_all(&store, view.created_at + Duration::from_secs(3_600)).await;
    assert!(store.file(APP, &output).await.unwrap().is_none());
    assert!(store.result(batch.key, 1).await.unwrap().is_some());
}
