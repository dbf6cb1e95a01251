//! What one app sees of another: nothing, on any route that the description has.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Service, Settings, chat, chats, id_of, jsonl, upstream};

const OWN: &str = "an-admin-key-of-our-own-0123456789";

/// Methods and paths of `openapi.yaml`, by its indentation: two spaces for a path, four for a method.
fn routes() -> BTreeSet<(String, String)> {
    let text = include_str!("../../openapi.yaml");
    let paths = text.split("\npaths:\n").nth(1).unwrap().split("\ncomponents:\n").next().unwrap();
    let (mut found, mut path) = (BTreeSet::new(), String::new());
    for line in paths.lines() {
        let word = line.trim_start().trim_end_matches(':');
        match line.len() - line.trim_start().len() {
            2 => path = word.to_owned(),
            4 if word != "parameters" => {
                found.insert((word.to_uppercase(), path.clone()));
            }
            _ => {}
        }
    }
    found
}

/// What an app has.
struct Belongings {
    ended: String,
    running: String,
    input: String,
    output: String,
}

impl Belongings {
    async fn make(client: &Client) -> Self {
        let mut lines = chats(3, "");
        lines[1] = chat("item-1", "[[400]]");
        let ended = client.submit(&lines, json!({"metadata": {"team": "first"}})).await;
        let batch = client.ended(&ended).await;
        let running = client.submit(&[chat("item-0", "[[hang]]")], json!({})).await;
        let text = |field: &str| batch[field].as_str().unwrap().to_owned();
        Self { ended, running, input: text("input_file_id"), output: text("output_file_id") }
    }

    fn ids(&self) -> [&str; 4] {
        [&self.ended, &self.running, &self.input, &self.output]
    }
}

/// Calls a route with these ids in its path, and a body where it wants one.
async fn call(client: &Client, method: &str, path: &str, file: &str, batch: &str) -> Answer {
    let path = path
        .replace("{file_id}", file)
        .replace("{batch_id}", batch)
        .replace("{custom_id}", "item-0")
        .replace("{key_id}", "key_x")
        .replace("{name}", "first")
        .replace("{version}/{asset}", "any/main.js");
    let request = client.request(method.parse::<Method>().unwrap(), &path);
    let request = match (method, path.as_str()) {
        ("POST", "/v1/batches") => request.json(&create(file)),
        ("POST" | "PUT", _) => request.json(&json!({})),
        _ => request,
    };
    client.send(request).await
}

fn create(file: &str) -> Value {
    json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"})
}

/// Status and text, with the id that was asked for blotted out.
fn blotted(answer: &Answer, file: &str, batch: &str) -> (u16, String) {
    (answer.status.as_u16(), answer.text.replace(file, "ID").replace(batch, "ID"))
}

