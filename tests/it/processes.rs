//! The process: how it ends, what a crash leaves, and when it refuses to start.

use serde_json::{Value, json};
use sluicegate::demo::upstream::Running;

use crate::harness::{Process, Settings, chats, check_store, check_whole, eventually, upstream};

/// What is in the store agrees with itself once nobody has it open.
async fn check_database(settings: &Settings) {
    check_store(settings, &settings.file("store.db")).await;
}

/// Rows of results, read from the database of a process that is gone.
fn durable(settings: &Settings) -> u64 {
    let database = rusqlite::Connection::open(settings.file("store.db")).unwrap();
    database.query_row("SELECT count(*) FROM result", [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
}

/// Calls beyond the first one of each item.
fn extra_calls(upstream: &Running, items: usize) -> u64 {
    let log = upstream.log();
    assert_eq!(log.ids, items, "every item was called");
    log.arrived - items as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_nothing_and_repeat_only_what_was_in_flight() {
    const ITEMS: usize = 400;
    let upstream = upstream(r#"latency = "10ms..60ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 16 }");
    let process = Process::start(&settings);
    let id = process.submit(&chats(ITEMS, ""), json!({})).await;
    let mut process = process;
    let mut not_durable = 0;
    // At the first call, in the middle, and soon after a start.
    for more in [1, 40, 90, 5, 60] {
        let until = upstream.log().arrived + more;
        eventually("it goes on", || upstream.log().arrived >= until).await;
        process.kill();
        // What the kernel still held of its connections arrives before the next one starts.
        eventually("its calls are over", || upstream.oracle().in_flight == 0).await;
        not_durable += upstream.log().ids as u64 - durable(&settings);
        process = Process::start(&settings);
    }
    check_whole(&process, &id, ITEMS).await;
    let extra = extra_calls(&upstream, ITEMS);
    assert!(extra <= not_durable, "{extra} extra calls, {not_durable} were started and not durable");
    // In flight, and at most as many again on their way to the disk.
    assert!(not_durable <= 5 * 2 * 16, "{not_durable}");
    process.kill();
    check_database(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_wait_for_the_disk_stay_within_the_memory_budget() {
    const ITEMS: usize = 64;
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with(
        r#"
        server = { memory_budget = "16MiB" }
        batches = { max_line = "1MiB" }
        limits = { max_concurrent = 64 }
        "#,
    );
    let process = Process::start(&settings);
    let before = process.peak_memory();
    let id = process.submit(&chats(ITEMS, "[[huge=8MB]]"), json!({})).await;
    assert_eq!(process.ended(&id).await["request_counts"]["completed"], ITEMS);
    let took = (process.peak_memory() - before) >> 20;
    // Of 512 MB. Beside the budget: one reply beyond it, its copies on the way to the disk, what the allocator keeps.
    assert!(took < 190, "{took} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_was_answered_survives_a_kill() {
    let upstream = upstream(r#"latency = "10ms""#).await;
    let settings = Settings::new(&upstream);
    let process = Process::start(&settings);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(process.submit(&chats(3, ""), json!({})).await);
    }
    process.kill();
    let process = Process::start(&settings);
    for id in &ids {
        check_whole(&process, id, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_in_flight_and_makes_no_extra_call() {
    const ITEMS: usize = 120;
    let upstream = upstream(r#"latency = "400ms..900ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 12 }");
    let mut process = Process::start(&settings);
    let id = process.submit(&chats(ITEMS, ""), json!({})).await;
    eventually("it runs", || upstream.log().arrived >= 12).await;
    process.terminate();
    eventually("it drains", || process.log().contains("draining")).await;
    // It answers until the end, and says that it takes nothing new.
    let ready = process.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"], json!(["draining"]));
    assert_eq!(process.upload("{}\n").await.refused(503)["code"], "draining");
    assert_eq!(process.exited().await.code(), Some(0), "{}", process.log());
    // Nothing failed: whoever watches the log for errors is not called by an update.
    assert!(!process.log().contains(r#""level":"ERROR""#), "{}", process.log());
    let called = upstream.log().arrived;
    assert!(called < ITEMS as u64);
    assert_eq!(upstream.log().gone, 0, "no call was cut");

    let process = Process::start(&settings);
    assert_eq!(process.batch(&id).await["request_counts"]["completed"], called);
    upstream.update(json!({"latency": "1ms"}).as_object().unwrap().clone()).unwrap();
    check_whole(&process, &id, ITEMS).await;
    assert_eq!(extra_calls(&upstream, ITEMS), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_gives_up_at_the_end_of_its_grace() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("server = { drain_timeout = \"300ms\" }");
    let mut process = Process::start(&settings);
    let id = process.submit(&chats(4, "[[hang x1]]"), json!({})).await;
    eventually("all hang", || upstream.log().arrived == 4).await;
    process.terminate();
    assert_eq!(process.exited().await.code(), Some(0), "{}", process.log());
    let process = Process::start(&settings);
    check_whole(&process, &id, 4).await;
    assert_eq!(extra_calls(&upstream, 4), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("server = { drain_timeout = \"5m\" }");
    let mut process = Process::start(&settings);
    let id = process.submit(&chats(4, "[[hang x1]]"), json!({})).await;
    eventually("all hang", || upstream.log().arrived == 4).await;
    process.terminate();
    eventually("it drains", || process.log().contains("draining")).await;
    process.terminate();
    assert_eq!(process.exited().await.code(), Some(1), "{}", process.log());
    let process = Process::start(&settings);
    check_whole(&process, &id, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_has_one_service() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let first = Process::start(&settings);
    let (code, said) = Process::run_to_end(&settings);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("used by another process"), "{said}");
    // The one that runs is not harmed, and what a killed one leaves is no lock.
    let id = first.submit(&chats(2, ""), json!({})).await;
    check_whole(&first, &id, 2).await;
    first.kill();
    Process::start(&settings).get("/livez").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused_and_left_alone() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    Process::start(&settings).kill();
    let database = rusqlite::Connection::open(settings.file("store.db")).unwrap();
    database.execute("UPDATE schema SET version = 999, min_compatible = 999", []).unwrap();
    drop(database);
    let (code, said) = Process::run_to_end(&settings);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("schema 999") && said.contains("newer version"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_names_every_mistake() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with(
        r#"
        server = { drain_timeut = "10s" }
        limits = { requests = "many" }
        "#,
    );
    let (code, said) = Process::run_to_end(&settings);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("drain_timeout"), "the nearest key is named: {said}");
    assert!(said.contains("limits.requests") && said.contains("many"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_kills_the_process_is_found_and_fails_alone() {
    let upstream = upstream(r#"latency = "30ms""#).await;
    let settings = Settings::new(&upstream);
    let mut process = Process::start(&settings);
    let mut lines = chats(5, "");
    lines[0] = crate::harness::chat("item-0", "[[hang]]");
    let id = process.submit(&lines, json!({})).await;
    eventually("it runs", || upstream.calls("item-0") == 1).await;
    // Results of the first run are not what clears it: in this one nothing is recorded any more.
    let done = |batch: &Value| batch["request_counts"]["completed"] == 4;
    process.until(&id, "the others are done", done).await;
    process.kill();
    process = Process::start(&settings);
    eventually("it is tried again", || upstream.calls("item-0") == 2).await;
    // Each further death happens while it is alone.
    for calls in 3..=5 {
        process.kill();
        process = Process::start(&settings);
        eventually("it is tried alone", || upstream.calls("item-0") == calls).await;
    }
    process.kill();
    let process = Process::start(&settings);
    let batch = process.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": 5, "completed": 4, "failed": 1}));
    assert_eq!(process.by_id(&id).await["item-0"]["error"]["code"], "worker_crash");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_open_as_many_files_as_the_system_allows() {
    let upstream = upstream("").await;
    let process = Process::start_with_open_files(&Settings::new(&upstream), 128);
    let (soft, hard) = process.open_files();
    assert_eq!(soft, hard);
    assert_ne!(soft, "128");
}
