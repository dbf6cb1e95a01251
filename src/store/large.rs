//! Results too large for one row: fed to the database piece by piece, one per commit, before their rows.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Flush;
use super::kept::{PendingFlush, ResultPiece};
use super::payload::{piece, pieces_of};
use crate::domain::ids::BatchKey;
use crate::domain::result::{NewResult, Payload};

/// Flushes that wait for the pieces of their large results, the oldest first.
#[derive(Default)]
pub(super) struct LargeFlushes {
    waiting: VecDeque<PendingFlush>,
    /// The result of the first flush and its piece that come next.
    result: usize,
    piece: u32,
    /// Segments finished meanwhile. Deleting their rows before all their results are written would
    /// lose the items if the process died in between, so they wait until nothing is large any more.
    finished: Vec<(BatchKey, u32)>,
}

impl LargeFlushes {
    /// Takes from a flush what must wait; leaves the rest in it. Gives it back unless it waits itself.
    ///
    /// A flush waits whole with its results, but its retries and levels are for now: written later they
    /// could overwrite newer ones.
    pub(super) fn sift(&mut self, mut pending: PendingFlush) -> (Option<Flush>, Option<PendingFlush>) {
        if pending.flush.results.iter().any(is_large) {
            let retries = std::mem::take(&mut pending.flush.retries);
            let ledger = std::mem::take(&mut pending.flush.ledger);
            self.finished.append(&mut pending.flush.finished_segments);
            self.waiting.push_back(pending);
            return (Some(Flush { retries, ledger, ..Flush::default() }), None);
        }
        if !self.waiting.is_empty() {
            self.finished.append(&mut pending.flush.finished_segments);
        }
        (None, Some(pending))
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.finished.is_empty()
    }

    /// The next piece to write, if there is one.
    pub(super) fn piece(&self) -> Option<ResultPiece<'_>> {
        let (_, result) = self.next_large()?;
        let data = piece(payload(result)?, self.piece);
        Some(ResultPiece { result, no: self.piece, data })
    }

    /// The first flush, if [`Self::piece`] is its last.
    pub(super) fn complete(&self) -> Option<&PendingFlush> {
        let first = self.waiting.front()?;
        let (at, result) = self.next_large()?;
        let last_piece = self.piece + 1 >= pieces_of(payload(result).map_or(0, Bytes::len));
        let last_result = !first.flush.results[at + 1..].iter().any(is_large);
        (last_piece && last_result).then_some(first)
    }

    /// The segments to finish now, if the first flush is complete and the last.
    pub(super) fn finished_now(&self) -> &[(BatchKey, u32)] {
        let last = self.waiting.is_empty() || (self.waiting.len() == 1 && self.complete().is_some());
        if last { &self.finished } else { &[] }
    }

    /// After the commit: moves past the piece; gives the first flush if it was complete.
    pub(super) fn advance(&mut self) -> Option<PendingFlush> {
        if self.waiting.is_empty() || (self.waiting.len() == 1 && self.complete().is_some()) {
            self.finished.clear();
        }
        if self.complete().is_some() {
            (self.result, self.piece) = (0, 0);
            return self.waiting.pop_front();
        }
        if let Some((at, result)) = self.next_large() {
            let pieces = pieces_of(payload(result).map_or(0, Bytes::len));
            let next = self.piece + 1;
            (self.result, self.piece) = if next < pieces { (at, next) } else { (at + 1, 0) };
        }
        None
    }

    fn next_large(&self) -> Option<(usize, &NewResult)> {
        let results = &self.waiting.front()?.flush.results;
        results.iter().enumerate().skip(self.result).find(|(_, result)| is_large(result))
    }
}

fn is_large(result: &NewResult) -> bool {
    payload(result).is_some_and(|body| pieces_of(body.len()) > 0)
}

/// The body of a response; an error's message is never large.
fn payload(result: &NewResult) -> Option<&Bytes> {
    match &result.payload {
        Payload::Response { body, .. } => Some(body),
        Payload::Error { .. } => None,
    }
}
