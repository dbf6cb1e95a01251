//! From what was asked to a batch in the store.

use std::time::Duration;

use http::HeaderMap;

use crate::domain::batch::{BatchRecord, OnInvalid};
use crate::domain::file::{FileSource, FileSummary, LineProblem};
use crate::domain::ids::{BatchId, FileId, FileKey};
use crate::domain::time::Timestamp;
use crate::store::{CreateOutcome, Idempotency, NewBatch};

use super::super::caller::Caller;
use super::super::error::{ApiError, Refusal, Result};
use super::super::intake::Draft;
use super::super::quota;
use super::super::state::Api;
use super::checks::{LineNames, line_problems, refuse_line};
use super::options::Asked;
use super::reach::refuse_unreachable;

/// How long a create that an SDK repeats by itself is known.
const REPEATED_WITHIN: Duration = Duration::from_secs(600);
const LONGEST_KEY: usize = 255;

/// What was asked, and its hash.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) asked: Asked,
    pub(crate) fingerprint: [u8; 32],
}

/// The lines of a batch about to be made.
#[derive(Debug)]
pub(crate) enum Input {
    /// An uploaded file's.
    File(FileId),
    /// Those that came with the call.
    Inline { draft: Draft, names: LineNames },
}

/// Whether the call says that it may be a repetition.
#[derive(Clone, Debug)]
pub(crate) struct Repeats {
    key: Option<String>,
    retried: bool,
}

impl Repeats {
    /// Reads `Idempotency-Key`, and the count that OpenAI's SDKs send with what they repeat by
    /// themselves: without a key of the client's, that is what makes twins of one create.
    ///
    /// # Errors
    /// 400 for a key that can't be kept.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self> {
        let count =
            headers.get("x-stainless-retry-count").and_then(|value| value.to_str().ok()?.parse().ok());
        let retried = count.is_some_and(|count: u32| count > 0);
        let Some(key) = headers.get("idempotency-key") else { return Ok(Self { key: None, retried }) };
        match key.to_str() {
            Ok(key) if (1..=LONGEST_KEY).contains(&key.len()) => {
                Ok(Self { key: Some(key.to_owned()), retried })
            }
            _ => {
                let why = format!("An idempotency key has 1 to {LONGEST_KEY} visible ASCII characters.");
                Err(ApiError::invalid("Idempotency-Key", why))
            }
        }
    }

    /// The batch that an equal call made before, where a repeated call can't be made any more: its file was deleted
    /// since, or the time has run out.
    pub(crate) async fn made_before(self, api: &Api, caller: Caller, fingerprint: [u8; 32]) -> Option<Made> {
        let idempotency = self.idempotency(fingerprint, api.clock.now())?;
        match api.store.asked_before(caller.app, idempotency).await {
            Ok(Some(CreateOutcome::Existing(batch))) => Some(Made { batch, replayed: true }),
            // Whatever refuses the call says more.
            _ => None,
        }
    }

    fn idempotency(self, fingerprint: [u8; 32], now: Timestamp) -> Option<Idempotency> {
        match self {
            Self { key: Some(key), .. } => Some(Idempotency::Key { key, fingerprint }),
            Self { retried: true, .. } => {
                Some(Idempotency::RetriedCreate { fingerprint, since: now - REPEATED_WITHIN })
            }
            _ => None,
        }
    }
}

/// The batch, and whether it is one that the same request made before.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) batch: BatchRecord,
    pub(crate) replayed: bool,
}

/// Checks the lines and makes the batch. It is durable when this returns.
///
/// # Errors
/// 400 for a file that can't be used, for a window that can't be met if that is asked for, and for bad lines that came with the call (those of an
/// uploaded file make the batch `failed` instead), 422 for a key that stands for another request.
pub(crate) async fn make(
    api: &Api,
    caller: Caller,
    plan: Plan,
    input: Input,
    repeats: Repeats,
) -> Result<Made> {
    let fingerprint = plan.fingerprint;
    match make_new(api, caller, plan, input, repeats.clone()).await {
        Ok(made) => Ok(made),
        Err(error) => repeats.made_before(api, caller, fingerprint).await.ok_or(error),
    }
}

