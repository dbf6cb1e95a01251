//! Secrets of every kind, put where they belong and where they don't, and looked for everywhere else.

use std::net::SocketAddr;
use std::process::Command;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Process, Settings, chat, chats, id_of, jsonl, postgres, upstream};

const PROVIDER_KEY: &str = "sk-canary-provider-0a1b2c3d";
const ADMIN_KEY: &str = "canary-admin-key-4e5f6a7b8c9d";
const HEADER: &str = "canary-header-1f2e3d4c";
const QUERY: &str = "canary-query-5b6a7980";
const PROXY_PASSWORD: &str = "canary-proxy-9c8d7e6f";
const PROMPT: &str = "canary-prompt-2b3c4d5e";
const CUSTOM_ID: &str = "canary-custom-id-6f708192";
const LABEL: &str = "canary-label-a3b4c5d6";
const CLIENT_HEADER: &str = "canary-client-header-e7f80912";
const DATABASE_PASSWORD: &str = "canary-database-13243546";

/// Secrets of operators: in no log, page, metric and answer, and in no file but those that they were given in.
const OPERATORS: [&str; 6] = [PROVIDER_KEY, ADMIN_KEY, HEADER, QUERY, PROXY_PASSWORD, DATABASE_PASSWORD];
/// What clients send: in the store and in answers to its app, and nowhere else.
const CLIENTS: [&str; 4] = [PROMPT, CUSTOM_ID, LABEL, CLIENT_HEADER];