/// A service that asks for keys, as its first admin calls it.
async fn with_admin(settings: Settings) -> (Service, Client) {
    let file = settings.file("admin");
    std::fs::write(&file, OWN).unwrap();
    let settings = settings.with(&format!("auth = {{ admin_key_file = \"{}\" }}", file.display()));
    let service = Service::start(settings).await;
    let admin = service.with_key(OWN);
    (service, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_a_key_but_these() {
    const OPEN: [&str; 6] =
        ["/", "/page/{version}/{asset}", "/livez", "/readyz", "/metrics", "/openapi.yaml"];
    let upstream = upstream("").await;
    let (service, admin) = with_admin(Settings::new(&upstream)).await;
    let reader = service.with_key(&admin.make_key(json!({"app": "first", "scope": "read"})).await);
    for (method, path) in routes() {
        let nobodys = call(&service, &method, &path, "file-x", "batch_x").await;
        if OPEN.contains(&path.as_str()) {
            assert_eq!(nobodys.status, 200, "{method} {path}");
            continue;
        }
        assert_eq!(nobodys.refused(401)["code"], "invalid_api_key", "{method} {path}");
        let readers = call(&reader, &method, &path, "file-x", "batch_x").await;
        let may = method == "GET" && !path.starts_with("/admin");
        assert_eq!(readers.status != 403, may, "{method} {path}: {}", readers.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_apps_ids_are_answered_like_ids_that_do_not_exist() {
    let upstream = upstream("").await;
    let (service, admin) = with_admin(Settings::new(&upstream)).await;
    let first = service.with_key(&admin.make_key(json!({"app": "first"})).await);
    let second = service.with_key(&admin.make_key(json!({"app": "second"})).await);
    let theirs = Belongings::make(&first).await;

    let routes = routes();
    assert!(routes.len() > 20, "{routes:?}");
    for (method, path) in &routes {
        let administrates = path.starts_with("/admin");
        let named = path.contains("{file_id}") || path.contains("{batch_id}") || *path == "/v1/batches";
        for (file, batch) in [(&theirs.input, &theirs.ended), (&theirs.output, &theirs.running)] {
            let theirs_answer = call(&second, method, path, file, batch).await;
            for id in theirs.ids().iter().filter(|id| **id != file && **id != batch) {
                assert!(!theirs_answer.text.contains(id), "{method} {path}: {}", theirs_answer.text);
            }
            if administrates {
                theirs_answer.refused(403);
            } else if named && !(method == "GET" && *path == "/v1/batches") {
                let none =
                    ("file-00000000000000000000000000000000", "batch_00000000000000000000000000000000");
                let no_answer = call(&second, method, path, none.0, none.1).await;
                let expected = if *path == "/v1/batches" { 400 } else { 404 };
                assert_eq!(no_answer.status, expected, "{method} {path}: {}", no_answer.text);
                assert_eq!(
                    blotted(&theirs_answer, file, batch),
                    blotted(&no_answer, none.0, none.1),
                    "{method} {path}"
                );
            } else {
                assert!(!theirs_answer.text.contains(file.as_str()), "{method} {path}");
                assert!(!theirs_answer.text.contains(batch.as_str()), "{method} {path}");
            }
        }
    }

    // Nothing of it happened.
    assert_eq!(first.batch(&theirs.running).await["status"], "in_progress");
    assert_eq!(first.batch(&theirs.ended).await["status"], "completed");
    for file in [&theirs.input, &theirs.output] {
        first.get(&format!("/v1/files/{file}")).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_cursors_and_idempotency_keys_are_each_apps_own() {
    let upstream = upstream("").await;
    let (service, admin) = with_admin(Settings::new(&upstream)).await;
    let first = service.with_key(&admin.make_key(json!({"app": "first"})).await);
    let second = service.with_key(&admin.make_key(json!({"app": "second"})).await);
    let theirs = Belongings::make(&first).await;
    let own = second.submit(&chats(1, ""), json!({"metadata": {"team": "first"}})).await;

    let listed =
        |page: Value| -> Vec<String> { page["data"].as_array().unwrap().iter().map(id_of).collect() };
    assert_eq!(listed(second.get("/v1/batches").await.ok()), [own.as_str()]);
    assert_eq!(listed(second.get("/v1/batches?metadata[team]=first").await.ok()), [own.as_str()]);
    let files = listed(second.get("/v1/files").await.ok());
    assert!(
        !files.is_empty() && files.iter().all(|file| !theirs.ids().contains(&file.as_str())),
        "{files:?}"
    );
    let empty = json!([]);
    assert_eq!(second.get(&format!("/v1/batches?after={}", theirs.running)).await.ok()["data"], empty);
    assert_eq!(second.get(&format!("/v1/files?order=asc&after={}", theirs.input)).await.ok()["data"], empty);

    // The very same call of two apps makes two batches; each app's repetition gives its own.
    let body = format!(r#"{{"endpoint":null,"requests":[{}]}}"#, jsonl(&chats(1, "")).trim());
    let named = async |client: &Client| {
        let request = client.request(Method::POST, "/v1/batches").header("idempotency-key", "one");
        let request = request.header("content-type", "application/json").body(body.clone());
        id_of(&client.send(request).await.ok())
    };
    let (of_first, of_second) = (named(&first).await, named(&second).await);
    assert_ne!(of_first, of_second);
    assert_eq!((named(&first).await, named(&second).await), (of_first.clone(), of_second));
    // So it is for what an SDK repeats by itself.
    let request = first.request(Method::POST, "/v1/batches").header("x-stainless-retry-count", "1");
    let request = request.header("content-type", "application/json").body(body.clone());
    assert_eq!(id_of(&first.send(request).await.ok()), of_first);
    assert_eq!(first.batch(&theirs.ended).await["sluicegate"]["app"], "first");
    assert_eq!(second.batch(&own).await["sluicegate"]["app"], "second");
}
