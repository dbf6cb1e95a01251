//! Results as lines, page by page.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;

use crate::domain::ids::BatchId;
use crate::domain::output_line::{LineExtras, append_line};
use crate::domain::result::{NewResult, StoredResult};
use crate::store::{ResultOrder, ResultQuery, Store, StoreError};

/// Most rows of one read: longer read transactions would hold up the store's upkeep.
pub(crate) const PAGE_ROWS: usize = 500;
/// Bytes of replies after which a page ends.
pub(crate) const PAGE_BYTES: usize = 512 << 10;

/// Why a body of results breaks off: an orderly end would pass for all of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The batch was deleted, or its retention ran out, while they were read.
    #[error("the results were erased while they were read")]
    Erased,
}

/// A reading of a batch's results, from a place to a place.
#[derive(Clone, Debug)]
pub(crate) struct ResultLines {
    pub(crate) store: Store,
    pub(crate) batch: BatchId,
    /// Where the reading stands; its `limit` is what is left to read in all.
    pub(crate) query: ResultQuery,
    /// The last position or line to come; `u64::MAX`: whatever there is.
    pub(crate) until: u64,
    /// Whether lines carry our own object, which files do not.
    pub(crate) extras: bool,
}

impl ResultLines {
    /// The next page as lines; empty at the end.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn page(&mut self) -> Result<Bytes, StoreError> {
        if self.query.limit == 0 || self.query.after >= self.until {
            return Ok(Bytes::new());
        }
        let limit = self.query.limit.min(PAGE_ROWS);
        let rows = self.store.results(ResultQuery { limit, ..self.query }).await?;
        let mut lines = Vec::new();
        for row in rows {
            let key = self.key(&row);
            if key > self.until {
                break;
            }
            self.query.after = key;
            self.query.limit -= 1;
            let extras = self.extras.then(|| extras(&row));
            append_line(&mut lines, &self.batch, &row.result, extras);
        }
        Ok(lines.into())
    }

    /// What the order counts by.
    pub(crate) fn key(&self, row: &StoredResult) -> u64 {
        match self.query.order {
            ResultOrder::Completion => row.position,
            ResultOrder::Input => u64::from(row.result.line),
        }
    }

    /// Whether not all has come that was there when the reading began.
    fn misses_some(&self) -> bool {
        self.until != u64::MAX && self.query.after < self.until && self.query.limit > 0
    }

    /// The rest as a body that reads a page only when the client has taken the last.
    pub(crate) fn into_body(self) -> Body {
        Body::from_stream(stream::try_unfold(self, |mut lines| async move {
            let page = lines.page().await?;
            if page.is_empty() && lines.misses_some() {
                return Err(BrokenOff::Erased);
            }
            Ok((!page.is_empty()).then_some((page, lines)))
        }))
    }
}

/// What `…/results` and `…/items` add to a line.
pub(crate) fn extras(row: &StoredResult) -> LineExtras {
    let NewResult { line, attempts, started_at, finished_at, .. } = &row.result;
    LineExtras {
        position: row.position,
        line: *line,
        attempts: *attempts,
        seconds: started_at.map(|started| finished_at.since(started).as_secs_f64()),
    }
}
