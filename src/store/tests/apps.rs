//! Apps and keys: made, changed, counted, and what does not fit in a quota.

use std::time::Duration;

use rstest::rstest;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::api_key::{KeyText, Scope};
use crate::domain::app::{AppName, AppSettings, OverQuota, Quota};
use crate::domain::batch::Usage;
use crate::domain::day::{Day, DayUsage};
use crate::domain::file::FileSource;
use crate::domain::ids::{AppKey, KeyId};
use crate::domain::limits::{Limits, Rate};
use crate::domain::result::ItemStatus;
use crate::store::{CreateOutcome, KeyOrigin, KeyQuery, NewKey, NewKeyOutcome, Store, StoreError};

fn name(text: &str) -> AppName {
    AppName::new(text).unwrap()
}

fn new_key(app: &str, scope: Scope) -> NewKey {
    NewKey {
        id: KeyId::from_random(rand::random()),
        hash: KeyText::from_random(rand::random()).hash(),
        name: None,
        expires_at: None,
        origin: KeyOrigin::App { name: name(app), scope },
    }
}

async fn quota(store: &Store, settings: AppSettings) {
    store.put_app(name("default"), settings).await.unwrap().unwrap();
}

#[rstest]
#[tokio::test]
async fn settings_are_kept_and_their_change_is_told(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let mut told = store.apps_wakeup().listen();
    let settings = AppSettings {
        weight: 3,
        limits: Limits {
            requests: vec![Rate { amount: 500, period: Duration::from_secs(60) }],
            max_concurrent: Some(4),
            ..Limits::default()
        },
        items_queued: Some(10),
        bytes_stored: Some(1 << 40),
    };
    let app = store.put_app(name("search"), settings.clone()).await.unwrap().unwrap();
    told.heard().await;
    assert_eq!(app.settings, settings);
    assert_ne!(app.key, AppKey::DEFAULT);
    let store = place.crash_and_reopen(store).await;
    assert_eq!(store.apps().await.unwrap()[1], app);
    let app = store.put_app(name("search"), AppSettings::default()).await.unwrap().unwrap();
    assert_eq!(app.settings, AppSettings::default(), "what is left out is back at its default");
    assert_eq!(store.apps().await.unwrap().len(), 2);
}

#[rstest]
#[tokio::test]
async fn keys_are_made_listed_replaced_and_revoked(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let now = crate::clock::Clock::start().now();
    assert!(!store.live_api_keys(now).await.unwrap().any_ever);
    let new = new_key("search", Scope::Read);
    let NewKeyOutcome::Made(first) = store.create_api_key(new.clone()).await.unwrap() else { panic!() };
    assert_eq!((first.app_name.as_str(), first.scope, first.hash), ("search", Scope::Read, new.hash));
    assert_eq!(store.apps().await.unwrap().len(), 2, "its app was made with it");

    let replace = |id: &KeyId, overlap| NewKey {
        origin: KeyOrigin::Replacing { id: id.clone(), overlap: Duration::from_secs(overlap) },
        ..new_key("unused", Scope::App)
    };
    let NewKeyOutcome::Made(second) = store.create_api_key(replace(&first.id, 3_600)).await.unwrap() else {
        panic!()
    };
    assert_eq!((second.app, second.scope), (first.app, Scope::Read));
    assert_eq!(second.replaces, Some(first.id.clone()));
    let live = store.live_api_keys(now + Duration::from_secs(60)).await.unwrap();
    assert_eq!(live.keys.len(), 2, "both are good for the overlap");
    let live = store.live_api_keys(now + Duration::from_secs(7_200)).await.unwrap();
    assert_eq!(live.keys.iter().map(|key| &key.id).collect::<Vec<_>>(), [&second.id]);

    assert!(store.revoke_api_key(&second.id).await.unwrap());
    assert!(store.revoke_api_key(&second.id).await.unwrap(), "again changes nothing");
    assert!(!store.revoke_api_key(&KeyId::new("key_none")).await.unwrap());
    let again = store.create_api_key(replace(&second.id, 0)).await.unwrap();
    assert_eq!(again, NewKeyOutcome::NothingToReplace);
    assert_eq!(store.apps().await.unwrap().len(), 2, "nothing was made for it");

    let query = |after: Option<&KeyId>| KeyQuery { app: None, after: after.cloned(), limit: 1 };
    let page = store.api_keys(query(None)).await.unwrap();
    assert_eq!((&page.data[0].id, page.has_more), (&first.id, true));
    let page = store.api_keys(query(Some(&first.id))).await.unwrap();
    assert_eq!((&page.data[0].id, page.has_more), (&second.id, false));
    assert!(page.data[0].revoked_at.is_some());
    assert_eq!(store.api_keys(query(Some(&KeyId::new("key_none")))).await.unwrap().data, []);

    store.note_api_key_used(&first.id, Day(20_000));
    store.close().await;
    let store = place.open().await;
    let live = store.live_api_keys(now).await.unwrap();
    assert_eq!((live.keys[0].last_used, live.any_ever), (Some(Day(20_000)), true));
}

