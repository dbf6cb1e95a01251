//! The batch object: `OpenAI`'s, with explicit nulls, and ours inside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::batch::{BatchRecord, BatchStatus, OnError, OnInvalid, Usage};
use crate::domain::file::LineProblem;
use crate::domain::progress::{Progress, WaitingReason};
use crate::domain::quantity::display_duration;
use crate::domain::time::Timestamp;

use super::super::keyring::Keyring;
use super::super::state::{Api, Board};

/// Makes views of batches.
#[derive(Clone, Debug)]
pub(crate) struct Views {
    board: Board,
    keyring: Keyring,
}

impl FromRef<Api> for Views {
    fn from_ref(api: &Api) -> Self {
        Self { board: api.board.clone(), keyring: api.keyring.clone() }
    }
}

impl Views {
    /// The views of an API's batches.
    pub(crate) fn of(api: &Api) -> Self {
        Self::from_ref(api)
    }

    /// A batch as it is now.
    pub(crate) fn view<'a>(&self, batch: &'a BatchRecord) -> BatchView<'a> {
        let app = self.keyring.app_name(batch.app);
        BatchView::new(batch, app, self.progress(batch))
    }

    /// How a batch moves at the moment; nothing moves once it ended.
    pub(crate) fn progress(&self, batch: &BatchRecord) -> Progress {
        if batch.status.is_terminal() { Progress::default() } else { (self.board.progress)(batch.key) }
    }
}

/// `OpenAI`'s batch object.
#[derive(Debug, Serialize)]
pub(crate) struct BatchView<'a> {
    pub(crate) id: &'a str,
    object: &'static str,
    endpoint: Option<&'static str>,
    model: Option<&'a str>,
    errors: Option<Errors<'a>>,
    input_file_id: Option<&'a str>,
    completion_window: &'a str,
    status: &'static str,
    output_file_id: Option<&'a str>,
    error_file_id: Option<&'a str>,
    created_at: i64,
    in_progress_at: Option<i64>,
    expires_at: i64,
    finalizing_at: Option<i64>,
    completed_at: Option<i64>,
    failed_at: Option<i64>,
    expired_at: Option<i64>,
    cancelling_at: Option<i64>,
    cancelled_at: Option<i64>,
    request_counts: RequestCounts,
    usage: Option<UsageView>,
    metadata: Option<BTreeMap<&'a str, &'a str>>,
    sluicegate: Extension<'a>,
}

#[derive(Debug, Serialize)]
struct Errors<'a> {
    object: &'static str,
    data: Vec<ErrorView<'a>>,
}

#[derive(Debug, Serialize)]
struct ErrorView<'a> {
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    line: Option<u32>,
}

#[derive(Debug, Serialize)]
struct RequestCounts {
    total: u64,
    completed: u64,
    failed: u64,
}

#[derive(Debug, Serialize)]
struct UsageView {
    input_tokens: u64,
    input_tokens_details: CachedTokens,
    output_tokens: u64,
    output_tokens_details: ReasoningTokens,
    total_tokens: u64,
}

#[derive(Debug, Serialize)]
struct CachedTokens {
    cached_tokens: u64,
}

#[derive(Debug, Serialize)]
struct ReasoningTokens {
    reasoning_tokens: u64,
}

/// What `OpenAI`'s object has no place for.
#[derive(Debug, Serialize)]
struct Extension<'a> {
    app: Arc<str>,
    options: OptionsView<'a>,
    counts: CountsView,
    attempts: u64,
    retries: u64,
    items_per_second: Option<f64>,
    success_rate: Option<f64>,
    item_seconds: ItemSeconds,
    started_at: Option<f64>,
    last_result_at: Option<f64>,
    estimated_completion_at: Option<i64>,
    estimated_completion_range: Option<[i64; 2]>,
    on_time: Option<bool>,
    waiting: Vec<WaitingView>,
    retry_of: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct OptionsView<'a> {
    max_concurrency: Option<u32>,
    on_error: OnError,
    on_invalid: OnInvalid,
    request_timeout: Option<String>,
    max_attempts: Option<u32>,
    priority: i32,
    require_on_time: bool,
    paused: bool,
    defaults: Option<&'a RawValue>,
    output_expires_after: Option<u64>,
}

#[derive(Debug, Serialize)]
struct CountsView {
    pending: u64,
    running: u64,
    succeeded: u64,
    failed: u64,
    expired: u64,
    cancelled: u64,
}

#[derive(Debug, Serialize)]
struct ItemSeconds {
    mean: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
}

/// Why items wait.
#[derive(Debug, Serialize)]
struct WaitingView {
    lane: Option<String>,
    reason: &'static str,
    since: i64,
    until: Option<i64>,
}

