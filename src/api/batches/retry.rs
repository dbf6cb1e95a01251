//! `POST /v1/batches/{batch_id}/retry`

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::domain::batch::{BatchOptions, BatchRecord};
use crate::domain::file::FileSource;
use crate::ingest::Defaults;

use super::super::body::read_short;
use super::super::caller::Caller;
use super::super::error::{ApiError, Refusal, Result};
use super::super::fields::Fields;
use super::super::intake::{Arrival, Draft, Lines, Origin, Reading};
use super::super::path::Path;
use super::super::state::Api;
use super::checks::LineNames;
use super::create::show_made;
use super::draft::{Input, Plan, Repeats, make};
use super::find;
use super::options::Asked;
use super::retry_lines::RetryLines;

/// Most bytes of the body, which names nothing.
const MAX_BODY: usize = 64 << 10;

/// Makes a new batch of an ended one's lines that did not succeed, with the same options.
pub(crate) async fn retry_batch(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    api.refuse_while_draining()?;
    let repeats = Repeats::read(&headers)?;
    let batch = find(&api.store, caller, &id).await?;
    // Nothing can be asked for but the batch's own options: who asks for others is told so before anything runs.
    let body = read_short(body, MAX_BODY).await?;
    Fields::parse(&body)?.finish(&[])?;
    let fingerprint = Sha256::new_with_prefix("retry\n").chain_update(&id).finalize().into();
    if let Err(error) = require_lines(&api, caller, &batch).await {
        let made = repeats.made_before(&api, caller, fingerprint).await.ok_or(error)?;
        return Ok(show_made(&api, &made));
    }
    let draft = copy_lines(&api, caller, &batch).await?;
    let plan = Plan { asked: repeat(batch)?, fingerprint };
    let input = Input::Inline { draft, names: LineNames::Lines };
    let made = make(&api, caller, plan, input, repeats).await?;
    Ok(show_made(&api, &made))
}

/// Whether there is something to repeat.
async fn require_lines(api: &Api, caller: Caller, batch: &BatchRecord) -> Result<()> {
    if !batch.status.is_terminal() {
        let why = "The batch has not ended. Wait until it has, or cancel it, then retry.";
        return Err(ApiError::new(Refusal::BatchActive, why));
    }
    if batch.counts.recorded() == batch.counts.succeeded {
        let why = "The batch has no lines that ran without success.";
        return Err(ApiError::new(Refusal::InvalidValue, why));
    }
    if let Some(input) = &batch.input_file_id
        && api.store.file(caller.app, input).await?.is_none()
    {
        let why = format!("The input file {input} was deleted: its lines can't be read any more.");
        return Err(ApiError::new(Refusal::NotFound, why).param("input_file_id"));
    }
    Ok(())
}

async fn copy_lines(api: &Api, caller: Caller, batch: &BatchRecord) -> Result<Draft> {
    let arrival = Arrival {
        app: caller.app,
        source: FileSource::Inline,
        filename: format!("{}_retry.jsonl", batch.id),
        origin: Origin::Copy,
        reading: Reading::Again,
    };
    let mut left = RetryLines::new(api.store.clone(), batch);
    let runtime = Handle::current();
    let copy = move |lines: &mut Lines| {
        while let Some(line) = runtime.block_on(left.next())? {
            lines.push(&line)?;
        }
        Ok(())
    };
    api.intake.take_in(arrival, copy).await
}

/// The same options once more.
fn repeat(batch: BatchRecord) -> Result<Asked> {
    let retry_of = Some(batch.id.to_string());
    let options = BatchOptions { paused: false, retry_of, ..batch.options };
    let defaults = options.defaults.as_deref().map(Defaults::parse).transpose();
    let defaults = defaults.map_err(|fault| ApiError::internal(fault.message))?;
    Ok(Asked {
        endpoint: batch.endpoint,
        completion_window: batch.completion_window,
        window: batch.window,
        metadata: batch.metadata,
        defaults_model: defaults.and_then(|defaults| defaults.model().map(str::to_owned)),
        options,
    })
}
