//! What will happen, in the order of time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use sluicegate::domain::exchange::{Answer, Ask};
use sluicegate::domain::time::Timestamp;

/// Who sent an exchange: a worker, which of its lives, and its how manieth exchange of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) worker: usize,
    pub(crate) life: u64,
    pub(crate) exchange: u64,
}

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker's timer fires, unless it was set anew.
    Wakes {
        /// Which.
        worker: usize,
        /// Its how manieth timer.
        timer: u64,
    },
    /// An exchange comes to the database.
    Asks(Sender, Box<Ask>),
    /// Its answer comes back.
    Answers(Sender, Box<Answer>),
    /// It was waited for long enough.
    GivesUp(Sender),
    /// Some worker dies.
    Dies,
    /// Others have the backlog.
    Turns,
}

#[derive(Debug)]
struct Scheduled {
    at: Timestamp,
    sequence: u64,
    event: Event,
}

/// All that will happen.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    scheduled: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
}

impl Agenda {
    /// Something will happen at a moment, after all that was said of that moment before.
    pub(crate) fn add(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.scheduled.push(Reverse(Scheduled { at, sequence: self.sequence, event }));
    }

    /// What happens next before an end.
    pub(crate) fn next(&mut self, end: Timestamp) -> Option<(Timestamp, Event)> {
        let Reverse(Scheduled { at, event, .. }) = self.scheduled.pop()?;
        (at < end).then_some((at, event))
    }
}

impl Scheduled {
    fn key(&self) -> (Timestamp, u64) {
        (self.at, self.sequence)
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}
