//! `store check`, `store prune`, and stores that earlier versions left behind.

use rstest::rstest;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::{Value, json};

use crate::harness::{
    Process, Settings, chats, check_store, check_whole, command, eventually, jsonl, postgres, upstream,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_a_store_is_said_line_by_line() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let process = Process::start(&settings);
    let id = process.submit(&chats(70, ""), json!({})).await;
    process.ended(&id).await;
    let beside = command(&settings, &["store", "check", "--json"]).await.ok();
    let report: Value = serde_json::from_str(&beside).unwrap();
    assert_eq!((&report["ok"], &report["looked_at"]["results"]), (&json!(true), &json!(70)), "{report}");
    process.kill();
    let database = Connection::open(settings.file("store.db")).unwrap();
    database.execute("DELETE FROM result WHERE line = 7", []).unwrap();
    drop(database);
    let found = command(&settings, &["store", "check"]).await;
    assert_eq!(found.code, Some(1), "{found:?}");
    let lines: Vec<&str> = found.output.lines().collect();
    let expected = format!("lines: batch {id}: line 7 has no result");
    assert!(lines.contains(&expected.as_str()), "{found:?}");
    assert!(found.said.contains("something is wrong"), "{found:?}");
    let missing = command(&settings, &["store", "check", "--store", "sqlite:gone/store.db"]).await;
    assert_eq!(missing.code, Some(6), "{missing:?}");
}

#[rstest]
#[case::sqlite(false)]
#[case::postgres(true)]
#[tokio::test(flavor = "multi_thread")]
async fn pruning_is_told_before_it_is_done(#[case] on_server: bool) {
    let upstream = upstream("").await;
    let mut settings = Settings::new(&upstream);
    if on_server {
        let (url, schema) = (postgres::url(), postgres::new_schema());
        settings = settings.with(&format!("store = {{ url = \"{url}\", schema = \"{schema}\" }}"));
    }
    let mut process = Process::start(&settings);
    let ended = process.submit(&chats(30, ""), json!({})).await;
    process.ended(&ended).await;
    let upload = process.upload(jsonl(&chats(3, ""))).await.ok();
    let due = async |settings: &Settings, extra: &[&str]| -> Value {
        let arguments = [&["store", "prune", "--json"], extra].concat();
        serde_json::from_str(&command(settings, &arguments).await.ok()).unwrap()
    };
    assert_eq!(due(&settings, &["--dry-run"]).await["apps"], json!([]), "nothing is that old");
    // As if everything had been kept long enough, but for the uploads.
    let now = settings.clone().with(r#"retention = { results = "1ms" }"#);
    let told = due(&now, &["--dry-run"]).await;
    let app = &told["apps"][0];
    assert_eq!(
        (&app["app"], &app["batches"], &app["results"]),
        (&json!("default"), &json!(1), &json!(30)),
        "{told}"
    );
    assert!(app["result_bytes"].as_u64().unwrap() > 3_000, "{told}");
    assert_eq!(app["files"], 0, "uploads are kept: {told}");
    process.batch(&ended).await;
    if !on_server {
        let refused = command(&now, &["store", "prune"]).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.said.contains("a service runs on it"), "{refused:?}");
    }
    process.terminate();
    assert!(process.exited().await.success());
    assert_eq!(due(&now, &[]).await["apps"], told["apps"], "what was told is what is erased");
    assert_eq!(due(&now, &["--dry-run"]).await["apps"], json!([]));
    let process = Process::start(&settings);
    assert_eq!(process.get(&format!("/v1/batches/{ended}")).await.status, 404);
    process.get(&format!("/v1/files/{}", upload["id"].as_str().unwrap())).await.ok();
}

/// A copy of the data folder that a build of an earlier schema left when it was killed; `tests/it/data/README.md`
/// says how it was made. How many results it holds.
fn unpack_old(settings: &Settings, schema: u32) -> u64 {
    let kept = format!("{}/tests/it/data/schema-{schema}", env!("CARGO_MANIFEST_DIR"));
    for file in ["store.db", "store.db-wal"] {
        let packed = std::fs::File::open(format!("{kept}/{file}.zst")).unwrap();
        std::fs::write(settings.file(file), zstd::decode_all(packed).unwrap()).unwrap();
    }
    // It is kept for longer than any deadline.
    let database = Connection::open(settings.file("store.db")).unwrap();
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    let century = 100_i64 * 366 * 86_400 * 1_000_000;
    database.execute("UPDATE batch SET window = ?1", [century]).unwrap();
    database.query_row("SELECT count(*) FROM result", [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

#[rstest]
#[case::the_first(1)]
#[case::the_last_before_this(4)]
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_an_earlier_schema_is_brought_up_to_date_and_goes_on(#[case] schema: u32) {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with(r#"retention = { results = "36500d", files = "36500d" }"#);
    // Of the batch that had ended, and of the one that runs.
    let had = unpack_old(&settings, schema) - 70;
    assert!((80..150).contains(&had), "{had}");
    let outdated = command(&settings, &["store", "check"]).await;
    assert!(outdated.said.contains(&format!("the store has schema {schema}")), "{outdated:?}");
    let process = Process::start(&settings);
    let batches = process.get("/v1/batches?limit=100").await.ok();
    let find = |what: &str| {
        let all = batches["data"].as_array().unwrap();
        let found = all.iter().find(|batch| batch["metadata"]["what"] == what);
        found.unwrap_or_else(|| panic!("no batch {what}: {batches:#}")).clone()
    };
    let id = |batch: &Value| batch["id"].as_str().unwrap().to_owned();

    let ended = find("ended");
    assert_eq!(ended["request_counts"], json!({"total": 70, "completed": 69, "failed": 1}));
    let results = process.by_id(&id(&ended)).await;
    assert_eq!(results.len(), 70);
    assert_eq!(results["item-3"]["response"]["status_code"], 400);
    assert_eq!(results["item-4"]["response"]["status_code"], 200);
    assert_eq!(process.content(&ended["output_file_id"]).await.lines().len(), 69);
    assert_eq!(process.content(&ended["input_file_id"]).await.lines().len(), 70);

    let failed = find("failed");
    assert_eq!(
        (&failed["status"], &failed["errors"]["data"][0]["code"]),
        (&json!("failed"), &json!("duplicate_custom_id"))
    );

    let running = find("running");
    check_whole(&process, &id(&running), 150).await;
    check_whole(&process, &id(&find("last")), 1).await;
    eventually("nothing is called any more", || upstream.oracle().in_flight == 0).await;
    assert!(upstream.log().arrived <= 151 - had, "what had a result is not called again");
    process.kill();
    check_store(&settings, &settings.file("store.db")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_schema_is_refused_and_left_alone() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let process = Process::start(&settings);
    let id = process.submit(&chats(5, ""), json!({})).await;
    process.ended(&id).await;
    process.kill();
    let database = Connection::open(settings.file("store.db")).unwrap();
    database.execute("UPDATE schema SET version = 99, min_compatible = 98", []).unwrap();
    drop(database);
    let before = std::fs::read(settings.file("store.db")).unwrap();
    let (code, said) = Process::run_to_end(&settings);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the database has schema 98") && said.contains("newer version"), "{said}");
    assert!(std::fs::read(settings.file("store.db")).unwrap() == before, "it is as it was");
}
