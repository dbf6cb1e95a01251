//! The main job: upload, create, wait, read.

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Service, Settings, chat, chats, id_of, jsonl, line, upstream};

/// Lines of every endpoint in turn.
fn of_every_endpoint(count: usize) -> Vec<Value> {
    (0..count)
        .map(|number| {
            let id = format!("item-{number}");
            let text = format!("[[id={id}]] what is {number}?");
            let (url, body) = match number % 6 {
                0 => ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": text}]})),
                1 => ("/v1/responses", json!({"input": text})),
                2 => ("/v1/embeddings", json!({"input": [text]})),
                3 => ("/v1/completions", json!({"prompt": text})),
                4 => ("/v1/moderations", json!({"input": text})),
                _ => (
                    "/v1/messages",
                    json!({"max_tokens": 50, "messages": [{"role": "user", "content": text}]}),
                ),
            };
            let mut body = body;
            body["model"] = json!(format!("model-{}", number % 3));
            line(&id, url, &body)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_items_of_every_endpoint_each_end_once() {
    let upstream = upstream(r#"latency = "1ms..20ms""#).await;
    let service = Service::start(Settings::new(&upstream)).await;
    let lines = of_every_endpoint(500);
    let id = service.submit(&lines, json!({"endpoint": null, "metadata": {"job": "all"}})).await;
    let batch = service.ended(&id).await;

    assert_eq!(batch["status"], "completed");
    assert_eq!(batch["request_counts"], json!({"total": 500, "completed": 500, "failed": 0}));
    assert_eq!(batch["sluicegate"]["attempts"], 500);
    assert_eq!(batch["error_file_id"], Value::Null);
    assert_eq!(batch["model"], Value::Null);
    assert!(batch["usage"]["total_tokens"].as_u64().unwrap() > 500);
    assert_eq!(upstream.log().arrived, 500);
    assert_eq!(upstream.log().repeats, 0);

    let output = service.content(&batch["output_file_id"]).await.lines();
    let ids: Vec<&Value> = output.iter().map(|line| &line["custom_id"]).collect();
    let sent: Vec<&Value> = lines.iter().map(|line| &line["custom_id"]).collect();
    assert_eq!(ids, sent, "files are in input order");
    for (line, sent) in output.iter().zip(&lines) {
        assert_eq!(line["response"]["status_code"], 200);
        assert_eq!(line["error"], Value::Null);
        let object = line["response"]["body"].as_object().unwrap();
        let kind = match sent["url"].as_str().unwrap() {
            "/v1/chat/completions" | "/v1/completions" => "choices",
            "/v1/responses" => "output",
            "/v1/embeddings" => "data",
            "/v1/moderations" => "results",
            _ => "content",
        };
        assert!(object.contains_key(kind), "{line}");
    }
    let input = service.content(&batch["input_file_id"]).await;
    assert_eq!(input.text, jsonl(&lines));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_come_in_both_orders_page_by_page() {
    let upstream = upstream(r#"latency = "0ms..30ms""#).await;
    let service = Service::start(Settings::new(&upstream)).await;
    let mut lines = chats(60, "");
    lines[7] = chat("item-7", "[[400]]");
    lines[31] = chat("item-31", "[[400]]");
    let id = service.submit(&lines, json!({})).await;
    service.ended(&id).await;

    for order in ["completion", "input"] {
        let mut seen = Vec::new();
        let mut after = "0".to_owned();
        loop {
            let path = format!("/v1/batches/{id}/results?order={order}&limit=7&after={after}");
            let page = service.get(&path).await;
            let lines = page.lines();
            assert!(lines.len() <= 7);
            if lines.is_empty() {
                assert_eq!(page.header("sluicegate-next-after"), after);
                break;
            }
            after = page.header("sluicegate-next-after").to_owned();
            seen.extend(lines);
        }
        let key = if order == "input" { "line" } else { "position" };
        let keys: Vec<u64> = seen.iter().map(|line| line["sluicegate"][key].as_u64().unwrap()).collect();
        assert_eq!(keys, (1..=60).collect::<Vec<_>>(), "{order}");
    }
    let failed = service.results(&id, "status=failed&order=input").await;
    let failed: Vec<&Value> = failed.iter().map(|line| &line["custom_id"]).collect();
    assert_eq!(failed, ["item-7", "item-31"]);
    assert_eq!(service.results(&id, "status=succeeded").await.len(), 58);
    assert_eq!(service.get(&format!("/v1/batches/{id}/results?limit=10001")).await.status, 400);

    let batch = service.batch(&id).await;
    let errors = service.content(&batch["error_file_id"]).await.lines();
    let errors: Vec<&Value> = errors.iter().map(|line| &line["custom_id"]).collect();
    assert_eq!(errors, ["item-7", "item-31"]);
    let item = service.get(&format!("/v1/batches/{id}/items/item-31")).await.ok();
    assert_eq!(item["line"], 32);
    assert_eq!(item["result"]["response"]["status_code"], 400);
    service.get(&format!("/v1/batches/{id}/items/none")).await.refused(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_of_a_deleted_file_is_in_the_results_alone() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let file = id_of(&service.upload(jsonl(&chats(2, ""))).await.ok());
    let asked =
        json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let id = id_of(&service.post("/v1/batches", &asked).await.ok());
    service.ended(&id).await;
    let item = format!("/v1/batches/{id}/items/item-1");
    assert_eq!(service.get(&item).await.ok()["state"], "succeeded");
    service.delete(&format!("/v1/files/{file}")).await.ok();
    assert_eq!(service.get(&item).await.ok()["state"], "succeeded", "as long as its pieces are there");
    // A start erases at once what there is to erase.
    let service = service.restart().await;
    let losing = async {
        loop {
            let shown = service.get(&item).await;
            if shown.status != 200 {
                break shown;
            }
        }
    };
    let lost = tokio::time::timeout(PATIENCE, losing).await.expect("the file is erased");
    assert!(
        lost.refused(404)["message"].as_str().unwrap().contains("Read the batch's results"),
        "{}",
        lost.text
    );
    assert_eq!(service.results(&id, "").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_batches_outlive_a_restart() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let id = service.submit(&chats(20, ""), json!({})).await;
    let before = (service.ended(&id).await, service.results(&id, "").await);
    let service = service.restart().await;
    assert_eq!((service.batch(&id).await, service.results(&id, "").await), before);
    assert_eq!(upstream.log().arrived, 20);
}
