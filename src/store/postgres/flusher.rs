//! The flusher: one task, one transaction after another.
//!
//! It never lingers for company. Whatever arrives while a commit is under way makes up the next one, so that a
//! slow server gets larger groups by itself and a fast one short waits.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::error::SqlState;

use super::arguments::arguments;
use super::connections::{Connections, Fate, Lane};
use super::fault::{Attempt, Fault, Severity};
use super::flush::Group;
use crate::complaint::Complaint;
use crate::domain::result::Payload;
use crate::store::kept::{Kept, Kepts};
use crate::store::shared::Effects;
use crate::store::usage_sums::UsageSums;
use crate::store::{Recorded, StoreError};

/// Results of one transaction.
const MOST_RESULTS: usize = 512;
/// Their bytes: they are all in one message.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How often an idle flusher looks whether there is usage to write, or a server that is back.
const TICK: Duration = Duration::from_secs(1);
/// How long a server that took nothing is left alone.
const REST: Duration = Duration::from_millis(250);
/// How long somebody's lock may hold results up before that is told of.
const HELD_UP: Duration = Duration::from_secs(8);

/// The flusher's belongings.
pub(super) struct Flusher {
    connections: Arc<Connections>,
    queued: UnboundedReceiver<Kept>,
    kepts: Kepts,
    /// What apps used and no commit holds yet.
    usage: UsageSums,
    /// A commit whose outcome is still to be found out. Until then its group stays as it is.
    unsure: Option<Unsure>,
    held_up: HeldUp,
}

/// Results that wait for somebody's lock on their rows.
#[derive(Default)]
struct HeldUp {
    since: Option<Instant>,
    complaint: Complaint,
}

/// A commit that got no answer.
struct Unsure {
    id: String,
    answers: Vec<Recorded>,
    effects: Effects,
}

impl Flusher {
    pub(super) fn new(connections: Arc<Connections>, queued: UnboundedReceiver<Kept>) -> Self {
        let (kepts, usage) = (Kepts::default(), UsageSums::default());
        Self { connections, queued, kepts, usage, unsure: None, held_up: HeldUp::default() }
    }

    /// Its life: returns once the store is closed and what was queued is durable, or can't be now.
    ///
    /// A panic ends the process: without its flusher every result would wait for ever.
    pub(super) async fn run(self) {
        if AssertUnwindSafe(self.serve()).catch_unwind().await.is_err() {
            tracing::error!("the flusher panicked; exiting");
            std::process::exit(1);
        }
    }

