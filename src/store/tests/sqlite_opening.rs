//! The database file: one process, private, laid out as designed, brought up to date; a full disk; room given back.

use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::place::*;
use crate::domain::app::AppSettings;
use crate::domain::file::FileSource;
use crate::domain::ids::AppKey;
use crate::store::{FileQuery, StoreError};

#[tokio::test]
async fn a_folder_has_one_store_at_a_time() {
    let place = Place::new(Dialect::Sqlite);
    let store = place.open().await;
    match place.try_open().await {
        Err(StoreError::InUse(path)) => assert_eq!(path, place.root().join("data")),
        other => panic!("{other:?}"),
    }
    store.close().await;
    drop(place.open().await);
    drop(place.open().await);
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let place = Place::new(Dialect::Sqlite);
    std::fs::create_dir(place.path().parent().unwrap()).unwrap();
    let text = "this is a text, not a database ".repeat(100);
    std::fs::write(place.path(), &text).unwrap();
    assert!(matches!(place.try_open().await, Err(StoreError::Damaged(_))));
    assert_eq!(std::fs::read_to_string(place.path()).unwrap(), text);
}

#[tokio::test]
async fn the_folder_and_its_files_are_private() {
    let place = Place::new(Dialect::Sqlite);
    let store = place.open().await;
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
    let place = Place::new(Dialect::Sqlite);
    place.open().await.close().await;
    let connection = Connection::open(place.path()).unwrap();
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
async fn a_clean_end_empties_the_log() {
    let place = Place::new(Dialect::Sqlite);
    let store = place.open().await;
    batch_of(&store, 2).await;
    store.close().await;
    let log = place.path().with_extension("db-wal");
    assert_eq!(std::fs::metadata(log).map_or(0, |log| log.len()), 0);
}

#[tokio::test]
async fn under_the_watermark_nothing_new_is_taken_but_results_are() {
    let mut place = Place::new(Dialect::Sqlite);
    let store = place.open().await;
    let batch = batch_of(&store, 2).await.key;
    let (file, _) = items(&store, FileSource::Upload, 1).await;
    drop(store);
    place.settings.min_free = u64::MAX / 32;
    let store = place.open().await;
    assert!(store.health().disk_full);
    assert_eq!(store.begin_file(new_file(FileSource::Upload)).await.unwrap_err(), StoreError::Full);
    assert_eq!(store.create_batch(new_batch(file, 1)).await.unwrap_err(), StoreError::Full);
    assert_eq!(record(&store, succeeded(batch, [1])).await.inserted, 1);
    assert!(store.batch_by_key(batch).await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_up_to_date() {
    let place = Place::new(Dialect::Sqlite);
    std::fs::create_dir(place.path().parent().unwrap()).unwrap();
    let first = Connection::open(place.path()).unwrap();
    first.execute_batch(include_str!("../../../migrations/sqlite/0001_first.sql")).unwrap();
    first
        .execute_batch(
            "INSERT INTO schema VALUES (1, 1);
             INSERT INTO file (id, app, source, status, filename, bytes, items, created_at)
             VALUES ('file-old', 1, 'upload', 'processed', 'old.jsonl', 70, 1, 5);",
        )
        .unwrap();
    drop(first);

    let store = place.open().await;
    let apps = store.apps().await.unwrap();
    assert_eq!((apps.len(), apps[0].key, apps[0].name.as_str()), (1, AppKey::DEFAULT, "default"));
    assert_eq!(apps[0].settings, AppSettings::default());
    let query = FileQuery { app: AppKey::DEFAULT, after: None, limit: 10, descending: true, purpose: None };
    assert_eq!(store.files(query).await.unwrap().data[0].id.as_str(), "file-old");
    let batch = batch_of(&store, 2).await;
    record(&store, succeeded(batch.key, 1..=2)).await;
    store.close().await;

    let connection = Connection::open(place.path()).unwrap();
    let mark: (u32, u32) = connection
        .query_row("SELECT version, min_compatible FROM schema", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(mark, (7, 3), "a program that asks for no keys may not open it any more");
    assert_eq!(place.integrity().await, "ok");
}

#[tokio::test]
async fn room_is_given_back_to_the_disk() {
    let place = Place::new(Dialect::Sqlite);
    let store = place.open().await;
    let file = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    for no in 0..24 {
        let head = segment(no, "m", 1..=1).head;
        let data = vec![b'x'; 1024 * 1024].into();
        store.append_segments(file, vec![crate::domain::segment::Segment { head, data }]).await.unwrap();
    }
    store.abandon_file(file).await;
    let mut swept = store.sweep(at(0)).await.unwrap();
    while swept.more {
        swept = store.sweep(at(0)).await.unwrap();
    }
    store.close().await;
    let size = std::fs::metadata(place.path()).unwrap().len();
    assert!(size < 18 * 1024 * 1024, "{size} bytes are left");
}
