use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

fn names(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter(|name| name.starts_with("sluicegate_"))
        .map(str::to_owned)
        .collect()
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn names_are_pinned() {
    let metrics = Metrics::new("1.2.3").unwrap();
    metrics.lane("openai", "gpt");
    let text = metrics.encode().unwrap();
    let names: Vec<_> = names(&text).into_iter().collect();
    insta::assert_snapshot!(names.join("\n"), @r"
    sluicegate_attempt_duration_seconds histogram
    sluicegate_attempts_total counter
    sluicegate_batch_duration_seconds histogram
    sluicegate_batches gauge
    sluicegate_budget_admitted_total counter
    sluicegate_budget_limit_per_second gauge
    sluicegate_budget_refunded_total counter
    sluicegate_build_info gauge
    sluicegate_config_last_reload_success gauge
    sluicegate_config_last_reload_success_timestamp_seconds gauge
    sluicegate_config_reloads_total counter
    sluicegate_deadline_slack_seconds gauge
    sluicegate_disk_free_bytes gauge
    sluicegate_gate_wait_seconds histogram
    sluicegate_http_request_duration_seconds histogram
    sluicegate_in_flight gauge
    sluicegate_items_pending gauge
    sluicegate_items_total counter
    sluicegate_lane_state gauge
    sluicegate_oldest_pending_seconds gauge
    sluicegate_queue_wait_seconds histogram
    sluicegate_request_duration_seconds histogram
    sluicegate_retries_total counter
    sluicegate_store_commit_rows histogram
    sluicegate_store_commit_seconds histogram
    sluicegate_store_min_free_bytes gauge
    sluicegate_store_size_bytes gauge
    sluicegate_store_takes_work gauge
    sluicegate_store_wal_bytes gauge
    sluicegate_tokens_total counter
    sluicegate_upstream_429_total counter
    sluicegate_writer_queue gauge
    ");
}

#[test]
fn a_lane_lists_its_series_at_zero_and_takes_them_along() {
    let metrics = Metrics::new("1.2.3").unwrap();
    let lane = metrics.lane("openai", "gpt");
    let text = metrics.encode().unwrap();
    for series in [
        r#"sluicegate_items_total{model="gpt",outcome="expired",provider="openai"}"#,
        r#"sluicegate_attempts_total{class="rate_limited",model="gpt",provider="openai"}"#,
        r#"sluicegate_upstream_429_total{kind="concurrency",model="gpt",provider="openai"}"#,
        r#"sluicegate_request_duration_seconds_count{kind="interactive",model="gpt",outcome="failed",provider="openai"}"#,
        r#"sluicegate_lane_state{model="gpt",provider="openai",state="breaker"}"#,
        r#"sluicegate_batches{status="in_progress"}"#,
        r#"sluicegate_batch_duration_seconds_count{outcome="completed"}"#,
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series}");
    }
    let open = r#"sluicegate_lane_state{model="gpt",provider="openai",state="open"}"#;
    assert_eq!(value(&text, open), Some(1.0));

    lane.set_state(LaneStateLabel::Stopped);
    lane.attempt_ended(AttemptClass::Ok, Duration::from_millis(300));
    lane.item_ended(Outcome::Succeeded, Some(Duration::from_millis(300)));
    let text = metrics.encode().unwrap();
    assert_eq!(value(&text, open), Some(0.0));
    let bucket =
        r#"sluicegate_attempt_duration_seconds_bucket{class="ok",model="gpt",provider="openai",le="0.4"}"#;
    assert_eq!(value(&text, bucket), Some(1.0));

    metrics.retire_lane("openai", "gpt");
    assert!(!metrics.encode().unwrap().contains("gpt"));
}

#[test]
fn the_same_lane_is_the_same_handles() {
    let metrics = Metrics::new("1.2.3").unwrap();
    let shared = metrics.clone();
    metrics.lane("openai", "gpt").in_flight().inc();
    assert_eq!(shared.lane("openai", "gpt").in_flight().get(), 1);
    assert_eq!(metrics.lane("openai", "other").in_flight().get(), 0);
}

#[test]
fn methods_and_statuses_are_bounded() {
    let metrics = Metrics::new("1.2.3").unwrap();
    metrics.http().answered("BREW", "/v1/files", 200, Duration::from_millis(1));
    metrics.http().answered("GET", "/v1/files", 404, Duration::from_millis(1));
    let text = metrics.encode().unwrap();
    let count = "sluicegate_http_request_duration_seconds_count";
    assert_eq!(
        value(&text, &format!(r#"{count}{{method="other",route="/v1/files",status="200"}}"#)),
        Some(1.0)
    );
    assert_eq!(
        value(&text, &format!(r#"{count}{{method="GET",route="/v1/files",status="404"}}"#)),
        Some(1.0)
    );
}

#[test]
fn calls_have_buckets_to_1638_seconds() {
    let doubled: Vec<f64> = (0..16).map(|power| 0.05 * f64::from(1 << power)).collect();
    assert_eq!(declare::CALL_SECONDS.as_slice(), doubled.as_slice());
    let fourfold = declare::WAIT_SECONDS.windows(2).all(|pair| (pair[1] / pair[0] - 4.0).abs() < 1e-9);
    assert!(fourfold);
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_and_the_build_are_shown() {
    let text = Metrics::new("1.2.3").unwrap().encode().unwrap();
    assert!(text.contains("\nprocess_resident_memory_bytes "));
    assert_eq!(value(&text, r#"sluicegate_build_info{version="1.2.3"}"#), Some(1.0));
    assert_eq!(value(&text, "sluicegate_store_wal_bytes"), Some(0.0));
}
