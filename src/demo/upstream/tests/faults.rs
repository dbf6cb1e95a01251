//! Unusual answers: by marker, at random, by the clock.

use super::*;

#[tokio::test]
async fn statuses_come_with_the_bodies_that_providers_send() {
    let scene = Scene::of("").await;
    for (marker, status, kind, code) in [
        ("[[400]]", 400, "invalid_request_error", Value::Null),
        ("[[401]]", 401, "invalid_request_error", json!("invalid_api_key")),
        ("[[404]]", 404, "invalid_request_error", json!("model_not_found")),
        ("[[429]]", 429, "requests", json!("rate_limit_exceeded")),
        ("[[quota]]", 429, "insufficient_quota", json!("insufficient_quota")),
        ("[[too-large]]", 429, "tokens", json!("rate_limit_exceeded")),
        ("[[503]]", 503, "server_error", Value::Null),
    ] {
        let answer = scene.chat(marker).await;
        assert_eq!(answer.status(), status, "{marker}");
        assert!(!answer.headers().contains_key("retry-after"), "{marker}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&json!(kind), &code), "{marker}");
    }
    let answer = scene.chat("[[429 retry-after=2]]").await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"2".parse().unwrap()));
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "[[529]]"}]});
    let answer = scene.client.post(scene.url("/v1/messages")).json(&body).send().await.unwrap();
    assert!(answer.headers().contains_key("request-id"));
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["type"], "overloaded_error");
}

#[tokio::test]
async fn behaviours_last_for_so_many_calls() {
    let scene = Scene::of("").await;
    assert_eq!(scene.statuses("[[id=a]][[500 x2]][[429 x1]]", 4).await, [500, 500, 429, 200]);
    assert_eq!(scene.statuses("no id [[503 x1]]", 2).await, [503, 200]);
    assert_eq!(scene.statuses("another [[503 x1]]", 2).await, [503, 200]);
    assert_eq!(scene.upstream.calls("a"), 4);
}

#[tokio::test]
async fn broken_answers_break_where_they_say() {
    let scene = Scene::of("").await;
    for marker in ["[[reset]]", "[[close]]"] {
        assert!(scene.try_chat(marker).await.is_err(), "{marker}");
    }
    for marker in ["[[reset-mid]]", "[[truncated]]"] {
        let answer = scene.chat(marker).await;
        assert_eq!(answer.status(), 200, "{marker}");
        assert!(answer.bytes().await.is_err(), "{marker}");
    }
    assert_eq!(scene.ended(4).await.cut, 4);
    let body = scene.chat("[[invalid-json]]").await.bytes().await.unwrap();
    assert!(body.len() > 50 && serde_json::from_slice::<Value>(&body).is_err());
    let page = scene.chat("[[not-json]]").await;
    assert_eq!(
        (page.status().as_u16(), &page.headers()["content-type"]),
        (502, &"text/html".parse().unwrap())
    );
    assert_eq!(scene.chat("[[empty]]").await.bytes().await.unwrap().len(), 0);
    assert_eq!(scene.chat("[[redirect]]").await.status(), 307);
    let body: Value = scene.chat("[[200-error=503]]").await.json().await.unwrap();
    assert_eq!(body["error"]["code"], 503);
}

#[tokio::test]
async fn huge_answers_are_valid_and_bombs_unpack() {
    let scene = Scene::of("").await;
    let body = scene.chat("[[huge=3MB]]").await.bytes().await.unwrap();
    assert_eq!(body.len(), 3_000_000);
    assert!(serde_json::from_slice::<Value>(&body).is_ok());
    let mut bomb = scene.chat("[[bomb=3MB]]").await;
    let mut unpacked = 0;
    // The checksum at its end is wrong on purpose; all before it is good.
    while let Ok(Some(piece)) = bomb.chunk().await {
        assert!(piece.iter().all(|byte| *byte == b' '));
        unpacked += piece.len();
    }
    assert!(unpacked >= 2_900_000, "{unpacked}");
}

#[tokio::test]
async fn hanging_answers_end_when_the_client_leaves() {
    let scene = Scene::of("slots = 2").await;
    let short = std::time::Duration::from_millis(80);
    for marker in ["[[hang]]", "[[slow=1h]]"] {
        let call = scene.client.post(scene.url("/v1/chat/completions")).json(&chat(marker)).timeout(short);
        assert!(call.send().await.unwrap_err().is_timeout(), "{marker}");
    }
    for marker in ["[[stall]]", "[[drip=1h]]"] {
        let half_read = scene.chat(marker).await;
        assert_eq!(half_read.status(), 200, "{marker}");
    }
    assert_eq!(scene.ended(4).await.gone, 4);
    assert_eq!(scene.upstream.oracle().in_flight, 0);
    assert_eq!(scene.chat("[[drip=0s]]").await.json::<Value>().await.unwrap()["object"], "chat.completion");
}

#[tokio::test]
async fn random_faults_depend_on_seed_id_and_attempt_alone() {
    let script = "log = 'off'\nfaults = { probability = 0.3, kinds = ['500', '503'] }";
    let (one, other) = (Scene::of(script).await, Scene::of(script).await);
    let mut failed = 0;
    for id in 0..300 {
        let prompt = format!("[[id={id}]]");
        let statuses = one.statuses(&prompt, 2).await;
        failed += statuses.iter().filter(|status| **status != 200).count();
        if id % 30 == 0 {
            assert_eq!(other.statuses(&prompt, 2).await, statuses);
        }
    }
    assert!((140..220).contains(&failed), "{failed}");
}

#[tokio::test]
async fn storms_refuse_everything_and_say_how_long() {
    let scene = Scene::of("storm = { every = '1h', lasts = '90s' }").await;
    let answer = scene.chat("x").await;
    assert_eq!(answer.status(), 429);
    let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((60..=90).contains(&seconds), "{seconds}");
    scene.upstream.update(serde_json::from_str(r#"{"storm": null}"#).unwrap()).unwrap();
    assert_eq!(scene.chat("x").await.status(), 200);
}

#[tokio::test]
async fn a_stopped_upstream_frees_its_address() {
    let scene = Scene::of("").await;
    let address = scene.upstream.addr();
    scene.chat("x").await;
    scene.upstream.shutdown().await;
    assert!(scene.client.get(format!("http://{address}/v1/models")).send().await.unwrap_err().is_connect());
    let again = ScriptedUpstream::start_at(address, Script::default()).await.unwrap();
    assert_eq!(scene.client.get(format!("{}/models", again.base_url())).send().await.unwrap().status(), 200);
}
