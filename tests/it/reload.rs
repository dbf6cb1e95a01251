//! Another configuration while the service runs: what is spent stays spent, what is under way goes on, and one that can't
//! be used changes nothing.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    Client, Metrics, PATIENCE, Process, Service, Settings, chats, eventually, postgres, upstream,
};

const RELOAD: &str = "/admin/v1/reload";

/// Takes a configuration over by a call; its answer.
async fn reload(process: &Process, settings: &Settings) -> Value {
    settings.replace();
    process.post(RELOAD, &json!({})).await.ok()
}

/// The keys of a list of changes.
fn keys(changes: &Value) -> Vec<&str> {
    changes.as_array().unwrap().iter().map(|change| change["key"].as_str().unwrap()).collect()
}

/// One row of the budget.
async fn budget(client: &Client, level: &str, name: &str, dimension: &str) -> Option<Value> {
    let budget = client.get("/v1/budget").await.ok();
    let rows = budget["data"].as_array().unwrap().iter();
    let is_it = |row: &&Value| {
        (&row["level"], &row["name"], &row["dimension"]) == (&json!(level), &json!(name), &json!(dimension))
    };
    rows.clone().find(is_it).cloned()
}

fn chat() -> Value {
    json!({"model": "demo-small", "messages": [{"role": "user", "content": "x"}]})
}

