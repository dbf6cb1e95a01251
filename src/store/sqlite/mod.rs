//! The store on `SQLite`: one file, one writer thread, a few readers.

pub(super) mod api_keys;
pub(super) mod apps;
pub(super) mod batch_lists;
pub(super) mod batch_rows;
pub(super) mod batches;
pub(super) mod boots;
mod connection;
pub(super) mod content;
mod disk;
mod fault;
pub(super) mod files;
mod flush;
mod folder;
pub(super) mod frontier;
mod group;
mod json;
pub(super) mod keys;
mod large;
mod log;
mod payload;
mod queue;
mod readers;
pub(super) mod results;
pub(super) mod retention;
mod schema;
mod shared;
pub(super) mod usage;
mod values;
mod views;
pub(super) mod work;
mod writer;
mod writing;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::oneshot;

use self::connection::open_writer;
use self::disk::Disk;
use self::fault::Fault;
use self::folder::Folder;
use self::log::Log;
use self::payload::Packer;
use self::queue::{Call, Ending, Kept, PendingFlush};
use self::readers::Readers;
use self::shared::Shared;
use self::writer::Writer;
use self::writing::ActiveBatches;
use crate::clock::Clock;
use crate::domain::day::{Day, DayUsage};
use crate::domain::ids::{AppKey, BatchKey};
use crate::domain::segment::{Segment, SegmentHead};
use crate::metrics::StoreMetrics;
use crate::store::{Flush, Recorded, Result, StoreError, StoreHealth, StoreSettings};
use crate::wakeup::Wakeup;

pub(super) use self::queue::Lane;
pub(super) use self::readers::Span;
pub(super) use self::writing::Writing;

type Attempt<T> = std::result::Result<T, Fault>;

/// An open database and its threads.
pub(super) struct Database {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    folder: Mutex<Option<Folder>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    /// Holds the data folder, brings the schema up to date, starts the threads.
    pub(super) fn open(settings: &StoreSettings, clock: Clock, metrics: StoreMetrics) -> Attempt<Self> {
        let folder = Folder::hold(&settings.path)?;
        let mut connection = open_writer(&settings.path)?;
        schema::migrate(&mut connection)?;
        retention::give_up_unfinished(&connection, clock.now())?;
        let log = Log::watch(&mut connection)?;
        let shared = Arc::new(Shared::new(metrics));
        let (readers, mut threads) = Readers::start(&settings.path)?;
        let mut writer = Writer {
            connection,
            database: settings.path.clone(),
            shared: Arc::clone(&shared),
            clock,
            disk: Disk::new(folder.path(), settings.min_free),
            log,
            batches: ActiveBatches::default(),
            packer: Packer::new(),
            kepts: group::Kepts::default(),
            measured: Instant::now(),
        };
        // Before anyone asks: a disk that is full at the start must not look free.
        writer.measure();
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run());
        threads.push(thread.map_err(|error| StoreError::Unavailable(error.to_string()))?);
        Ok(Self { shared, readers, threads: Mutex::new(threads), folder: Mutex::new(Some(folder)) })
    }

    /// Runs a command on the writer and returns once it is durable.
    pub(super) async fn write<T, F>(&self, lane: Lane, body: F) -> Result<T>
    where
        F: FnOnce(&mut Writing<'_>) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        let (call, answer) = Call::new(body);
        self.shared.queue.push(lane, Box::new(call));
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The same for what takes new room: refused while the disk has none to spare.
    pub(super) async fn write_new<T, F>(&self, lane: Lane, body: F) -> Result<T>
    where
        F: FnOnce(&mut Writing<'_>) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        if self.shared.is_refusing() {
            return Err(StoreError::Full);
        }
        self.write(lane, body).await
    }

    /// Queues a command that nobody waits for.
    pub(super) fn write_unanswered<F>(&self, lane: Lane, body: F)
    where
        F: FnOnce(&mut Writing<'_>) -> Attempt<()> + Send + 'static,
    {
        let (call, _) = Call::new(body);
        self.shared.queue.push(lane, Box::new(call));
    }

    /// Counts what an app used, for the next commit.
    pub(super) fn count_usage(&self, app: AppKey, day: Day, used: &DayUsage) {
        self.shared.count_usage(app, day, used);
    }

    /// Runs a read on one of the readers.
    pub(super) async fn read<T, F>(&self, span: Span, body: F) -> Result<T>
    where
        F: FnOnce(&Connection) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let read = move |connection: &Connection| {
            // Nobody waits any more if this fails.
            let _ = reply.send(body(connection).map_err(StoreError::from));
        };
        self.readers.push(span, Box::new(read));
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Queues a flush.
    pub(super) fn record(&self, flush: Flush) -> oneshot::Receiver<Result<Recorded>> {
        let (reply, answer) = oneshot::channel();
        if let Err(Kept::Flush(refused)) = self.shared.queue.keep(Kept::Flush(PendingFlush { flush, reply }))
        {
            let _ = refused.reply.send(Err(StoreError::Closed));
        }
        answer
    }

    /// Queues a lease.
    pub(super) fn lease(&self, batch: BatchKey, head: &SegmentHead) {
        // Of a closed store nobody leases any more.
        let _ =
            self.shared.queue.keep(Kept::Lease { batch, segment: head.no, model: Arc::clone(&head.model) });
    }

    /// The pieces of a segment's data that go before its row; none where it fits into that.
    pub(super) fn pieces(segment: &Segment) -> impl Iterator<Item = (u32, bytes::Bytes)> + use<> {
        let data = segment.data.clone();
        (0..payload::pieces_of(data.len())).map(move |no| (no, payload::piece(&data, no)))
    }

    pub(super) fn health(&self) -> StoreHealth {
        self.shared.health()
    }

    pub(super) fn work(&self) -> &Wakeup {
        &self.shared.work
    }

    pub(super) fn progress(&self) -> &Wakeup {
        &self.shared.progress
    }

    pub(super) fn apps(&self) -> &Wakeup {
        &self.shared.apps
    }

    pub(super) fn disk(&self) -> &Wakeup {
        &self.shared.disk
    }

    /// Ends the threads and lets go of the folder. Blocks for as long as one commit or drain takes.
    pub(super) fn end(&self, clean: bool) {
        self.shared.queue.end(if clean { Ending::Drain } else { Ending::Abort });
        if clean {
            // The log can be emptied only once nobody reads it.
            self.readers.close();
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        self.readers.close();
        for thread in threads {
            // A panic of the writer has ended the process; one of a reader was told of.
            let _ = thread.join();
        }
        drop(self.folder.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.end(false);
    }
}
