//! `GET /v1/batches/{batch_id}/results`

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderName;
use http::header::CONTENT_TYPE;
use tokio::time::Instant;

use crate::domain::batch::{BatchRecord, BatchStatus};
use crate::domain::ids::BatchId;
use crate::shutdown::Shutdown;
use crate::store::{ResultFilter, ResultOrder, ResultQuery, Store, StoreError};

use super::super::caller::Caller;
use super::super::error::{ApiError, Result};
use super::super::followers::Latest;
use super::super::path::Path;
use super::super::query::Query;
use super::super::result_lines::{BrokenOff, PAGE_BYTES, ResultLines};
use super::super::state::Api;
use super::{UNBUFFERED, find};

const NEXT_AFTER: HeaderName = HeaderName::from_static("sluicegate-next-after");
const BATCH_STATUS: HeaderName = HeaderName::from_static("sluicegate-batch-status");
const MOST_ROWS: usize = 10_000;
const ROWS: usize = 1_000;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A followed reading ends by itself after this long, so that its client notices a lost server.
const LONGEST_FOLLOW: Duration = Duration::from_secs(600);
const NDJSON: &str = "application/x-ndjson";

/// A batch's results so far, in completion order or in input order up to the first gap.
pub(crate) async fn list_results(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<Response> {
    let follow = query.flag("follow")?;
    let wait = wait(&query)?;
    let known = if wait.is_zero() { None } else { api.followers.known(caller.app, &BatchId::new(&id)) };
    let batch = match known {
        Some(batch) => batch,
        None => find(&api.store, caller, &id).await?,
    };
    let mut reading = Reading::new(api.store.clone(), &batch, &query)?;
    if follow {
        // Unasked, a followed reading has no end but the batch's.
        reading.limit = query.number("limit", 1..=MOST_ROWS)?.unwrap_or(usize::MAX);
        let (until, status) = (Instant::now() + LONGEST_FOLLOW, batch.status);
        let latest = api.followers.follow(batch);
        let body = Follow { reading, latest, until, shutdown: api.shutdown.clone() }.into_body();
        let headers = [(BATCH_STATUS, status.public()), (CONTENT_TYPE, NDJSON), UNBUFFERED];
        return Ok((headers, body).into_response());
    }
    let (found, status) = found_within(&api, &reading, batch, wait).await?;
    let next_after = found.unwrap_or(reading.after).to_string();
    let headers =
        [(NEXT_AFTER, next_after.as_str()), (BATCH_STATUS, status.public()), (CONTENT_TYPE, NDJSON)];
    let body = found.map_or_else(Body::empty, |until| reading.lines(until).into_body());
    Ok((headers, body).into_response())
}

/// The last result there is to give, waited for if there is none, and the batch's state.
///
/// The state is always read before the results: a terminal one then says that these are all.
async fn found_within(
    api: &Api,
    reading: &Reading,
    batch: BatchRecord,
    wait: Duration,
) -> Result<(Option<u64>, BatchStatus)> {
    let (until, status) = (Instant::now() + wait, batch.status);
    let found = reading.look(&batch).await?;
    if found.is_some() || status.is_terminal() || wait.is_zero() {
        return Ok((found, status));
    }
    let mut latest = api.followers.follow(batch);
    loop {
        let batch = Arc::clone(&latest.borrow_and_update());
        let (status, found) = (batch.status, reading.look(&batch).await?);
        if found.is_some() || status.is_terminal() || !moved(&mut latest, until, &api.shutdown).await {
            return Ok((found, status));
        }
    }
}

/// Waits until the batch moved; `false` when the time is up, the process ends or the batch is gone.
async fn moved(latest: &mut Latest, until: Instant, shutdown: &Shutdown) -> bool {
    tokio::select! {
        changed = latest.changed() => changed.is_ok(),
        () = tokio::time::sleep_until(until) => false,
        () = shutdown.begun() => false,
    }
}

/// `wait=30s`, or a bare number of seconds.
fn wait(query: &Query) -> Result<Duration> {
    let Some(text) = query.text("wait")? else { return Ok(Duration::ZERO) };
    let seconds = text.parse().map(Duration::from_secs).ok();
    let wait = seconds.or_else(|| crate::domain::quantity::parse_duration(text).ok());
    wait.filter(|wait| *wait <= LONGEST_WAIT)
        .ok_or_else(|| ApiError::invalid("wait", "Invalid 'wait': it must be a duration of at most 60s."))
}

/// A place in a batch's results, and what of them is wanted.
#[derive(Clone, Debug)]
struct Reading {
    store: Store,
    batch: BatchRecord,
    order: ResultOrder,
    filter: ResultFilter,
    after: u64,
    limit: usize,
}

impl Reading {
    fn new(store: Store, batch: &BatchRecord, query: &Query) -> Result<Self> {
        let orders = [("completion", ResultOrder::Completion), ("input", ResultOrder::Input)];
        let filters = [("succeeded", ResultFilter::Succeeded), ("failed", ResultFilter::NotSucceeded)];
        Ok(Self {
            store,
            batch: batch.clone(),
            order: query.choice("order", &orders)?.unwrap_or(ResultOrder::Completion),
            filter: query.choice("status", &filters)?.unwrap_or(ResultFilter::All),
            after: query.number("after", 0..=i64::MAX.unsigned_abs())?.unwrap_or(0),
            limit: query.number("limit", 1..=MOST_ROWS)?.unwrap_or(ROWS),
        })
    }

    fn query(&self, limit: usize) -> ResultQuery {
        ResultQuery {
            batch: self.batch.key,
            order: self.order,
            after: self.after,
            limit,
            filter: self.filter,
            max_bytes: PAGE_BYTES,
        }
    }

    /// The last position that may be shown: under input order nothing beyond the first gap.
    async fn gapless(&self) -> std::result::Result<u64, StoreError> {
        match self.order {
            ResultOrder::Completion => Ok(u64::MAX),
            ResultOrder::Input => {
                let frontier = self.store.input_frontier(self.batch.key).await?;
                Ok(u64::from(frontier).saturating_sub(1))
            }
        }
    }

    /// The position of the last result that this reading would give now; `None`: nothing new.
    ///
    /// Known before the first row is sent, since it goes into a header. `batch`: its row, of before.
    async fn look(&self, batch: &BatchRecord) -> std::result::Result<Option<u64>, StoreError> {
        if let Some(position) = self.last_position(batch) {
            let last = position.min(self.after.saturating_add(self.limit as u64));
            return Ok((last > self.after).then_some(last));
        }
        let gapless = self.gapless().await?;
        self.store.last_result(self.query(self.limit), gapless).await
    }

    /// The position of the last result, if every position is one that this reading gives: then the batch's row says it,
    /// and however many wait, nobody has to ask for himself.
    fn last_position(&self, batch: &BatchRecord) -> Option<u64> {
        let gives_all = (self.order, self.filter) == (ResultOrder::Completion, ResultFilter::All);
        gives_all.then(|| batch.counts.recorded())
    }

    fn lines(&self, until: u64) -> ResultLines {
        ResultLines {
            store: self.store.clone(),
            batch: self.batch.id.clone(),
            query: self.query(self.limit),
            until,
            extras: true,
        }
    }
}

/// A reading that goes on as results come.
struct Follow {
    reading: Reading,
    latest: Latest,
    until: Instant,
    shutdown: Shutdown,
}

impl Follow {
    fn into_body(self) -> Body {
        Body::from_stream(stream::try_unfold(self, |mut follow| async move {
            let page = follow.page().await?;
            if page.is_empty() && follow.is_erased().await {
                return Err(BrokenOff::Erased);
            }
            Ok((!page.is_empty()).then_some((page, follow)))
        }))
    }

    /// Whether the batch is gone before all was read. While the store is away, as at the process's end, that is not known.
    async fn is_erased(&self) -> bool {
        // Positions and lines both count to the number of results.
        let all = self.reading.filter == ResultFilter::All
            && self.reading.after >= self.latest.borrow().counts.recorded();
        if all || self.reading.limit == 0 {
            return false;
        }
        matches!(self.reading.store.batch_by_key(self.reading.batch.key).await, Ok(None))
    }

    /// The next page as soon as there is one; empty at the end.
    async fn page(&mut self) -> std::result::Result<Bytes, StoreError> {
        loop {
            let batch = Arc::clone(&self.latest.borrow_and_update());
            let seen = batch.status;
            let mut lines = self.reading.lines(self.reading.gapless().await?);
            let nothing = self.reading.last_position(&batch).is_some_and(|last| last <= self.reading.after);
            let page = if nothing { Bytes::new() } else { lines.page().await? };
            self.reading.after = lines.query.after;
            self.reading.limit = lines.query.limit;
            let ended = seen.is_terminal() || self.reading.limit == 0;
            if !page.is_empty() || ended || !moved(&mut self.latest, self.until, &self.shutdown).await {
                return Ok(page);
            }
        }
    }
}
