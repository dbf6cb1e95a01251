//! Who may call: modes, scopes, the life of a key, and where keys must never appear.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Process, Service, Settings, chats, eventually, upstream};

const OWN: &str = "an-admin-key-of-our-own-0123456789";

async fn with_admin(more: &str) -> (Service, sluicegate::demo::upstream::Running) {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with(more);
    let file = settings.file("admin");
    std::fs::write(&file, OWN).unwrap();
    let settings = settings.with(&format!("auth = {{ admin_key_file = \"{}\" }}", file.display()));
    (Service::start(settings).await, upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn open_until_the_first_key_then_closed() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let id = service.with_key("any text").submit(&chats(1, ""), json!({})).await;
    let refused = service.post("/admin/v1/keys", &json!({"app": "a"})).await.refused(400);
    assert_eq!(refused["param"], "scope", "it would lock everyone out: {refused}");

    let made =
        service.post("/admin/v1/keys", &json!({"app": "default", "scope": "admin", "name": "ops"})).await;
    assert_eq!(made.header("cache-control"), "no-store");
    let made = made.ok();
    assert_eq!((&made["object"], &made["status"]), (&json!("sluicegate.key"), &json!("active")));
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("sk-sg-") && key.len() == 44, "{key}");
    service.get("/v1/batches").await.refused(401);
    service.with_key("any text").get("/v1/batches").await.refused(401);
    // Its app is the one that callers without a key had.
    service.with_key(key).ended(&id).await;
    let plain = service.request(Method::GET, "/v1/batches").header("x-api-key", key);
    service.send(plain).await.ok();
    let both = service.request(Method::GET, "/v1/batches").basic_auth("proxy", Some("p"));
    service.send(both.header("x-api-key", key)).await.ok();
    for path in ["/", "/livez", "/readyz", "/metrics", "/openapi.yaml"] {
        assert_eq!(service.get(path).await.status, 200, "{path}");
    }

    let listed = service.with_key(key).get("/admin/v1/keys").await.ok();
    assert_eq!(listed["data"][0]["id"], made["id"]);
    assert!(listed["data"][0].get("key").is_none());
    let service = service.restart().await;
    service.get("/v1/batches").await.refused(401);
    let path = format!("/admin/v1/keys/{}", made["id"].as_str().unwrap());
    let revoked = service.with_key(key).delete(&path).await.ok();
    assert_eq!(revoked, json!({"id": made["id"], "object": "sluicegate.key", "deleted": true}));
    service.with_key(key).get("/v1/batches").await.refused(401);
    service.get("/v1/batches").await.refused(401);
    service.restart().await.get("/v1/batches").await.refused(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_401_has_one_text() {
    let (service, _upstream) = with_admin("").await;
    let admin = service.with_key(OWN);
    let made = admin.post("/admin/v1/keys", &json!({"app": "a"})).await.ok();
    let revoked = made["key"].as_str().unwrap().to_owned();
    admin.delete(&format!("/admin/v1/keys/{}", made["id"].as_str().unwrap())).await.ok();
    let replaced = admin.post("/admin/v1/keys", &json!({"app": "a"})).await.ok();
    let replacing = json!({"replaces": replaced["id"], "overlap": "0s"});
    let good = admin.make_key(replacing).await;
    let expired = replaced["key"].as_str().unwrap();
    let mut mistyped = good.clone().into_bytes();
    mistyped[10] = if mistyped[10] == b'a' { b'b' } else { b'a' };
    let mistyped = String::from_utf8(mistyped).unwrap();
    // Well formed, and never made here: that of another service.
    let foreign = sluicegate::domain::api_key::KeyText::from_random([3; 32]).expose().to_owned();

    let expected = service.get("/v1/files").await;
    assert_eq!(expected.refused(401)["code"], "invalid_api_key");
    assert_eq!(expected.header("www-authenticate"), "Bearer");
    assert_eq!(expected.header("x-should-retry"), "false");
    for key in [&revoked, expired, &mistyped, &foreign, "sk-sg-", "", &"x".repeat(5_000)] {
        for route in ["/v1/files", "/v1/batches/batch_x", "/admin/v1/apps"] {
            let answer = service.with_key(key).get(route).await;
            assert_eq!((answer.status.as_u16(), &answer.text), (401, &expected.text), "{key} {route}");
        }
    }
    service.with_key(&good).get("/v1/files").await.ok();
    let statuses: Vec<Value> = admin.get("/admin/v1/keys?app=a").await.ok()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["status"].clone())
        .collect();
    assert_eq!(statuses, ["revoked", "expired", "active"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_lets_do_what_it_says() {
    let (service, _upstream) = with_admin("").await;
    let admin = service.with_key(OWN);
    let app = service.with_key(&admin.make_key(json!({"app": "a"})).await);
    let read = service.with_key(&admin.make_key(json!({"app": "a", "scope": "read"})).await);
    let id = app.submit(&chats(1, ""), json!({})).await;
    read.ended(&id).await;
    assert_eq!(read.upload("{}\n").await.refused(403)["code"], "insufficient_scope");
    for path in ["/cancel", "/retry", ""] {
        read.post(&format!("/v1/batches/{id}{path}"), &json!({})).await.refused(403);
    }
    read.delete(&format!("/v1/batches/{id}")).await.refused(403);
    for client in [&app, &read] {
        client.get("/admin/v1/keys").await.refused(403);
        client.post("/admin/v1/keys", &json!({"app": "a"})).await.refused(403);
        client.put("/admin/v1/apps/a", &json!({})).await.refused(403);
        client.get("/admin/v1/apps").await.refused(403);
        client.delete("/admin/v1/keys/key_x").await.refused(403);
    }
    let other = service.with_key(&admin.make_key(json!({"app": "b", "scope": "admin"})).await);
    other.get("/admin/v1/keys").await.ok();
    other.get(&format!("/v1/batches/{id}")).await.refused(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_overlaps() {
    let (service, _upstream) = with_admin("").await;
    let admin = service.with_key(OWN);
    let fields = json!({"app": "a", "scope": "read", "expires_in": "30d"});
    let old = admin.post("/admin/v1/keys", &fields).await.ok();
    assert!(old["expires_at"].as_i64().unwrap() > old["created_at"].as_i64().unwrap() + 2_500_000);
    let new = admin.post("/admin/v1/keys", &json!({"replaces": old["id"], "overlap": "1h"})).await.ok();
    assert_eq!((&new["app"], &new["scope"], &new["replaces"]), (&old["app"], &old["scope"], &old["id"]));
    for key in [&old, &new] {
        service.with_key(key["key"].as_str().unwrap()).get("/v1/files").await.ok();
    }
    let listed = admin.get("/admin/v1/keys?app=a").await.ok();
    let ends = listed["data"][0]["expires_at"].as_i64().unwrap() - new["created_at"].as_i64().unwrap();
    assert!((3_599..=3_601).contains(&ends), "{ends}");
    let used = listed["data"][0]["last_used_on"].as_str().unwrap_or_default().len();
    assert!(used == 0 || used == 10, "{listed}");

    for (fields, param) in [
        (json!({"replaces": "key_none"}), "replaces"),
        (json!({"replaces": new["id"], "app": "b"}), "app"),
        (json!({"replaces": new["id"], "scope": "admin"}), "scope"),
        (json!({"app": "b", "overlap": "1h"}), "overlap"),
        (json!({"app": "B"}), "app"),
        (json!({"app": "b", "scope": "all"}), "scope"),
        (json!({"app": "b", "expires_at": 5}), "expires_at"),
        (json!({"app": "b", "expires_in": "soon"}), "expires_in"),
        (json!({}), "app"),
        (json!({"app": "b", "scop": "app"}), "scop"),
    ] {
        assert_eq!(admin.post("/admin/v1/keys", &fields).await.refused(400)["param"], param, "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_key_in_a_file_is_read_again_when_it_changes() {
    let (service, _upstream) = with_admin("").await;
    service.get("/v1/files").await.refused(401);
    service.with_key(OWN).get("/admin/v1/apps").await.ok();
    let other = "another-admin-key-9876543210";
    service.with_key(other).get("/admin/v1/apps").await.refused(401);
    std::fs::write(service.file("admin"), format!("{other}\n")).unwrap();
    let taken = async { while service.with_key(other).get("/admin/v1/apps").await.status != 200 {} };
    tokio::time::timeout(PATIENCE, taken).await.unwrap();
    service.with_key(OWN).get("/admin/v1/apps").await.refused(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_it_starts_only_with_keys() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let beyond = settings.clone().with("server = { listen = \"0.0.0.0:0\" }");
    let (code, said) = Process::run_to_end(&beyond);
    assert_eq!(code, Some(2), "{said}");
    for way in ["SLUICEGATE_ADMIN_KEY", "auth.admin_key_file", "POST /admin/v1/keys", "auth.mode = \"none\""]
    {
        assert!(said.contains(way), "{way}: {said}");
    }
    let operators = settings.clone().with("server = { admin_listen = \"0.0.0.0:0\" }");
    assert_eq!(Process::run_to_end(&operators).0, Some(2));
    let demanded = settings.clone().with("auth = { mode = \"keys\" }");
    assert_eq!(Process::run_to_end(&demanded).0, Some(2), "nobody could ever call");

    let everyone = Process::start(&beyond.clone().with("auth = { mode = \"none\" }"));
    everyone.get("/v1/files").await.ok();
    everyone.get("/admin/v1/apps").await.refused(403);
    everyone.kill();

    let process = Process::start(&settings);
    let key = process.make_key(json!({"app": "ops", "scope": "admin"})).await;
    process.kill();
    let process = Process::start(&beyond);
    process.get("/v1/files").await.refused(401);
    process.with_key(&key).get("/admin/v1/apps").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lets_everyone_in_may_still_tell_apps_apart() {
    let (service, _upstream) = with_admin("auth = { mode = \"none\" }").await;
    service.with_key("any text").get("/v1/files").await.ok();
    service.get("/admin/v1/apps").await.refused(403);
    let key = service.with_key(OWN).make_key(json!({"app": "a"})).await;
    let id = service.with_key(&key).submit(&chats(1, ""), json!({})).await;
    assert_eq!(service.with_key(&key).ended(&id).await["sluicegate"]["app"], "a");
    service.get(&format!("/v1/batches/{id}")).await.refused(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_have_an_address_of_their_own() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("server = { admin_listen = \"127.0.0.1:0\" }");
    let service = Service::start(settings).await;
    let operators = service.operators();
    for path in ["/metrics", "/admin/v1/keys", "/admin/v1/apps"] {
        service.get(path).await.refused(404);
        assert_eq!(operators.get(path).await.status, 200, "{path}");
    }
    for path in ["/v1/files", "/v1/batches", "/v1/models"] {
        operators.get(path).await.refused(404);
        service.get(path).await.ok();
    }
    for path in ["/livez", "/readyz", "/openapi.yaml"] {
        assert_eq!(service.get(path).await.status, 200, "{path}");
        assert_eq!(operators.get(path).await.status, 200, "{path}");
    }
    // The page is where batches are, and knows that metrics are not.
    let page = service.send(service.request(Method::GET, "/").header("accept", "text/html")).await;
    assert!(page.text.contains("data-metrics=\"elsewhere\""), "{}", page.text);
    let text = operators.send(operators.request(Method::GET, "/").header("accept", "text/html")).await;
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    operators.get("/page/any/main.js").await.refused(404);
}

/// Every file of a folder, as bytes.
fn files_of(settings: &Settings) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(settings.file(".")).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file() && !path.ends_with("admin"));
    files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_appear_nowhere() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("log = { level = \"trace\" }");
    let file = settings.file("admin");
    std::fs::write(&file, OWN).unwrap();
    let settings = settings.with(&format!("auth = {{ admin_key_file = \"{}\" }}", file.display()));
    let process = Process::start(&settings);
    let admin = process.with_key(OWN);
    let made = admin.post("/admin/v1/keys", &json!({"app": "a", "name": "first"})).await.ok();
    let first = made["key"].as_str().unwrap().to_owned();
    let second = admin.make_key(json!({"replaces": made["id"], "overlap": "0s"})).await;
    let client = process.with_key(&second);
    let id = client.submit(&chats(2, ""), json!({})).await;
    client.ended(&id).await;

    // Refusals, and keys in places where none belongs.
    let mut said = Vec::new();
    said.push(process.with_key(&first).get("/v1/files").await.text);
    said.push(process.with_key(&format!("{second}x")).get("/v1/files").await.text);
    said.push(client.get("/admin/v1/keys").await.text);
    said.push(client.get("/v1/batches/batch_x").await.text);
    said.push(client.upload("not json\n").await.text);
    said.push(admin.get("/admin/v1/keys").await.text);
    said.push(admin.get("/admin/v1/apps").await.text);
    said.push(client.get(&format!("/v1/batches/{id}")).await.text);
    said.push(process.get("/metrics").await.text);
    eventually("its log is there", || process.log().contains("listening")).await;
    said.push(process.log());
    let secrets: Vec<&str> = [&first, &second].iter().map(|key| &key[6..38]).chain([OWN]).collect();
    let live = files_of(&settings);
    process.terminate();
    let mut process = process;
    assert!(process.exited().await.success());
    said.push(process.log());
    for secret in secrets {
        for text in &said {
            assert!(!text.contains(secret), "{text}");
        }
        for (name, bytes) in live.iter().chain(&files_of(&settings)) {
            assert!(!holds(bytes, secret), "{name}");
        }
    }
    let (_, store) = live.iter().find(|(name, _)| name.ends_with("store.db-wal")).unwrap();
    assert!(holds(store, made["id"].as_str().unwrap()), "what is looked for would be found there");
}
