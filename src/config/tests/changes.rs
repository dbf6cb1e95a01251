//! What differs between two configurations, and what of it can change while the service runs.

use super::*;

/// Another value for every key of the service.
const OTHER: &str = r#"
    server = { listen = "127.0.0.1:9", admin_listen = "127.0.0.1:10", public_url = "https://a.example", drain_timeout = "1s", cors_origins = ["https://b.example"], trusted_proxies = ["10.0.0.0/8"], memory_budget = "65MiB", compress = true }
    auth = { mode = "none", admin_key_file = "/key" }
    store = { url = "sqlite:/other.db", min_free = "2GiB" }
    limits = { max_concurrent = 7, requests = 5, tokens = 6, input_tokens = 7, output_tokens = 8, burst = 3, learn = true, day_starts = "07:00" }
    timeouts = { connect = "1s", first_byte = "1s", idle = "1s", request = "1s" }
    retry = { max_attempts = 1, min_delay = "1ms", max_delay = "1ms", on = [500] }
    interactive = { max_wait = "1s", share = 0.1, passthrough = false }
    retention = { files = "1d", results = "1d" }
    batches = { max_items = 1, max_line = "1MiB", max_file = "1MiB", max_inline = "1MiB" }
    log = { format = "json", level = "warn" }
"#;

fn keys(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.key.as_str()).collect()
}

#[test]
fn every_key_is_told_and_taken_over_or_kept() {
    let (before, mut after) = (file(""), file(OTHER));
    let changes = before.changes_to(&after);
    // These are told by what they are resolved into: the URL, the rates, the URL's schema.
    let resolved = ["store.url_file", "limits.period", "store.schema"];
    for DocumentedKey { key, holds, .. } in Reference::of_all_keys().keys() {
        if !key.starts_with("providers.") && !resolved.contains(&key.as_str()) {
            let change = changes.iter().find(|change| change.key == *key);
            let change = change.unwrap_or_else(|| panic!("{key}: {changes:#?}"));
            assert_eq!(change.needs_restart, *holds == "next start", "{key}");
        }
    }
    let live: Vec<Change> = changes.iter().filter(|change| !change.needs_restart).cloned().collect();
    after.keep_fixed(&before);
    assert_eq!(before.changes_to(&after), live);
    assert!(live.len() > 10 && changes.len() > live.len() + 15, "{} of {}", live.len(), changes.len());
    assert_eq!(after.changes_to(&after.clone()), []);
}

#[test]
fn lanes_are_known_by_what_they_match() {
    let lanes =
        |lanes: &str| file(&format!("[providers.one]\nbase_url = \"http://127.0.0.1:1/v1\"\n{lanes}"));
    let lane = |model: &str, weight: u32| {
        format!("[[providers.one.lanes]]\nmatch = \"{model}\"\nweight = {weight}\nlimits.requests = 5\n")
    };
    let before = lanes(&(lane("a", 1) + &lane("b", 1)));
    assert_eq!(before.changes_to(&lanes(&(lane("b", 1) + &lane("a", 1)))), []);
    let changes = before.changes_to(&lanes(&(lane("b", 2) + &lane("c*", 1))));
    let weight = Change {
        key: "providers.one.lanes[\"b\"].weight".to_owned(),
        before: Some("1".to_owned()),
        after: Some("2".to_owned()),
        needs_restart: false,
    };
    assert!(changes.contains(&weight), "{changes:#?}");
    let gone = changes.iter().filter(|change| change.key.contains("[\"a\"]"));
    assert!(gone.clone().count() >= 3 && gone.clone().all(|change| change.after.is_none()), "{changes:#?}");
    assert!(
        changes
            .iter()
            .any(|change| change.key.contains("[\"c*\"].limits.requests") && change.before.is_none())
    );
}

#[test]
fn secrets_are_told_apart_and_not_shown() {
    let provider = |header: &str, proxy: &str, command: &str| {
        file(&format!(
            "[providers.one]\nbase_url = \"http://127.0.0.1:1/v1\"\nheaders = {{ x-a = \"{header}\" }}\nproxy = \"{proxy}\"\napi_key_command = \"{command}\""
        ))
    };
    let before = provider("canary-1", "http://u:canary-1@p.example", "echo canary-1");
    let changes = before.changes_to(&provider("canary-2", "http://u:canary-2@p.example", "echo canary-2"));
    assert_eq!(
        keys(&changes),
        ["providers.one.api_key_command", "providers.one.headers", "providers.one.proxy"]
    );
    assert!(!format!("{changes:?}").contains("canary"), "{changes:#?}");
}
