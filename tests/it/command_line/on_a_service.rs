//! The commands that speak to a service.

use rstest::rstest;
use serde_json::{Value, json};

use super::{Shell, ended, says};
use crate::harness::{Process, Service, Settings, chat, chats, eventually, jsonl, upstream};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_from_its_making_to_its_results() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let shell = Shell::new(&[("SLUICEGATE_URL", &service.url())]);
    shell.write("products.csv", "id,name\na,lock\nb,[[400]]\n");
    let ask = ["products.csv", "--prompt", "[[id={{id}}]]{{name}}", "--model", "demo-small"];

    let submitted = shell.run(&[&["submit"], &ask[..], &["--label", "team=search"]].concat()).await;
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let id = submitted.out.trim_end();
    assert!(id.starts_with("batch_") && submitted.out.lines().count() == 1, "{submitted:?}");
    assert_eq!(service.batch(id).await["metadata"]["team"], "search");

    let watched = shell.run(&["watch", id]).await;
    assert_eq!(watched.code, Some(1), "{watched:?}");
    assert!(watched.err.contains("completed: 1 succeeded, 1 failed"), "{}", watched.err);
    assert!(watched.err.contains(&format!("`sluicegate retry {id}` tries again")), "{}", watched.err);
    let json: Value = serde_json::from_str(&shell.run(&["watch", id, "--json"]).await.out).unwrap();
    assert_eq!(json["request_counts"], json!({"total": 2, "completed": 1, "failed": 1}));

    assert_eq!(shell.run(&["results", id, "-o", "out.csv", "--input", "products.csv"]).await.code, Some(0));
    let csv = shell.read("out.csv");
    assert!(
        csv.starts_with("id,name,answer,status,") && csv.contains("a,lock,Answer to a.,succeeded,"),
        "{csv}"
    );
    let again = shell.run(&["results", id, "-o", "out.csv"]).await;
    assert_eq!(again.code, Some(6), "{again:?}");
    assert_eq!(shell.prints(&["results", id]).await.lines().count(), 2);
    let mut left = shell.spawn(&["results", id]);
    drop(left.stdout.take());
    let left = ended(left).await;
    assert_eq!((left.code, left.err.as_str()), (Some(0), ""), "whoever reads has seen enough");

    let list = shell.prints(&["list"]).await;
    assert!(list.starts_with("id ") && list.contains(id) && list.contains("2/2"), "{list}");
    let list: Value = serde_json::from_str(&shell.prints(&["list", "--json", "--limit", "1"]).await).unwrap();
    assert_eq!(list["data"][0]["id"], id);

    let retried = shell.prints(&["retry", id]).await;
    assert_eq!(service.batch(retried.trim_end()).await["sluicegate"]["retry_of"], id);
    let ended = shell.run(&["watch", retried.trim_end(), "--quiet"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""));

    let budget = shell.prints(&["budget"]).await;
    assert!(budget.contains("lane up/demo-small") && budget.contains("concurrency"), "{budget}");
    let doctor = shell.prints(&["doctor"]).await;
    assert!(doctor.contains("ok    lane up/demo-small: open"), "{doctor}");

    // What `run` makes on a service is found again by the next one, which waits for it.
    let ran = shell.run(&[&["run"], &ask[..], &["-o", "ran.csv"]].concat()).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("this was run before"), "{}", ran.err);
    assert!(shell.read("ran.csv").contains("a,lock,Answer to a.,succeeded,"));
    let unknown = shell.run(&["watch", "batch_unknown"]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    shell.write("twice.jsonl", &jsonl(&[chat("same", "x"), chat("same", "y")]));
    let refused = shell.run(&["submit", "twice.jsonl"]).await;
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.err.contains("duplicate_custom_id") && !refused.err.contains("taken"), "{}", refused.err);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_batch_ends_who_waits_for_it() {
    let upstream = upstream(r#"latency = "100ms""#).await;
    let service = Service::start(Settings::new(&upstream).with("limits = { max_concurrent = 1 }")).await;
    let shell = Shell::new(&[("SLUICEGATE_URL", &service.url())]);
    shell.write("in.jsonl", &jsonl(&chats(200, "")));
    let waiting = shell.spawn(&["submit", "in.jsonl", "--wait", "--no-progress"]);
    eventually("a call", || upstream.log().arrived > 0).await;
    let list: Value = serde_json::from_str(&shell.prints(&["list", "--json"]).await).unwrap();
    let id = list["data"][0]["id"].as_str().unwrap();
    assert!(shell.prints(&["cancel", id]).await.starts_with(id));
    let waited = ended(waiting).await;
    assert_eq!((waited.code, waited.out.trim_end()), (Some(3), id), "{waited:?}");
    service.stop().await;
}

#[rstest]
#[case::that_is_killed(true)]
#[case::that_is_told_to_end(false)]
#[tokio::test(flavor = "multi_thread")]
async fn who_watches_outlives_a_service(#[case] is_killed: bool) {
    let upstream = upstream(r#"latency = "10ms""#).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = Settings::new(&upstream).with(&format!("server = {{ listen = \"{port}\" }}"));
    let settings = settings.with("limits = { max_concurrent = 1 }");
    let mut process = Process::start(&settings);
    let id = process.submit(&chats(300, ""), json!({})).await;
    let url = format!("http://{port}");
    let shell = Shell::new(&[("SLUICEGATE_URL", &url)]);
    let mut watching = shell.spawn(&["watch", &id]);
    let impatient = shell.spawn(&["watch", &id, "--away", "1ms"]);
    // They are there once they have asked for the batch; the end then meets them in the middle.
    process
        .metrics_until("it is watched", |metrics| {
            let asked = |line: &str| {
                line.contains("_count") && line.contains("/v1/batches/{batch_id}\"") && line.ends_with(" 2")
            };
            metrics.0.lines().any(asked)
        })
        .await;
    if is_killed {
        process.kill();
    } else {
        process.terminate();
        assert_eq!(process.exited().await.code(), Some(0));
    }
    says(&mut watching, "is away; trying again for 10 min").await;
    let given_up = ended(impatient).await;
    assert_eq!(given_up.code, Some(4), "{given_up:?}");
    let process = Process::start(&settings);
    says(&mut watching, "is back").await;
    let ended = ended(watching).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(process.batch(&id).await["status"], "completed");
    let refused = shell.run(&["watch", &id, "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(refused.code, Some(4), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_apps() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let open = Shell::new(&[("SLUICEGATE_URL", &service.url())]);
    let admin = open.run(&["keys", "create", "--app", "operations", "--scope", "admin"]).await;
    assert!(admin.out.starts_with("sk-sg-") && admin.out.lines().count() == 1, "{admin:?}");
    assert!(!admin.err.contains("sk-sg-"), "{admin:?}");

    let refused = open.run(&["list"]).await;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.err.contains("SLUICEGATE_API_KEY"), "{}", refused.err);

    let operator =
        Shell::new(&[("SLUICEGATE_URL", &service.url()), ("SLUICEGATE_API_KEY", admin.out.trim_end())]);
    let made = operator.prints(&["keys", "create", "--app", "search", "--name", "ci", "--json"]).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    operator.write("key", &format!("{}\n", made["key"].as_str().unwrap()));
    let allowed = operator.run(&["list", "--api-key-file", "key"]).await;
    assert_eq!((allowed.code, allowed.out.as_str()), (Some(0), ""), "{allowed:?}");
    let larger = operator.run(&["keys", "list", "--api-key-file", "key"]).await;
    assert_eq!(larger.code, Some(5), "{larger:?}");

    let id = made["id"].as_str().unwrap();
    assert!(operator.prints(&["keys", "revoke", id]).await.contains(id));
    let keys = operator.prints(&["keys", "list"]).await;
    let line = keys.lines().find(|line| line.contains(id)).unwrap();
    assert!(line.contains("search") && line.contains("revoked") && line.contains("ci"), "{keys}");
    let apps = operator.prints(&["apps"]).await;
    assert!(apps.contains("search") && apps.contains("operations"), "{apps}");
    service.stop().await;
}