    async fn serve(mut self) {
        loop {
            let is_idle =
                self.kepts.is_empty() && self.usage.is_empty() && !self.connections.shared.has_usage();
            if is_idle {
                match tokio::time::timeout(TICK, self.queued.recv()).await {
                    Ok(Some(kept)) => self.take([kept]),
                    // Usage may have been counted while this waited.
                    Ok(None) if !self.connections.shared.has_usage() => return,
                    Ok(None) => {}
                    Err(_) => {
                        self.look().await;
                        continue;
                    }
                }
            }
            let committed = self.commit().await;
            self.act_on(&committed);
            if committed.is_err() {
                // What is not durable was never acknowledged, so an end waits for no server.
                if self.queued.is_closed() {
                    return;
                }
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Finds out whether a server that was away is back.
    async fn look(&self) {
        if self.connections.shared.is_away() || self.connections.shared.is_refusing() {
            let probe = async { self.connections.begin(Lane::Flush).await?.commit().await };
            self.tell(&probe.await);
        }
    }

    /// One commit of what waits.
    async fn commit(&mut self) -> Attempt<()> {
        if let Some(unsure) = self.unsure.take() {
            match self.connections.fate(&unsure.id).await {
                Ok(Fate::Committed) => {
                    self.connections.shared.ring(unsure.effects);
                    self.done(unsure.answers);
                    return Ok(());
                }
                // Written again: lines that have a row keep it.
                Ok(Fate::Aborted | Fate::Forgotten) => {}
                Err(fault) => {
                    self.unsure = Some(unsure);
                    return Err(fault);
                }
            }
        }
        self.collect();
        let group = Group::of(&self.kepts, &self.usage, self.connections.membership.last_known()).await;
        let ready = group.prepare(&self.connections).await?;
        let (answers, effects) = (ready.answers, ready.transaction.effects);
        match ready.transaction.commit_with(&ready.statements).await {
            Ok(()) => {
                self.done(answers);
                Ok(())
            }
            Err(Fault::Unknown(id)) => {
                self.unsure = Some(Unsure { id: id.clone(), answers, effects });
                Err(Fault::Unknown(id))
            }
            Err(fault) => Err(fault),
        }
    }

    fn done(&mut self, answers: Vec<Recorded>) {
        self.usage = UsageSums::default();
        self.kepts.answer(answers);
    }

    /// Adds what was queued since, up to what one transaction takes.
    fn collect(&mut self) {
        self.usage.merge(self.connections.shared.take_usage());
        let (mut results, mut bytes) = (self.kepts.results(), 0);
        while results < MOST_RESULTS && bytes < MOST_BYTES {
            let Ok(kept) = self.queued.try_recv() else { return };
            if let Kept::Flush(pending) = &kept {
                results += pending.flush.results.len();
                bytes += pending.flush.results.iter().map(|result| bytes_of(&result.payload)).sum::<usize>();
            }
            self.take([kept]);
        }
    }

    fn take<const N: usize>(&mut self, kept: [Kept; N]) {
        self.connections.shared.metrics.writer_queue().sub(N as i64);
        self.kepts.collect(kept);
    }

    fn act_on(&mut self, committed: &Attempt<()>) {
        self.tell(committed);
        self.held_up.tell(committed);
        if let Err(fault) = committed {
            let error = fault.answer();
            if fault.severity() == Severity::Answer && error != StoreError::Closed {
                tracing::error!(error = %error, "results could not be recorded");
                self.usage = UsageSums::default();
                self.kepts.refuse(&error);
            }
        }
    }

    /// Tells whether the database takes writes.
    fn tell(&self, committed: &Attempt<()>) {
        let shared = &self.connections.shared;
        match committed {
            Ok(()) => {
                shared.tell_away(false);
                shared.tell_disk(false, None);
            }
            // Somebody else is at the same rows for the moment.
            Err(fault) if fault.is(&SqlState::LOCK_NOT_AVAILABLE) => {}
            Err(fault) if fault.severity() == Severity::Away => {
                let error = fault.answer();
                if !shared.is_away() && !shared.is_refusing() {
                    tracing::warn!(error = %error, "the database could not be written; trying again");
                }
                if error == StoreError::Full { shared.tell_disk(true, None) } else { shared.tell_away(true) }
            }
            Err(_) => {}
        }
    }
}

impl HeldUp {
    /// Tells of what else nobody would hear of: the server is well, and no result gets recorded.
    fn tell(&mut self, committed: &Attempt<()>) {
        if !committed.as_ref().is_err_and(|fault| fault.is(&SqlState::LOCK_NOT_AVAILABLE)) {
            if std::mem::take(self).complaint.end() {
                tracing::info!("results do not wait for a lock any more");
            }
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= HELD_UP && self.complaint.begin() {
            tracing::warn!(
                "results can't be recorded: another session of the database holds a lock on their rows. pg_locks and \
                 pg_blocking_pids() tell which; results are kept until it ends"
            );
        }
    }
}

fn bytes_of(payload: &Payload) -> usize {
    match payload {
        Payload::Response { body, .. } => body.len(),
        Payload::Error { message, .. } => message.len(),
    }
}

/// Measures the schema now and then. Its disk can't be asked for: that is the server's own.
pub(super) async fn measure(connections: Arc<Connections>) {
    const EVERY: Duration = Duration::from_secs(60);
    connections.shared.tell_disk(false, None);
    loop {
        let sql = "SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint FROM pg_class \
                   JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relkind = 'r'";
        if let Ok(rows) = connections.read_plain(sql, &arguments![connections.schema]).await {
            let size: Option<i64> = rows.first().and_then(|row| row.try_get(0).ok());
            connections.shared.tell_size(size.unwrap_or_default().unsigned_abs());
        }
        tokio::time::sleep(EVERY).await;
    }
}