/// The most arrivals within any second.
fn most_within_a_second(moments: &[f64]) -> usize {
    let within = |from: &f64| moments.iter().filter(|at| (*from..*from + 1.0).contains(*at)).count();
    moments.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_changes_in_flight_and_nothing_is_forgotten() {
    let upstream = upstream("latency = \"20ms\"\nlog = \"full\"").await;
    let settings = Settings::new(&upstream).with("providers.up.limits = { requests = \"3000/min\" }");
    let to =
        |rate: &str| settings.clone().with(&format!("providers.up.limits = {{ requests = \"{rate}\" }}"));
    let process = Process::start(&settings);
    let id = process.submit(&chats(110, ""), json!({})).await;
    eventually("it is under way", || upstream.log().arrived >= 40).await;
    let before = budget(&process, "provider", "up", "requests").await.unwrap();

    let answer = reload(&process, &to("600/min")).await;
    let lowered = upstream.log().arrived;
    assert_eq!(
        answer["changed"],
        json!([{"key": "providers.up.limits.requests", "before": "\"3000/min\"", "after": "\"600/min\""}])
    );
    assert_eq!(answer["needs_restart"], json!([]));
    let after = budget(&process, "provider", "up", "requests").await.unwrap();
    assert_eq!((&before["limit"], &after["limit"]), (&json!(3000), &json!(600)));
    assert!(after["used"].as_u64() >= before["used"].as_u64(), "{before} {after}");
    eventually("it goes on at the lower rate", || upstream.log().arrived >= lowered + 12).await;
    let raised = upstream.log().arrived;
    reload(&process, &to("3000/min")).await;
    let batch = process.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": 110, "completed": 110, "failed": 0}));

    let moments: Vec<f64> = upstream.entries(0, 1_000).into_iter().map(|entry| entry.at).collect();
    assert!(most_within_a_second(&moments) <= 65, "a burst: {}", most_within_a_second(&moments));
    // Those whose time had come when it was lowered are left out.
    let slow = &moments[usize::try_from(lowered).unwrap() + 2..usize::try_from(raised).unwrap()];
    assert!(most_within_a_second(slow) <= 20, "10/s: {}", most_within_a_second(slow));
    // What does not change is not touched, and says so.
    let answer = reload(&process, &to("3000/min")).await;
    assert_eq!((&answer["changed"], &answer["needs_restart"]), (&json!([]), &json!([])));
    let spent = budget(&process, "provider", "up", "requests").await.unwrap()["used"].as_u64().unwrap();
    assert!(spent >= 110, "{spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_goes_and_comes_back_is_not_new() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let limited = settings.clone().with("providers.up.limits = { requests = \"100/day\" }");
    let process = Process::start(&limited);
    for _ in 0..5 {
        process.post("/v1/chat/completions", &chat()).await.ok();
    }
    reload(&process, &settings).await;
    assert!(budget(&process, "provider", "up", "requests").await.is_none());
    let answer = reload(&process, &limited).await;
    assert_eq!(
        keys(&answer["changed"]),
        ["providers.up.lanes[\"*\"].limits.max_concurrent", "providers.up.limits.requests"]
    );
    let back = budget(&process, "provider", "up", "requests").await.unwrap();
    assert_eq!((&back["limit"], &back["used"]), (&json!(100), &json!(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_and_providers_come_and_go() {
    const LANE: &str = "[[providers.up.lanes]]\nmatch = \"demo-small\"\nlimits = { max_concurrent = 4 }";
    const ITEMS: u64 = 300;
    let (first, second) = (upstream("latency = \"100ms\"").await, upstream("").await);
    let settings = Settings::new(&first);
    let process = Process::start(&settings.clone().with(LANE));
    let id = process.submit(&chats(300, ""), json!({})).await;
    eventually("it is under way", || first.log().arrived >= 8).await;

    // Another lane in its place: the file is replaced, and nobody says so.
    let without = settings.clone().with("[[providers.up.lanes]]\nmatch = \"demo-large\"");
    without.replace();
    let waits = |batch: &Value| batch["sluicegate"]["waiting"][0]["reason"] == "no_provider";
    process.until(&id, "its lane was taken away", waits).await;
    let batch = process
        .until(&id, "calls in flight have ended", |batch| batch["sluicegate"]["counts"]["running"] == 0)
        .await;
    let sent = first.log().arrived;
    assert_eq!(batch["request_counts"]["failed"], 0, "{batch:#}");
    assert!(sent < ITEMS, "{sent}");
    let states = |metrics: &Metrics| metrics.sum("sluicegate_lane_state", &[r#"model="demo-small""#]);
    process.metrics_until("it is in no state", |metrics| states(metrics) == 0.0).await;
    let models = process.get("/v1/models").await.ok();
    assert_eq!((&models["data"][0]["id"], &models["data"][1]), (&json!("demo-large"), &Value::Null));
    assert!(budget(&process, "lane", "up/demo-small", "concurrency").await.is_none());
    assert_eq!(process.post("/v1/chat/completions", &chat()).await.refused(404)["code"], "model_not_found");
    let refused = process.create(&chats(1, ""), json!({})).await.ok();
    assert_eq!(process.ended(refused["id"].as_str().unwrap()).await["status"], "failed");

    // A provider that serves it: what waits goes there at once.
    let other = format!(
        "[providers.other]\nbase_url = \"{}\"\nauth = \"none\"\n[[providers.other.lanes]]\nmatch = \"demo-*\"",
        second.base_url()
    );
    without.with(&other).replace();
    process.hang_up();
    let batch = process.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": ITEMS, "completed": ITEMS, "failed": 0}));
    assert_eq!((first.log().arrived, second.log().arrived), (sent, ITEMS - sent));
    assert!(budget(&process, "lane", "other/demo-*", "concurrency").await.is_some());

    // The lane of before: as it was, and with the calls that wait.
    reload(&process, &settings.with(LANE)).await;
    let lane = budget(&process, "lane", "up/demo-small", "concurrency").await.unwrap();
    assert_eq!((&lane["limit"], &lane["used"]), (&json!(4), &json!(0)));
    process.post("/v1/chat/completions", &chat()).await.ok();
    assert_eq!(first.log().arrived, sent + 1);
    for name in ["other/demo-*", "other"] {
        let level = if name == "other" { "provider" } else { "lane" };
        assert!(budget(&process, level, name, "concurrency").await.is_none(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_call_that_waits_takes_the_route_of_the_new_configuration() {
    let (first, second) = (upstream("").await, upstream("").await);
    let settings = Settings::new(&first);
    let process = Process::start(&settings);
    let lane = json!({"provider": "up", "model": "demo-small"});
    process.post("/admin/v1/lanes/pause", &lane).await.ok();
    let (caller, body) = ((*process).clone(), chat());
    let waiting = tokio::spawn(async move { caller.post("/v1/chat/completions", &body).await });
    let waits = async {
        while budget(&process, "lane", "up/demo-small", "concurrency").await.unwrap()["waiting"] != 1 {}
    };
    tokio::time::timeout(PATIENCE, waits).await.unwrap();
    let other = format!(
        "[providers.other]\nbase_url = \"{}\"\nauth = \"none\"\n[[providers.other.lanes]]\nmatch = \"demo-*\"\norder = 1",
        second.base_url()
    );
    reload(&process, &settings.with(&other)).await;
    waiting.await.unwrap().ok();
    assert_eq!((first.log().arrived, second.log().arrived), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_moves_with_its_key_and_no_call_is_lost() {
    let first = upstream("latency = \"100ms\"\nkeys = [\"sk-one-secret\"]").await;
    let second = upstream("keys = [\"sk-two-secret\"]").await;
    let settings = Settings::new(&first);
    let at = |base_url: &str, key: &str| {
        let file = settings.file(key);
        std::fs::write(&file, format!("{key}-secret\n")).unwrap();
        settings.clone().with(&format!(
            "[providers.up]\nbase_url = \"{base_url}\"\nauth = \"bearer\"\napi_key_file = \"{}\"\nlimits = {{ max_concurrent = 4 }}",
            file.display()
        ))
    };
    let process = Process::start(&at(&first.base_url(), "sk-one"));
    let id = process.submit(&chats(120, ""), json!({"max_attempts": 1})).await;
    eventually("it is under way", || first.log().arrived >= 8).await;
    // Both at once, or each would be refused by the other's upstream.
    let answer = reload(&process, &at(&second.base_url(), "sk-two")).await;
    assert_eq!(keys(&answer["changed"]), ["providers.up.api_key_file", "providers.up.base_url"]);
    let batch = process.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": 120, "completed": 120, "failed": 0}));
    assert_eq!(batch["sluicegate"]["attempts"], 120);
    assert_eq!(first.log().arrived + second.log().arrived, 120);
    assert!(second.log().arrived > 0);

    // A key that is not there would stop everything: it is refused.
    let missing = settings.clone().with(&format!(
        "[providers.up]\nbase_url = \"{}\"\nauth = \"bearer\"\napi_key_file = \"/nowhere/key\"",
        second.base_url()
    ));
    missing.replace();
    let error = process.post(RELOAD, &json!({})).await.refused(400);
    assert!(error["message"].as_str().unwrap().contains("/nowhere/key"), "{error}");
    process.post("/v1/chat/completions", &chat()).await.ok();
    assert!(!process.log().contains("-secret"), "{}", process.log());
}

/// A certificate that is signed by itself, for the authorities that a provider's server may be of.
fn write_authority(file: &Path) {
    let key = file.with_extension("key");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(key)
        .arg("-out")
        .arg(file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_certificates_in_the_same_file_are_taken_over() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let file = settings.file("authority.pem");
    write_authority(&file);
    let settings = settings.with(&format!("providers.up.ca_file = \"{}\"", file.display()));
    let process = Process::start(&settings);
    process.post("/v1/chat/completions", &chat()).await.ok();
    write_authority(&file);
    let taken = "providers.up.ca_file: ";
    eventually("it is noticed", || process.log().contains(taken)).await;

    std::fs::write(&file, "no certificate").unwrap();
    let refused =
        || process.log().lines().filter(|line| line.contains("refused and nothing changed")).count();
    eventually("it is refused", || refused() > 0).await;
    assert!(process.log().contains("holds no certificate in PEM form"), "{}", process.log());
    process.post("/v1/chat/completions", &chat()).await.ok();
    write_authority(&file);
    let reloaded = || process.log().matches(taken).count();
    eventually("it is good again", || reloaded() == 2).await;
    assert_eq!(refused(), 1, "{}", process.log());
    process.post("/v1/chat/completions", &chat()).await.ok();
    assert_eq!(process.post(RELOAD, &json!({})).await.ok()["changed"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_can_not_be_used_changes_nothing_and_says_why() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("providers.up.limits = { requests = \"500/min\" }");
    let process = Process::start(&settings);
    let file = settings.file("sluicegate.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let line = good.lines().count() + 1;
    let write = |more: &str| std::fs::write(&file, format!("{good}\n{more}")).unwrap();
    let refusals =
        || process.log().lines().filter(|line| line.contains("was refused and nothing changed")).count();

    // Everything that is wrong, in one answer; whatever else is good in it does not hold.
    write("[providers.other]\nbase_url = \"nowhere\"\nlimits.request = 5\n[limits]\nmax_concurrent = 3");
    let error = process.post(RELOAD, &json!({})).await.refused(400);
    let message = error["message"].as_str().unwrap();
    assert_eq!((&error["code"], &error["type"]), (&json!("invalid_value"), &json!("invalid_request_error")));
    for part in [
        "2 problems",
        &format!("sluicegate.toml:{}: providers.other.base_url", line + 2),
        &format!("sluicegate.toml:{}: providers.other.limits.request is not a key", line + 3),
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let service = budget(&process, "service", "service", "concurrency").await.unwrap();
    assert_eq!(service["limit"], 1024);
    let metrics = process.metrics().await;
    assert_eq!(metrics.sum("sluicegate_config_reloads_total", &["refused"]), 1.0);
    assert_eq!(metrics.sum("sluicegate_config_last_reload_success", &[]), 0.0);
    assert_eq!(refusals(), 1);

    // Found by itself, and said once: the next thing that is said is of the file after it.
    write("what is this");
    eventually("the file was looked at", || refusals() == 2).await;
    std::fs::write(&file, good.replace("500/min", "400/min")).unwrap();
    eventually("a good one holds", || process.log().contains("the configuration was reloaded")).await;
    assert_eq!(refusals(), 2);
    let rate = budget(&process, "provider", "up", "requests").await.unwrap();
    assert_eq!(rate["limit"], 400);
    let metrics = process.metrics().await;
    assert_eq!(metrics.sum("sluicegate_config_last_reload_success", &[]), 1.0);
    process.post("/v1/chat/completions", &chat()).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_named_and_keeps_its_value() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let process = Process::start(&settings);
    assert!(!process.log().contains("\"DEBUG\""));
    let changed = settings.clone().with(
        "server = { listen = \"127.0.0.1:1\", drain_timeout = \"11s\" }\nlog = { level = \"debug\", format = \"text\" }\n\
         batches = { max_items = 7 }",
    );
    let answer = reload(&process, &changed).await;
    assert_eq!(keys(&answer["changed"]), ["log.level", "server.drain_timeout"]);
    assert_eq!(keys(&answer["needs_restart"]), ["batches.max_items", "log.format", "server.listen"]);
    assert_eq!(
        answer["needs_restart"][0],
        json!({"key": "batches.max_items", "before": "1000000", "after": "7"})
    );
    let id = process.submit(&chats(8, ""), json!({})).await;
    assert_eq!(process.ended(&id).await["request_counts"]["completed"], 8);
    eventually("details are logged", || process.log().contains("\"DEBUG\"")).await;
    // Still one object a line, and named once more by the next reload.
    let lines: Vec<Value> = process.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warned = |line: &&Value| {
        line["level"] == "WARN" && line["keys"].as_str().is_some_and(|keys| keys.contains("server.listen: "))
    };
    assert_eq!(lines.iter().filter(warned).count(), 1);
    let answer = reload(&process, &changed.with("log = { level = \"info\" }")).await;
    assert_eq!(
        (keys(&answer["changed"]), answer["needs_restart"].as_array().unwrap().len()),
        (vec!["log.level"], 3)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_keys_follow_and_nobody_is_locked_out() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let with_key = |name: &str| {
        let file = settings.file(name);
        std::fs::write(&file, format!("{name}-0123456789-0123456789")).unwrap();
        settings
            .clone()
            .with(&format!("auth = {{ mode = \"keys\", admin_key_file = \"{}\" }}", file.display()))
    };
    let process = Process::start(&with_key("first"));
    let [first, second] =
        ["first", "second"].map(|name| process.with_key(&format!("{name}-0123456789-0123456789")));
    process.post(RELOAD, &json!({})).await.refused(401);
    with_key("second").replace();
    let answer = first.post(RELOAD, &json!({})).await.ok();
    assert_eq!(keys(&answer["changed"]), ["auth.admin_key_file"]);
    first.post(RELOAD, &json!({})).await.refused(401);
    second.get("/v1/budget").await.ok();
    // Without any, nobody could call any more.
    settings.clone().with("auth = { mode = \"keys\" }").replace();
    let error = second.post(RELOAD, &json!({})).await.refused(400);
    assert_eq!(error["param"], "auth.admin_key_file");
    let app = second.make_key(json!({"app": "search"})).await;
    assert_eq!(
        process.with_key(&app).post(RELOAD, &json!({})).await.refused(403)["code"],
        "insufficient_scope"
    );
}

/// As Kubernetes mounts a config map: the file is a link into a folder that is a link itself, and that is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_points_elsewhere_is_another_file() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let link = |target: &str, name: &str| symlink(target, settings.file(name)).unwrap();
    for version in ["v1", "v2"] {
        std::fs::create_dir(settings.file(version)).unwrap();
    }
    link("v1", "..data");
    link("..data/sluicegate.toml", "sluicegate.toml");
    let process = Process::start(&settings);
    let written = std::fs::read_to_string(settings.file("v1/sluicegate.toml")).unwrap();
    std::fs::write(settings.file("v2/sluicegate.toml"), format!("limits.max_concurrent = 3\n{written}"))
        .unwrap();
    link("v2", "..data_tmp");
    std::fs::rename(settings.file("..data_tmp"), settings.file("..data")).unwrap();
    eventually("it was taken over", || process.log().contains("limits.max_concurrent: 1024 -> 3")).await;
    assert_eq!(budget(&process, "service", "service", "concurrency").await.unwrap()["limit"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_started_without_a_file_says_so() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let error = service.post(RELOAD, &json!({})).await.refused(409);
    assert!(error["message"].as_str().unwrap().contains("can't be read again"), "{error}");
    service.get(RELOAD).await.refused(405);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_hold_the_lower_limit_until_both_have_reloaded() {
    let upstream = upstream("latency = \"20ms\"").await;
    let schema = postgres::new_schema();
    let replica = |rate: &str| {
        let shared = format!(
            "store = {{ url = \"{}\", schema = \"{schema}\" }}\nproviders.up.limits = {{ requests = \"{rate}\" }}",
            postgres::url()
        );
        Settings::new(&upstream).with(&shared)
    };
    let (one, other) = (replica("600/min"), replica("600/min"));
    let lower = "providers.up.limits = { requests = \"300/min\" }";
    let processes = [Process::start(&one), Process::start(&other)];
    // While work runs.
    let id = processes[0].submit(&chats(2_000, ""), json!({})).await;
    eventually("it is under way", || upstream.log().arrived >= 3).await;
    let limit_of = async |process: &Process| {
        budget(process, "provider", "up", "requests").await.unwrap()["limit"].clone()
    };
    reload(&processes[0], &one.clone().with(lower)).await;
    let differ = |process: &Process| process.log().contains("workers are configured with different limits");
    eventually("both say so", || processes.iter().all(differ)).await;
    for process in &processes {
        assert_eq!(limit_of(process).await, 300);
    }
    reload(&processes[1], &other.clone().with(lower)).await;
    assert_eq!(limit_of(&processes[1]).await, 300);
    processes[0].post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.ok();
    assert_eq!(processes[1].ended(&id).await["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_work_hears_that_limits_differ() {
    let upstream = upstream("").await;
    let schema = postgres::new_schema();
    let shared = format!("store = {{ url = \"{}\", schema = \"{schema}\" }}", postgres::url());
    let limits = |rate: &str| format!("providers.up.limits = {{ requests = \"{rate}\" }}");
    let settings = || Settings::new(&upstream).with(&shared).with(&limits("600/min"));
    let (one, other) = (settings(), settings());
    let processes = [&one, &other].map(Process::start);
    reload(&processes[0], &one.clone().with(&limits("300/min"))).await;
    let differs = || processes[1].log().contains("workers are configured with different limits");
    eventually("the other one says so, though nobody asks it for anything", differs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_one_replica_has_no_more_holds_the_others_to_nothing() {
    let upstream = upstream("").await;
    let schema = postgres::new_schema();
    let shared = format!("store = {{ url = \"{}\", schema = \"{schema}\" }}", postgres::url());
    let lanes = |of_its_own: &str| format!("providers.up.lanes = [{of_its_own} {{ match = \"*\" }}]");
    let small =
        |rate: &str| lanes(&format!("{{ match = \"demo-small\", limits = {{ requests = \"{rate}\" }} }},"));
    let settings = || Settings::new(&upstream).with(&shared);
    let (one, other) = (settings(), settings());
    let processes = [&one, &other].map(|settings| Process::start(&settings.clone().with(&small("600/min"))));
    // Both have met the lane.
    for process in &processes {
        process.post("/v1/chat/completions", &chat()).await.ok();
    }
    let limit =
        async || budget(&processes[1], "lane", "up/demo-small", "requests").await.unwrap()["limit"].clone();
    reload(&processes[1], &other.clone().with(&small("6000/min"))).await;
    let differs = || processes[1].log().contains("workers are configured with different limits");
    eventually("they differ", differs).await;
    assert_eq!(limit().await, 600);
    reload(&processes[0], &one.clone().with(&lanes(""))).await;
    let raised = async { while limit().await != 6_000 {} };
    tokio::time::timeout(PATIENCE, raised).await.expect("its own limit holds");
}
