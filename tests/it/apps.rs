//! What operators give to apps, and what they see of them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Service, Settings, chat, chats, jsonl, upstream};

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_put_whole_and_shown() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let settings = json!({
        "weight": 2, "items_queued": 1000, "bytes_stored": "1GiB",
        "limits": {"requests": ["500/min", "10000/day"], "tokens": 90000, "max_concurrent": 8, "day_starts": "07:00"}
    });
    let app = service.put("/admin/v1/apps/search", &settings).await.ok();
    assert_eq!(
        (&app["object"], &app["name"], &app["weight"]),
        (&json!("sluicegate.app"), &json!("search"), &json!(2))
    );
    assert_eq!(app["limits"]["requests"], json!(["500/min", "10000/day"]));
    assert_eq!(app["limits"]["tokens"], json!(["90000/min"]));
    assert_eq!((&app["limits"]["max_concurrent"], &app["limits"]["burst"]), (&json!(8), &json!(null)));
    assert_eq!((&app["limits"]["day_starts"], &app["bytes_stored"]), (&json!("07:00"), &json!(1 << 30)));
    assert_eq!(app["usage"].as_array().unwrap().len(), 1, "today, before anything was used");
    let service = service.restart().await;
    let apps = service.get("/admin/v1/apps").await.ok();
    let names: Vec<&str> =
        apps["data"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "search"]);
    assert_eq!(apps["data"][1], app);
    let plain = service.put("/admin/v1/apps/search", &json!({})).await.ok();
    assert_eq!((&plain["weight"], &plain["items_queued"]), (&json!(1), &json!(null)));
    for (name, body, param) in [
        ("Search", json!({}), "name"),
        ("search", json!({"weight": 0}), "weight"),
        ("search", json!({"limits": {"requests": "lots"}}), "limits.requests"),
    ] {
        let error = service.put(&format!("/admin/v1/apps/{name}"), &body).await.refused(400);
        assert_eq!(error["param"], param);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_what_the_results_say() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let mut lines = chats(5, "");
    lines[2] = chat("item-2", "[[400]]");
    lines[3] = chat("item-3", "[[500 x1]]");
    let id = service.submit(&lines, json!({})).await;
    let batch = service.ended(&id).await;
    let apps = service.get("/admin/v1/apps?days=2").await.ok();
    let today = &apps["data"][0]["usage"][0];
    assert_eq!((&today["requests"], &today["failures"]), (&json!(5), &json!(1)), "{apps:#}");
    for tokens in ["input_tokens", "output_tokens"] {
        assert_eq!(today[tokens], batch["usage"][tokens]);
        assert!(today[tokens].as_u64().unwrap() > 0);
    }
    assert_eq!(apps["data"][0]["held"]["items_queued"], 0);
    let restarted = service.restart().await;
    let after = restarted.get("/admin/v1/apps?days=2").await.ok();
    assert_eq!(after["data"][0]["usage"][0], *today);
    restarted.get("/admin/v1/apps?days=0").await.refused(400);
}

