//! What a replica without work of its own learns and shows, of others and of what time alone changes.

use serde_json::{Value, json};
use sluicegate::demo::upstream::Running;

use crate::harness::{Client, Metrics, PATIENCE, Process, Service, Settings, chats, postgres, upstream};

/// The configurations of two replicas of one schema.
fn settings(upstream: &Running) -> [Settings; 2] {
    let store =
        format!("store = {{ url = \"{}\", schema = \"{}\" }}", postgres::url(), postgres::new_schema());
    [(), ()].map(|()| Settings::new(upstream).with(&store))
}

/// Pauses the lane of a model, or resumes it.
async fn tell(replica: &Client, call: &str, model: &str) {
    let lane = json!({"provider": "up", "model": model});
    replica.post(&format!("/admin/v1/lanes/{call}"), &lane).await.ok();
}

/// Waits until a replica that is asked for nothing else shows its only lane in this state.
async fn shows(replica: &Client, state: &str) {
    let label = format!("state=\"{state}\"");
    let is_it = |metrics: &Metrics| metrics.sum("sluicegate_lane_state", &[&label]) == 1.0;
    replica.metrics_until(state, is_it).await;
}

/// The rows of a replica's budget of this level and name.
async fn limits_of(replica: &Client, level: &str, name: &str) -> Vec<Value> {
    let budget = replica.get("/v1/budget").await.ok();
    let rows = budget["data"].as_array().unwrap().iter();
    rows.filter(|row| row["level"] == level && row["name"] == name).cloned().collect()
}

/// When the workers were heard of last, in seconds.
async fn beats(replica: &Client) -> Vec<i64> {
    let workers = replica.get("/admin/v1/workers").await.ok();
    workers["data"].as_array().unwrap().iter().map(|worker| worker["beat_at"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_paused_elsewhere_shows_where_nothing_runs() {
    let upstream = upstream("").await;
    let settings = settings(&upstream);
    let [one, other] = settings.each_ref().map(Process::start);
    // It knows the lane, without a call through it.
    tell(&other, "resume", "demo-small").await;
    for (call, state) in [("pause", "paused"), ("resume", "open"), ("pause", "paused")] {
        tell(&one, call, "demo-small").await;
        shows(&other, state).await;
    }
    // Its own operators find there why nothing goes on.
    let log = other.log();
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(lines("another worker closed the lane"), 2, "{log}");
    assert_eq!(lines("another worker opened the lane again"), 1, "{log}");
    assert!(!one.log().contains("another worker"), "{}", one.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_a_replica_meets_later_is_as_the_others_left_it() {
    let upstream = upstream("").await;
    let settings = settings(&upstream);
    let [one, other] = settings.each_ref().map(Process::start);
    tell(&one, "pause", "demo-small").await;
    // That it heard of a later pause says that it heard of the first.
    tell(&other, "resume", "demo-large").await;
    tell(&one, "pause", "demo-large").await;
    shows(&other, "paused").await;
    other.chat_within("50ms").await.refused(429);
    assert_eq!(limits_of(&other, "lane", "up/demo-small").await[0]["state"], "paused");
    assert_eq!(upstream.log().arrived, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_resumed_before_a_replica_meets_it_is_open() {
    let upstream = upstream("").await;
    let [first, second] = settings(&upstream);
    let one = Process::start(&first);
    tell(&one, "pause", "demo-small").await;
    shows(&one, "paused").await;
    let other = Process::start(&second);
    tell(&one, "resume", "demo-small").await;
    tell(&other, "resume", "demo-large").await;
    tell(&one, "pause", "demo-large").await;
    shows(&other, "paused").await;
    other.chat_within("10s").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_waits_for_shows_at_the_replica_that_has_none_of_it() {
    let upstream = upstream("").await;
    let settings = settings(&upstream);
    let both = settings.each_ref().map(Process::start);
    tell(&both[0], "pause", "demo-small").await;
    // One segment: one of them has it.
    let id = both[0].submit(&chats(3, ""), json!({})).await;
    let waits = |batch: &Value| {
        let waiting = &batch["sluicegate"]["waiting"][0];
        (&waiting["lane"], &waiting["reason"]) == (&json!("up/demo-small"), &json!("paused"))
    };
    for replica in &both {
        replica.until(&id, "it waits for the lane", waits).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_an_app_is_given_are_no_difference_between_replicas() {
    let upstream = upstream("").await;
    let settings = settings(&upstream);
    let both = settings.each_ref().map(Process::start);
    let [one, other] = &both;
    for rate in [600, 1_200] {
        let limits = json!({"limits": {"requests": format!("{rate}/min")}});
        one.put("/admin/v1/apps/search", &limits).await.ok();
        let told = async {
            while !limits_of(other, "app", "search").await.iter().any(|row| row["limit"] == rate) {}
        };
        tokio::time::timeout(PATIENCE, told).await.expect("the other replica does not hear of the limit");
        // Each says by its beats what it is configured with, and hears the others by them.
        let before = beats(one).await;
        let beaten =
            async { while beats(one).await.iter().zip(&before).any(|(beat, before)| beat - before <= 3) {} };
        tokio::time::timeout(PATIENCE, beaten).await.expect("the workers do not beat");
    }
    for replica in &both {
        let log = replica.log();
        assert!(!log.contains("different limits"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pace_that_grows_again_shows_where_nothing_runs() {
    let upstream = upstream("").await;
    let lane = r#"providers.up.lanes = [{ match = "demo-small", limits = { requests = "600/min" } }]"#;
    let service = Service::start(Settings::new(&upstream).with(lane)).await;
    let content = "[[id=a]][[429 retry-after=1 x2]]";
    let call = json!({"model": "demo-small", "messages": [{"role": "user", "content": content}]});
    service.post("/v1/chat/completions", &call).await.ok();
    let pace =
        |metrics: &Metrics| metrics.sum("sluicegate_budget_limit_per_second", &[r#"dimension="requests""#]);
    service.metrics_until("it is slower after refusals", |metrics| pace(metrics) < 9.0).await;
    service.metrics_until("it is as fast as before, nearly", |metrics| pace(metrics) > 9.0).await;
}
