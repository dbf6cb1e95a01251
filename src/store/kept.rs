//! What must become durable, in the order it came: leases and flushes on their way to a commit.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::large::LargeFlushes;
use super::{Flush, Recorded, Result, StoreError};
use crate::domain::ids::BatchKey;
use crate::domain::result::NewResult;

/// What must not be lost while the process lives: it stays queued until it is durable.
pub(super) enum Kept {
    /// A segment runs.
    Lease(Lease),
    /// Items ended, or will be tried again.
    Flush(PendingFlush),
}

/// A segment that runs.
pub(super) struct Lease {
    pub(super) batch: BatchKey,
    pub(super) segment: u32,
    pub(super) model: Arc<str>,
}

/// A flush and who waits for it.
pub(super) struct PendingFlush {
    pub(super) flush: Flush,
    pub(super) reply: oneshot::Sender<Result<Recorded>>,
}

/// One piece of a large result, which is written before the result's row.
pub(super) struct ResultPiece<'k> {
    pub(super) result: &'k NewResult,
    /// Its number, from 0.
    pub(super) no: u32,
    pub(super) data: Bytes,
}

/// What the next commit writes.
#[derive(Default)]
pub(super) struct Kepts {
    leases: Vec<Lease>,
    flushes: Vec<PendingFlush>,
    /// Parts of flushes that wait for their large results: nobody waits for these alone.
    parts: Vec<Flush>,
    large: LargeFlushes,
}

impl Kepts {
    /// Adds what was queued since.
    pub(super) fn collect(&mut self, queued: impl IntoIterator<Item = Kept>) {
        for kept in queued {
            match kept {
                Kept::Lease(lease) => self.leases.push(lease),
                Kept::Flush(pending) => {
                    let (part, now) = self.large.sift(pending);
                    // In the order of arrival: a part must not overwrite what a newer flush says.
                    match (part, self.flushes.last_mut()) {
                        (Some(part), Some(last)) => {
                            last.flush.retries.extend(part.retries);
                            last.flush.ledger.extend(part.ledger);
                        }
                        (part, _) => self.parts.extend(part),
                    }
                    self.flushes.extend(now);
                }
            }
        }
    }

    /// Results held for the next commit, the large ones apart.
    pub(super) fn results(&self) -> usize {
        self.flushes.iter().map(|pending| pending.flush.results.len()).sum()
    }

    /// Whether everything is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.flushes.is_empty() && self.parts.is_empty() && self.large.is_empty()
    }

    /// The segments that run since the last commit.
    pub(super) fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// The piece of a large result that this commit writes.
    pub(super) fn piece(&self) -> Option<ResultPiece<'_>> {
        self.large.piece()
    }

    /// The flushes that this commit writes, in order. Their answers are [`Kepts::answer`]'s.
    pub(super) fn flushes(&self) -> impl Iterator<Item = &Flush> {
        let complete = self.large.complete().into_iter();
        let pending = complete.chain(&self.flushes).map(|pending| &pending.flush);
        self.parts.iter().chain(pending)
    }

    /// The segments to finish beside those that the flushes name.
    pub(super) fn finished_segments(&self) -> &[(BatchKey, u32)] {
        self.large.finished_now()
    }

    /// After the commit: tells everyone what became of their flush, given one answer for each of
    /// [`Kepts::flushes`].
    pub(super) fn answer(&mut self, answers: Vec<Recorded>) {
        // Nobody waits for the parts: their flush is answered with its results.
        let answers = answers.into_iter().skip(self.parts.len());
        self.leases.clear();
        self.parts.clear();
        let complete = self.large.advance();
        for (pending, recorded) in complete.into_iter().chain(self.flushes.drain(..)).zip(answers) {
            // Nobody waits any more if this fails; the rows are there all the same.
            let _ = pending.reply.send(Ok(recorded));
        }
    }

    /// Gives up what was to be written.
    pub(super) fn refuse(&mut self, error: &StoreError) {
        self.leases.clear();
        self.parts.clear();
        let complete = self.large.advance();
        for pending in complete.into_iter().chain(self.flushes.drain(..)) {
            let _ = pending.reply.send(Err(error.clone()));
        }
    }
}
