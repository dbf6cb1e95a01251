//! Learning from the store which batches there are: at start, and whenever one was created or changed.

use std::collections::HashSet;
use std::time::Duration;

use crate::domain::batch::BatchRecord;
use crate::domain::file::FileSummary;
use crate::domain::ids::BatchKey;
use crate::domain::segment::SegmentHead;
use crate::store::{Cursor, Store, StoreError};

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
pub(super) async fn find(store: &Store, known: HashSet<BatchKey>) -> Option<Vec<Found>> {
    loop {
        match try_find(store, &known).await {
            Ok(found) => return Some(found),
            Err(StoreError::Closed) => return None,
            Err(error) => {
                tracing::error!(error = %error, "the active batches could not be read; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn try_find(store: &Store, known: &HashSet<BatchKey>) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    for record in store.active_batches().await? {
        let fresh =
            if known.contains(&record.key) { None } else { Some(Box::new(read(store, &record).await?)) };
        found.push(Found { record, fresh });
    }
    Ok(found)
}

async fn read(store: &Store, record: &BatchRecord) -> Result<Fresh, StoreError> {
    let mut resumed = Vec::new();
    for segment in store.leased_segments(record.key).await? {
        resumed.extend(store.segment_heads(record.file, None, segment, 1).await?);
    }
    let cursors = store.cursors(record.key).await?;
    let summary = store.file_summary(record.file).await?;
    Ok(Fresh { cursors, resumed, summary })
}