#[rstest]
#[tokio::test]
async fn usage_is_counted_with_the_results_and_only_once(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    let batch = batch_of(&store, 5).await.key;
    let mut results = succeeded(batch, 1..=2);
    results.push(result(batch, 3, ItemStatus::Failed));
    // Ended before it was ever sent: nobody's budget was used.
    results.push(result(batch, 4, ItemStatus::Expired));
    record(&store, results.clone()).await;
    record(&store, results).await;
    let today = Day::of(at(20));
    let used = DayUsage { requests: 3, failures: 1, input_tokens: 9, cached_tokens: 0, output_tokens: 6 };
    assert_eq!(store.day_usage(AppKey::DEFAULT, today).await.unwrap(), used);

    let store = place.crash_and_reopen(store).await;
    let tokens = Usage { input_tokens: 100, cached_tokens: 40, output_tokens: 7, reasoning_tokens: 2 };
    store.count_call(AppKey::DEFAULT, at(30), false, &tokens);
    store.count_call(AppKey::DEFAULT, at(86_430), true, &Usage::default());
    store.close().await;
    let store = place.open().await;
    let used = DayUsage { requests: 4, failures: 1, input_tokens: 109, cached_tokens: 40, output_tokens: 13 };
    assert_eq!(store.day_usage(AppKey::DEFAULT, today).await.unwrap(), used);
    let reports = store.app_reports(today).await.unwrap();
    let days: Vec<Day> = reports[0].usage.iter().map(|(day, _)| *day).collect();
    assert_eq!(days, [Day(today.0 + 1), today], "the latest first");
    assert_eq!(store.app_reports(Day(today.0 + 1)).await.unwrap()[0].usage.len(), 1);
}

#[rstest]
#[tokio::test]
async fn calls_are_counted_without_anything_else_to_write(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    store.count_call(AppKey::DEFAULT, at(0), false, &Usage::default());
    let counted = async {
        while store.day_usage(AppKey::DEFAULT, Day::of(at(0))).await.unwrap().requests == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn items_above_the_quota_make_no_batch(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    quota(&store, AppSettings { items_queued: Some(5), ..AppSettings::default() }).await;
    let first = batch_of(&store, 3).await.key;
    let (file, _) = items(&store, FileSource::Inline, 3).await;
    let over = OverQuota { quota: Quota::ItemsQueued, limit: 5, held: 3, added: 3 };
    match store.create_batch(new_batch(file, 3)).await.unwrap() {
        CreateOutcome::OverQuota(told) => assert_eq!(told, over),
        other => panic!("{other:?}"),
    }
    assert_eq!(place.rows("batch").await, 1);
    assert_eq!(place.rows("file WHERE source = 'inline' AND deleted_at IS NULL").await, 0, "it was given up");

    record(&store, succeeded(first, [1])).await;
    let (file, _) = items(&store, FileSource::Inline, 3).await;
    create(&store, new_batch(file, 3)).await;
    let reports = store.app_reports(Day(0)).await.unwrap();
    assert_eq!(reports[0].holdings.items_queued, 5);
}

#[rstest]
#[tokio::test]
async fn bytes_above_the_quota_are_not_kept(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.open().await;
    // Each file of `items` says that it has 1,000 bytes.
    quota(&store, AppSettings { bytes_stored: Some(2_500), ..AppSettings::default() }).await;
    let (file, id) = items(&store, FileSource::Upload, 1).await;
    let batch = create(&store, new_batch(file, 1)).await;
    items(&store, FileSource::Upload, 1).await;
    let third = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    let summary = crate::domain::file::FileSummary { bytes: 1_000, ..Default::default() };
    let refused = store.finish_file(third, summary.clone(), None).await.unwrap_err();
    let over = OverQuota { quota: Quota::BytesStored, limit: 2_500, held: 2_000, added: 1_000 };
    assert_eq!(refused, StoreError::OverQuota(over));
    assert_eq!(place.rows("file WHERE status = 'processed'").await, 2);

    // Results count while their batch runs, and as files once it has ended.
    record(&store, succeeded(batch.key, [1])).await;
    let held = store.app_reports(Day(0)).await.unwrap()[0].holdings.bytes_stored;
    assert!(held > 2_000, "{held}");
    assert!(store.delete_file(AppKey::DEFAULT, &id).await.unwrap());
    store.finish_file(third, summary, None).await.unwrap();

    quota(&store, AppSettings { bytes_stored: Some(1_000), ..AppSettings::default() }).await;
    let refused = store.begin_file(new_file(FileSource::Upload)).await.unwrap_err();
    assert!(matches!(refused, StoreError::OverQuota(OverQuota { added: 0, .. })), "{refused}");
    let (file, _) = items(&store, FileSource::Inline, 1).await;
    let outcome = store.create_batch(new_batch(file, 1)).await.unwrap();
    assert!(matches!(outcome, CreateOutcome::OverQuota(_)), "{outcome:?}");
}
