//! Live calls that were not let through: when they are told to come back.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Client, Service, Settings, upstream};

const CHAT: &str = "/v1/chat/completions";

fn chat(text: &str) -> Value {
    json!({"model": "demo-small", "messages": [{"role": "user", "content": text}]})
}

/// When a refused call is told to come back, in milliseconds; header and message say no less.
fn told(answer: &Answer) -> u64 {
    let error = answer.refused(429);
    let millis: u64 = answer.header("retry-after-ms").parse().unwrap();
    assert!(answer.header("retry-after").parse::<u64>().unwrap() * 1_000 >= millis);
    let message = error["message"].as_str().unwrap();
    let said = message.rsplit_once("try again in ").unwrap().1.trim_end_matches("s.");
    assert!(said.parse::<f64>().unwrap() * 1_000.0 >= millis as f64, "{message}: {millis} ms");
    millis
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_lane_is_not_come_back_to_within_the_second() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let refused = service.request(Method::POST, CHAT).header("sluicegate-max-wait", "10ms");
    let refused = service.send(refused.json(&chat("[[429 retry-after=1]]"))).await;
    assert_eq!((refused.status.as_u16(), refused.header("sluicegate-error-source")), (429, "upstream"));
    let answer = service.chat_within("200ms").await;
    assert!(answer.text.contains("held back by: cooldown"), "{}", answer.text);
    let millis = told(&answer);
    assert!((1_000..2_000).contains(&millis), "{millis} ms");

    let pause = json!({"provider": "up", "model": "demo-small"});
    service.post("/admin/v1/lanes/pause", &pause).await.ok();
    let answer = service.chat_within("10ms").await;
    assert!(answer.text.contains("held back by: paused"), "{}", answer.text);
    let millis = told(&answer);
    assert!((1_000..60_000).contains(&millis), "{millis} ms");
}

/// Makes calls of these clients in turn, all at once: when those that were refused are to come back, the soonest first.
async fn refused_together(clients: &[Client], count: usize, wait: &'static str) -> Vec<Instant> {
    let calls = clients.iter().cycle().take(count).cloned();
    let calls: JoinSet<Option<Instant>> = calls
        .map(|client| async move {
            let answer = client.chat_within(wait).await;
            (answer.status != 200).then(|| Instant::now() + Duration::from_millis(told(&answer)))
        })
        .collect();
    let mut turns: Vec<Instant> = calls.join_all().await.into_iter().flatten().collect();
    turns.sort_unstable();
    turns
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_refused_together_come_back_one_after_the_other() {
    let upstream = upstream("").await;
    let limits = r#"providers.up.limits = { requests = "60/min" }"#;
    let service = Service::start(Settings::new(&upstream).with(limits)).await;
    let admin = service.make_key(json!({"app": "one", "scope": "admin"})).await;
    let other = service.with_key(&admin).make_key(json!({"app": "other"})).await;
    let clients = [service.with_key(&admin), service.with_key(&other)];
    assert_eq!(clients[0].chat_within("1s").await.status, 200);
    let turns = refused_together(&clients, 10, "2500ms").await;
    assert!((7..=9).contains(&turns.len()), "{}", turns.len());
    for (place, pair) in turns.windows(2).enumerate() {
        // A second each; a half is left for how long their answers took.
        assert!(pair[1] - pair[0] >= Duration::from_millis(500), "{place}: {turns:?}");
    }
    // Who was not among them stands behind none of them.
    let alone = told(&clients[0].chat_within("10ms").await);
    assert!(alone <= 1_100, "{alone} ms");
}