/// A provider that quotes the key it was called with, and the prompt, in each of its errors.
async fn quoting_provider() -> SocketAddr {
    async fn answer(headers: HeaderMap, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
        let key = headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ");
        let prompt = body["messages"][0]["content"].as_str().unwrap_or_default();
        let known = [(401, "invalid_api_key"), (429, "rate_limit_exceeded"), (500, "server_error")];
        let asked = known.into_iter().find(|(status, _)| prompt.contains(&format!("[[{status}]]")));
        let (status, code) = asked.unwrap_or((400, "invalid_value"));
        let message = format!("The key {key} may not ask {prompt}");
        let error = json!({"message": message, "type": code, "param": key, "code": code});
        (StatusCode::from_u16(status).unwrap(), Json(json!({"error": error})))
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/v1/chat/completions", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

#[track_caller]
fn assert_without(what: &str, bytes: &[u8], secrets: &[&str]) {
    for secret in secrets {
        assert!(!holds(bytes, secret), "{secret} is in {what}: {}", String::from_utf8_lossy(bytes));
    }
}

/// A service with secrets in every place of its configuration that takes one.
async fn settings(level: &str) -> Settings {
    let scripted = upstream("").await;
    let settings = Settings::new(&scripted);
    std::fs::write(settings.file("key"), PROVIDER_KEY).unwrap();
    std::fs::write(settings.file("admin"), ADMIN_KEY).unwrap();
    let provider = quoting_provider().await;
    let more = format!(
        r#"
        log = {{ level = "{level}" }}
        auth = {{ admin_key_file = "{admin}" }}
        retry = {{ max_attempts = 2 }}
        [providers.up]
        base_url = "http://{provider}/v1"
        auth = "bearer"
        api_key_file = "{key}"
        headers = {{ x-gateway-secret = "{HEADER}" }}
        query = {{ access_token = "{QUERY}" }}
        [providers.proxied]
        base_url = "http://provider.invalid/v1"
        proxy = "http://user:{PROXY_PASSWORD}@127.0.0.1:9"
        auth = "none"
        lanes = [{{ match = "proxied-*" }}]
        "#,
        admin = settings.file("admin").display(),
        key = settings.file("key").display(),
    );
    settings.with(&more)
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_seen_by_those_they_are_for() {
    for level in ["debug"] {
        let settings = settings(level).await;
        let mut process = Process::start(&settings);
        let admin = process.with_key(ADMIN_KEY);
        let client = process.with_key(&admin.make_key(json!({"app": "a", "name": "ops"})).await);
        let app_key = client.key().unwrap().to_owned();
        // The checksum and the prefix are no secrets.
        let mut operators = OPERATORS.to_vec();
        operators.push(&app_key[6..38]);

        let mut lines = chats(4, "");
        for (number, act) in ["[[400]]", "[[500]]"].into_iter().enumerate() {
            lines[number] = chat(&format!("{CUSTOM_ID}-{number}"), &format!("{act} {PROMPT}"));
        }
        lines[2]["body"]["model"] = json!("proxied-a");
        let id = client.submit(&lines, json!({"metadata": {"team": LABEL}})).await;
        let batch = client.ended(&id).await;
        assert_eq!(batch["request_counts"]["failed"], 4, "{batch}");
        let mut answers = vec![batch.to_string()];
        for (what, text) in answers_of(&process, &client, &admin, &id, &batch).await {
            assert_without(&format!("{what} at {level}"), text.as_bytes(), &operators);
            answers.push(text);
        }
        assert!(
            answers.iter().any(|text| text.contains("The key *** may not ask")),
            "it was quoted: {answers:?}"
        );
        assert!(answers.iter().any(|text| text.contains(CUSTOM_ID)), "what is looked for would be found");

        let stopped = client.submit(&[chat("item-0", "[[401]] stop")], json!({})).await;
        let is_stopped = |batch: &Value| batch["sluicegate"]["waiting"][0]["reason"] == "credential";
        answers.push(client.until(&stopped, "the lane is stopped", is_stopped).await.to_string());
        for path in ["/metrics", "/"] {
            let shown = process.get(path).await.text;
            assert_without(path, shown.as_bytes(), &operators);
            assert_without(path, shown.as_bytes(), &CLIENTS);
        }
        process.terminate();
        assert!(process.exited().await.success());
        let log = process.log();
        assert!(log.contains("the lane is stopped"), "{log}");
        assert_without("the log", log.as_bytes(), &operators);
        assert_without("the log", log.as_bytes(), &CLIENTS);
        for secret in &operators {
            let mut files = settings.files_with(secret);
            files.retain(|file| !["admin", "key", "sluicegate.toml"].contains(&file.as_str()));
            assert!(files.is_empty(), "{secret} is in {files:?}");
        }
        assert_ne!(settings.files_with(CUSTOM_ID), [""; 0], "what is looked for would be found");
    }
}

/// What the service says to its callers: to good calls, and to all kinds of bad ones.
async fn answers_of(
    process: &Process,
    client: &crate::harness::Client,
    admin: &crate::harness::Client,
    id: &str,
    batch: &Value,
) -> Vec<(&'static str, String)> {
    let key = client.key().unwrap();
    let mut said = Vec::new();
    let results = client.results(id, "").await;
    said.push(("results", results.iter().map(ToString::to_string).collect()));
    said.push(("the error file", client.content(&batch["error_file_id"]).await.text));
    said.push(("an item", client.get(&format!("/v1/batches/{id}/items/{CUSTOM_ID}-1")).await.text));
    for path in ["/v1/budget", "/v1/models", "/v1/files", "/v1/batches"] {
        said.push((path, client.get(path).await.text));
    }
    for path in ["/admin/v1/keys", "/admin/v1/apps", "/admin/v1/workers", "/v1/budget"] {
        said.push((path, admin.get(path).await.text));
    }
    let live = |act: &str, model: &str| {
        let body =
            json!({"model": model, "messages": [{"role": "user", "content": format!("{act} {PROMPT}")}]});
        client
            .request(Method::POST, "/v1/chat/completions")
            .header("x-client-request-id", CLIENT_HEADER)
            .header("sluicegate-max-wait", "100ms")
            .json(&body)
    };
    for (act, model) in [("[[400]]", "m"), ("[[500]]", "m"), ("[[429]]", "m"), ("", "proxied-a")] {
        said.push(("a live call", client.send(live(act, model)).await.text));
    }
    said.push(("a bad key", process.with_key(&format!("{key}x")).get("/v1/files").await.text));
    said.push(("no JSON", client.upload(format!("{PROMPT}\n")).await.text));
    let bad = jsonl(&[json!({"custom_id": CUSTOM_ID, "method": "PUT", "url": PROMPT, "body": {}})]);
    let file = id_of(&client.upload(bad).await.ok());
    let asked =
        json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    said.push(("a bad line", client.post("/v1/batches", &asked).await.text));
    said
}

/// The program's output on these settings.
fn said_by(settings: &Settings, arguments: &[&str]) -> Vec<u8> {
    let file = settings.write().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    let output = command.args(arguments).arg("--config").arg(file).env_clear().output().unwrap();
    [output.stdout, output.stderr].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_are_shown_without_secrets() {
    let settings = settings("info").await;
    let database = format!("postgres://gate:{DATABASE_PASSWORD}@127.0.0.1:9/db?sslmode=disable");
    let settings = settings.with(&format!("store = {{ url = \"{database}\" }}"));
    for arguments in [&["config", "show"][..], &["config", "check"]] {
        let said = said_by(&settings, arguments);
        assert!(!said.is_empty());
        assert_without(&format!("{arguments:?}"), &said, &OPERATORS);
    }
    // Neither when it is wrong.
    let wrong = format!(
        "providers.up.kind = \"nobody\"\nproviders.up.http = \"3\"\n\
         providers.up.base_url = \"http://user:{PROXY_PASSWORD}@127.0.0.1:9/v1\""
    );
    let wrong = settings.with(&wrong);
    let said = said_by(&wrong, &["config", "check"]);
    assert!(holds(&said, "nobody"), "{}", String::from_utf8_lossy(&said));
    assert_without("what is wrong", &said, &OPERATORS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_databases_password_is_not_told_when_it_is_refused() {
    let url = postgres::url();
    let (_, place) = url.split_once('@').unwrap();
    let refused = format!("postgres://nobody_there:{DATABASE_PASSWORD}@{place}");
    let upstream = upstream("").await;
    let kept = format!("log = {{ level = \"trace\" }}\nstore = {{ url = \"{refused}\" }}");
    let (code, said) = Process::run_to_end(&Settings::new(&upstream).with(&kept));
    assert_eq!(code, Some(1), "{said}");
    assert_without("the log", said.as_bytes(), &OPERATORS);
}
