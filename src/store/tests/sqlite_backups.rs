//! Backups: one state of everything while the writer goes on, nothing left of one that failed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::place::*;
use crate::domain::time::Timestamp;
use crate::store::backup::{BackupError, BackupProgress, backup};
use crate::store::check::check;
use crate::store::{Store, StoreLocation};

const MEBIBYTE: usize = 1024 * 1024;

/// A store with some megabytes that don't compress.
async fn filled(place: &Place) -> Store {
    let store = place.start().await;
    let file = store.begin_file(new_file(crate::domain::file::FileSource::Upload)).await.unwrap();
    for no in 0..6 {
        let head = segment(no, "m", 1..=1).head;
        let data = (0..MEBIBYTE).map(|_| rand::random::<u8>()).collect::<Vec<_>>().into();
        store.append_segments(file, vec![crate::domain::segment::Segment { head, data }]).await.unwrap();
    }
    store
}

fn copy_of(place: &Place) -> PathBuf {
    place.root().join("copy.db")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_meanwhile_is_not_in_it_and_waits_for_nothing() {
    let place = Place::new(Dialect::Sqlite);
    let store = filled(&place).await;
    let batch = batch_of(&store, 40).await.key;
    record(&store, succeeded(batch, 1..=10)).await;
    let (to, location) = (copy_of(&place), place.settings.location.clone());
    let runtime = tokio::runtime::Handle::current();
    let (writing, mut line) = (store.clone(), 10);
    let made = tokio::task::spawn_blocking(move || {
        let mut tell = |_: BackupProgress| {
            // In the middle of it: the writer commits as always.
            line += 1;
            runtime.block_on(record(&writing, succeeded(batch, [line])));
            true
        };
        backup(&location, &to, 0, &mut tell).map(|report| (report, line))
    });
    let (report, last) = made.await.unwrap().unwrap();
    assert!(last > 12, "it took several steps: {last}");
    assert_eq!(report.bytes, std::fs::metadata(&report.path).unwrap().len());
    assert_eq!(std::fs::metadata(&report.path).unwrap().permissions().mode() & 0o777, 0o600);
    let copied = StoreLocation::Sqlite(report.path.clone());
    assert_eq!(check(&copied, |_| {}).await.unwrap().wrong, [""; 0]);
    let copy = rusqlite::Connection::open(&report.path).unwrap();
    let results: u32 = copy.query_row("SELECT count(*) FROM result", [], |row| row.get(0)).unwrap();
    assert_eq!(results, 10, "the state is that of the moment when it began");
    assert_eq!(place.rows("result").await, i64::from(last));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_stopped_leaves_nothing() {
    let place = Place::new(Dialect::Sqlite);
    let _store = filled(&place).await;
    let stopped = backup(&place.settings.location, &copy_of(&place), 0, &mut |_| false);
    assert!(matches!(stopped, Err(BackupError::Interrupted)), "{stopped:?}");
    assert_eq!(std::fs::read_dir(place.root()).unwrap().count(), 1, "the data folder alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_asked_for_first() {
    let place = Place::new(Dialect::Sqlite);
    let _store = filled(&place).await;
    let refused = backup(&place.settings.location, &copy_of(&place), u64::MAX / 2, &mut |_| true);
    assert!(matches!(refused, Err(BackupError::NoRoom { free: 0, .. })), "{refused:?}");
    assert!(!copy_of(&place).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_makes_one_at_a_time_under_names_that_sort() {
    let place = Place::new(Dialect::Sqlite);
    let store = filled(&place).await;
    let folder = place.root().join("data/backups");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("store-1.db.partial"), "what a kill left behind").unwrap();
    let moment = Timestamp::from_seconds(1_795_722_301);
    // The first one is held in its middle until the second one was refused.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (begin, held) = (std::sync::Mutex::new(Some(begin)), std::sync::Mutex::new(held));
    let first = store.backup(moment, move || {
        if let Some(begin) = begin.lock().unwrap().take() {
            begin.send(()).unwrap();
            held.lock().unwrap().recv().unwrap();
        }
        false
    });
    let second = async {
        begun.await.unwrap();
        let refused = store.backup(moment + Duration::from_secs(1), || false).await;
        hold.send(()).unwrap();
        refused
    };
    let (made, refused) = tokio::join!(first, second);
    assert!(matches!(refused, Err(BackupError::Running)), "{refused:?}");
    let path = made.unwrap().path;
    assert_eq!(path, folder.join("store-2026-11-26-194501.db"));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "what was left over is gone");
    let ending = store.backup(moment + Duration::from_secs(9), || true).await;
    assert!(matches!(ending, Err(BackupError::Interrupted)), "{ending:?}");
}
