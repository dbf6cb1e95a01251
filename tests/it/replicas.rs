//! Several replicas on one PostgreSQL schema: one queue and one budget, whichever of them a client speaks to.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sluicegate::demo::upstream::Running;

use crate::harness::{
    Client, Metrics, PATIENCE, Process, Relay, Settings, Then, chat, chats, check_whole, eventually,
    postgres, upstream,
};

/// Replicas of one schema: how each of them is configured.
struct Replicas {
    shared: Settings,
    ports: [u16; 2],
}

impl Replicas {
    /// Two that share a schema of their own; `keys` are laid over the usual configuration.
    fn new(upstream: &Running, keys: &str) -> Self {
        let store =
            format!("store = {{ url = \"{}\", schema = \"{}\" }}", postgres::url(), postgres::new_schema());
        // Asked for and given back: a replica that starts again where it was is the same worker.
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let ports = [free(), free()].map(|listener| listener.local_addr().unwrap().port());
        Self { shared: Settings::new(upstream).with(&store).with(keys), ports }
    }

    /// The configuration of one, whose calls the upstream knows as `r0` or `r1`.
    fn settings(&self, number: usize) -> Settings {
        self.shared.clone().named(&format!("r{number}.toml")).with(&format!(
            "server = {{ listen = \"127.0.0.1:{}\" }}\nproviders.up.headers = {{ x-caller = \"r{number}\" }}",
            self.ports[number]
        ))
    }

    fn start(&self, number: usize) -> Process {
        Process::start(&self.settings(number))
    }

    fn start_both(&self) -> [Process; 2] {
        [self.start(0), self.start(1)]
    }
}

/// Who made calls so far.
fn callers(upstream: &Running) -> BTreeSet<String> {
    upstream.entries(0, 100_000).into_iter().filter_map(|entry| Some(entry.caller?.into())).collect()
}

