//! The threads that make the calls of batches: items go there, and their ends come back, several at a time.
//!
//! Waking another thread costs more than handing on an item. So what one round starts goes over as one task, which
//! starts the calls where they run; and what ends while those threads are busy is reported together.

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::attempt::{Attempt, Reporter, run};
use super::event::Event;
use super::lost::{Lost, guard};
use crate::traces::AttemptSpan;

/// Ends reported together at most.
const TOGETHER: usize = 256;

/// Where the calls of batches run: the dispatcher's own thread is for what has to be quick.
#[derive(Debug)]
pub(super) struct Crew {
    threads: Handle,
    /// Where the calls report to.
    reporter: Reporter,
    /// What this round starts.
    taken_on: Vec<(Attempt, Lost)>,
}

impl Crew {
    /// Calls made on `threads`, whose ends are told to `dispatcher`.
    pub(super) fn new(threads: Handle, dispatcher: &Reporter) -> Self {
        let (events, ended) = mpsc::unbounded_channel();
        threads.spawn(gather(ended, dispatcher.events.clone()));
        let reporter = Reporter { clock: dispatcher.clock, events };
        Self { threads, reporter, taken_on: Vec::new() }
    }

    /// Does other work that the dispatcher's thread would be held up by.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.threads.spawn(work);
    }

    /// Adds a call to those that start with the next [`Crew::send_off`].
    pub(super) fn take_on(&mut self, attempt: Attempt, lost: Lost) {
        self.taken_on.push((attempt, lost));
    }

    /// Starts what was taken on.
    pub(super) fn send_off(&mut self) {
        if self.taken_on.is_empty() {
            return;
        }
        let (calls, reporter) = (std::mem::take(&mut self.taken_on), self.reporter.clone());
        // Not under the shutdown's tracker: at the end of the grace time they are left behind on purpose.
        self.threads.spawn(async move {
            for (attempt, lost) in calls {
                let events = reporter.events.clone();
                let span = AttemptSpan::new(&attempt.facts());
                tokio::spawn(span.around(guard(run(attempt, reporter.clone()), lost, events)));
            }
        });
    }
}

/// Hands on what is reported: alone while nothing else goes on, else with what other calls report before this
/// task has its next turn.
async fn gather(mut ended: mpsc::UnboundedReceiver<Event>, dispatcher: mpsc::UnboundedSender<Event>) {
    let mut together = Vec::new();
    while ended.recv_many(&mut together, TOGETHER).await > 0 {
        tokio::task::yield_now().await;
        while together.len() < TOGETHER
            && let Ok(event) = ended.try_recv()
        {
            together.push(event);
        }
        let events = std::mem::take(&mut together);
        if dispatcher.send(Event::Several(events)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::BatchKey;

    #[tokio::test]
    async fn what_ends_at_the_same_moment_is_told_at_once() {
        let (ends, ended) = mpsc::unbounded_channel();
        let (events, mut told) = mpsc::unbounded_channel();
        tokio::spawn(gather(ended, events));
        for together in [1, 3] {
            for call in 0..together {
                let ends = ends.clone();
                tokio::spawn(async move { ends.send(Event::StopRecorded { batch: BatchKey(call) }) });
            }
            assert!(
                matches!(told.recv().await, Some(Event::Several(ends)) if ends.len() == usize::try_from(together).unwrap())
            );
        }
        drop(ends);
        assert!(told.recv().await.is_none());
    }
}
