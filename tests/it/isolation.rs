//! What one app sees of another: nothing, on any route that the description has.

use std::collections::BTreeSet;
use std::convert::Infallible;

use futures_util::{StreamExt as _, stream};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::{Answer, Client, PATIENCE, Service, Settings, chat, chats, id_of, jsonl, upstream};

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
    errors: String,
}

/// Texts that only the app with the belongings has put in: a label, a custom id, a prompt.
const TOLD: [&str; 3] = ["label-of-the-first", "line-of-the-first", "prompt-of-the-first"];

impl Belongings {
    async fn make(client: &Client) -> Self {
        let mut lines = chats(3, "");
        lines[1] = chat(TOLD[1], &format!("[[400]] {}", TOLD[2]));
        let ended = client.submit(&lines, json!({"metadata": {"team": TOLD[0]}})).await;
        let batch = client.ended(&ended).await;
        let running = client.submit(&[chat("item-0", "[[hang]]")], json!({})).await;
        let text = |field: &str| batch[field].as_str().unwrap().to_owned();
        let (input, output, errors) = (text("input_file_id"), text("output_file_id"), text("error_file_id"));
        Self { ended, running, input, output, errors }
    }

    /// A file and a batch at a time, so that each is asked for.
    fn pairs(&self) -> [(&str, &str); 3] {
        [(&self.input, &self.ended), (&self.output, &self.running), (&self.errors, &self.ended)]
    }

    fn ids(&self) -> [&str; 5] {
        [&self.ended, &self.running, &self.input, &self.output, &self.errors]
    }

    /// Everything that no other app may be told.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.ids().into_iter().chain(TOLD)
    }
}

/// Calls a route with these ids in its path, and a body where it wants one.
async fn call(client: &Client, method: &str, path: &str, file: &str, batch: &str) -> Answer {
    let path = path
        .replace("{file_id}", file)
        .replace("{batch_id}", batch)
        .replace("{custom_id}", "item-0")
        .replace("{key_id}", "key_x")
        .replace("{model}", "m")
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
    let upstream = upstream("").await;
    let (service, admin) = with_admin(Settings::new(&upstream)).await;
    let reader = service.with_key(&admin.make_key(json!({"app": "first", "scope": "read"})).await);
    for (method, path) in routes() {
        let nobodys = call(&service, &method, &path, "file-x", "batch_x").await;
        if kind(&method, &path) == Kind::Open {
            assert_eq!(nobodys.status, 200, "{method} {path}");
            continue;
        }
        assert_eq!(nobodys.refused(401)["code"], "invalid_api_key", "{method} {path}");
        let readers = call(&reader, &method, &path, "file-x", "batch_x").await;
        let may = method == "GET" && !path.starts_with("/admin");
        assert_eq!(readers.status != 403, may, "{method} {path}: {}", readers.text);
    }
}

/// What a route does with what apps have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It tells everyone the same, and nothing of any app.
    Open,
    /// Its path names something of an app.
    Named,
    /// Its body names something of an app.
    NamedInBody,
    /// It lists what the caller has, or adds to it.
    Own,
    /// It is for operators, who see apps and keys, and nothing that apps have put in.
    Operators,
}

/// The kind of each route of the description. A new one has to be put here: then every test below asks it too.
fn kind(method: &str, path: &str) -> Kind {
    match (method, path) {
        ("GET", "/" | "/page/{version}/{asset}" | "/livez" | "/readyz" | "/metrics" | "/openapi.yaml") => {
            Kind::Open
        }
        (_, path) if path.starts_with("/admin/v1/") => Kind::Operators,
        ("GET" | "DELETE", "/v1/files/{file_id}")
        | ("GET", "/v1/files/{file_id}/content")
        | ("GET" | "POST" | "DELETE", "/v1/batches/{batch_id}")
        | ("POST", "/v1/batches/{batch_id}/cancel" | "/v1/batches/{batch_id}/retry")
        | (
            "GET",
            "/v1/batches/{batch_id}/results"
            | "/v1/batches/{batch_id}/events"
            | "/v1/batches/{batch_id}/items/{custom_id}",
        ) => Kind::Named,
        ("POST", "/v1/batches") => Kind::NamedInBody,
        ("GET", "/v1/models" | "/v1/models/{model}" | "/v1/budget" | "/v1/files" | "/v1/batches")
        | (
            "POST",
            "/v1/files"
            | "/v1/chat/completions"
            | "/v1/responses"
            | "/v1/embeddings"
            | "/v1/completions"
            | "/v1/moderations"
            | "/v1/messages",
        ) => Kind::Own,
        _ => panic!("{method} {path} is new: say in `kind` what it does with what apps have"),
    }
}

/// Ids in the form of the service's that nobody has.
const NO_FILE: &str = "file-00000000000000000000000000000000";
const NO_BATCH: &str = "batch_00000000000000000000000000000000";