async fn make_new(api: &Api, caller: Caller, plan: Plan, input: Input, repeats: Repeats) -> Result<Made> {
    let Plan { asked, fingerprint } = plan;
    let (file, summary, draft) = match input {
        Input::File(id) => {
            let file = uploaded(api, caller, &id).await?;
            (file, checked_file(api, file, &asked).await?, None)
        }
        Input::Inline { draft, names } => {
            let (draft, summary) = checked_inline(api, draft, names, &asked).await?;
            (draft.key(), summary, Some(draft))
        }
    };
    let now = api.clock.now();
    let idempotency = repeats.idempotency(fingerprint, now);
    refuse_unreachable(api, caller, &asked, &summary).await?;
    if let Some(draft) = draft {
        draft.finish(None).await?;
    }
    let new = NewBatch {
        app: caller.app,
        id: BatchId::from_random(rand::random()),
        file,
        endpoint: asked.endpoint,
        model: only_model(&summary, asked.defaults_model.as_deref()),
        completion_window: asked.completion_window,
        window: asked.window,
        created_at: now,
        options: asked.options,
        metadata: asked.metadata,
        total: summary.items,
        models: summary.models.into_iter().map(|shape| shape.model).collect(),
        problems: summary.problems,
        idempotency,
        fingerprint,
    };
    match api.store.create_batch(new).await? {
        CreateOutcome::Created(batch) => Ok(Made { batch, replayed: false }),
        CreateOutcome::Existing(batch) => Ok(Made { batch, replayed: true }),
        CreateOutcome::OverQuota(over) => Err(quota::refuse_create(api, caller, over).await),
        CreateOutcome::KeyReused => {
            let why =
                "This idempotency key was used for another request. Use a new key, or repeat that request.";
            Err(ApiError::new(Refusal::IdempotencyKeyReused, why).param("Idempotency-Key"))
        }
    }
}

/// The key of an uploaded file. Told at once: a batch that can't even be read would be no help.
async fn uploaded(api: &Api, caller: Caller, id: &FileId) -> Result<FileKey> {
    let refused = |why: String| ApiError::invalid("input_file_id", why);
    match api.store.file(caller.app, id).await? {
        None => {
            let shown: String = id.as_str().chars().take(100).collect();
            Err(refused(format!("No such File object: {shown}")))
        }
        Some(file) if file.source == FileSource::Upload => Ok(file.key),
        Some(_) => Err(refused(format!("The file {id} was not uploaded with the purpose 'batch'."))),
    }
}

/// The file's summary with the problems that make the batch fail.
async fn checked_file(api: &Api, file: FileKey, asked: &Asked) -> Result<FileSummary> {
    let mut summary = api.store.file_summary(file).await?;
    summary.problems = failing(api, file, &summary, asked).await?;
    Ok(summary)
}

/// The lines that came with the call, unless one of them is bad.
async fn checked_inline(
    api: &Api,
    draft: Draft,
    names: LineNames,
    asked: &Asked,
) -> Result<(Draft, FileSummary)> {
    let problems = failing(api, draft.key(), &draft.summary, asked).await?;
    if let Some(problem) = problems.first() {
        return Err(refuse_line(names, problem));
    }
    let summary = FileSummary { problems, ..draft.summary.clone() };
    Ok((draft, summary))
}

/// What makes the batch fail; under `fail_item` nothing does, each bad line fails by itself.
async fn failing(api: &Api, file: FileKey, summary: &FileSummary, asked: &Asked) -> Result<Vec<LineProblem>> {
    match asked.options.on_invalid {
        OnInvalid::FailItem => Ok(Vec::new()),
        OnInvalid::FailBatch => line_problems(&api.store, &api.board, file, summary, asked).await,
    }
}

/// The one model that all lines run on; `None` when mixed.
fn only_model(summary: &FileSummary, defaults_model: Option<&str>) -> Option<String> {
    let runs_on = |model: &str| match model {
        "" => defaults_model.unwrap_or_default().to_owned(),
        named => named.to_owned(),
    };
    let mut models = summary.models.iter().map(|shape| runs_on(&shape.model));
    let first = models.next().filter(|model| !model.is_empty())?;
    models.all(|model| model == first).then_some(first)
}
