//! Kinds of providers and other names for models, for clients' own calls and batches' lines alike.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Recording, Service, Settings, line, upstream};

const PROVIDERS: &str = r#"
    [[providers.up.lanes]]
    match = "unused"
    [providers.claude]
    kind = "anthropic"
    base_url = "http://ADDRESS/v1"
    api_key_file = "KEY"
    [[providers.claude.lanes]]
    match = "quick"
    upstream_model = "claude-3"
    [providers.dated]
    kind = "azure"
    base_url = "http://ADDRESS/openai"
    api_key_file = "KEY"
    [[providers.dated.lanes]]
    match = "gpt-*"
    [providers.undated]
    kind = "azure"
    base_url = "http://ADDRESS/openai/v1"
    api_key_file = "KEY"
    [[providers.undated.lanes]]
    match = "o1"
    upstream_model = "my o1"
"#;

/// Path and body of each call; what arrives, and the header with the key.
const CALLS: [(&str, &str, &str, &str, &str); 4] = [
    (
        "/v1/messages",
        r#"{"max_tokens":1, "model": "quick" }"#,
        "/v1/messages",
        r#"{"max_tokens":1, "model": "claude-3" }"#,
        "x-api-key",
    ),
    (
        "/v1/chat/completions",
        r#"{"model":"gpt-4o"}"#,
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        r#"{"model":"gpt-4o"}"#,
        "api-key",
    ),
    (
        "/v1/responses",
        r#"{"model":"gpt-4o"}"#,
        "/openai/responses?api-version=2024-10-21",
        r#"{"model":"gpt-4o"}"#,
        "api-key",
    ),
    (
        "/v1/chat/completions",
        r#"{"model":"o1"}"#,
        "/openai/v1/chat/completions",
        r#"{"model":"my o1"}"#,
        "api-key",
    ),
];

/// The service before a provider of each kind, all of them one recording.
async fn service() -> (Service, Recording) {
    let (recording, address) = Recording::start("{\"object\":\"x\"}").await;
    let settings = Settings::new(&upstream("").await);
    let key_file = settings.file("key");
    std::fs::write(&key_file, "sk-of-the-lane\n").unwrap();
    let providers = PROVIDERS.replace("ADDRESS", &address.to_string());
    let providers = providers.replace("KEY", key_file.to_str().unwrap());
    (Service::start(settings.with(&providers)).await, recording)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_where_its_provider_s_kind_says() {
    let (service, recording) = service().await;
    for (path, body, ..) in CALLS {
        let answer = service.send(service.request(Method::POST, path).body(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let (targets, arrived) = (recording.targets(), recording.arrived());
    for (at, (_, _, target, body, key)) in CALLS.into_iter().enumerate() {
        assert_eq!((targets[at].as_str(), &arrived[at].1[..]), (target, body.as_bytes()));
        assert_eq!(arrived[at].0[key], "sk-of-the-lane");
    }
    assert_eq!(arrived[0].0["anthropic-version"], "2023-06-01");
    let models = service.get("/v1/models").await.ok();
    let models = models["data"].as_array().unwrap().clone();
    let names: Vec<&str> = models.iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["o1", "quick", "unused"]);
    for model in &models {
        let path = format!("/v1/models/{}", model["id"].as_str().unwrap());
        assert_eq!(service.get(&path).await.ok(), *model);
    }
    assert_eq!(service.get("/v1/models/gpt-4o").await.ok()["owned_by"], "dated", "a pattern's");
    for (name, why) in
        [("%1b%5b2J", "without control characters"), (&"x".repeat(257)[..], "of at most 256 bytes")]
    {
        let refused = service.get(&format!("/v1/models/{name}")).await.refused(404);
        assert_eq!(refused["message"], format!("No model can be called so: expected a name {why}."));
    }
    let none = service.get("/v1/models/maker/none").await;
    assert_eq!(none.refused(404)["code"], "model_not_found");
    assert_eq!(
        none.refused(404)["message"],
        "The model 'maker/none' does not exist here: no lane serves it."
    );
    assert_eq!(service.get("/v1/models/maker%2Fnone").await.refused(404), none.refused(404));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_s_line_goes_there_too() {
    let (service, recording) = service().await;
    let lines = CALLS.iter().enumerate().map(|(at, (path, body, ..))| {
        line(&at.to_string(), path, &serde_json::from_str::<Value>(body).unwrap())
    });
    let id = service.submit(&lines.collect::<Vec<_>>(), json!({"endpoint": null})).await;
    assert_eq!(service.ended(&id).await["request_counts"]["completed"], 4);
    let (targets, arrived) = (recording.targets(), recording.arrived());
    assert_eq!(arrived.len(), 4);
    for (_, _, target, body, key) in CALLS {
        let at = targets.iter().position(|arrived| arrived == target);
        let (headers, sent) = &arrived[at.unwrap_or_else(|| panic!("{target} is not among {targets:?}"))];
        let as_json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(as_json(sent), as_json(body.as_bytes()));
        assert_eq!(headers[key], "sk-of-the-lane");
    }
}
