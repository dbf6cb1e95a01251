//! `POST /v1/batches`: of an uploaded file, of inline requests, or of an NDJSON body.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::domain::batch::OnInvalid;
use crate::domain::file::FileSource;
use crate::domain::ids::FileId;
use crate::ingest::{EachRequestError, each_request};

use super::super::body::{Incoming, media_type, too_large};
use super::super::caller::Caller;
use super::super::error::{ApiError, Refusal, Result};
use super::super::fields::Fields;
use super::super::intake::{Arrival, Lines, Origin, Reading, Stop};
use super::super::pieces::{self, Piece};
use super::super::query::Query;
use super::super::state::Api;
use super::checks::{LineNames, refuse_line};
use super::draft::{Input, Made, Plan, Repeats, make};
use super::options::{Asked, FIELDS};
use super::query_options::as_json;
use super::show;
use super::view::Views;

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Bytes of inline lines parsed at once.
const PUSHED_AT_ONCE: usize = 256 << 10;

/// Makes a batch, or gives the one that the same request made before.
pub(crate) async fn create_batch(
    State(api): State<Api>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    api.refuse_while_draining()?;
    let repeats = Repeats::read(&headers)?;
    let (plan, input) = match media_type(&headers).as_str() {
        "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            from_ndjson(&api, caller, &query, body).await?
        }
        "" | "application/json" => from_json(&api, caller, &query, body).await?,
        other => {
            let why = format!(
                "Unsupported content type: '{other}'. Send 'application/json' or 'application/x-ndjson'."
            );
            return Err(ApiError::new(Refusal::UnsupportedMediaType, why));
        }
    };
    let made = make(&api, caller, plan, input, repeats).await?;
    Ok(show_made(&api, &made))
}