/// What another app's caller with a scope gets where the first app's ids are named.
async fn check_route(caller: &Client, scope: &str, route: (&str, &str), theirs: &Belongings) {
    let (method, path) = route;
    let what = format!("{method} {path} with the scope {scope}");
    for (file, batch) in theirs.pairs() {
        let answer = call(caller, method, path, file, batch).await;
        let asked = |id: &str| id == file || id == batch;
        for word in theirs.words().filter(|word| !asked(word)) {
            assert!(!answer.text.contains(word), "{what} tells {word}: {}", answer.text);
        }
        match kind(method, path) {
            Kind::Named | Kind::NamedInBody if scope == "read" && method != "GET" => {
                assert_eq!(answer.refused(403)["code"], "insufficient_scope", "{what}");
            }
            named @ (Kind::Named | Kind::NamedInBody) => {
                let none = call(caller, method, path, NO_FILE, NO_BATCH).await;
                let expected = if named == Kind::Named { 404 } else { 400 };
                assert_eq!(none.status, expected, "{what}: {}", none.text);
                assert_eq!(blotted(&answer, file, batch), blotted(&none, NO_FILE, NO_BATCH), "{what}");
            }
            Kind::Operators if scope != "admin" => {
                assert_eq!(answer.refused(403)["code"], "insufficient_scope", "{what}");
            }
            Kind::Open | Kind::Own | Kind::Operators => {
                assert!(!answer.text.contains(file) && !answer.text.contains(batch), "{what}");
                let is_lists = method == "GET" && kind(method, path) == Kind::Own;
                assert!(!is_lists || answer.status == 200, "{what}: {}", answer.text);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_apps_ids_are_answered_like_ids_that_do_not_exist() {
    let upstream = upstream("").await;
    let (service, admin) = with_admin(Settings::new(&upstream)).await;
    let first = service.with_key(&admin.make_key(json!({"app": "first"})).await);
    let theirs = Belongings::make(&first).await;
    let routes = routes();
    assert!(routes.len() > 30, "{routes:?}");
    for scope in ["read", "app", "admin"] {
        let caller = service.with_key(&admin.make_key(json!({"app": "second", "scope": scope})).await);
        for (method, path) in &routes {
            check_route(&caller, scope, (method, path), &theirs).await;
        }
    }

    // Nothing of it happened.
    assert_eq!(first.batch(&theirs.running).await["status"], "in_progress");
    assert_eq!(first.batch(&theirs.ended).await["status"], "completed");
    for file in [&theirs.input, &theirs.output, &theirs.errors] {
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
    let own = second.submit(&chats(1, ""), json!({"metadata": {"team": TOLD[0]}})).await;

    let listed =
        |page: Value| -> Vec<String> { page["data"].as_array().unwrap().iter().map(id_of).collect() };
    assert_eq!(listed(second.get("/v1/batches").await.ok()), [own.as_str()]);
    assert_eq!(
        listed(second.get(&format!("/v1/batches?metadata[team]={}", TOLD[0])).await.ok()),
        [own.as_str()]
    );
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

/// Begins calls whose bodies never end, and comes back when the beginning of each was sent.
async fn stall(client: &Client, count: usize, path: &str, kind: &str, begins: &str) {
    let (sent, mut all_sent) = mpsc::unbounded_channel();
    for _ in 0..count {
        let (sent, begins) = (sent.clone(), begins.to_owned());
        let first = stream::once(async { Ok::<_, Infallible>(begins) });
        let body = first.chain(stream::poll_fn(move |_| {
            let _ = sent.send(());
            std::task::Poll::Pending
        }));
        let request = client.request(Method::POST, path).header("content-type", kind);
        tokio::spawn(request.body(Body::wrap_stream(body)).send());
    }
    for _ in 0..count {
        all_sent.recv().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_an_app_sends_slowly_keep_out_no_other() {
    let upstream = upstream("").await;
    let (service, admin) = with_admin(Settings::new(&upstream)).await;
    let first = service.with_key(&admin.make_key(json!({"app": "first"})).await);
    let second = service.with_key(&admin.make_key(json!({"app": "second"})).await);
    let json = "application/json";
    let form = "--b0\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{";
    stall(&first, 20, "/v1/files", "multipart/form-data; boundary=b0", form).await;
    stall(&first, 3, "/v1/batches", json, &format!("{{\"metadata\":\"{}", "x".repeat(2 << 20))).await;
    stall(&first, 20, "/v1/chat/completions", json, "{\"model\":").await;

    let others = async {
        second.upload(jsonl(&chats(1, ""))).await.ok();
        let long = [chat("long", &"x".repeat(2 << 20))];
        let body = json!({"endpoint": "/v1/chat/completions", "requests": long});
        second.post("/v1/batches", &body).await.ok();
        // Without a length, as those of the first app: such a body takes room for more than it turns out to need.
        let body = json!({"model": "demo-small", "messages": []}).to_string();
        let request = second.request(Method::POST, "/v1/chat/completions").header("content-type", json);
        let body = stream::once(async { Ok::<_, Infallible>(body) });
        second.send(request.body(Body::wrap_stream(body))).await.ok();
    };
    tokio::time::timeout(PATIENCE, others).await.expect("the other app is kept out");
}
