//! `store copy`: a service moves from its file to a server, with everything it has, and goes on there.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{
    Client, Process, Relay, Settings, Then, chat, chats, eventually, jsonl, postgres, upstream,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluicegate");
const NO_LIMIT: usize = usize::MAX / 2;

/// The command that copies the store of these settings.
fn copying(settings: &Settings, url: &str, schema: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    let from = format!("sqlite:{}", settings.file("store.db").display());
    command.args(["store", "copy", "--from", &from, "--to", url, "--schema", schema]);
    command.env_clear().current_dir(settings.file(".")).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn copy(settings: &Settings, url: &str, schema: &str) -> (Option<i32>, String) {
    let output = copying(settings, url, schema).output().await.unwrap();
    (output.status.code(), said(&output))
}

/// The same service on the copy.
fn moved(settings: &Settings, schema: &str) -> Settings {
    settings.clone().with(&format!("store = {{ url = \"{}\", schema = \"{schema}\" }}", postgres::url()))
}

/// All that a client can see of an ended batch.
async fn seen(client: &Client, id: &str) -> BTreeMap<&'static str, Value> {
    let batch = client.batch(id).await;
    let mut seen = BTreeMap::from([
        ("results", client.results(id, "order=completion").await.into()),
        ("files", client.get("/v1/files").await.ok()),
    ]);
    // Without errors there is no error file.
    for file in ["input_file_id", "output_file_id", "error_file_id"] {
        if !batch[file].is_null() {
            seen.insert(file, client.content(&batch[file]).await.text.into());
        }
    }
    seen.insert("batch", batch);
    seen
}

