//! Results of a batch, read page by page and given line by line.

use std::collections::VecDeque;

use bytes::Bytes;
use reqwest::Method;

use super::super::error::CliError;
use super::{Client, escaped};

/// Lines of one page.
const PAGE: u32 = 1_000;

/// The results of a batch in the order of its input. Holds at most one piece of a reply and one line.
#[derive(Debug)]
pub(in crate::cli) struct ResultLines {
    client: Client,
    batch: String,
    /// The last line read, as a cursor.
    after: u64,
    /// The cursor after the page that is read.
    next_after: u64,
    page: Option<reqwest::Response>,
    /// Bytes of the line that is not yet whole.
    begun: Vec<u8>,
    whole: VecDeque<Bytes>,
    ended: bool,
}

impl ResultLines {
    pub(super) fn new(client: Client, batch: &str) -> Self {
        Self {
            client,
            batch: escaped(batch),
            after: 0,
            next_after: 0,
            page: None,
            begun: Vec::new(),
            whole: VecDeque::new(),
            ended: false,
        }
    }

    /// The next line, without its end; `None` after the last that there is.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Bytes>, CliError> {
        loop {
            if let Some(line) = self.whole.pop_front() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    /// Reads the next piece, or opens the next page.
    async fn read(&mut self) -> Result<(), CliError> {
        let Some(page) = &mut self.page else { return self.open().await };
        match page.chunk().await.map_err(|error| self.client.trouble(&error))? {
            Some(piece) => self.cut(&piece),
            None => {
                self.page = None;
                self.ended = self.next_after == self.after;
                self.after = self.next_after;
            }
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<(), CliError> {
        let (batch, after) = (&self.batch, self.after);
        let path = format!("/v1/batches/{batch}/results?order=input&limit={PAGE}&after={after}");
        let reply = self.client.send(self.client.request(Method::GET, &path)).await?;
        let next = reply.headers().get("sluicegate-next-after").and_then(|next| next.to_str().ok());
        self.next_after = next.and_then(|next| next.parse().ok()).unwrap_or(after);
        self.page = Some(reply);
        Ok(())
    }

    fn cut(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.begun.extend_from_slice(&rest[..end]);
            self.whole.push_back(std::mem::take(&mut self.begun).into());
            rest = &rest[end + 1..];
        }
        self.begun.extend_from_slice(rest);
    }
}
