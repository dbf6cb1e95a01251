//! Whether a batch is whole.

use serde_json::json;

use super::Client;

/// Every item of an ended batch has one result, all succeeded, in positions without gaps.
pub(crate) async fn check_whole(service: &Client, id: &str, items: usize) {
    let batch = service.ended(id).await;
    assert_eq!(
        batch["request_counts"],
        json!({"total": items, "completed": items, "failed": 0}),
        "{batch:#}"
    );
    let results = service.results(id, "order=completion").await;
    let positions: Vec<u64> =
        results.iter().map(|result| result["sluicegate"]["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (1..=items as u64).collect::<Vec<_>>());
    let results = service.by_id(id).await;
    assert_eq!(results.len(), items);
    for number in 0..items {
        assert_eq!(results[&format!("item-{number}")]["response"]["status_code"], 200);
    }
    assert_eq!(service.content(&batch["output_file_id"]).await.lines().len(), items);
}