/// Waits until both have made calls.
async fn both_call(upstream: &Running) {
    eventually("both replicas call", || callers(upstream).len() == 2).await;
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Makes the first keys: an operator's client of each replica.
async fn operators(replicas: &[Process; 2]) -> [Client; 2] {
    let key = replicas[0].make_key(json!({"app": "default", "scope": "admin"})).await;
    replicas.each_ref().map(|replica| replica.with_key(&key))
}

/// The workers, by whether they run.
async fn workers(client: &Client) -> Vec<Value> {
    client.get("/admin/v1/workers").await.ok()["data"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_one_queue_and_one_budget() {
    const ITEMS: usize = 300;
    let upstream = upstream(
        r#"
        latency = "20ms..60ms"
        log = "full"
        limits = [{ law = "sliding", limit = 200, period = "2s", enforce = true }]
        "#,
    )
    .await;
    let replicas = Replicas::new(&upstream, r#"providers.up.limits = { requests = "200/2s" }"#);
    let [one, other] = replicas.start_both();
    let id = one.submit(&chats(ITEMS, ""), json!({})).await;
    both_call(&upstream).await;
    check_whole(&other, &id, ITEMS).await;
    let log = upstream.log();
    assert_eq!((log.arrived, log.repeats), (ITEMS as u64, 0), "each item is called once");
    let law = &upstream.oracle().laws[0];
    assert_eq!((law.over, law.windows_over), (0, 0), "{law:?}");
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_of_a_batch_is_the_same_at_both_replicas() {
    let upstream = upstream(r#"latency = "10m""#).await;
    let replicas = Replicas::new(&upstream, "limits.max_concurrent = 40");
    let both = replicas.start_both();
    let id = both[0].submit(&chats(300, ""), json!({})).await;
    for replica in &both {
        let all_run = |batch: &Value| {
            let counts = &batch["sluicegate"]["counts"];
            (&counts["pending"], &counts["running"]) == (&json!(260), &json!(40))
        };
        replica.until(&id, "it shows the calls of both", all_run).await;
    }
    assert_eq!(upstream.log().arrived, 40, "the service's calls at once are those of both together");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_calls_at_both_replicas_share_the_budget() {
    let upstream = upstream(
        r#"
        log = "full"
        limits = [{ law = "sliding", limit = 40, period = "1s", enforce = true }]
        "#,
    )
    .await;
    let replicas = Replicas::new(&upstream, r#"providers.up.limits = { requests = "40/s" }"#);
    let both = replicas.start_both();
    let body = json!({"model": "demo-small", "messages": [{"role": "user", "content": "Hello."}]});
    let calls = (0..80).map(|number| both[number % 2].post("/v1/chat/completions", &body));
    for answer in futures_util::future::join_all(calls).await {
        answer.ok();
    }
    assert_eq!(callers(&upstream).len(), 2);
    let law = &upstream.oracle().laws[0];
    assert_eq!((law.accepted, law.over), (80, 0), "{law:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_followed_at_the_other_replica() {
    let upstream = upstream(r#"latency = "20ms..60ms""#).await;
    let replicas = Replicas::new(&upstream, "limits = { max_concurrent = 8 }");
    let [one, other] = replicas.start_both();
    let id = one.submit(&chats(120, ""), json!({})).await;
    let half = |batch: &Value| batch["request_counts"]["completed"].as_u64() >= Some(60);
    other.until(&id, "events come while it runs", half).await;
    let page = other.get(&format!("/v1/batches/{id}/results?order=completion&wait=5s&after=0")).await;
    assert!(page.lines().len() >= 60, "{}", page.text);
    check_whole(&other, &id, 120).await;
    assert_eq!(one.results(&id, "").await, other.results(&id, "").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_cancelled_at_one_replica_stops_at_the_other() {
    let upstream = upstream("latency = \"100ms\"\nlog = \"full\"").await;
    let replicas = Replicas::new(&upstream, "limits = { max_concurrent = 16 }");
    let [one, other] = replicas.start_both();
    let id = one.submit(&chats(2_000, ""), json!({})).await;
    both_call(&upstream).await;
    one.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.ok();
    let cancelled_at = unix_now();
    assert_eq!(other.ended(&id).await["status"], "cancelled");
    let last = upstream.entries(0, 100_000).last().unwrap().at;
    assert!(last - cancelled_at <= 1.0, "a call {:.3} s after the cancel", last - cancelled_at);
    assert!(upstream.log().arrived < 1_000);
    assert_eq!(one.by_id(&id).await.len(), 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failed_item_stops_a_batch_at_both_replicas() {
    const ITEMS: usize = 2_000;
    let upstream = upstream("latency = \"100ms\"\nlog = \"full\"").await;
    let replicas = Replicas::new(&upstream, "limits = { max_concurrent = 16 }");
    let [one, other] = replicas.start_both();
    let mut lines = chats(ITEMS, "");
    for line in &mut lines[200..] {
        let text = line["body"]["messages"][0]["content"].as_str().unwrap();
        line["body"]["messages"][0]["content"] = json!(format!("{text}[[400]]"));
    }
    let id = one.submit(&lines, json!({"on_error": "fail_fast"})).await;
    let batch = other.ended(&id).await;
    assert_eq!(batch["errors"]["data"][0]["code"], "fail_fast", "{batch:#}");
    let refused = upstream
        .entries(0, 100_000)
        .into_iter()
        .filter(|entry| entry.ending.is_some_and(|ending| ending.word() == "400"));
    let moments: Vec<f64> = refused.filter_map(|entry| entry.ended_at).collect();
    let first = moments.iter().copied().fold(f64::INFINITY, f64::min);
    let last = upstream.entries(0, 100_000).last().unwrap().at;
    assert!(last - first <= 1.0, "a call {:.3} s after the first failure", last - first);
    assert_eq!(one.by_id(&id).await.len(), ITEMS);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_replica_finishes_what_a_killed_one_had() {
    const ITEMS: usize = 400;
    let upstream = upstream("latency = \"50ms..150ms\"\nlog = \"full\"").await;
    let replicas = Replicas::new(&upstream, "limits = { max_concurrent = 16 }");
    let [one, other] = replicas.start_both();
    let id = one.submit(&chats(ITEMS, ""), json!({})).await;
    both_call(&upstream).await;
    let killed = Instant::now();
    one.kill();
    check_whole(&other, &id, ITEMS).await;
    let took = killed.elapsed();
    assert!(took >= Duration::from_secs(12), "taken over after {took:?}: it may still have run");
    let extra = upstream.log().arrived - ITEMS as u64;
    assert!(extra <= 2 * 16, "{extra} extra calls");
    let states: Vec<Value> = workers(&other).await.iter().map(|worker| worker["state"].clone()).collect();
    assert!(states.contains(&json!("dead")) && states.contains(&json!("alive")), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_again_goes_on_at_once() {
    const ITEMS: usize = 400;
    let upstream = upstream("latency = \"50ms..150ms\"\nlog = \"full\"").await;
    let replicas = Replicas::new(&upstream, "limits = { max_concurrent = 16 }");
    let [one, other] = replicas.start_both();
    let id = other.submit(&chats(ITEMS, ""), json!({})).await;
    both_call(&upstream).await;
    one.kill();
    let again = Instant::now();
    let one = replicas.start(0);
    check_whole(&one, &id, ITEMS).await;
    // Nobody would have taken over so soon.
    assert!(again.elapsed() < Duration::from_secs(12), "{:?}", again.elapsed());
    assert!(upstream.log().arrived - ITEMS as u64 <= 2 * 16);
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_drains_hands_its_work_to_the_other() {
    const ITEMS: usize = 400;
    let upstream = upstream("latency = \"50ms..150ms\"\nlog = \"full\"").await;
    let replicas = Replicas::new(&upstream, "limits = { max_concurrent = 16 }");
    let [mut one, other] = replicas.start_both();
    let id = one.submit(&chats(ITEMS, ""), json!({})).await;
    both_call(&upstream).await;
    let started = Instant::now();
    one.terminate();
    assert_eq!(one.exited().await.code(), Some(0), "{}", one.log());
    check_whole(&other, &id, ITEMS).await;
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert_eq!(upstream.log().arrived, ITEMS as u64, "no call was made twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_leaves_goes_before_what_is_as_urgent() {
    const ITEMS: usize = 2_000;
    let upstream = upstream("latency = \"100ms\"\nlog = \"full\"").await;
    let replicas = Replicas::new(&upstream, "limits = { max_concurrent = 4 }");
    let mut one = replicas.start(0);
    // More than one segment: none of those that go first because they are soon done.
    let lines: Vec<Value> = (0..100).map(|number| chat(&format!("left-{number}"), "")).collect();
    let left = one.submit(&lines, json!({})).await;
    eventually("it is called", || upstream.log().arrived > 0).await;
    // Due sooner, so all of it goes first, for 50 s.
    let sooner = one.submit(&chats(ITEMS, ""), json!({"completion_window": "1h"})).await;
    let other = replicas.start(1);
    both_call(&upstream).await;
    // The first segment, which the other never had of its own.
    let was_left = |id: &str| (0..64).any(|number| id == format!("left-{number}"));
    one.terminate();
    assert_eq!(one.exited().await.code(), Some(0), "{}", one.log());
    eventually("what was left is called", || {
        let mut calls = upstream.entries(0, 100_000).into_iter();
        calls.any(|call| call.caller.as_deref() == Some("r1") && call.id.as_deref().is_some_and(was_left))
    })
    .await;
    let batch = other.batch(&sooner).await;
    let done = batch["request_counts"]["completed"].as_u64().unwrap();
    assert!(done < ITEMS as u64 / 2, "{done} items of the other batch went before");
    other.post(&format!("/v1/batches/{sooner}/cancel"), &json!({})).await.ok();
    let whole = json!({"total": lines.len(), "completed": lines.len(), "failed": 0});
    assert_eq!(other.ended(&left).await["request_counts"], whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_apps_are_the_same_everywhere() {
    let upstream = upstream("").await;
    let replicas = Replicas::new(&upstream, "");
    let both = replicas.start_both();
    let [one, other] = operators(&both).await;
    let key = one.make_key(json!({"app": "first"})).await;
    // A key works everywhere once it was given out.
    let mine = both[1].with_key(&key);
    let id = mine.submit(&chats(3, ""), json!({})).await;
    check_whole(&both[0].with_key(&key), &id, 3).await;
    both[1].with_key("sk-sg-unknown").get("/v1/batches").await.refused(401);
    let keys = other.get("/admin/v1/keys").await.ok();
    let made = keys["data"].as_array().unwrap().iter().find(|key| key["app"] == "first").unwrap();
    let path = format!("/admin/v1/keys/{}", made["id"].as_str().unwrap());
    other.delete(&path).await.ok();
    let revoked = async { while both[0].with_key(&key).get("/v1/batches").await.status != 401 {} };
    tokio::time::timeout(Duration::from_secs(2), revoked).await.expect("a revoked key still works elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lower_of_two_limits_holds_and_is_warned_of() {
    const ITEMS: usize = 120;
    let upstream = upstream(
        r#"
        log = "full"
        limits = [{ law = "sliding", limit = 40, period = "1s", enforce = true }]
        "#,
    )
    .await;
    let replicas = Replicas::new(&upstream, r#"providers.up.limits = { requests = "40/s" }"#);
    let one = replicas.start(0);
    let higher = replicas.settings(1).with(r#"providers.up.limits = { requests = "400/s" }"#);
    let other = Process::start(&higher);
    let id = other.submit(&chats(ITEMS, ""), json!({})).await;
    check_whole(&other, &id, ITEMS).await;
    let law = &upstream.oracle().laws[0];
    assert_eq!(law.over, 0, "{law:?}");
    let warns = |process: &Process| {
        process
            .log()
            .lines()
            .any(|line| line.contains("WARN") && line.contains("limit") && line.contains("up"))
    };
    eventually("a warning names the difference", || warns(&one) || warns(&other)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_the_database_says_so_and_the_other_goes_on() {
    let upstream = upstream("latency = \"20ms..60ms\"\nlog = \"full\"").await;
    let replicas = Replicas::new(&upstream, "limits = { max_concurrent = 8 }");
    // Enough for its start. As the older one it tells for both what waits.
    let relay = Relay::start(usize::MAX, Then::Cut).await;
    let cut_off = replicas.settings(1).with(&format!("store = {{ url = \"{}\" }}", relay.url()));
    let other = Process::start(&cut_off);
    let one = replicas.start(0);
    let id = one.submit(&chats(600, ""), json!({})).await;
    both_call(&upstream).await;
    let waits = |metrics: &Metrics| metrics.sum("sluicegate_items_pending", &[]) > 0.0;
    other.metrics_until("it tells what waits", waits).await;
    relay.cut();
    let red = async {
        loop {
            let answer = other.get("/readyz").await;
            if answer.status == 503 {
                break answer.text;
            }
        }
    };
    let reasons = tokio::time::timeout(PATIENCE, red).await.unwrap();
    assert!(reasons.contains("store_unavailable"), "{reasons}");
    let refused = other.get("/v1/batches").await;
    assert_eq!(refused.refused(503)["code"], "store_unavailable");
    assert_eq!(refused.header("retry-after"), "5");
    // With places that it has it goes on until others might take it for dead.
    let refused = async {
        loop {
            let live = other.chat_within("50ms").await;
            if live.status != 200 {
                break live;
            }
        }
    };
    let live = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(live.refused(503)["code"], "store_unavailable");
    assert_eq!((live.header("retry-after"), live.header("sluicegate-error-source")), ("5", "gate"));
    assert_eq!(one.get("/readyz").await.status, 200);
    let second = one.submit(&chats(20, ""), json!({})).await;
    check_whole(&one, &second, 20).await;
    check_whole(&one, &id, 600).await;
    let told = ["sluicegate_items_pending", "sluicegate_batches", "sluicegate_oldest_pending_seconds"];
    let nothing = |metrics: &Metrics| told.iter().all(|name| metrics.sum(name, &[]) == 0.0);
    other.metrics_until("it tells no more of what others do", nothing).await;
    let ended = |metrics: &Metrics| metrics.sum("sluicegate_batches", &["status=\"completed\""]) == 2.0;
    one.metrics_until("the other one tells", ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_at_each_replica() {
    let upstream = upstream("").await;
    let replicas = Replicas::new(&upstream, "");
    let [mut one, other] = replicas.start_both();
    for client in [&*one, &*other] {
        let found = workers(client).await;
        let names: BTreeSet<&str> = found.iter().filter_map(|worker| worker["name"].as_str()).collect();
        assert_eq!(names.len(), 2, "{found:#?}");
        for (worker, port) in found.iter().zip(&replicas.ports) {
            assert_eq!((&worker["state"], &worker["epoch"]), (&json!("alive"), &json!(1)), "{worker:#}");
            assert_eq!(worker["version"], env!("CARGO_PKG_VERSION"));
            assert!(names.iter().any(|name| name.ends_with(&format!(":{port}"))), "{names:?}");
        }
    }
    one.terminate();
    one.exited().await;
    let ended = async { while !workers(&other).await.iter().any(|worker| worker["state"] == "ended") {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("its end is seen");
    let _again = replicas.start(0);
    let found = workers(&other).await;
    assert_eq!(found.len(), 2, "the same worker: {found:#?}");
    assert!(found.iter().any(|worker| worker["epoch"] == 2), "{found:#?}");
}
