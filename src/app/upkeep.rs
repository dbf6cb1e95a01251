//! What runs beside the data's path: retention and the store's gauges.

use std::time::Duration;

use crate::clock::Clock;
use crate::domain::batch as domain;
use crate::metrics::{BatchMetrics, BatchStatus};
use crate::shutdown::Shutdown;
use crate::store::Store;

/// How often retention looks; it goes on at once while it finds something.
const SWEEP: Duration = Duration::from_secs(60);

/// How often batches are counted by status.
const COUNT: Duration = Duration::from_secs(5);

/// Keeps the gauge of batches by status: only the store knows those that ended.
pub(super) async fn count_batches(store: Store, metrics: BatchMetrics, shutdown: Shutdown) {
    loop {
        // Of several workers one tells for all, so that the sum over them is right.
        let counts = if store.is_first() { store.batch_counts().await } else { Ok(Vec::new()) };
        if let Ok(counts) = counts {
            for status in domain::BatchStatus::ALL {
                let count =
                    counts.iter().find(|(counted, _)| *counted == status).map_or(0, |(_, count)| *count);
                metrics.set_count(label(status), i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(COUNT) => {}
            () = shutdown.begun() => return,
        }
    }
}

fn label(status: domain::BatchStatus) -> BatchStatus {
    match status {
        domain::BatchStatus::Validating => BatchStatus::Validating,
        domain::BatchStatus::Failed => BatchStatus::Failed,
        domain::BatchStatus::InProgress => BatchStatus::InProgress,
        domain::BatchStatus::Expiring => BatchStatus::Finalizing,
        domain::BatchStatus::Completed => BatchStatus::Completed,
        domain::BatchStatus::Expired => BatchStatus::Expired,
        domain::BatchStatus::Cancelling => BatchStatus::Cancelling,
        domain::BatchStatus::Cancelled => BatchStatus::Cancelled,
    }
}

/// Erases what retention no longer keeps, in small steps.
pub(super) async fn sweep(store: Store, clock: Clock, shutdown: Shutdown) {
    loop {
        let found = match store.sweep(clock.now()).await {
            Ok(swept) => swept.more,
            Err(error) => {
                tracing::warn!(error = %error, "retention could not erase; trying again in a minute");
                false
            }
        };
        let pause = if found { Duration::from_millis(20) } else { SWEEP };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.begun() => return,
        }
    }
}
