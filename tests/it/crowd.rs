//! Many batches at once, with everything that can happen to them, in little memory.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Client, Metrics, Service, Settings, chat, upstream};

const BATCHES: usize = 24;
const ITEMS: usize = 90;

/// Lines of three models; some long, some that fail for good, some that are refused for rate.
fn lines(batch: usize) -> Vec<Value> {
    (0..ITEMS)
        .map(|number| {
            let text = match (batch * 7 + number) % 30 {
                0 => "[[400]]".to_owned(),
                1 if batch.is_multiple_of(8) => "[[429 retry-after=1 x1]]".to_owned(),
                2..=5 => "x".repeat(40_000),
                6 => "[[huge=300KB]]".to_owned(),
                _ => String::new(),
            };
            let mut line = chat(&format!("b{batch}-{number}"), &text);
            line["body"]["model"] = json!(format!("model-{}", number % 3));
            line
        })
        .collect()
}

fn options(batch: usize) -> Value {
    match batch % 6 {
        0 => json!({"max_concurrency": 2}),
        1 => json!({"priority": 50}),
        2 => json!({"completion_window": "1s"}),
        3 => json!({"on_error": "fail_fast"}),
        _ => json!({}),
    }
}

/// Makes a batch, does to it what its number says, and waits for its end; its object and how many rows it has.
async fn live(service: &Client, number: usize) -> (Value, usize) {
    let id = service.submit(&lines(number), options(number)).await;
    let path = format!("/v1/batches/{id}");
    match number % 8 {
        1 | 4 => {
            let moving = |batch: &Value| batch["sluicegate"]["counts"]["pending"] != ITEMS;
            service.until(&id, "it moves", moving).await;
            service.post(&format!("{path}/cancel"), &json!({})).await;
        }
        5 => {
            // It may have ended by then, which refuses both.
            service.post(&path, &json!({"paused": true})).await;
            service.post(&path, &json!({"priority": -20, "max_concurrency": 5})).await;
            service.post(&path, &json!({"paused": false})).await;
        }
        _ => {}
    }
    let batch = service.ended(&id).await;
    (batch, service.by_id(&id).await.len())
}

fn idle(metrics: &Metrics) -> bool {
    metrics.sum("sluicegate_items_pending", &[]) == 0.0
        && metrics.sum("sluicegate_lane_state", &[r#"state="open""#]) == 3.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_batches_ends_whole() {
    let script = r#"
        latency = "1ms..30ms"
        faults = { probability = 0.1, kinds = ["500", "503", "reset", "truncated"] }
    "#;
    let upstream = upstream(script).await;
    let settings = Settings::new(&upstream).with(
        r#"
        server = { memory_budget = "2MiB" }
        batches = { max_line = "256KiB" }
        limits = { max_concurrent = 40 }
        "#,
    );
    let service = Service::start(settings).await;
    let ended = join_all((0..BATCHES).map(|number| live(&service, number))).await;

    let mut totals = [0; 4];
    for (batch, rows) in &ended {
        let counts = ["succeeded", "failed", "expired", "cancelled"]
            .map(|state| batch["sluicegate"]["counts"][state].as_u64().unwrap());
        assert_eq!(counts.iter().sum::<u64>(), ITEMS as u64, "{batch:#}");
        assert_eq!(*rows, ITEMS);
        totals = std::array::from_fn(|state| totals[state] + counts[state]);
    }
    assert!(totals.iter().all(|total| *total > 0), "{totals:?}: every ending must be met");
    let metrics = service.metrics_until("nothing is left", idle).await;
    for (state, total) in ["succeeded", "failed", "expired", "cancelled"].into_iter().zip(totals) {
        let outcome = format!("outcome=\"{state}\"");
        assert_eq!(metrics.sum("sluicegate_items_total", &[&outcome]), total as f64, "{state}");
    }
    assert_eq!(metrics.sum("sluicegate_in_flight", &[]), 0.0);
    assert_eq!(metrics.sum("sluicegate_attempts_total", &[]), upstream.log().arrived as f64);
    assert_eq!(metrics.sum("sluicegate_batch_duration_seconds_count", &[]), BATCHES as f64);
    assert!(upstream.oracle().max_in_flight <= 40);
    // Nothing that was held is held still: the service can do all of its work at once again.
    let id = service.submit(&lines(0)[7..30], json!({})).await;
    assert_eq!(service.ended(&id).await["status"], "completed");
}
