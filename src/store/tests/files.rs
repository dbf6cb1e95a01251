//! Files: invisible until complete, given back as written.

use rstest::rstest;
use std::sync::Arc;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::file::{FileSource, FileSummary, ItemKey, KeyBlock, LineProblem, ModelShape};
use crate::domain::ids::{AppKey, FileId, FileKey};
use crate::store::{FileQuery, FileSalt, NewFile, StoreError};

const APP: AppKey = AppKey::DEFAULT;

#[rstest]
#[tokio::test]
async fn a_file_is_seen_once_complete(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let new = new_file(FileSource::Upload);
    let id = new.id.clone();
    let file = store.begin_file(new).await.unwrap();
    assert!(store.file(APP, &id).await.unwrap().is_none());
    let summary = FileSummary {
        bytes: 77,
        lines: 9,
        items: 8,
        faulty: 1,
        segments: 0,
        models: vec![ModelShape { model: String::new(), items: 7, endpoints: 3, first_line: 2 }],
        problems: vec![LineProblem {
            line: Some(3),
            code: "invalid_json_line".to_owned(),
            message: "not JSON".to_owned(),
            param: Some("body".to_owned()),
        }],
    };
    let finished = store.finish_file(file, summary.clone(), None).await.unwrap();
    let store = place.crash_and_reopen(store).await;
    assert_eq!(store.file(APP, &id).await.unwrap(), Some(finished.clone()));
    assert_eq!((finished.bytes, finished.items, finished.key), (77, 8, file));
    assert_eq!(store.file_summary(file).await.unwrap(), summary);
    assert_eq!(
        store.file_salt(file).await.unwrap(),
        Some(FileSalt { salt: u64::MAX - 5, is_deleted: false })
    );
    assert_eq!(store.file_salt(FileKey(file.0 + 1)).await.unwrap(), None);
}

#[rstest]
#[tokio::test]
async fn a_complete_or_abandoned_file_takes_nothing_more(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (complete, _) = items(&store, FileSource::Upload, 1).await;
    let abandoned = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    store.abandon_file(abandoned).await;
    for file in [complete, abandoned] {
        let appended = store.append_segments(file, vec![segment(9, "m", 1..=1)]).await;
        assert!(matches!(appended, Err(StoreError::Damaged(_))));
        assert!(matches!(
            store.finish_file(file, FileSummary::default(), None).await,
            Err(StoreError::Damaged(_))
        ));
    }
}

#[rstest]
#[tokio::test]
async fn segments_come_back_by_number_and_by_model(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let file = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    let segments: Vec<_> = (0..7_u32)
        .map(|no| segment(no, if no % 3 == 0 { "a" } else { "b" }, no * 10 + 1..=no * 10 + 9))
        .collect();
    store.append_segments(file, segments[..4].to_vec()).await.unwrap();
    store.append_segments(file, segments[4..].to_vec()).await.unwrap();

    let numbers = async |model, from, limit| -> Vec<u32> {
        let heads = store.segment_heads(file, model, from, limit).await.unwrap();
        heads.iter().map(|head| head.no).collect()
    };
    assert_eq!(numbers(None, 0, 3).await, [0, 1, 2]);
    assert_eq!(numbers(None, 5, 9).await, [5, 6]);
    assert_eq!(numbers(Some("a"), 0, 9).await, [0, 3, 6]);
    assert_eq!(numbers(Some("b"), 2, 2).await, [2, 4]);
    assert_eq!(numbers(Some("c"), 0, 9).await, [0; 0]);
    for segment in &segments {
        assert_eq!(store.segment(file, segment.head.no).await.unwrap().as_ref(), Some(segment));
    }
    assert_eq!(store.segment(file, 7).await.unwrap(), None);
}

