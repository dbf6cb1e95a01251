//! Backups: taken by a service and beside it, under load; restored elsewhere and in place of what there was.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    Process, Service, Settings, chat, chats, check_store, check_whole, command, eventually, postgres,
    upstream,
};

/// A tenth above the configured 50/s, since a busy test machine delivers late what was sent on time; a burst after a
/// restore would be half a period's worth or more.
const ORACLE: &str = r#"
    latency = "1ms..20ms"
    limits = [{ law = "sliding", limit = 55, period = "1s" }]
"#;

/// The same service on another database file.
fn on(settings: &Settings, database: &Path) -> Settings {
    settings.clone().with(&format!("store = {{ url = \"sqlite:{}\" }}", database.display()))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_goes_on_elsewhere_without_loss_repeats_or_a_burst() {
    const ITEMS: usize = 110;
    let upstream = upstream(ORACLE).await;
    let settings = Settings::new(&upstream).with(r#"providers.up.limits = { requests = "50/s" }"#);
    let process = Process::start(&settings);
    let mut lines = chats(12, "");
    lines[2] = chat("item-2", "[[400]]");
    lines[5] = chat("item-5", "[[huge=3MB]]");
    let ended = process.submit(&lines, json!({})).await;
    process.ended(&ended).await;
    let before = process.results(&ended, "order=completion").await;
    let running = process.submit(&chats(ITEMS, ""), json!({})).await;
    let arrived = upstream.log().arrived;
    eventually("the second batch runs", || upstream.log().arrived >= arrived + 30).await;
    let told = process.post("/admin/v1/backup", &json!({})).await.ok();
    assert!(upstream.log().arrived < arrived + ITEMS as u64, "it was taken under load");
    process.kill();
    eventually("its calls are over", || upstream.oracle().in_flight == 0).await;

    assert_eq!(told["object"], "sluicegate.backup");
    let backup = settings.file(told["file"].as_str().unwrap());
    let file = std::fs::metadata(&backup).unwrap();
    assert_eq!((file.permissions().mode() & 0o777, json!(file.len())), (0o600, told["bytes"].clone()));
    assert_eq!(names(&settings.file("backups")), [backup.file_name().unwrap().to_str().unwrap()]);
    check_store(&settings, &backup).await;
    assert_eq!(names(&settings.file("backups")).len(), 1, "a look at it leaves no log beside it");

    let database = settings.file("elsewhere/store.db");
    std::fs::create_dir(settings.file("elsewhere")).unwrap();
    std::fs::copy(&backup, &database).unwrap();
    let process = Process::start(&on(&settings, &database));
    assert_eq!(process.results(&ended, "order=completion").await, before);
    check_whole(&process, &running, ITEMS).await;
    let law = &upstream.oracle().laws[0];
    assert_eq!(law.over, 0, "peak {}", law.peak);
    process.kill();
    check_store(&settings, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_the_place_of_a_database_that_was_killed() {
    let upstream = upstream(r#"latency = "10ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 4 }");
    let process = Process::start(&settings);
    let kept = process.submit(&chats(30, ""), json!({})).await;
    process.ended(&kept).await;
    let before = process.results(&kept, "order=completion").await;
    let to = settings.file("copy.db");
    let arguments = ["backup", "--json", "--to", to.to_str().unwrap()];
    let told: Value = serde_json::from_str(&command(&settings, &arguments).await.ok()).unwrap();
    assert_eq!((&told["file"], &told["bytes"]), (&json!(to), &json!(std::fs::metadata(&to).unwrap().len())));
    let again = command(&settings, &arguments).await;
    assert_eq!(again.code, Some(6), "{again:?}");
    assert!(again.said.contains("exists"), "{again:?}");
    // What came later is in the log, which a kill in the middle of it leaves there.
    let later = process.submit(&chats(2_000, ""), json!({})).await;
    eventually("it runs", || upstream.log().arrived > 60).await;
    process.kill();
    eventually("its calls are over", || upstream.oracle().in_flight == 0).await;

    let database = settings.file("store.db");
    std::fs::copy(&to, &database).unwrap();
    let refused = command(&settings, &["store", "check"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.said.contains("another database's log"), "{refused:?}");
    let process = Process::start(&settings);
    assert!(process.log().contains("removed the other one's log"), "{}", process.log());
    assert_eq!(process.results(&kept, "order=completion").await, before);
    assert_eq!(process.get(&format!("/v1/batches/{later}")).await.status, 404);
    let new = process.submit(&chats(20, ""), json!({})).await;
    check_whole(&process, &new, 20).await;
    process.kill();
    check_store(&settings, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_can_not_be_made_says_why_and_leaves_nothing() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let full = Service::start(settings.clone().with(r#"store = { min_free = "1000000GB" }"#)).await;
    let unknown = full.post("/admin/v1/backup", &json!({"to": "/etc/passwd"})).await;
    assert_eq!(unknown.refused(400)["code"], "unknown_parameter");
    let refused = full.post("/admin/v1/backup", &json!({})).await.refused(507);
    assert_eq!(refused["code"], "storage_full");
    assert!(names(&settings.file("backups")).is_empty());
    full.stop().await;
    let missing = command(&settings, &["backup", "--to", "x.db", "--store", "sqlite:gone/store.db"]).await;
    assert_eq!(missing.code, Some(6), "{missing:?}");
    assert!(!settings.file("gone").exists() && !settings.file("x.db").exists());

    let url = format!("store = {{ url = \"{}\", schema = \"{}\" }}", postgres::url(), postgres::new_schema());
    let settings = settings.with(&url);
    let service = Service::start(settings.clone()).await;
    let refused = service.post("/admin/v1/backup", &json!({})).await.refused(409);
    assert!(refused["message"].as_str().unwrap().contains("pg_dump"), "{refused}");
    service.stop().await;
    let refused = command(&settings, &["backup", "--to", "x.db"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
}
