//! What a crash must not forget: attempts, stops, deadlines, cooldowns.

use serde_json::{Value, json};

use crate::harness::{Process, Service, Settings, chat, chats, eventually, upstream};

#[tokio::test(flavor = "multi_thread")]
async fn attempts_and_their_waits_survive_a_kill() {
    let upstream = upstream("log = \"full\"").await;
    let settings = Settings::new(&upstream);
    let process = Process::start(&settings);
    let lines = [chat("waits", "[[503 retry-after=3 x1]]"), chat("fails", "[[500 x1]][[503 retry-after=1]]")];
    let id = process.submit(&lines, json!({"max_attempts": 3})).await;
    eventually("both have failed", || upstream.calls("waits") == 1 && upstream.calls("fails") >= 2).await;
    // Its second attempt is on record once something that came later is.
    let later = process.submit(&chats(1, ""), json!({})).await;
    process.ended(&later).await;
    process.kill();
    let process = Process::start(&settings);
    process.ended(&id).await;
    let results = process.by_id(&id).await;
    assert_eq!(results["waits"]["sluicegate"]["attempts"], 2);
    assert_eq!(results["waits"]["response"]["status_code"], 200);
    assert_eq!(results["fails"]["sluicegate"]["attempts"], 3);
    assert_eq!(results["fails"]["response"]["status_code"], 503);
    assert_eq!((upstream.calls("waits"), upstream.calls("fails")), (2, 3));
    let calls = upstream.entries(0, 100);
    let times: Vec<f64> =
        calls.iter().filter(|call| call.id.as_deref() == Some("waits")).map(|call| call.at).collect();
    assert!(times[1] - times[0] >= 2.9, "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_was_answered_is_carried_out_after_a_kill() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 4 }");
    let process = Process::start(&settings);
    let mut lines = chats(200, "");
    for (number, line) in lines[..4].iter_mut().enumerate() {
        *line = chat(&format!("item-{number}"), "[[hang]]");
    }
    let id = process.submit(&lines, json!({})).await;
    eventually("four hang", || upstream.log().arrived == 4).await;
    let told = process.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.ok();
    assert_eq!(told["status"], "cancelling", "what runs is waited for");
    process.kill();
    let process = Process::start(&settings);
    let batch = process.ended(&id).await;
    assert_eq!(batch["status"], "cancelled");
    assert_eq!(batch["sluicegate"]["counts"]["cancelled"], 200);
    assert_eq!(process.by_id(&id).await.len(), 200);
    assert_eq!(upstream.log().arrived, 4, "nothing of it is sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passed_while_it_was_down_is_kept() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 2 }");
    let process = Process::start(&settings);
    let id = process.submit(&chats(50, "[[hang]]"), json!({"completion_window": "1s"})).await;
    eventually("it runs", || upstream.log().arrived == 2).await;
    let due = process.batch(&id).await["expires_at"].as_i64().unwrap();
    process.kill();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    eventually("the deadline passes", || now() > due.cast_unsigned()).await;
    let process = Process::start(&settings);
    let batch = process.ended(&id).await;
    assert_eq!(batch["status"], "expired");
    assert_eq!(batch["sluicegate"]["counts"]["expired"], 50);
    assert_eq!(upstream.log().arrived, 2, "no attempt starts after the deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooldown_survives_a_kill() {
    let upstream = upstream("log = \"full\"").await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 1 }");
    let process = Process::start(&settings);
    let mut lines = chats(3, "");
    lines[0] = chat("item-0", "[[429 retry-after=4 x1]]");
    let id = process.submit(&lines, json!({})).await;
    let cooling = |batch: &Value| batch["sluicegate"]["waiting"][0]["reason"] == "cooldown";
    process.until(&id, "it cools down", cooling).await;
    // On the disk once a later commit is answered: a second of its own is the most that it waits for one.
    process.submit(&chats(1, ""), json!({})).await;
    process.until(&id, "it still does", cooling).await;
    process.kill();
    let process = Process::start(&settings);
    process.ended(&id).await;
    let calls = upstream.entries(0, 10);
    assert!(calls[1].at - calls[0].at >= 3.9, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_can_be_followed_to_the_end() {
    let upstream = upstream(r#"latency = "10ms..40ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 4 }");
    let service = Service::start(settings).await;
    let id = service.submit(&chats(80, ""), json!({})).await;
    for order in ["completion", "input"] {
        // Returns when the stream ends, which is when the batch does.
        let followed = service.get(&format!("/v1/batches/{id}/results?follow=true&order={order}")).await;
        assert_eq!(followed.lines(), service.results(&id, &format!("order={order}")).await);
        assert_eq!(followed.lines().len(), 80);
    }
    // Under input order a running batch shows its gapless prefix.
    let mut lines = chats(20, "");
    lines[5] = chat("item-5", "[[slow=2s]]");
    let id = service.submit(&lines, json!({})).await;
    let done = |batch: &Value| batch["request_counts"]["completed"] == 19;
    service.until(&id, "all but one are done", done).await;
    let early = service.results(&id, "order=input").await;
    let early: Vec<&Value> = early.iter().map(|result| &result["sluicegate"]["line"]).collect();
    assert_eq!(early, [1, 2, 3, 4, 5]);
    assert_eq!(service.results(&id, "order=completion").await.len(), 19);
    service.ended(&id).await;
    assert_eq!(service.results(&id, "order=input").await.len(), 20);
}