#[rstest]
#[tokio::test]
async fn keys_are_found_by_hash_across_blocks_and_chunks(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let file = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    let key = |hash, line| ItemKey { hash, line, segment: line / 2 };
    let block = |chunk, no, keys: &[ItemKey]| KeyBlock { chunk, no, keys: keys.to_vec() };
    let blocks = vec![
        block(0, 0, &[key(1, 1), key(5, 9)]),
        block(0, 1, &[key(5, 10), key(u64::MAX, 4)]),
        block(1, 0, &[key(0, 3), key(5, 2), key(1 << 63, 7)]),
    ];
    store.append_keys(file, blocks.clone()).await.unwrap();
    assert_eq!(store.find_keys(file, 5).await.unwrap(), [key(5, 2), key(5, 9), key(5, 10)]);
    assert_eq!(store.find_keys(file, u64::MAX).await.unwrap(), [key(u64::MAX, 4)]);
    assert_eq!(store.find_keys(file, 1 << 63).await.unwrap(), [key(1 << 63, 7)]);
    assert_eq!(store.find_keys(file, 2).await.unwrap(), []);
    assert_eq!(store.key_chunks(file).await.unwrap(), [2, 1]);
    assert_eq!(store.key_block(file, 0, 1).await.unwrap().as_ref(), Some(&blocks[1]));
    assert_eq!(store.key_block(file, 1, 1).await.unwrap(), None);

    store.append_duplicates(file, 4, vec![9, 2, 9]).await.unwrap();
    assert_eq!(store.duplicate_lines(file, 4).await.unwrap(), [2, 9]);
    assert_eq!(store.duplicate_lines(file, 5).await.unwrap(), [0; 0]);
}

#[rstest]
#[tokio::test]
async fn lists_show_what_clients_may_see(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (_, first) = items(&store, FileSource::Upload, 1).await;
    let (inline, inline_id) = items(&store, FileSource::Inline, 1).await;
    let (file, second) = items(&store, FileSource::Upload, 1).await;
    let batch = create(&store, new_batch(file, 1)).await;
    record(&store, succeeded(batch.key, [1])).await;
    let output = store.batch_by_key(batch.key).await.unwrap().unwrap().output_file_id.unwrap();
    assert!(store.file(APP, &inline_id).await.unwrap().is_none());
    assert!(store.file_summary(inline).await.is_ok());

    let list = async |after: Option<&FileId>, limit, descending, purpose: Option<&str>| {
        let purpose = purpose.map(str::to_owned);
        let query = FileQuery { app: APP, after: after.cloned(), limit, descending, purpose };
        let page = store.files(query).await.unwrap();
        (page.data.into_iter().map(|file| file.id).collect::<Vec<_>>(), page.has_more)
    };
    let ids = |ids: &[&FileId]| ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
    assert_eq!(list(None, 9, true, None).await, (ids(&[&output, &second, &first]), false));
    assert_eq!(list(None, 2, false, None).await, (ids(&[&first, &second]), true));
    assert_eq!(list(Some(&second), 9, false, None).await, (ids(&[&output]), false));
    assert_eq!(list(Some(&second), 9, true, None).await, (ids(&[&first]), false));
    assert_eq!(list(None, 9, true, Some("batch")).await, (ids(&[&second, &first]), false));
    assert_eq!(list(None, 9, true, Some("batch_output")).await, (ids(&[&output]), false));
    assert_eq!(list(None, 9, true, Some("vision")).await, (Vec::new(), false));
    assert_eq!(list(Some(&FileId::new("file-none")), 9, true, None).await, (Vec::new(), false));
}

#[rstest]
#[tokio::test]
async fn a_deleted_file_is_hidden_at_once_and_erased_after_its_last_batch(
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let (file, id) = items(&store, FileSource::Upload, 12).await;
    let batch = create(&store, new_batch(file, 12)).await;
    assert!(store.delete_file(APP, &id).await.unwrap());
    assert!(!store.delete_file(APP, &id).await.unwrap());
    assert!(store.file(APP, &id).await.unwrap().is_none());
    store.sweep(at(0)).await.unwrap();
    assert!(store.segment(file, 1).await.unwrap().is_some(), "a running batch still needs it");

    record(&store, succeeded(batch.key, 1..=12)).await;
    while store.sweep(at(0)).await.unwrap().rows > 0 {}
    assert!(store.segment(file, 1).await.unwrap().is_none());
    assert!(store.file_summary(file).await.is_err());
    let read = store.batch_by_key(batch.key).await.unwrap().unwrap();
    assert_eq!(read.input_file_id, Some(id), "the batch still tells what it ran");
}

#[rstest]
#[tokio::test]
async fn a_view_is_not_written_by_hand(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 1).await.key;
    let view = NewFile { source: FileSource::Output(batch), ..new_file(FileSource::Upload) };
    assert!(matches!(store.begin_file(view).await, Err(StoreError::Damaged(_))));
}

#[rstest]
#[tokio::test]
async fn an_empty_model_is_a_model_too(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let file = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    store.append_segments(file, vec![segment(0, "", 1..=2)]).await.unwrap();
    let heads = store.segment_heads(file, Some(""), 0, 9).await.unwrap();
    assert_eq!(heads[0].model, Arc::from(""));
}
