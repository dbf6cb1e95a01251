//! The service on PostgreSQL: one replica, end to end, through restarts, crashes and a database that goes away.

use serde_json::json;
use sluicegate::demo::upstream::Running;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::{
    Client, Metrics, PATIENCE, Process, Service, Settings, chats, check_whole, eventually, jsonl, pooler,
    postgres, upstream,
};

/// The settings with the store in a schema of its own.
fn on_postgres(settings: Settings, url: &str) -> Settings {
    settings.with(&format!("store = {{ url = \"{url}\", schema = \"{}\" }}", postgres::new_schema()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_runs_and_outlasts_a_restart() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 16 }");
    let service = Service::start(on_postgres(settings, &postgres::url())).await;
    let id = service.submit(&chats(300, ""), json!({})).await;
    check_whole(&service, &id, 300).await;
    assert_eq!(service.get("/readyz").await.status, 200);
    let service = service.restart().await;
    check_whole(&service, &id, 300).await;
    let again = service.submit(&chats(10, ""), json!({})).await;
    check_whole(&service, &again, 10).await;
    assert_eq!(upstream.log().arrived, 310);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_nothing_and_repeat_only_what_was_in_flight() {
    const ITEMS: usize = 300;
    let upstream = upstream(r#"latency = "10ms..60ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 16 }");
    let settings = on_postgres(settings, &postgres::url());
    let mut process = Process::start(&settings);
    let id = process.submit(&chats(ITEMS, ""), json!({})).await;
    for more in [1, 60, 90] {
        let until = upstream.log().arrived + more;
        eventually("it goes on", || upstream.log().arrived >= until).await;
        process.kill();
        eventually("its calls are over", || upstream.oracle().in_flight == 0).await;
        process = Process::start(&settings);
    }
    check_whole(&process, &id, ITEMS).await;
    let log = upstream.log();
    let extra = log.arrived - ITEMS as u64;
    // In flight, and at most as many again on their way to the database.
    assert!(extra <= 3 * 2 * 16, "{extra} extra calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_a_schema_and_see_each_other() {
    let upstream = upstream("").await;
    let settings = on_postgres(Settings::new(&upstream), &postgres::url());
    let (first, second) = (Process::start(&settings), Process::start(&settings));
    let id = first.submit(&chats(5, ""), json!({})).await;
    check_whole(&second, &id, 5).await;
    let workers = second.get("/admin/v1/workers").await.ok();
    let workers = workers["data"].as_array().unwrap();
    assert_eq!(workers.len(), 2, "{workers:?}");
    assert!(workers.iter().all(|worker| worker["state"] == "alive" && worker["epoch"] == 1), "{workers:?}");
}

/// A way to the server that can be cut.
struct Relay {
    port: u16,
    is_cut: watch::Sender<bool>,
}

impl Relay {
    async fn start() -> Self {
        let url = postgres::url();
        let (_, server_port) = url.strip_suffix("/postgres").unwrap().rsplit_once(':').unwrap();
        let server = format!("127.0.0.1:{server_port}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, is_cut) = (listener.local_addr().unwrap().port(), watch::Sender::new(false));
        let cut = is_cut.subscribe();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (mut cut, server) = (cut.clone(), server.clone());
                tokio::spawn(async move {
                    if *cut.borrow_and_update() {
                        return;
                    }
                    let mut server = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, is_cut }
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }
}

/// Waits until `/readyz` answers so; nothing else tells of it.
async fn ready(service: &Client, status: u16) -> String {
    let asked = async {
        loop {
            let answer = service.get("/readyz").await;
            if answer.status == status {
                return answer.text;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap()
}

/// Items of a batch in the middle of which the database fails.
const ITEMS: usize = 600;

/// The upstream and the limits of such a batch: it takes about a second.
const SLOWLY: &str = r#"latency = "5ms..20ms""#;
const EIGHT_AT_ONCE: &str = "limits = { max_concurrent = 8 }";

/// The batch, in the middle of its run.
async fn run(upstream: &Running, service: &Client) -> String {
    let id = service.submit(&chats(ITEMS, ""), json!({})).await;
    eventually("it runs", || upstream.log().arrived >= 100).await;
    id
}

/// The database is there again: the batch goes on to its end, as if nothing had been.
async fn check_recovery(upstream: &Running, service: &Client, id: &str) {
    ready(service, 200).await;
    check_whole(service, id, ITEMS).await;
    assert_eq!(upstream.log().arrived, ITEMS as u64, "no call was made twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_holds_work_back_and_loses_nothing() {
    let upstream = upstream(SLOWLY).await;
    let relay = Relay::start().await;
    let settings = Settings::new(&upstream).with(EIGHT_AT_ONCE);
    let service = Service::start(on_postgres(settings, &relay.url())).await;
    let id = run(&upstream, &service).await;

    relay.cut(true);
    let before = upstream.log().arrived;
    let red = ready(&service, 503).await;
    assert!(red.contains("store_unavailable"), "{red}");
    let refused = service.upload(jsonl(&chats(1, ""))).await;
    assert_eq!(refused.refused(503)["code"], "store_unavailable");
    assert_eq!(refused.header("retry-after"), "5");
    eventually("what was in flight is over", || upstream.oracle().in_flight == 0).await;
    let meanwhile = upstream.log().arrived - before;
    assert!(meanwhile <= 4 * 8, "{meanwhile} calls that nobody could record");

    relay.cut(false);
    check_recovery(&upstream, &service, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_becomes_read_only_counts_as_away() {
    let upstream = upstream(SLOWLY).await;
    let database = postgres::client().await;
    let user = postgres::new_schema();
    let own = format!("CREATE ROLE {user} LOGIN; CREATE SCHEMA {user} AUTHORIZATION {user}");
    database.batch_execute(&own).await.unwrap();
    let url = postgres::url().replace("://postgres@", &format!("://{user}@"));
    let store = format!("store = {{ url = \"{url}\", schema = \"{user}\" }}");
    let service = Process::start(&Settings::new(&upstream).with(EIGHT_AT_ONCE).with(&store));
    let id = run(&upstream, &service).await;

    // What a switch to the standby comes to: connections end, and new ones take no writes, as long as they last.
    let become_so = async |read_only: &str| {
        let role = format!("ALTER ROLE {user} SET default_transaction_read_only = {read_only}");
        database.batch_execute(&role).await.unwrap();
    };
    become_so("on").await;
    let ends = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'");
    database.batch_execute(&ends).await.unwrap();
    let red = ready(&service, 503).await;
    assert!(red.contains("store_unavailable"), "{red}");
    let log = || service.log();
    eventually("it meets such a server", || {
        log().contains("read-only") && log().contains("database is away")
    })
    .await;
    assert_eq!(service.chat_within("50ms").await.refused(503)["code"], "store_unavailable");
    eventually("what was in flight is over", || upstream.oracle().in_flight == 0).await;

    become_so("off").await;
    check_recovery(&upstream, &service, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_rotated_while_the_service_runs() {
    let upstream = upstream(SLOWLY).await;
    let (database, user) = (postgres::client().await, postgres::new_schema());
    // Several tests may make it at once. The server asks those that belong to it for a password.
    let guarded =
        "DO $$ BEGIN CREATE ROLE guarded LOGIN PASSWORD 'right'; EXCEPTION WHEN OTHERS THEN NULL; END $$";
    let own = format!(
        "{guarded}; CREATE ROLE {user} LOGIN PASSWORD 'oldword' IN ROLE guarded; CREATE SCHEMA {user} AUTHORIZATION {user}"
    );
    database.batch_execute(&own).await.unwrap();
    let url = |password: &str| postgres::url().replace("://postgres@", &format!("://{user}:{password}@"));
    let settings = Settings::new(&upstream).with(EIGHT_AT_ONCE).with_url_in_file(&url("oldword"), &user);
    let service = Process::start(&settings);
    let id = run(&upstream, &service).await;

    let rotate = format!("ALTER ROLE {user} PASSWORD 'newword'");
    database.batch_execute(&rotate).await.unwrap();
    let ends = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'");
    database.batch_execute(&ends).await.unwrap();
    ready(&service, 503).await;
    std::fs::write(settings.file("store.url"), url("newword")).unwrap();
    check_recovery(&upstream, &service, &id).await;

    let reloaded = service.post("/admin/v1/reload", &json!({})).await.ok();
    assert_eq!(reloaded["changed"][0]["key"], "store.url", "{reloaded}");
    assert_eq!(reloaded["needs_restart"], json!([]), "{reloaded}");
    let again = service.post("/admin/v1/reload", &json!({})).await.ok();
    assert_eq!(again["changed"], json!([]), "{again}");
    let log = service.log();
    assert!(log.contains("store.url_file holds something else"), "{log}");
    assert!(!log.contains("oldword") && !log.contains("newword"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_somebody_holds_for_long_are_told_of() {
    let upstream = upstream(SLOWLY).await;
    let (database, schema) = (postgres::client().await, postgres::new_schema());
    let store = format!("store = {{ url = \"{}\", schema = \"{schema}\" }}", postgres::url());
    let settings = Settings::new(&upstream).with(EIGHT_AT_ONCE).with(&store);
    let service = Process::start(&settings);
    let id = run(&upstream, &service).await;

    // Results are recorded in the one; the other is where a worker is heard of.
    let lock =
        format!("BEGIN; SELECT 1 FROM {schema}.batch FOR UPDATE; SELECT 1 FROM {schema}.worker FOR UPDATE");
    database.batch_execute(&lock).await.unwrap();
    eventually("it says so", || service.log().contains("another session of the database holds a lock")).await;
    let red = ready(&service, 503).await;
    assert!(red.contains("store_unavailable"), "{red}");
    assert_eq!(service.chat_within("50ms").await.refused(503)["code"], "store_unavailable");
    let takes = |work: f64| move |metrics: &Metrics| metrics.sum("sluicegate_store_takes_work", &[]) == work;
    service.metrics_until("nothing is taken", takes(0.0)).await;

    database.batch_execute("ROLLBACK").await.unwrap();
    check_recovery(&upstream, &service, &id).await;
    service.metrics_until("work is taken", takes(1.0)).await;
    assert!(service.log().contains("the database is reached again"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_behind_pgbouncer_in_transaction_mode() {
    let upstream = upstream(SLOWLY).await;
    let pooler = pooler::start();
    let settings = on_postgres(Settings::new(&upstream).with(EIGHT_AT_ONCE), &pooler.url);
    let (first, second) = (Process::start(&settings), Process::start(&settings));
    let id = first.submit(&chats(300, ""), json!({})).await;
    for _ in 0..20 {
        assert_eq!(second.chat_within("30s").await.status, 200);
    }
    check_whole(&second, &id, 300).await;
    assert_eq!(upstream.log().arrived, 320, "no call was made twice");
    for replica in [first, second] {
        let told = "what other workers do is not heard at once";
        eventually("it says so", || replica.log().contains(told)).await;
        assert!(!replica.log().contains("ERROR"), "{}", replica.log());
    }
}
