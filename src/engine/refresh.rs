//! Learning from the store which batches there are: at start, and whenever one was created or changed.

use std::collections::HashSet;
use std::time::Duration;

use crate::complaint::Complaint;
use crate::domain::batch::BatchRecord;
use crate::domain::file::FileSummary;
use crate::domain::ids::BatchKey;
use crate::domain::segment::SegmentHead;
use crate::store::{Cursor, Store, StoreError};

/// What the store says of batches.
#[derive(Debug, Default)]
pub(super) struct Refreshed {
    /// Those that are active.
    pub(super) found: Vec<Found>,
    /// Known ones that ended: another worker recorded the last of them.
    pub(super) ended: Vec<BatchKey>,
    /// Batches and models with segments that nobody runs any more.
    pub(super) orphans: Vec<(BatchKey, String)>,
}

/// An active batch; `fresh` if the dispatcher did not know it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) record: BatchRecord,
    pub(super) fresh: Option<Box<Fresh>>,
}

/// Where a batch stands that is run from here on.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) cursors: Vec<Cursor>,
    /// Segments leased earlier and not finished.
    pub(super) resumed: Vec<SegmentHead>,
    pub(super) summary: FileSummary,
}

/// Pause after the store did not answer; it may be busy with a disk that is full.
const AGAIN: Duration = Duration::from_secs(1);

/// The active batches, with what is needed to run those not in `known`; asked for until the store answers,
/// since nothing else would ask again before the next batch is made. `None`: it is closed.
pub(super) async fn find(store: &Store, known: HashSet<BatchKey>) -> Option<Refreshed> {
    let mut complaint = Complaint::default();
    loop {
        match try_find(store, &known).await {
            Ok(refreshed) => return Some(refreshed),
            Err(StoreError::Closed) => return None,
            Err(error) => {
                if complaint.begin() {
                    tracing::error!(error = %error, "the active batches could not be read; trying again");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn try_find(store: &Store, known: &HashSet<BatchKey>) -> Result<Refreshed, StoreError> {
    let mut refreshed = Refreshed::default();
    for record in store.active_batches().await? {
        let fresh =
            if known.contains(&record.key) { None } else { Some(Box::new(read(store, &record).await?)) };
        refreshed.found.push(Found { record, fresh });
    }
    if store.is_shared() {
        let active: HashSet<BatchKey> = refreshed.found.iter().map(|found| found.record.key).collect();
        refreshed.ended = known.difference(&active).copied().collect();
        refreshed.orphans = store.orphans().await?;
    }
    Ok(refreshed)
}

async fn read(store: &Store, record: &BatchRecord) -> Result<Fresh, StoreError> {
    let mut resumed = Vec::new();
    // Where others work too, what was left behind is claimed like everything else.
    let left_behind = if store.is_shared() { Vec::new() } else { store.leased_segments(record.key).await? };
    for segment in left_behind {
        resumed.extend(store.segment_heads(record.file, None, segment, 1).await?);
    }
    let cursors = store.cursors(record.key).await?;
    let summary = store.file_summary(record.file).await?;
    Ok(Fresh { cursors, resumed, summary })
}
