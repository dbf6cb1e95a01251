//! Loading leased segments, outside of the dispatcher.

use std::time::Duration;

use crate::domain::file::FileSummary;
use crate::domain::ids::{BatchKey, FileKey};
use crate::domain::result::RetryRecord;
use crate::domain::segment::{OpenSegment, SegmentHead};
use crate::store::{Store, StoreError};

/// Segments above this are opened on a thread of their own: decompression would hold up a runtime thread.
const LARGE: u32 = 1024 * 1024;
/// Heads per page.
pub(super) const HEAD_PAGE: usize = 64;

/// What to load.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) batch: BatchKey,
    pub(super) file: FileKey,
    pub(super) head: SegmentHead,
    /// Some of its lines may be done or waiting for a retry.
    pub(super) resumed: bool,
    /// The file may hold duplicates that count as failed items.
    pub(super) duplicates: bool,
}

/// A segment and what is known of its lines.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) open: OpenSegment,
    pub(super) done: Vec<u32>,
    pub(super) retries: Vec<RetryRecord>,
    pub(super) duplicates: Vec<u32>,
}

/// Loads until it works: a store that is away for a moment must not cost an item. `None`: it is closed.
pub(super) async fn load(store: &Store, wanted: &Wanted) -> Option<Loaded> {
    let mut pause = Duration::from_millis(100);
    loop {
        match try_load(store, wanted).await {
            Ok(loaded) => return Some(loaded),
            Err(StoreError::Closed) => return None,
            Err(error) => {
                let segment = wanted.head.no;
                tracing::error!(segment, error = %error, "a segment could not be loaded; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
        }
    }
}

async fn try_load(store: &Store, wanted: &Wanted) -> Result<Loaded, StoreError> {
    let head = &wanted.head;
    let segment = store.segment(wanted.file, head.no).await?;
    let segment = segment.ok_or_else(|| StoreError::Damaged(format!("segment {} is missing", head.no)))?;
    let open = if head.raw_bytes > LARGE {
        tokio::task::spawn_blocking(move || segment.open()).await.map_err(|_| StoreError::Closed)?
    } else {
        segment.open()
    };
    let open = open.map_err(|error| StoreError::Damaged(error.to_string()))?;
    let (mut done, mut retries, mut duplicates) = (Vec::new(), Vec::new(), Vec::new());
    if wanted.resumed {
        done = store.done_lines(wanted.batch, head.first_line, head.last_line).await?;
        retries = store.retries(wanted.batch, head.first_line, head.last_line).await?;
    }
    if wanted.duplicates {
        duplicates = store.duplicate_lines(wanted.file, head.no).await?;
    }
    Ok(Loaded { open, done, retries, duplicates })
}

/// The items that a file holds of a model.
pub(super) fn items_of(summary: &FileSummary, model: &str) -> u64 {
    summary.models.iter().filter(|shape| shape.model == model).map(|shape| shape.items).sum()
}
