//! What upstreams do, well or badly, and what becomes of the items.

use serde_json::{Value, json};

use crate::harness::{Service, Settings, chat, chats, upstream};

/// An item's markers, and how it must end: the charged attempts, the calls upstream, and the status of its
/// response or the code of its error.
struct Case {
    markers: &'static str,
    attempts: u64,
    calls: u32,
    end: Result<u16, &'static str>,
}

const fn case(markers: &'static str, attempts: u64, calls: u32, end: Result<u16, &'static str>) -> Case {
    Case { markers, attempts, calls, end }
}

const CASES: [Case; 26] = [
    case("", 1, 1, Ok(200)),
    case("[[400]]", 1, 1, Ok(400)),
    case("[[404]]", 1, 1, Ok(404)),
    case("[[422]]", 1, 1, Ok(422)),
    case("[[413]]", 1, 1, Ok(413)),
    case("[[500 x2]]", 3, 3, Ok(200)),
    case("[[500]]", 3, 3, Ok(500)),
    case("[[503 x1]]", 2, 2, Ok(200)),
    case("[[503 retry-after=1 x1]]", 2, 2, Ok(200)),
    case("[[529 x1]]", 2, 2, Ok(200)),
    case("[[408 x1]]", 2, 2, Ok(200)),
    case("[[hang x1]]", 2, 2, Ok(200)),
    case("[[hang]]", 3, 3, Err("request_timeout")),
    case("[[drip]]", 3, 3, Err("request_timeout")),
    case("[[stall]]", 3, 3, Err("request_timeout")),
    case("[[reset x2]]", 3, 3, Ok(200)),
    case("[[reset]]", 3, 3, Err("connection_error")),
    case("[[reset-mid]]", 3, 3, Err("connection_error")),
    case("[[close]]", 3, 3, Err("connection_error")),
    case("[[truncated]]", 3, 3, Err("connection_error")),
    case("[[invalid-json]]", 3, 3, Err("invalid_response")),
    case("[[empty x1]]", 2, 2, Ok(200)),
    case("[[200-error x1]]", 2, 2, Ok(200)),
    case("[[not-json]]", 3, 3, Ok(502)),
    case("[[huge=34MB]]", 1, 1, Err("response_too_large")),
    case("[[bomb=100MB]]", 1, 1, Err("response_too_large")),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_behaviour_ends_its_item_as_it_should() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with(
        r#"
        retry = { max_attempts = 3 }
        timeouts = { first_byte = "600ms", idle = "600ms" }
        "#,
    );
    let service = Service::start(settings).await;
    let name = |number: usize| format!("item-{number}");
    let lines: Vec<Value> =
        CASES.iter().enumerate().map(|(number, case)| chat(&name(number), case.markers)).collect();
    let id = service.submit(&lines, json!({"request_timeout": "4s"})).await;
    let batch = service.ended(&id).await;
    let results = service.by_id(&id).await;

    for (number, case) in CASES.iter().enumerate() {
        let (result, markers) = (&results[&name(number)], case.markers);
        match case.end {
            Ok(status) => assert_eq!(result["response"]["status_code"], status, "{markers}: {result}"),
            Err(code) => assert_eq!(result["error"]["code"], code, "{markers}: {result}"),
        }
        assert_eq!(result["sluicegate"]["attempts"], case.attempts, "{markers}: {result}");
        assert_eq!(upstream.calls(&name(number)), case.calls, "{markers}");
    }
    assert_eq!(batch["status"], "completed");
    let good = CASES.iter().filter(|case| case.end == Ok(200)).count();
    let counts = json!({"total": CASES.len(), "completed": good, "failed": CASES.len() - good});
    assert_eq!(batch["request_counts"], counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_reply_arrives_whole() {
    let upstream = upstream("").await;
    // Less memory than the replies together: they grow one after the other.
    let little = "server = { memory_budget = \"8MiB\" }\nbatches = { max_line = \"1MiB\" }";
    let service = Service::start(Settings::new(&upstream).with(little)).await;
    let id = service.submit(&chats(6, "[[huge=5MB]]"), json!({})).await;
    let batch = service.ended(&id).await;
    assert_eq!(batch["request_counts"]["completed"], 6, "{batch}");
    let page = service.get(&format!("/v1/batches/{id}/results")).await;
    assert!(page.lines().iter().all(|result| result["response"]["status_code"] == 200));
    assert!(page.text.len() > 6 * 5_000_000, "{}", page.text.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_refusals_burn_no_attempt() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let mut lines = chats(30, "");
    lines[0] = chat("item-0", "[[429 retry-after=1 x2]]");
    lines[9] = chat("item-9", "[[429 x1]]");
    let id = service.submit(&lines, json!({"max_attempts": 1})).await;
    let waits = service
        .until(&id, "the lane cools down", |batch| batch["sluicegate"]["waiting"][0]["reason"] == "cooldown")
        .await;
    let waiting = &waits["sluicegate"]["waiting"][0];
    assert_eq!(waiting["lane"], "up/demo-small");
    assert!(waiting["until"].is_number(), "{waiting}");
    let batch = service.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": 30, "completed": 30, "failed": 0}));
    assert_eq!(batch["sluicegate"]["attempts"], 30);
    assert_eq!(batch["sluicegate"]["retries"], 0);
    assert_eq!(upstream.calls("item-0"), 3);
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("sluicegate_upstream_429_total", &[r#"kind="rate""#]), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_above_the_limit_itself_fails_alone() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let mut lines = chats(10, "");
    lines[3] = chat("item-3", "[[too-large]]");
    let id = service.submit(&lines, json!({})).await;
    let batch = service.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": 10, "completed": 9, "failed": 1}));
    assert_eq!(service.by_id(&id).await["item-3"]["error"]["code"], "token_budget_exceeded");
    assert_eq!(upstream.calls("item-3"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_of_faults_loses_nothing() {
    let script = r#"
        latency = "1ms..10ms"
        faults = { probability = 0.3, kinds = ["500", "503", "reset"] }
    "#;
    let upstream = upstream(script).await;
    let service = Service::start(Settings::new(&upstream).with("retry = { max_attempts = 8 }")).await;
    let id = service.submit(&chats(400, ""), json!({})).await;
    let batch = service.ended(&id).await;
    // 0.3^8 of 400 items is 0.03; the seed is fixed, so it is none.
    assert_eq!(batch["request_counts"], json!({"total": 400, "completed": 400, "failed": 0}));
    assert_eq!(service.by_id(&id).await.len(), 400);
    let attempts = batch["sluicegate"]["attempts"].as_u64().unwrap();
    assert_eq!(upstream.log().arrived, attempts, "every call is a charged attempt");
    // 400/0.7 = 571 calls are to be expected.
    assert!((500..650).contains(&attempts), "{attempts}");
}
