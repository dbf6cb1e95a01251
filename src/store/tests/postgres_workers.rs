//! Several workers on one schema: what one has no other has, and what nobody has anyone may take.

use super::place::*;
use crate::domain::app::{AppName, AppSettings};
use crate::domain::batch::BatchRecord;
use crate::domain::file::FileSource;
use crate::domain::ids::AppKey;
use crate::domain::result::ItemStatus;
use crate::domain::worker::WorkerState;
use crate::store::{CancelOutcome, Claim, Claimed, Flush, LedgerEntry, Store, StoreError};

/// Two workers on one schema.
async fn two() -> (Place, Store, Store) {
    let place = Place::new(Dialect::Postgres);
    let one = place.start().await;
    let other = place.beside("host:2").start().await;
    (place, one, other)
}

/// The segments that a claim gave, and whether they ran before.
async fn claimed(store: &Store, claim: Claim) -> Vec<(u32, bool)> {
    let claimed = store.claim(claim).await.unwrap();
    claimed.segments.iter().map(|segment| (segment.head.no, segment.resumed)).collect()
}

/// Both that a segment's row says.
async fn owner(place: &Place, segment: i64) -> (i64, i64) {
    let sql = "SELECT worker, epoch FROM batch_segment WHERE segment = $1";
    let row = place.client().await.query_one(sql, &[&segment]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn keys(store: &Store) -> Vec<(i64, i64, WorkerState)> {
    let workers = store.workers().await.unwrap();
    workers.into_iter().map(|worker| (worker.key.0, worker.epoch, worker.state)).collect()
}

fn alone(batch: &BatchRecord, most: usize) -> Claim {
    Claim { alone: true, ..claim(batch, 0, most) }
}

#[tokio::test]
async fn no_segment_is_two_workers() {
    let (place, one, other) = two().await;
    let batch = batch_of(&one, 400).await;
    let mut taken = Vec::new();
    let claims = async |store: &Store| {
        let mut taken = Vec::new();
        loop {
            let claimed = store.claim(claim(&batch, 0, 3)).await.unwrap();
            taken.extend(claimed.segments.iter().map(|segment| segment.head.no));
            if !claimed.more {
                return taken;
            }
        }
    };
    let (mine, others) = tokio::join!(claims(&one), claims(&other));
    taken.extend(mine.into_iter().chain(others));
    taken.sort_unstable();
    assert_eq!(taken, (0..40).collect::<Vec<_>>());
    assert_eq!(place.rows("batch_segment WHERE worker IN (1, 2) AND epoch = 1").await, 40);
    let cursors = one.cursors(batch.key).await.unwrap();
    assert_eq!(cursors[0].next_segment, 40);
}

#[tokio::test]
async fn a_cursor_that_another_moves_is_asked_for_again() {
    let (place, one, other) = two().await;
    let batch = batch_of(&one, 30).await;
    let mut beside = place.client().await;
    let moving = beside.transaction().await.unwrap();
    moving.execute("SELECT 1 FROM cursor FOR UPDATE", &[]).await.unwrap();
    assert_eq!(one.claim(claim(&batch, 0, 9)).await.unwrap(), Claimed { segments: Vec::new(), more: true });
    moving.rollback().await.unwrap();
    assert_eq!(claimed(&one, claim(&batch, 0, 1)).await, [(0, false)]);
    assert_eq!(claimed(&other, claim(&batch, 0, 9)).await, [(1, false), (2, false)]);
}

#[tokio::test]
async fn what_is_released_is_anyones_and_comes_first() {
    let (_place, one, other) = two().await;
    let batch = batch_of(&one, 50).await;
    assert_eq!(claimed(&one, claim(&batch, 0, 2)).await.len(), 2);
    listening(&other).await;
    let mut work = other.work_wakeup().listen();
    assert!(one.orphans().await.unwrap().is_empty());
    one.release(batch.key).await.unwrap();
    work.heard().await;
    assert_eq!(other.orphans().await.unwrap(), [(batch.key, "m".to_owned())]);
    assert_eq!(claimed(&other, claim(&batch, 0, 3)).await, [(0, true), (1, true), (2, false)]);
    assert!(other.orphans().await.unwrap().is_empty());
    // The one that had it finishes nothing any more.
    let finished_segments = vec![(batch.key, 0), (batch.key, 1)];
    flush(&one, Flush { finished_segments: finished_segments.clone(), ..Flush::default() }).await;
    assert_eq!(one.leased_segments(batch.key).await.unwrap(), [0, 1, 2]);
    flush(&other, Flush { finished_segments, ..Flush::default() }).await;
    assert_eq!(one.leased_segments(batch.key).await.unwrap(), [2]);
}

#[tokio::test]
async fn a_starts_old_segments_are_its_own_first() {
    let (place, one, other) = two().await;
    let batch = batch_of(&one, 50).await;
    assert_eq!(claimed(&one, claim(&batch, 0, 2)).await.len(), 2);
    assert_eq!(claimed(&other, claim(&batch, 0, 1)).await, [(2, false)]);
    let one = place.crash_and_reopen(one).await;
    let boot = one.begin_boot(at(0)).await.unwrap();
    assert!(!boot.clean, "its own last boot did not end");
    assert!(other.orphans().await.unwrap().is_empty());
    assert_eq!(claimed(&other, claim(&batch, 0, 1)).await, [(3, false)]);
    assert_eq!(claimed(&one, claim(&batch, 0, 9)).await, [(0, true), (1, true), (4, false)]);
    assert_eq!(owner(&place, 2).await, (2, 1));
    assert_eq!(owner(&place, 0).await, (1, 2));
    one.end_boot().await;
    one.close().await;
    assert_eq!(other.orphans().await.unwrap(), [(batch.key, "m".to_owned())]);
    let states = [(1, 2, WorkerState::Ended), (2, 1, WorkerState::Alive)];
    assert_eq!(keys(&other).await, states);
    let one = place.open().await;
    assert!(one.begin_boot(at(0)).await.unwrap().clean);
}

#[tokio::test]
async fn what_a_start_does_not_claim_in_time_is_anyones() {
    let (place, one, other) = two().await;
    let batch = batch_of(&one, 20).await;
    assert_eq!(claimed(&one, claim(&batch, 0, 2)).await.len(), 2);
    let one = place.crash_and_reopen(one).await;
    one.begin_boot(at(0)).await.unwrap();
    assert_eq!(claimed(&one, claim(&batch, 0, 1)).await, [(0, true)]);
    listening(&other).await;
    let mut work = other.work_wakeup().listen();
    while other.orphans().await.unwrap().is_empty() {
        work.heard().await;
    }
    assert_eq!(claimed(&other, claim(&batch, 0, 2)).await, [(1, true)]);
    assert_eq!(owner(&place, 0).await, (1, 2));
}

#[tokio::test]
async fn a_batch_to_be_run_alone_is_one_workers_at_a_time() {
    let (_place, one, other) = two().await;
    let batch = batch_of(&one, 50).await;
    assert_eq!(claimed(&one, alone(&batch, 2)).await.len(), 2);
    assert_eq!(other.claim(alone(&batch, 2)).await.unwrap(), Claimed::default());
    assert_eq!(claimed(&one, alone(&batch, 1)).await, [(2, false)]);
    one.release(batch.key).await.unwrap();
    assert_eq!(claimed(&other, alone(&batch, 4)).await, [(0, true), (1, true), (2, true), (3, false)]);
    assert_eq!(one.claim(alone(&batch, 2)).await.unwrap(), Claimed::default());
    let finished_segments = (0..4).map(|segment| (batch.key, segment)).collect();
    flush(&other, Flush { finished_segments, ..Flush::default() }).await;
    let (mine, others) = tokio::join!(one.claim(alone(&batch, 9)), other.claim(alone(&batch, 9)));
    assert_eq!(mine.unwrap().segments.len() + others.unwrap().segments.len(), 1);
}

#[tokio::test]
async fn only_what_runs_is_claimed_and_what_stops_by_who_closes_it() {
    let (_place, one, _other) = two().await;
    let batch = batch_of(&one, 30).await;
    assert_eq!(claimed(&one, claim(&batch, 0, 1)).await, [(0, false)]);
    let cancelled = one.cancel_batch(AppKey::DEFAULT, &batch.id).await.unwrap();
    assert!(matches!(cancelled, CancelOutcome::Cancelling(_)));
    assert_eq!(one.claim(claim(&batch, 0, 9)).await.unwrap(), Claimed::default());
    let closing = || Claim { closing: true, ..claim(&batch, 0, 9) };
    assert_eq!(claimed(&one, closing()).await, [(1, false), (2, false)]);
    record(&one, (1..=30).map(|line| result(batch.key, line, ItemStatus::Cancelled)).collect()).await;
    assert_eq!(one.claim(closing()).await.unwrap(), Claimed::default());
}

#[tokio::test]
async fn a_worker_whose_part_is_lost_claims_nothing_until_it_takes_part_again() {
    let (place, one, other) = two().await;
    let batch = batch_of(&one, 30).await;
    assert_eq!(claimed(&one, claim(&batch, 0, 1)).await, [(0, false)]);
    assert!(one.may_start());
    let mut told = one.ownership_wakeup().listen();
    // What a taker does.
    place.execute("UPDATE worker SET epoch = epoch + 1, taken_at = 1 WHERE key = 1; UPDATE batch_segment SET worker = 0").await;
    assert_eq!(one.claim(claim(&batch, 0, 1)).await.unwrap_err(), StoreError::Fenced);
    told.heard().await;
    assert!(one.ownership_lost() && !one.may_start());
    assert_eq!(one.release(batch.key).await.unwrap_err(), StoreError::Fenced);
    flush(&one, Flush { finished_segments: vec![(batch.key, 0)], ..Flush::default() }).await;
    assert_eq!(claimed(&other, claim(&batch, 0, 1)).await, [(0, true)]);
    assert_eq!(keys(&other).await[0], (1, 2, WorkerState::Dead));
    // What runs at the moment is recorded all the same: it is done.
    assert_eq!(record(&one, succeeded(batch.key, [1])).await.inserted, 1);

    one.rejoin().await.unwrap();
    told.heard().await;
    assert!(one.may_start() && !one.ownership_lost());
    assert_eq!(keys(&one).await[0], (1, 3, WorkerState::Alive));
    assert_eq!(claimed(&one, claim(&batch, 0, 1)).await, [(1, false)]);
    assert_eq!(owner(&place, 1).await, (1, 3));
}

#[tokio::test]
async fn before_its_boot_a_process_is_no_worker() {
    let place = Place::new(Dialect::Postgres);
    let store = place.open().await;
    let batch = batch_of(&store, 3).await;
    assert_eq!(store.claim(claim(&batch, 0, 1)).await.unwrap_err(), StoreError::Fenced);
    assert!(!store.may_start() && !store.ownership_lost());
    assert!(store.workers().await.unwrap().is_empty());
}

/// The whole law, in its own time: about 18 seconds.
#[tokio::test]
async fn a_dead_workers_segments_and_uploads_are_taken_over() {
    let (place, one, other) = two().await;
    let batch = batch_of(&one, 30).await;
    assert_eq!(claimed(&one, claim(&batch, 0, 2)).await.len(), 2);
    one.begin_file(new_file(FileSource::Upload)).await.unwrap();
    other.begin_file(new_file(FileSource::Upload)).await.unwrap();
    let third = place.beside("host:3").start().await;
    other.note_load(7, 9);
    drop(one);
    let mut work = other.work_wakeup().listen();
    while other.orphans().await.unwrap().is_empty() {
        work.heard().await;
    }
    assert_eq!(claimed(&third, claim(&batch, 0, 9)).await, [(0, true), (1, true), (2, false)]);
    let states = [(1, 2, WorkerState::Dead), (2, 1, WorkerState::Alive), (3, 1, WorkerState::Alive)];
    assert_eq!(keys(&other).await, states);
    let told = &third.workers().await.unwrap()[1];
    assert_eq!((told.running, told.leases), (7, 9));
    assert_eq!(place.rows("file WHERE status = 'uploading' AND deleted_at IS NULL AND worker = 2").await, 1);
    assert_eq!(place.rows("file WHERE status = 'uploading' AND deleted_at IS NULL").await, 1);
    assert!(other.may_start() && third.may_start());
}

#[tokio::test]
async fn uploads_of_another_worker_survive_a_start_and_sweeps() {
    let (place, one, other) = two().await;
    let file = one.begin_file(new_file(FileSource::Upload)).await.unwrap();
    let (inline, _) = items(&one, FileSource::Inline, 3).await;
    let other = place.beside("host:2").crash_and_reopen(other).await;
    other.begin_boot(at(0)).await.unwrap();
    while other.sweep(at(0)).await.unwrap().rows > 0 {}
    one.append_segments(file, vec![segment(0, "m", 1..=3)]).await.unwrap();
    create(&one, new_batch(inline, 3)).await;
}

#[tokio::test]
async fn a_worker_hears_what_others_do() {
    let (_place, one, other) = two().await;
    listening(&other).await;
    let mut bells =
        [other.work_wakeup(), other.progress_wakeup(), other.apps_wakeup(), other.levels_wakeup()]
            .map(|bell| bell.listen());
    let mut own = one.levels_wakeup().listen();
    listening(&one).await;
    let batch = batch_of(&one, 3).await;
    bells[0].heard().await;
    bells[1].heard().await;
    one.put_app(AppName::new("search").unwrap(), AppSettings::default()).await.unwrap();
    bells[2].heard().await;
    let level = |state: u8| vec![LedgerEntry { name: "l".to_owned(), state: vec![state] }];
    flush(&one, Flush { ledger: level(1), ..Flush::default() }).await;
    bells[3].heard().await;
    let (entries, version) = other.ledger_since(0).await.unwrap();
    assert_eq!(entries, level(1));
    assert!(one.ledger_since(0).await.unwrap().0.is_empty());
    flush(&other, Flush { ledger: level(2), ..Flush::default() }).await;
    own.heard().await;
    assert_eq!(one.ledger_since(0).await.unwrap().0, level(2));
    assert!(other.ledger_since(version).await.unwrap().0.is_empty(), "its own by now");
    record(&one, succeeded(batch.key, [1])).await;
    bells[1].heard().await;
}

#[tokio::test]
async fn a_boot_hears_which_limits_others_have() {
    let place = Place::new(Dialect::Postgres);
    let one = place.start().await;
    one.note_limits("[1]");
    while place.rows("worker WHERE limits = '[1]'").await == 0 {}
    let other = place.beside("host:2").start().await;
    let told: Vec<String> = other.limits_of_others().iter().map(|told| told.limits.clone()).collect();
    assert_eq!(told, ["[1]"]);
    assert!(!other.is_first());
}

#[tokio::test]
async fn one_who_hears_nobody_looks_for_itself() {
    let relay = super::postgres_outages::Relay::start().await;
    relay.deafens.store(true, std::sync::atomic::Ordering::Relaxed);
    let one = relay.open().await;
    let other = relay.place.beside("host:2").open().await;
    let mut work = other.work_wakeup().listen();
    work.heard().await;
    work.heard().await;
    assert!(!one.hears_others() && !other.hears_others());
}

#[tokio::test]
async fn a_schema_at_work_is_not_copied_to_and_one_being_copied_to_is_not_served() {
    use crate::store::copy::{CopyError, CopySettings, copy};
    let source = Place::new(Dialect::Sqlite);
    source.start().await.close().await;
    let place = Place::new(Dialect::Postgres);
    let store = place.start().await;
    let crate::store::StoreLocation::Postgres { url, schema, .. } = place.settings.location.clone() else {
        panic!()
    };
    let settings = CopySettings { from: source.path().to_owned(), url, schema: schema.clone() };
    match copy(&settings, &mut |_| {}).await {
        Err(CopyError::Destination(StoreError::SchemaInUse(used))) => assert_eq!(used, schema),
        other => panic!("{other:?}"),
    }
    let mut beside = place.client().await;
    let copying = beside.transaction().await.unwrap();
    let sql = format!("SELECT pg_advisory_xact_lock(hashtextextended('sluicegate holds ' || '{schema}', 0))");
    copying.batch_execute(&sql).await.unwrap();
    assert_eq!(store.rejoin().await.unwrap_err(), StoreError::SchemaInUse(schema.clone()));
    copying.rollback().await.unwrap();
    place.execute("CREATE TABLE copying (source BYTEA NOT NULL)").await;
    assert_eq!(place.try_open().await.unwrap_err(), StoreError::UnfinishedCopy(schema));
}

#[tokio::test]
async fn a_beat_that_is_given_up_leaves_no_session_behind() {
    let place = Place::new(Dialect::Postgres);
    let store = place.start().await;
    let (holder, looking) = (place.client().await, place.client().await);
    holder.batch_execute("BEGIN; SELECT 1 FROM worker FOR UPDATE").await.unwrap();
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{}%beat_at%'",
        place.schema()
    );
    let mut seen = std::collections::BTreeSet::<i32>::new();
    while seen.len() < 3 {
        let rows = looking.query(&sql, &[]).await.unwrap();
        let waiting: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        seen.extend(&waiting);
        assert!(waiting.len() <= 2, "{waiting:?} wait at once");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    store.close().await;
}

/// Returns once it hears others.
async fn listening(store: &Store) {
    let mut levels = store.levels_wakeup().listen();
    while !store.hears_others() {
        levels.heard().await;
    }
}
