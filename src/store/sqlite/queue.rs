//! What waits for the writer: results first, then control, then uploads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::fault::Fault;
use super::writing::Writing;
use crate::metrics::IntGauge;
use crate::store::kept::Kept;
use crate::store::{Result, StoreError};

/// A command that may fail by itself, without harm to those it shares a commit with.
pub(super) trait Job: Send {
    /// Does its writes. May be called once only.
    fn run(&mut self, writing: &mut Writing<'_>) -> std::result::Result<(), Fault>;
    /// Answers the caller, after the commit or instead of it.
    fn answer(self: Box<Self>, outcome: Result<()>);
}

/// Which queue a job goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Creates, cancels and the like: small, somebody waits.
    Control,
    /// Bulk: uploads and erasing.
    Bulk,
}

/// How the writer is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// After what is queued.
    Drain,
    /// At once; what is queued is dropped, as in a crash.
    Abort,
}

/// The writer's queues.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    depth: IntGauge,
}

#[derive(Default)]
struct Waiting {
    kept: VecDeque<Kept>,
    control: VecDeque<Box<dyn Job>>,
    bulk: VecDeque<Box<dyn Job>>,
    ending: Option<Ending>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.control.is_empty() && self.bulk.is_empty()
    }

    fn len(&self) -> usize {
        self.kept.len() + self.control.len() + self.bulk.len()
    }
}

impl Queue {
    pub(super) fn new(depth: IntGauge) -> Self {
        Self { waiting: Mutex::default(), arrived: Condvar::new(), depth }
    }

    /// Queues what must not be lost; gives it back if the store is closed.
    pub(super) fn keep(&self, kept: Kept) -> std::result::Result<(), Kept> {
        let mut waiting = self.lock();
        if waiting.ending.is_some() {
            return Err(kept);
        }
        waiting.kept.push_back(kept);
        self.told(&waiting);
        Ok(())
    }

    /// Queues a job, or answers it that the store is closed.
    pub(super) fn push(&self, lane: Lane, job: Box<dyn Job>) {
        let mut waiting = self.lock();
        if waiting.ending.is_some() {
            drop(waiting);
            job.answer(Err(StoreError::Closed));
            return;
        }
        match lane {
            Lane::Control => waiting.control.push_back(job),
            Lane::Bulk => waiting.bulk.push_back(job),
        }
        self.told(&waiting);
    }

    /// Waits until something is queued or the end was asked for; `false` after `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let waiting = self.lock();
        let (waiting, _) = self
            .arrived
            .wait_timeout_while(waiting, timeout, |waiting| waiting.is_empty() && waiting.ending.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        !waiting.is_empty() || waiting.ending.is_some()
    }

    /// Waits until the end is asked for, at most so long: for a writer that can do nothing else.
    pub(super) fn wait_for_end(&self, timeout: Duration) {
        let waiting = self.lock();
        drop(self.arrived.wait_timeout_while(waiting, timeout, |waiting| waiting.ending.is_none()));
    }

    /// Takes what is kept, in order, up to about so many results.
    pub(super) fn take_kept(&self, most_results: usize) -> Vec<Kept> {
        let mut waiting = self.lock();
        let mut taken = Vec::with_capacity(waiting.kept.len().min(1_024));
        let mut results = 0;
        while results < most_results
            && let Some(kept) = waiting.kept.pop_front()
        {
            if let Kept::Flush(pending) = &kept {
                results += pending.flush.results.len();
            }
            taken.push(kept);
        }
        self.depth.set(length(&waiting));
        taken
    }

    /// Takes the next job of a lane.
    pub(super) fn take_job(&self, lane: Lane) -> Option<Box<dyn Job>> {
        let mut waiting = self.lock();
        let job = match lane {
            Lane::Control => waiting.control.pop_front(),
            Lane::Bulk => waiting.bulk.pop_front(),
        };
        self.depth.set(length(&waiting));
        job
    }

    /// Asks the writer to end; nothing is queued after this.
    pub(super) fn end(&self, ending: Ending) {
        let mut waiting = self.lock();
        waiting.ending = Some(ending);
        self.arrived.notify_all();
    }

    /// Whether and how the writer is to end.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.lock().ending
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Drops what is left, answering everyone that the store is closed.
    pub(super) fn clear(&self) {
        let (kept, jobs) = {
            let mut waiting = self.lock();
            let mut jobs = std::mem::take(&mut waiting.control);
            jobs.append(&mut waiting.bulk);
            (std::mem::take(&mut waiting.kept), jobs)
        };
        for job in jobs {
            job.answer(Err(StoreError::Closed));
        }
        drop(kept);
        self.depth.set(0);
    }

    /// Commands that wait.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn told(&self, waiting: &Waiting) {
        self.depth.set(length(waiting));
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic elsewhere leaves whole commands in the queue: there is nothing to distrust.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn length(waiting: &Waiting) -> i64 {
    i64::try_from(waiting.len()).unwrap_or(i64::MAX)
}

/// A job made of a closure, its value and who waits for it.
pub(super) struct Call<F, T> {
    body: Option<F>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Call<F, T> {
    pub(super) fn new(body: F) -> (Self, oneshot::Receiver<Result<T>>) {
        let (reply, answer) = oneshot::channel();
        (Self { body: Some(body), value: None, reply }, answer)
    }
}

impl<F, T> Job for Call<F, T>
where
    F: FnOnce(&mut Writing<'_>) -> std::result::Result<T, Fault> + Send,
    T: Send,
{
    fn run(&mut self, writing: &mut Writing<'_>) -> std::result::Result<(), Fault> {
        if let Some(body) = self.body.take() {
            self.value = Some(body(writing)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<()>) {
        // Nobody waits any more if this fails; the write stands all the same.
        let Self { value, reply, .. } = *self;
        let _ = reply.send(outcome.and_then(|()| value.ok_or(StoreError::Closed)));
    }
}
