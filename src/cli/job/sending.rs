//! Requests into batches: each part of a file is streamed into an upload, and a batch is made of it.

use std::sync::mpsc::channel;
use std::thread;

use bytes::Bytes;
use futures_util::stream;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::super::client::{Batch, Client};
use super::super::error::CliError;
use super::super::table::{Job, Part, Survey, TableError};
use super::of_input;

/// Bytes that go over at once.
const PIECE: usize = 64 * 1024;
/// Pieces that may wait: reading ahead, not reading everything.
const AHEAD: usize = 4;

/// What a run's batches are found by again.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Labels {
    /// The run: a hash of the input and what is asked.
    run: String,
    /// Which of how many batches, where there are several.
    part: Option<String>,
}

impl Labels {
    /// Of a run's part of this number.
    pub(in crate::cli) fn of(survey: &Survey, part: usize) -> Self {
        let parts = survey.parts.len();
        Self { run: survey.fingerprint.clone(), part: (parts > 1).then(|| format!("{}of{parts}", part + 1)) }
    }

    /// As the metadata that `GET /v1/batches` filters by.
    pub(in crate::cli) fn pairs(&self) -> Vec<(&'static str, &str)> {
        let part = self.part.as_deref().map(|part| ("sluicegate_part", part));
        [("sluicegate_run", self.run.as_str())].into_iter().chain(part).collect()
    }
}

/// Uploads the requests of this part, and makes a batch of them.
///
/// # Errors
/// The file can't be read any more, or the service refuses.
pub(in crate::cli) async fn send(
    client: &Client,
    job: &Job,
    (survey, part): (&Survey, usize),
    options: &Map<String, Value>,
) -> Result<Batch, CliError> {
    let requests = job.requests().map_err(of_input(job))?;
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let items = |parts: &[Part]| number(parts.iter().map(|part| part.items).sum());
    let requests = requests.skip(items(&survey.parts[..part])).take(items(&survey.parts[part..=part]));
    let (pieces, arriving) = mpsc::channel(AHEAD);
    let (tell, troubles) = channel();
    thread::spawn(move || {
        if let Err(error) = read(requests, &pieces) {
            // Before the upload breaks off, so that the reason is there by then.
            let _ = tell.send(error);
            let _ = pieces.blocking_send(Err(std::io::Error::other("the input can't be read")));
        }
    });
    let body = stream::unfold(arriving, |mut arriving| async { Some((arriving.recv().await?, arriving)) });
    let name = job.input.with_extension("jsonl");
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let uploaded = client.upload(&name, reqwest::Body::wrap_stream(body)).await;
    if let Ok(error) = troubles.try_recv() {
        return Err(of_input(job)(error));
    }
    let mut body = options.clone();
    let metadata = body.entry("metadata").or_insert_with(|| json!({}));
    for (name, value) in Labels::of(survey, part).pairs() {
        metadata[name] = value.into();
    }
    body.insert("input_file_id".to_owned(), uploaded?.into());
    body.insert("endpoint".to_owned(), Value::Null);
    client.create(&body.into(), None).await
}

type Piece = Result<Bytes, std::io::Error>;

fn read(
    requests: impl Iterator<Item = Result<Vec<u8>, TableError>>,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(), TableError> {
    let mut piece = Vec::with_capacity(PIECE);
    for request in requests {
        piece.extend_from_slice(&request?);
        if piece.len() >= PIECE && pieces.blocking_send(Ok(std::mem::take(&mut piece).into())).is_err() {
            return Ok(());
        }
    }
    let _ = pieces.blocking_send(Ok(piece.into()));
    Ok(())
}