/// What the only app used today, once so many requests were counted: calls are counted with the next commit.
async fn used(service: &Service, requests: u64) -> Value {
    let counted = async {
        loop {
            let apps = service.get("/admin/v1/apps?days=1").await.ok();
            let today = apps["data"][0]["usage"][0].clone();
            if today["requests"].as_u64().unwrap() >= requests {
                return today;
            }
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_holds_clients_own_calls() {
    const CHAT: &str = "/v1/chat/completions";
    let upstream = upstream("stream_pieces = 50\nstream_pause = \"20ms\"").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let say = |text: &str| json!({"model": "demo-small", "messages": [{"role": "user", "content": text}]});
    let answer = service.post(CHAT, &say("[[out=37]] x")).await.ok();
    let tokens =
        |today: &Value| ["input_tokens", "output_tokens"].map(|tokens| today[tokens].as_u64().unwrap());
    let once = ["prompt_tokens", "completion_tokens"].map(|tokens| answer["usage"][tokens].as_u64().unwrap());
    let today = used(&service, 1).await;
    assert_eq!((&today["requests"], &today["failures"], tokens(&today)), (&json!(1), &json!(0), once));

    // A stream that reports its tokens counts like an answer at once; a reply without them as a request.
    let mut streamed = say("[[out=37]] x");
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    assert_eq!(service.post(CHAT, &streamed).await.status, 200);
    assert_eq!(tokens(&used(&service, 2).await), once.map(|tokens| 2 * tokens));
    service.post("/v1/moderations", &json!({"input": "x"})).await.ok();
    assert_eq!(service.post(CHAT, &say("[[400]]")).await.status, 400);
    // Refused for rate and sent again: one request, whatever comes of it.
    assert_eq!(service.post(CHAT, &say("[[id=a]][[out=0]][[429 retry-after=0 x1]]")).await.status, 200);
    let today = used(&service, 5).await;
    assert_eq!((&today["requests"], &today["failures"]), (&json!(5), &json!(1)));
    let refused = service.request(Method::POST, CHAT).header("sluicegate-max-wait", "50ms");
    let refused = refused.json(&say("[[id=b]][[429 retry-after=1 x1]]"));
    assert_eq!(service.send(refused).await.status, 429);
    let today = used(&service, 6).await;
    assert_eq!((&today["requests"], &today["failures"]), (&json!(6), &json!(2)));
    // What its client leaves was sent, and failed nobody.
    let mut reply = service.request(Method::POST, CHAT).json(&streamed).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(reply.chunk().await.unwrap().is_some());
    drop(reply);
    let today = used(&service, 7).await;
    assert_eq!((&today["requests"], &today["failures"]), (&json!(7), &json!(2)));
    // A call that was never sent used nothing.
    service.post("/admin/v1/lanes/pause", &json!({"provider": "up", "model": "demo-small"})).await.ok();
    let unsent = service.request(Method::POST, CHAT).header("sluicegate-max-wait", "20ms").json(&say("x"));
    assert_eq!(service.send(unsent).await.header("sluicegate-error-source"), "gate");
    assert_eq!(upstream.log().arrived, 8);
    let before = tokens(&today);
    let restarted = service.restart().await;
    let today = used(&restarted, 0).await;
    assert_eq!((&today["requests"], tokens(&today)), (&json!(7), before));
}

#[tokio::test(flavor = "multi_thread")]
async fn items_above_the_quota_are_refused_until_some_have_ended() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    service.put("/admin/v1/apps/default", &json!({"items_queued": 5})).await.ok();
    let mut lines = chats(4, "");
    lines[3] = chat("item-3", "[[hang]]");
    let first = service.submit(&lines, json!({})).await;
    service.until(&first, "all but one ended", |batch| batch["request_counts"]["completed"] == 3).await;

    let file = service.upload(jsonl(&chats(5, ""))).await.ok();
    let create =
        json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "1h"});
    let refused = service.post("/v1/batches", &create).await;
    let error = refused.refused(429);
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("app_quota_exceeded"), &json!("invalid_request_error"))
    );
    assert!(error["message"].as_str().unwrap().contains("items_queued is 5"), "{error}");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    let inline = json!({"endpoint": null, "requests": chats(5, "")});
    service.post("/v1/batches", &inline).await.refused(429);
    assert_eq!(service.get("/v1/batches").await.ok()["data"].as_array().unwrap().len(), 1);

    let never = json!({"endpoint": null, "requests": chats(6, "")});
    let refused = service.post("/v1/batches", &never).await;
    assert!(refused.refused(429)["message"].as_str().unwrap().contains("never fits"));
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), ("", "false"));

    service.post(&format!("/v1/batches/{first}/cancel"), &json!({})).await.ok();
    // The hanging call is let go once its batch is gone, or when the other one has its turn.
    service.post("/v1/batches", &json!({"endpoint": null, "requests": chats(4, "")})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_above_the_quota_are_refused_and_nothing_of_them_is_kept() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let lines = jsonl(&chats(10, "some text to send"));
    let quota = lines.len() * 5 / 2;
    service.put("/admin/v1/apps/default", &json!({"bytes_stored": quota})).await.ok();
    let first = service.upload(lines.clone()).await.ok();
    service.upload(lines.clone()).await.ok();
    let refused = service.upload(lines.clone()).await;
    assert_eq!(refused.refused(429)["code"], "app_quota_exceeded");
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), ("", "false"));
    assert_eq!(service.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 2);
    let held = service.get("/admin/v1/apps").await.ok()["data"][0]["held"]["bytes_stored"].clone();
    assert_eq!(held, lines.len() * 2);
    service.delete(&format!("/v1/files/{}", first["id"].as_str().unwrap())).await.ok();
    service.upload(lines).await.ok();
}
