//! The usual answers.

use super::*;

#[tokio::test]
async fn every_endpoint_answers_in_its_shape() {
    let scene = Scene::of("").await;
    for (path, body, place) in [
        ("chat/completions", chat("[[id=7]]"), "/choices/0/message/content"),
        ("completions", json!({"model": "m", "prompt": "[[id=7]]"}), "/choices/0/text"),
        ("responses", json!({"model": "m", "input": "[[id=7]]"}), "/output/0/content/0/text"),
        (
            "messages",
            json!({"model": "m", "messages": [{"role": "user", "content": "[[id=7]]"}]}),
            "/content/0/text",
        ),
    ] {
        let url = format!("{}/{path}", scene.upstream.base_url());
        let answer: Value = scene.client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer.pointer(place).unwrap(), "Answer to 7.", "{path}");
    }
    let url = scene.url("/v1/embeddings");
    let body = json!({"model": "m", "input": ["a", "b"]});
    let answer: Value = scene.client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    let url = scene.url("/v1/moderations");
    let answer: Value =
        scene.client.post(url).json(&json!({"input": "a"})).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["results"][0]["flagged"], false);
    assert_eq!(scene.get("/v1/models").await["data"][0]["id"], "demo-small");
    assert_eq!(scene.upstream.calls("7"), 4);
}

#[tokio::test]
async fn usage_is_what_the_oracle_charges_for_input() {
    let scene = Scene::of("[[limits]]\nlaw = 'sliding'\nlimit = 1000\nperiod = '60s'\nunit = 'tokens'").await;
    let answer: Value = scene.chat("12345678").await.json().await.unwrap();
    assert_eq!(
        answer["usage"],
        json!({
            "prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
        })
    );
    assert_eq!(scene.upstream.oracle().laws[0].arrived, 2 + 16);
}

#[tokio::test]
async fn answers_are_padded_and_named() {
    let scene = Scene::of("answer_bytes = 5000\nanswers = ['one', 'two']").await;
    let first = scene.chat("x").await;
    assert!(first.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
    assert_eq!(first.headers()["content-type"], "application/json");
    let text = |answer: Value| answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let (first, second) =
        (text(first.json().await.unwrap()), text(scene.chat("x").await.json().await.unwrap()));
    assert_eq!((first.len(), &first[..3], &second[..3]), (5_000, "one", "two"));
}

#[tokio::test]
async fn latency_is_waited_for() {
    let scene = Scene::of("latency = '40ms'").await;
    let start = tokio::time::Instant::now();
    scene.chat("x").await;
    assert!(start.elapsed().as_millis() >= 40);
    scene.chat("[[slow=90ms]]").await;
    assert!(start.elapsed().as_millis() >= 130);
    let busy = scene.upstream.oracle().busy_slot_seconds;
    assert!(busy >= 0.13 && busy <= start.elapsed().as_secs_f64(), "{busy}");
}
