//! Opening and closing: one process, known schemas, private files, a full disk.

use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::place::*;
use crate::domain::file::FileSource;
use crate::store::{Flush, StoreError};

#[tokio::test]
async fn a_folder_has_one_store_at_a_time() {
    let place = Place::new();
    let store = place.open();
    match place.try_open() {
        Err(StoreError::InUse(path)) => assert_eq!(path, place.root().join("data")),
        other => panic!("{other:?}"),
    }
    store.close().await;
    drop(place.open());
    drop(place.open());
}

#[tokio::test]
async fn a_newer_schema_is_refused_unless_it_says_it_is_compatible() {
    let place = Place::new();
    place.open().close().await;
    let mark = |version, min_compatible| {
        let connection = Connection::open(&place.settings.path).unwrap();
        connection
            .execute("UPDATE schema SET version = ?1, min_compatible = ?2", (version, min_compatible))
            .unwrap();
    };
    mark(99, 98);
    assert_eq!(place.try_open().unwrap_err(), StoreError::NewerSchema { found: 98, supported: 2 });
    mark(99, 2);
    drop(place.open());
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let place = Place::new();
    std::fs::create_dir(place.settings.path.parent().unwrap()).unwrap();
    let text = "this is a text, not a database ".repeat(100);
    std::fs::write(&place.settings.path, &text).unwrap();
    assert!(matches!(place.try_open(), Err(StoreError::Damaged(_))));
    assert_eq!(std::fs::read_to_string(&place.settings.path).unwrap(), text);
}

#[tokio::test]
async fn the_folder_and_its_files_are_private() {
    let place = Place::new();
    let store = place.open();
    batch_of(&store, 1).await;
    let folder = place.root().join("data");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn the_file_is_laid_out_as_designed() {
    let place = Place::new();
    place.open().close().await;
    let connection = Connection::open(&place.settings.path).unwrap();
    let pragma = |name: &str| -> i64 { connection.pragma_query_value(None, name, |row| row.get(0)).unwrap() };
    assert_eq!((pragma("page_size"), pragma("auto_vacuum")), (4_096, 2));
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let loose: i64 = connection
        .query_row(
            "SELECT count(*) FROM pragma_table_list WHERE type = 'table' AND NOT strict \
                    AND name NOT LIKE 'sqlite_%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(loose, 0);
}

#[tokio::test]
async fn a_clean_end_commits_what_is_queued_and_empties_the_log() {
    let place = Place::new();
    let store = place.open();
    let batch = batch_of(&store, 2).await.key;
    let answer = store.record(Flush { results: succeeded(batch, [1]), ..Flush::default() });
    store.close().await;
    assert_eq!(answer.await.unwrap().unwrap().inserted, 1);
    let log = place.settings.path.with_extension("db-wal");
    assert_eq!(std::fs::metadata(log).map_or(0, |log| log.len()), 0);

    assert_eq!(store.batch_by_key(batch).await.unwrap_err(), StoreError::Closed);
    assert_eq!(store.begin_expiring(batch).await.unwrap_err(), StoreError::Closed);
    let refused = store.record(Flush { results: succeeded(batch, [2]), ..Flush::default() });
    assert_eq!(refused.await.unwrap(), Err(StoreError::Closed));
}

#[tokio::test]
async fn under_the_watermark_nothing_new_is_taken_but_results_are() {
    let mut place = Place::new();
    let store = place.open();
    let batch = batch_of(&store, 2).await.key;
    let (file, _) = items(&store, FileSource::Upload, 1).await;
    drop(store);
    place.settings.min_free = u64::MAX / 32;
    let store = place.open();
    assert!(store.health().disk_full);
    assert_eq!(store.begin_file(new_file(FileSource::Upload)).await.unwrap_err(), StoreError::Full);
    assert_eq!(store.create_batch(new_batch(file, 1)).await.unwrap_err(), StoreError::Full);
    assert_eq!(record(&store, succeeded(batch, [1])).await.inserted, 1);
    assert!(store.batch_by_key(batch).await.unwrap().is_some());
}
