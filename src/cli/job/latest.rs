//! The results of a batch, each replaced by that of a later batch that tried it again.

use std::mem;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::client::{Client, ResultLines};
use super::super::error::CliError;

/// One result for each request of a batch, in the order of its input. A retry has some of its batch's lines in their
/// order, so all are read side by side: no more than a line of each is held.
pub(super) struct LatestResults {
    client: Client,
    first: ResultLines,
    retries: Vec<Retry>,
}

/// The results of a batch that tried some requests again.
struct Retry {
    lines: ResultLines,
    /// The one to come.
    next: Option<Tried>,
}

/// A result, with what it is known by.
struct Tried {
    custom_id: Option<String>,
    succeeded: bool,
    line: Bytes,
}

impl LatestResults {
    /// Of a batch and those that tried again what did not succeed in one before them, the oldest first.
    pub(super) async fn open(client: &Client, batches: &[String]) -> Result<Self, CliError> {
        let (first, later) =
            batches.split_first().map_or(("", batches), |(first, later)| (first.as_str(), later));
        let mut retries = Vec::with_capacity(later.len());
        for batch in later {
            let mut retry = Retry { lines: client.results(batch), next: None };
            retry.advance(client).await?;
            retries.push(retry);
        }
        Ok(Self { client: client.clone(), first: client.results(first), retries })
    }

    /// The next result, without its end; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, CliError> {
        let Some(line) = self.first.next().await? else { return Ok(None) };
        if self.retries.is_empty() {
            return Ok(Some(line));
        }
        let mut best = Tried::read(line, &self.client)?;
        for retry in &mut self.retries {
            let Some(newer) = retry.of(&best, &self.client).await? else { continue };
            if newer.succeeded || !best.succeeded {
                best = newer;
            }
        }
        Ok(Some(best.line))
    }
}

impl Retry {
    /// Its result of the same request, if that was tried again.
    async fn of(&mut self, before: &Tried, client: &Client) -> Result<Option<Tried>, CliError> {
        match &self.next {
            Some(next) if next.custom_id == before.custom_id => self.advance(client).await,
            _ => Ok(None),
        }
    }

    /// Goes on to the next result, and gives the one that was that until now.
    async fn advance(&mut self, client: &Client) -> Result<Option<Tried>, CliError> {
        let next = self.lines.next().await?.map(|line| Tried::read(line, client)).transpose()?;
        Ok(mem::replace(&mut self.next, next))
    }
}

#[derive(Deserialize)]
struct Peek {
    custom_id: Option<String>,
    response: Option<Response>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Response {
    status_code: u16,
}

impl Tried {
    fn read(line: Bytes, client: &Client) -> Result<Self, CliError> {
        let Peek { custom_id, response, error } =
            serde_json::from_slice(&line).map_err(|error| client.unreadable(&error))?;
        let answered = response.is_some_and(|response| (200..300).contains(&response.status_code));
        Ok(Self { custom_id, succeeded: answered && error.is_none(), line })
    }
}
