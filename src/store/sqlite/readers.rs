//! The readers: a few threads, each with its own read-only connection.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::connection::open_reader;
use super::fault::Fault;
use crate::store::StoreError;

/// Connections that read. Each costs a cache of 2 MB, and two cores serve no more at once.
const READERS: usize = 3;

/// A read on its way.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// How long a read may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// A few rows.
    Point,
    /// A page of rows, or a payload.
    Page,
}

/// What waits for the readers. Each read wakes one of them that may take it, none if all are busy:
/// waking all for each read costs more than many a read itself.
#[derive(Default)]
pub(super) struct Readers {
    waiting: Mutex<Waiting>,
    /// Wakes the reader that takes no pages.
    point: Condvar,
    /// Wakes one of those that take both.
    both: Condvar,
}

#[derive(Default)]
struct Waiting {
    points: VecDeque<Read>,
    pages: VecDeque<Read>,
    closed: bool,
    /// Whether the reader that takes no pages is idle.
    point_idle: bool,
}

impl Readers {
    /// Opens the connections and starts their threads.
    pub(super) fn start(path: &Path) -> Result<(Arc<Self>, Vec<JoinHandle<()>>), Fault> {
        let readers = Arc::new(Self::default());
        let mut threads = Vec::with_capacity(READERS);
        for number in 0..READERS {
            let connection = open_reader(path)?;
            let shared = Arc::clone(&readers);
            let thread = std::thread::Builder::new()
                .name(format!("store-reader-{number}"))
                .spawn(move || shared.run(&connection, number > 0))
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            threads.push(thread);
        }
        Ok((readers, threads))
    }

    /// Queues a read; a closed store drops it, and with it the way to its caller.
    pub(super) fn push(&self, span: Span, read: Read) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        match span {
            Span::Point => {
                waiting.points.push_back(read);
                // Taken off here, so that a second read before it wakes goes to another.
                let idle = std::mem::take(&mut waiting.point_idle);
                if idle { self.point.notify_one() } else { self.both.notify_one() }
            }
            Span::Page => {
                waiting.pages.push_back(read);
                self.both.notify_one();
            }
        }
    }

    /// Ends the threads after what they have in hand.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.points.clear();
        waiting.pages.clear();
        self.point.notify_all();
        self.both.notify_all();
    }

    /// One thread's life. The first takes no pages, so that however many are read, a point read finds
    /// a reader.
    fn run(&self, connection: &Connection, takes_pages: bool) {
        while let Some(read) = self.next(takes_pages) {
            // A defect in one read must not leave the others without readers.
            if catch_unwind(AssertUnwindSafe(|| read(connection))).is_err() {
                tracing::error!("a read panicked");
            }
        }
    }

    fn next(&self, takes_pages: bool) -> Option<Read> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(read) = waiting.points.pop_front() {
                return Some(read);
            }
            if takes_pages && let Some(read) = waiting.pages.pop_front() {
                return Some(read);
            }
            waiting.point_idle |= !takes_pages;
            let bell = if takes_pages { &self.both } else { &self.point };
            waiting = bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.point_idle &= takes_pages;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