impl<'a> BatchView<'a> {
    fn new(batch: &'a BatchRecord, app: Arc<str>, progress: Progress) -> Self {
        let moments = &batch.moments;
        let seconds = |moment: Option<Timestamp>| moment.map(Timestamp::seconds);
        let terminal = batch.status.is_terminal();
        let metadata = batch.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Self {
            id: batch.id.as_str(),
            object: "batch",
            endpoint: batch.endpoint.map(|endpoint| endpoint.path()),
            model: batch.model.as_deref(),
            errors: (!batch.errors.is_empty()).then(|| Errors::new(&batch.errors)),
            input_file_id: batch.input_file_id.as_ref().map(|id| id.as_str()),
            completion_window: &batch.completion_window,
            status: batch.status.public(),
            output_file_id: batch.output_file_id.as_ref().map(|id| id.as_str()),
            error_file_id: batch.error_file_id.as_ref().map(|id| id.as_str()),
            created_at: batch.created_at.seconds(),
            in_progress_at: seconds(moments.in_progress_at),
            expires_at: batch.deadline.seconds(),
            finalizing_at: seconds(moments.finalizing_at),
            completed_at: seconds(moments.completed_at),
            failed_at: seconds(moments.failed_at),
            expired_at: seconds(moments.expired_at),
            cancelling_at: seconds(moments.cancelling_at),
            cancelled_at: seconds(moments.cancelled_at),
            request_counts: RequestCounts {
                total: batch.counts.total,
                completed: batch.counts.succeeded,
                failed: batch.counts.failed,
            },
            usage: terminal.then(|| UsageView::new(&batch.sums.usage)),
            metadata: (!batch.metadata.is_empty()).then(|| metadata.collect()),
            sluicegate: Extension::new(batch, app, progress),
        }
    }
}

impl<'a> Errors<'a> {
    fn new(problems: &'a [LineProblem]) -> Self {
        let data = problems.iter().map(|problem| ErrorView {
            code: &problem.code,
            message: &problem.message,
            param: problem.param.as_deref(),
            line: problem.line,
        });
        Self { object: "list", data: data.collect() }
    }
}

impl UsageView {
    fn new(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            input_tokens_details: CachedTokens { cached_tokens: usage.cached_tokens },
            output_tokens: usage.output_tokens,
            output_tokens_details: ReasoningTokens { reasoning_tokens: usage.reasoning_tokens },
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
        }
    }
}

impl<'a> Extension<'a> {
    fn new(batch: &'a BatchRecord, app: Arc<str>, progress: Progress) -> Self {
        let (counts, sums, moments) = (&batch.counts, &batch.sums, &batch.moments);
        let left = counts.total.saturating_sub(counts.recorded());
        let running = progress.running.min(left);
        let items_per_second = rate(batch, &progress);
        // The pause may be newer than what the engine said last.
        let runs = batch.status == BatchStatus::InProgress && !batch.options.paused;
        let estimate = progress.completion.filter(|_| runs);
        let tried = counts.succeeded + counts.failed;
        Self {
            app,
            options: OptionsView::new(batch),
            counts: CountsView {
                pending: left - running,
                running,
                succeeded: counts.succeeded,
                failed: counts.failed,
                expired: counts.expired,
                cancelled: counts.cancelled,
            },
            attempts: sums.attempts,
            retries: sums.retries,
            items_per_second,
            success_rate: (tried > 0).then(|| counts.succeeded as f64 / tried as f64),
            item_seconds: ItemSeconds {
                mean: (sums.timed_items > 0).then(|| sums.item_micros as f64 / 1e6 / sums.timed_items as f64),
                min: sums.min_item_micros.map(|micros| micros as f64 / 1e6),
                max: sums.max_item_micros.map(|micros| micros as f64 / 1e6),
            },
            started_at: moments.started_at.map(Timestamp::seconds_f64),
            last_result_at: moments.last_result_at.map(Timestamp::seconds_f64),
            estimated_completion_at: estimate.map(|estimate| estimate.p50.seconds()),
            estimated_completion_range: estimate.map(|at| [at.p50.seconds(), whole_seconds(at.p90)]),
            on_time: match batch.status {
                BatchStatus::Completed => Some(true),
                BatchStatus::Expired | BatchStatus::Expiring => Some(false),
                _ => estimate.and_then(|estimate| estimate.on_time(batch.deadline)),
            },
            waiting: progress.waiting.into_iter().map(WaitingView::new).collect(),
            retry_of: batch.options.retry_of.as_deref(),
        }
    }
}

impl WaitingView {
    fn new(waiting: WaitingReason) -> Self {
        let WaitingReason { lane, reason, since, until } = waiting;
        Self { lane, reason, since: since.seconds(), until: until.map(Timestamp::seconds) }
    }
}

/// Rounded up: at the end of that second it is over.
fn whole_seconds(moment: Timestamp) -> i64 {
    (moment + Duration::from_micros(999_999)).seconds()
}

/// The engine's present pace while it runs, the mean over its whole run once it ended.
fn rate(batch: &BatchRecord, progress: &Progress) -> Option<f64> {
    if !batch.status.is_terminal() {
        return (progress.items_per_second > 0.0).then_some(progress.items_per_second);
    }
    let (started, last) = (batch.moments.started_at?, batch.moments.last_result_at?);
    let seconds = last.since(started).as_secs_f64();
    let ended = batch.counts.succeeded + batch.counts.failed;
    (seconds > 0.0 && ended > 0).then(|| ended as f64 / seconds)
}

impl<'a> OptionsView<'a> {
    fn new(batch: &'a BatchRecord) -> Self {
        let options = &batch.options;
        let timeout = options.request_timeout_ms.map(Duration::from_millis);
        Self {
            max_concurrency: options.max_concurrency,
            on_error: options.on_error,
            on_invalid: options.on_invalid,
            request_timeout: timeout.map(display_duration),
            max_attempts: options.max_attempts,
            priority: options.priority,
            require_on_time: options.require_on_time,
            paused: options.paused,
            defaults: options.defaults.as_deref(),
            output_expires_after: options.output_expires_after,
        }
    }
}