/// Lines whose texts don't compress, so that many bytes are stored.
fn bulky(count: usize) -> Vec<Value> {
    let text = || (0..16).map(|_| format!("{:032x}", rand::random::<u128>())).collect::<String>();
    (0..count).map(|number| chat(&format!("item-{number}"), &text())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_goes_on_in_the_copy_with_all_it_had() {
    const RUNNING: usize = 200;
    let upstream = upstream(r#"latency = "5ms..30ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 8 }");
    let process = Process::start(&settings);
    let admin = process.make_key(json!({"app": "default", "scope": "admin"})).await;
    let admin = process.with_key(&admin);
    let key = admin.make_key(json!({"app": "search"})).await;
    let search = process.with_key(&key);
    let mut lines = chats(700, "");
    lines[3] = chat("item-3", "[[500 x2]]");
    lines[4] = chat("item-4", "[[400]]");
    lines[5] = chat("item-5", "[[huge=3MB]]");
    let ended = search.submit(&lines, json!({"metadata": {"täg": "\u{1F980}"}})).await;
    search.ended(&ended).await;
    let before = seen(&search, &ended).await;
    let mut lines = chats(RUNNING, "");
    lines[0] = chat("item-0", "[[500 x3]]");
    let running = admin.submit(&lines, json!({})).await;
    let until = upstream.log().arrived + 60;
    eventually("the second batch runs", || upstream.log().arrived >= until).await;
    process.kill();
    eventually("its calls are over", || upstream.oracle().in_flight == 0).await;
    let arrived = upstream.log().arrived;

    let schema = postgres::new_schema();
    let (code, told) = copy(&settings, &postgres::url(), &schema).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("copied result:") && told.contains("is ready for a service"), "{told}");

    let process = Process::start(&moved(&settings, &schema));
    let (search, admin) = (as_at(&process, &search), as_at(&process, &admin));
    assert_eq!(before["results"].as_array().unwrap().len(), 700);
    assert_eq!(seen(&search, &ended).await, before);
    let batch = admin.ended(&running).await;
    assert_eq!(batch["request_counts"], json!({"total": RUNNING, "completed": RUNNING, "failed": 0}));
    assert_eq!(admin.content(&batch["output_file_id"]).await.lines().len(), RUNNING);
    assert_eq!(admin.by_id(&running).await.len(), RUNNING);
    assert!(upstream.log().arrived - arrived <= RUNNING as u64, "what was recorded ran again");
    let apps = admin.get("/admin/v1/apps").await.ok();
    let app = apps["data"].as_array().unwrap().iter().find(|app| app["name"] == "search").unwrap().clone();
    assert_eq!(app["usage"][0]["requests"], 700, "{app:#}");
    let new = search.submit(&chats(5, ""), json!({})).await;
    assert_eq!(search.ended(&new).await["request_counts"]["completed"], 5);
    process.kill();

    let process = Process::start(&settings);
    assert_eq!(seen(&as_at(&process, &search), &ended).await, before, "the source is as it was");
}

/// The same caller at another process.
fn as_at(process: &Process, caller: &Client) -> Client {
    process.with_key(caller.key().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_copy_goes_on_and_no_service_starts_on_it() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let process = Process::start(&settings);
    let id = process.submit(&bulky(1_600), json!({})).await;
    process.ended(&id).await;
    let before = seen(&process, &id).await;
    process.kill();
    let relay = Relay::start(NO_LIMIT, Then::Cut).await;
    assert_eq!(copy(&settings, &relay.url(), &postgres::new_schema()).await.0, Some(0));
    let whole = relay.sent();

    let schema = postgres::new_schema();
    let mut relay = Relay::start(whole * 2 / 5, Then::Stall).await;
    let mut killed = copying(&settings, &relay.url(), &schema).spawn().unwrap();
    relay.over().await;
    killed.kill().await.unwrap();
    drop(relay);
    let (code, told) = Process::run_to_end(&moved(&settings, &schema));
    assert_ne!(code, Some(0));
    assert!(told.contains("unfinished copy"), "{told}");

    let relay = Relay::start(whole * 2 / 5, Then::Cut).await;
    let (code, told) = copy(&settings, &relay.url(), &schema).await;
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("the same command goes on from there"), "{told}");
    drop(relay);

    let relay = Relay::start(NO_LIMIT, Then::Cut).await;
    let (code, told) = copy(&settings, &relay.url(), &schema).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("going on with a copy"), "{told}");
    assert!(relay.sent() < whole / 2, "{} of {whole} bytes were sent again", relay.sent());
    let process = Process::start(&moved(&settings, &schema));
    assert_eq!(seen(&process, &id).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_differs_is_found_and_so_is_another_source() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let process = Process::start(&settings);
    let id = process.submit(&bulky(1_600), json!({})).await;
    process.ended(&id).await;
    process.kill();
    let relay = Relay::start(NO_LIMIT, Then::Cut).await;
    assert_eq!(copy(&settings, &relay.url(), &postgres::new_schema()).await.0, Some(0));
    let whole = relay.sent();
    let schema = postgres::new_schema();
    let relay = Relay::start(whole * 4 / 5, Then::Cut).await;
    assert_eq!(copy(&settings, &relay.url(), &schema).await.0, Some(4));
    let sql = format!("UPDATE {schema}.result SET payload = payload || 'x'::bytea WHERE line = 1");
    assert_eq!(postgres::client().await.execute(&sql, &[]).await.unwrap(), 1);
    for _ in 0..2 {
        let (code, told) = copy(&settings, &postgres::url(), &schema).await;
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("table result differs"), "{told}");
    }
    let (_, told) = Process::run_to_end(&moved(&settings, &schema));
    assert!(told.contains("unfinished copy"), "{told}");

    Process::start(&settings).kill();
    let (code, told) = copy(&settings, &postgres::url(), &schema).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("before its service ran again"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_or_not_empty_is_refused() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let (code, told) = copy(&settings, &postgres::url(), &postgres::new_schema()).await;
    assert_eq!(code, Some(6), "{told}");
    assert!(told.contains("there is no database") && !settings.file("store.db").exists(), "{told}");

    let process = Process::start(&settings);
    process.upload(jsonl(&chats(3, ""))).await.ok();
    let (code, told) = copy(&settings, &postgres::url(), &postgres::new_schema()).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("is used by another process"), "{told}");
    process.kill();

    let schema = postgres::new_schema();
    let other = Settings::new(&upstream);
    let process = Process::start(&moved(&other, &schema));
    let (code, told) = copy(&settings, &postgres::url(), &schema).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&format!("the schema {schema} is used by another process")), "{told}");
    process.kill();
    // Nobody can tell one that was killed from one that is late; some seconds later it would count as dead.
    let sql = format!("UPDATE {schema}.worker SET beat_at = beat_at - 16000000");
    postgres::client().await.batch_execute(&sql).await.unwrap();
    let (code, told) = copy(&settings, &postgres::url(), &schema).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("is not empty"), "{told}");
    Process::start(&moved(&other, &schema)).kill();

    let user = postgres::new_schema();
    postgres::client().await.batch_execute(&format!("CREATE ROLE {user} LOGIN")).await.unwrap();
    let url = postgres::url().replace("://postgres@", &format!("://{user}@"));
    let (code, told) = copy(&settings, &url, &postgres::new_schema()).await;
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains(&format!("user {user} may not make or change the schema")), "{told}");

    let source = rusqlite::Connection::open(settings.file("store.db")).unwrap();
    source.execute("UPDATE schema SET version = 1", []).unwrap();
    drop(source);
    let (code, told) = copy(&settings, &postgres::url(), &postgres::new_schema()).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("start the service on it once"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_can_be_named_by_a_file_or_the_configuration_and_told_of_in_json() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let process = Process::start(&settings);
    process.upload(jsonl(&chats(3, ""))).await.ok();
    process.kill();
    let url = settings.file("url");
    std::fs::write(&url, format!("{}\n", postgres::url())).unwrap();
    let from = format!("sqlite:{}", settings.file("store.db").display());
    let (first, second) = (postgres::new_schema(), postgres::new_schema());
    let by_file = ["--to-file".to_owned(), url.display().to_string(), "--schema".to_owned(), first.clone()];
    let config = moved(&settings, &second).write().unwrap();
    let by_config = ["--config".to_owned(), config.display().to_string()];
    let mut told = Vec::new();
    for (named, schema) in [(by_file.to_vec(), &first), (by_config.to_vec(), &second)] {
        let mut command = Command::new(PROGRAM);
        command.args(["store", "copy", "--json", "--from", &from]).args(named).env_clear();
        // No configuration but the one that is named.
        let folder = tempfile::tempdir().unwrap();
        let output = command.current_dir(folder.path()).output().await.unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["schema"], &report["resumed"]), (&json!(schema), &json!(false)));
        assert_eq!(report["tables"]["file"]["rows"], 1);
        told.push(report["tables"].clone());
    }
    assert_eq!(told[0], told[1], "the same rows have the same sums");
}