/// The batch, and whether an earlier request had made it.
pub(super) fn show_made(api: &Api, made: &Made) -> Response {
    let mut response = show(&Views::of(api), &made.batch);
    if made.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

async fn from_json(api: &Api, caller: Caller, query: &Query, body: Body) -> Result<(Plan, Input)> {
    // Passed over, as other parameters are, the batch would run without it.
    if let Some(option) = query.first_of(&FIELDS) {
        let why = format!(
            "'{option}' stands in the query, where only NDJSON bodies have their options; put it into the JSON body."
        );
        return Err(ApiError::invalid(option, why));
    }
    let most = api.settings.max_inline;
    let body = api.bodies.read(caller.app, body, most).await.map_err(|error| match error.refusal() {
        Refusal::TooLarge => {
            let why = format!(
                "The request body is larger than {most} bytes (batches.max_inline); upload the requests as a file, or \
                 send them as 'application/x-ndjson'."
            );
            ApiError::new(Refusal::TooLarge, why)
        }
        _ => error,
    })?;
    let fingerprint = Sha256::digest(&body.bytes).into();
    let mut fields = Fields::parse(&body.bytes)?;
    let input_file_id = fields.take::<String>("input_file_id", "a string or null")?;
    let requests = fields.raw("requests");
    let asked = Asked::take(&mut fields)?;
    fields.finish(&FIELDS)?;
    let input = match (input_file_id, requests) {
        (Some(id), None) => Input::File(FileId::new(id)),
        (None, Some(requests)) => {
            let range = range_within(&body.bytes, requests);
            take_requests(api, caller, &asked, body.bytes.slice(range)).await?
        }
        (None, None) => return Err(ApiError::missing("input_file_id")),
        (Some(_), Some(_)) => {
            let why = "Give either 'input_file_id' or 'requests', not both.";
            return Err(ApiError::invalid("requests", why));
        }
    };
    Ok((Plan { asked, fingerprint }, input))
}

/// Where a value borrowed from a body stands in it: handing on that slice copies nothing.
fn range_within(body: &Bytes, value: &RawValue) -> std::ops::Range<usize> {
    let start = (value.get().as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
    start..start + value.get().len()
}

fn inline(caller: Caller, asked: &Asked, origin: Origin) -> Arrival {
    Arrival {
        app: caller.app,
        source: FileSource::Inline,
        filename: "inline.jsonl".to_owned(),
        origin,
        reading: Reading::Completed(asked.endpoint),
    }
}

async fn take_requests(api: &Api, caller: Caller, asked: &Asked, requests: Bytes) -> Result<Input> {
    let arrival = inline(caller, asked, Origin::Copy);
    let stop_at_problem = asked.options.on_invalid == OnInvalid::FailBatch;
    let push = move |lines: &mut Lines| {
        let requests: &RawValue =
            serde_json::from_slice(&requests).map_err(|error| ApiError::internal(error.to_string()))?;
        let (mut gathered, mut is_empty) = (Vec::with_capacity(PUSHED_AT_ONCE), true);
        let walked = each_request(requests, |line| {
            is_empty = false;
            gathered.extend_from_slice(line);
            if gathered.len() < PUSHED_AT_ONCE {
                return Ok(());
            }
            push_checked(lines, &gathered, stop_at_problem, LineNames::Requests)?;
            gathered.clear();
            Ok(())
        });
        match walked {
            Ok(()) if is_empty => {
                Err(ApiError::invalid("requests", "Invalid 'requests': it holds no request.").into())
            }
            Ok(()) => push_checked(lines, &gathered, stop_at_problem, LineNames::Requests),
            Err(EachRequestError::Stopped(stop)) => Err(stop),
            Err(EachRequestError::NotAnArray) => {
                let why = "Invalid type for 'requests': expected an array.";
                Err(ApiError::new(Refusal::InvalidType, why).param("requests").into())
            }
        }
    };
    let draft = api.intake.take_in(arrival, push).await.map_err(|error| error.or_param("requests"))?;
    Ok(Input::Inline { draft, names: LineNames::Requests })
}

/// Parses lines; under `fail_batch` the first bad one ends it, since nothing would be run.
fn push_checked(
    lines: &mut Lines,
    bytes: &[u8],
    stop_at_problem: bool,
    names: LineNames,
) -> std::result::Result<(), Stop> {
    lines.push(bytes)?;
    match lines.first_problem() {
        Some(problem) if stop_at_problem => Err(Stop::Refused(refuse_line(names, problem))),
        _ => Ok(()),
    }
}

/// The lines are the body, the rest is in the query.
async fn from_ndjson(api: &Api, caller: Caller, query: &Query, body: Body) -> Result<(Plan, Input)> {
    let options = as_json(query)?;
    let mut fields = Fields::parse(&options)?;
    let asked = Asked::take(&mut fields)?;
    // The lines are the body: the two fields that name them have no place here.
    fields.finish(&FIELDS[2..])?;
    let body = Incoming::new(body);
    if body.announced().is_some_and(|length| length > api.settings.max_file) {
        return Err(too_large(api.settings.max_file));
    }
    let arrival = inline(caller, &asked, Origin::Stream);
    let stop_at_problem = asked.options.on_invalid == OnInvalid::FailBatch;
    let (to_parser, from_client) = pieces::channel();
    let taking = api.intake.take_in(arrival, move |lines| {
        pieces::push_all(from_client, |bytes| push_checked(lines, bytes, stop_at_problem, LineNames::Lines))
    });
    let hash = Sha256::new_with_prefix(&options);
    let (fingerprint, draft) = tokio::join!(send_on(body, to_parser, hash), taking);
    let fingerprint = fingerprint?;
    let draft = draft.map_err(|error| error.or_param("body"))?;
    Ok((Plan { asked, fingerprint }, Input::Inline { draft, names: LineNames::Lines }))
}

/// Sends the body to the parser and hashes it. A parser that takes no more says why itself.
async fn send_on(mut body: Incoming, to_parser: mpsc::Sender<Piece>, mut hash: Sha256) -> Result<[u8; 32]> {
    while let Some(piece) = body.next().await? {
        hash.update(&piece);
        if to_parser.send(Piece::Bytes(piece)).await.is_err() {
            return Ok(hash.finalize().into());
        }
    }
    let _ = to_parser.send(Piece::End).await;
    Ok(hash.finalize().into())
}
