//! Token budgets over `kill -9`: no burst, no debt forgotten, nothing lost.
//!
//! The upstreams' periods are a tenth shorter than the configured ones, since a busy test machine delivers late what
//! was sent on time.

use serde_json::{Value, json};
use sluicegate::demo::upstream::Running;

use crate::harness::{Process, Settings, check_whole, eventually, sized, upstream};

/// Nothing was above the upstream's law, so nothing was refused.
fn check_law(upstream: &Running) {
    let law = &upstream.oracle().laws[0];
    assert_eq!((law.over, law.windows_over), (0, 0), "peak {} of {}", law.peak, law.limit);
    assert_eq!(upstream.log().answered.keys().collect::<Vec<_>>(), [&200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_cause_no_burst_of_tokens() {
    const ITEMS: usize = 45;
    let upstream = upstream(
        r#"
        latency = "20ms..150ms"
        limits = [{ law = "sliding", limit = 6000, period = "2700ms", unit = "tokens", enforce = true }]
        "#,
    )
    .await;
    let settings = Settings::new(&upstream).with(r#"providers.up.limits = { tokens = "6000/3s" }"#);
    let mut process = Process::start(&settings);
    // From a fiftieth of the limit to a seventh of it: what the last one owes is worth a burst.
    let size = |item: usize| if item.is_multiple_of(5) { 800 } else { 60 };
    let lines: Vec<Value> = (0..ITEMS).map(|item| sized(&format!("item-{item}"), 50, size(item))).collect();
    let id = process.submit(&lines, json!({})).await;
    for until in [6, 16, 31] {
        eventually("it goes on", || upstream.log().arrived >= until).await;
        process.kill();
        process = Process::start(&settings);
    }
    check_whole(&process, &id, ITEMS).await;
    check_law(&upstream);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_heavy_item_owes_survives_a_kill() {
    let upstream = upstream(
        r#"
        latency = "50ms"
        limits = [{ law = "sliding", limit = 4000, period = "3600ms", unit = "tokens", enforce = true }]
        "#,
    )
    .await;
    let settings = Settings::new(&upstream).with(r#"providers.up.limits = { tokens = "4000/4s" }"#);
    let process = Process::start(&settings);
    // Two of them are the limit, a third one is above it. The first one counts, whether it is made again or not.
    let lines = [0, 1, 2].map(|item| sized(&format!("item-{item}"), 50, 1_900));
    let id = process.submit(&lines, json!({})).await;
    eventually("the first one is admitted", || upstream.log().arrived == 1).await;
    process.kill();
    let process = Process::start(&settings);
    check_whole(&process, &id, lines.len()).await;
    check_law(&upstream);
}
