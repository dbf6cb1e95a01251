//! Several apps at one provider: shares, limits of their own, and nobody behind somebody's mountain.

use serde_json::{Value, json};

use crate::harness::{Client, Service, Settings, chats, upstream};

/// A client for each of some apps, made with the settings given.
async fn apps<const N: usize>(service: &Service, apps: [(&str, Value); N]) -> [Client; N] {
    let admin = service.make_key(json!({"app": "default", "scope": "admin"})).await;
    let operator = service.with_key(&admin);
    let mut clients = Vec::new();
    for (name, settings) in apps {
        operator.put(&format!("/admin/v1/apps/{name}"), &settings).await.ok();
        let key = operator.make_key(json!({"app": name, "scope": "app"})).await;
        clients.push(service.with_key(&key));
    }
    clients.try_into().unwrap_or_else(|_| unreachable!("one client an app"))
}

#[tokio::test(flavor = "multi_thread")]
async fn backlogged_apps_share_by_weight() {
    let upstream = upstream(r#"latency = "5ms""#).await;
    let settings = Settings::new(&upstream).with(r#"providers.up.limits = { requests = "200/s" }"#);
    let service = Service::start(settings).await;
    let weights = [("one", json!({"weight": 1})), ("three", json!({"weight": 3}))];
    let [one, three] = apps(&service, weights).await;
    // The mountain of the lighter app is there first.
    let first = one.submit(&chats(600, ""), json!({})).await;
    one.until(&first, "it runs", |batch| batch["request_counts"]["completed"].as_u64() > Some(20)).await;
    let second = three.submit(&chats(600, ""), json!({})).await;
    // From when both run to when both still do: how long it takes to submit and to ask counts for nobody.
    let completed = |batch: &Value| batch["request_counts"]["completed"].as_u64().unwrap();
    let both = async |least: u64| {
        three.until(&second, "it goes on", |batch| completed(batch) >= least).await;
        let (one, three) = tokio::join!(one.batch(&first), three.batch(&second));
        [completed(&one), completed(&three)]
    };
    let (from, to) = (both(50).await, both(400).await);
    assert!(to[1] < 600 && to[0] < 600, "both are to have a backlog to the end: {to:?}");
    let (lighter, heavier) = (to[0] - from[0], to[1] - from[1]);
    let share = lighter as f64 / (lighter + heavier) as f64;
    assert!((0.221..0.29).contains(&share), "{lighter} of the lighter app beside {heavier} of the heavier");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_s_own_limits_hold_whatever_the_provider_allows() {
    let upstream = upstream(r#"latency = "20ms""#).await;
    let service = Service::start(Settings::new(&upstream)).await;
    let [app] =
        apps(&service, [("small", json!({"limits": {"max_concurrent": 2, "requests": "40/s"}}))]).await;
    let id = app.submit(&chats(40, ""), json!({})).await;
    app.ended(&id).await;
    assert!(upstream.oracle().max_in_flight <= 2, "{}", upstream.oracle().max_in_flight);
    let log = upstream.log();
    assert!(log.last_at.unwrap() - log.first_at.unwrap() > 0.9, "39 intervals of 25 ms");
    let budget = app.get("/v1/budget").await.ok();
    let rows = budget["data"].as_array().unwrap();
    let mine: Vec<&Value> = rows.iter().filter(|row| row["level"] == "app").collect();
    assert!(mine.iter().all(|row| row["name"] == "small"), "{budget}");
    assert!(mine.iter().any(|row| row["dimension"] == "requests" && row["limit"] == 40), "{budget}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_limits_reach_a_running_batch() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let admin = service.make_key(json!({"app": "default", "scope": "admin"})).await;
    let operator = service.with_key(&admin);
    operator.put("/admin/v1/apps/default", &json!({"limits": {"requests": "1/h"}})).await.ok();
    let id = operator.submit(&chats(30, ""), json!({})).await;
    let waits = |batch: &Value| batch["sluicegate"]["waiting"][0]["reason"] == "rate";
    operator.until(&id, "it waits for its app's rate", waits).await;
    operator.put("/admin/v1/apps/default", &json!({})).await.ok();
    assert_eq!(operator.ended(&id).await["request_counts"]["completed"], 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_batch_is_not_stuck_behind_another_app_s_mountain() {
    let upstream = upstream(r#"latency = "5ms""#).await;
    let settings = Settings::new(&upstream).with(r#"providers.up.limits = { requests = "100/s" }"#);
    let service = Service::start(settings).await;
    let [large, small] = apps(&service, [("large", json!({})), ("small", json!({}))]).await;
    let mountain = large.submit(&chats(5_000, ""), json!({})).await;
    large.until(&mountain, "it runs", |batch| batch["request_counts"]["completed"].as_u64() > Some(20)).await;
    let before = upstream.log().arrived;
    let id = small.submit(&chats(10, ""), json!({})).await;
    small.ended(&id).await;
    let meanwhile = upstream.log().arrived - before;
    // Its ten alternate with ten of the other; the rest is what was sent while it was taken up and looked at.
    assert!(meanwhile < 80, "{meanwhile} calls until ten of them were its own");
    large.post(&format!("/v1/batches/{mountain}/cancel"), &json!({})).await.ok();
}
