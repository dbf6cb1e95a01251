//! Checking a store: what is whole passes, and each kind of fault is named.

use rstest::rstest;

use super::place::Dialect::{Postgres, Sqlite};
use super::place::*;
use crate::domain::batch::BatchRecord;
use crate::domain::file::{FileSource, ItemKey, KeyBlock};
use crate::domain::ids::AppKey;
use crate::domain::result::{ItemStatus, RetryRecord};
use crate::store::check::{CheckError, check};
use crate::store::{Flush, Store};

/// One batch that ended, one that runs and one that is half erased. The running one has a leased segment, a retry,
/// and a segment that is done.
async fn fill(store: &Store) -> BatchRecord {
    let ended = batch_of(store, 12).await;
    let failed = result(ended.key, 3, ItemStatus::Failed);
    record(store, succeeded(ended.key, [2, 1]).into_iter().chain([failed]).collect()).await;
    record(store, succeeded(ended.key, 4..=12)).await;
    let running = batch_of(store, 40).await;
    assert_eq!(take(store, &running, 0, 2).await, [0, 1]);
    let retry = RetryRecord {
        batch: running.key,
        line: 12,
        attempts: 1,
        not_before: at(30),
        started_at: at(20),
        last_error: "server_error".to_owned(),
    };
    let results = succeeded(running.key, 1..=11);
    let finished_segments = vec![(running.key, 0)];
    flush(store, Flush { results, retries: vec![retry], finished_segments, ..Flush::default() }).await;
    let deleted = batch_of(store, 300).await;
    record(store, succeeded(deleted.key, 1..=300)).await;
    store.delete_batch(AppKey::DEFAULT, &deleted.id).await.unwrap();
    running
}

async fn wrong(place: &Place) -> Vec<String> {
    check(&place.settings.location, |_| {}).await.unwrap().wrong
}

#[rstest]
#[tokio::test]
async fn nothing_is_wrong_with_a_whole_store(#[values(Sqlite, Postgres)] dialect: Dialect) {
    let place = Place::new(dialect);
    let store = place.start().await;
    fill(&store).await;
    assert_eq!(wrong(&place).await, [""; 0]);
    while store.sweep(at(0)).await.unwrap().rows > 0 {
        assert_eq!(wrong(&place).await, [""; 0], "while it is erased");
    }
}

#[rstest]
#[case("UPDATE batch SET attempts = attempts + 1", "counters", "attempts is 13, its rows come to 12")]
#[case("UPDATE batch SET output_bytes = 1 WHERE output_bytes > 1", "counters", "output_bytes is 1, ")]
#[case("DELETE FROM result WHERE line = 1", "positions", "positions of 11 results run from")]
#[case("DELETE FROM segment WHERE no = 0", "input", "it has 12 items, its segments 2")]
#[case("DELETE FROM batch_detail", "views", "it has no detail row")]
#[case("DELETE FROM file", "running", "it runs and its input is gone")]
#[case("DELETE FROM file", "orphans", "segment: ")]
#[case("DELETE FROM batch", "orphans", "result: ")]
#[case("UPDATE file SET items = 41 WHERE items = 40", "running", "it has 40 items, its input 41")]
#[case("UPDATE retry SET line = 1", "retries", "line 1 waits for a retry and has a result")]
#[tokio::test]
async fn what_rows_say_of_each_other_is_checked(
    #[case] fault: &str,
    #[case] kind: &str,
    #[case] what: &str,
    #[values(Sqlite, Postgres)] dialect: Dialect,
) {
    let place = Place::new(dialect);
    fill(&place.start().await).await;
    place.execute(fault).await;
    let wrong = wrong(&place).await;
    let named = |line: &String| line.starts_with(&format!("{kind}: ")) && line.contains(what);
    assert!(wrong.iter().any(named), "{wrong:#?}");
}

#[rstest]
#[case("UPDATE segment SET data = x'00' WHERE no = 0", "input", "the segment's compressed frame is damaged")]
#[case(
    "UPDATE segment SET last_line = 11 WHERE no = 0",
    "input",
    "its row says something else than its data"
)]
#[case(
    "UPDATE result SET payload = x'00', compressed = 1 WHERE line = 5",
    "results",
    "line 5: the database is damaged"
)]
#[case("UPDATE result SET chunks = 3 WHERE line = 5", "results", "line 5: 0 of its 3 pieces are there")]
#[case("UPDATE result SET line = 999 WHERE line = 5", "lines", "line 5 has no result")]
#[case(
    "UPDATE result SET line = 999 WHERE line = 5",
    "results",
    "1 results of lines that its input does not have"
)]
#[case("UPDATE cursor SET next_segment = 9", "lines", "line 21 is lost")]
#[case("DELETE FROM batch_segment", "lines", "line 12 is lost")]
#[case("UPDATE item_key SET first_hash = 1", "input", "block 0 of item keys in chunk 0 is damaged")]
#[tokio::test]
async fn what_a_file_holds_is_opened(#[case] fault: &str, #[case] kind: &str, #[case] what: &str) {
    let place = Place::new(Sqlite);
    let store = place.start().await;
    fill(&store).await;
    let file = store.begin_file(new_file(FileSource::Upload)).await.unwrap();
    store.append_segments(file, vec![segment(0, "m", 1..=2)]).await.unwrap();
    let keys = [3, 9].map(|hash| ItemKey { hash, line: 1, segment: 0 }).to_vec();
    store.append_keys(file, vec![KeyBlock { chunk: 0, no: 0, keys }]).await.unwrap();
    let summary = crate::domain::file::FileSummary { items: 2, ..Default::default() };
    store.finish_file(file, summary, None).await.unwrap();
    assert_eq!(wrong(&place).await, [""; 0]);
    place.execute(fault).await;
    let wrong = wrong(&place).await;
    let named = |line: &String| line.starts_with(&format!("{kind}: ")) && line.contains(what);
    assert!(wrong.iter().any(named), "{wrong:#?}");
}

#[tokio::test]
async fn damage_of_the_file_itself_is_found() {
    let place = Place::new(Sqlite);
    let store = place.start().await;
    fill(&store).await;
    store.close().await;
    let mut bytes = std::fs::read(place.path()).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..middle + 4_096].fill(0xa5);
    std::fs::write(place.path(), bytes).unwrap();
    let wrong = wrong(&place).await;
    assert!(wrong.iter().any(|line| line.starts_with("file: ")), "{wrong:#?}");
}

#[tokio::test]
async fn many_faults_of_a_kind_are_cut_short() {
    let place = Place::new(Sqlite);
    let store = place.start().await;
    let batch = batch_of(&store, 150).await;
    record(&store, succeeded(batch.key, 1..=150)).await;
    place.execute("UPDATE result SET payload = x'00', compressed = 1").await;
    let wrong = wrong(&place).await;
    assert_eq!((wrong.len(), wrong.last().unwrap().as_str()), (101, "results: and more"));
}

#[tokio::test]
async fn nothing_is_made_where_nothing_is() {
    let place = Place::new(Sqlite);
    let checked = check(&place.settings.location, |_| {}).await;
    assert_eq!(checked, Err(CheckError::Missing(place.path().to_owned())));
    assert!(!place.path().parent().unwrap().exists());
}
