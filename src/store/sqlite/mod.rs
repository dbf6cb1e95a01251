//! The store on `SQLite`: one file, one writer thread, a few readers.

pub(super) mod api_keys;
pub(super) mod apps;
pub(super) mod backup;
pub(super) mod batch_lists;
pub(super) mod batch_rows;
pub(super) mod batches;
pub(super) mod boots;
pub(super) mod check;
mod check_input;
mod check_payloads;
mod connection;
pub(super) mod content;
mod disk;
mod fault;
pub(super) mod files;
mod flush;
mod folder;
pub(super) mod frontier;
mod group;
pub(super) mod keys;
mod log;
mod queue;
mod readers;
pub(super) mod results;
pub(super) mod retention;
mod schema;
pub(super) mod source;
pub(super) mod usage;
mod values;
mod views;
pub(super) mod work;
pub(super) mod workers;
mod writer;
mod writing;

use std::path::{Path, PathBuf};
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
use self::queue::{Call, Ending, Queue};
use self::readers::Readers;
use self::writer::Writer;
use self::writing::ActiveBatches;
use crate::clock::Clock;
use crate::domain::ids::BatchKey;
use crate::domain::segment::SegmentHead;
use crate::store::kept::{Kept, Kepts, Lease, PendingFlush};
use crate::store::payload::Packer;
use crate::store::shared::Shared;
use crate::store::{Flush, Recorded, Result, StoreError, StoreHealth, WorkerSettings};

pub(super) use self::queue::Lane;
pub(super) use self::readers::Span;
pub(super) use self::writing::Writing;

type Attempt<T> = std::result::Result<T, Fault>;

/// An open database and its threads.
pub(super) struct Database {
    pub(super) worker: WorkerSettings,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    folder: Mutex<Option<Folder>>,
    path: PathBuf,
    min_free: u64,
    /// Held while a backup is made.
    backing_up: Mutex<()>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Database").finish_non_exhaustive()
    }
}

/// Holds the data folder for as long as it takes to bring the schema up to date.
pub(super) fn migrate(path: &Path) -> Result<()> {
    let _folder = Folder::hold(path)?;
    Ok(schema::migrate(&mut open_writer(path)?)?)
}

impl Database {
    /// Holds the data folder, brings the schema up to date, starts the threads.
    pub(super) fn open(
        path: &Path,
        min_free: u64,
        worker: WorkerSettings,
        clock: Clock,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let folder = Folder::hold(path)?;
        let mut connection = open_writer(path)?;
        schema::migrate(&mut connection)?;
        retention::give_up_unfinished(&connection, clock.now())?;
        let log = Log::watch(&mut connection)?;
        let queue = Arc::new(Queue::new(shared.metrics.writer_queue().clone()));
        let (readers, mut threads) = Readers::start(path)?;
        let mut writer = Writer {
            connection,
            database: path.to_owned(),
            shared: Arc::clone(&shared),
            queue: Arc::clone(&queue),
            clock,
            disk: Disk::new(folder.path(), min_free),
            log,
            batches: ActiveBatches::default(),
            packer: Packer::new(),
            kepts: Kepts::default(),
            measured: Instant::now(),
        };
        // Before anyone asks: a disk that is full at the start must not look free.
        writer.measure();
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run());
        threads.push(thread.map_err(|error| StoreError::Unavailable(error.to_string()))?);
        let (threads, folder) = (Mutex::new(threads), Mutex::new(Some(folder)));
        let (path, backing_up) = (path.to_owned(), Mutex::new(()));
        Ok(Self { worker, shared, queue, readers, threads, folder, path, min_free, backing_up })
    }

    /// Runs a command on the writer and returns once it is durable.
    pub(super) async fn write<T, F>(&self, lane: Lane, body: F) -> Result<T>
    where
        F: FnOnce(&mut Writing<'_>) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        let (call, answer) = Call::new(body);
        self.queue.push(lane, Box::new(call));
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
        self.queue.push(lane, Box::new(call));
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
        if let Err(Kept::Flush(refused)) = self.queue.keep(Kept::Flush(PendingFlush { flush, reply })) {
            let _ = refused.reply.send(Err(StoreError::Closed));
        }
        answer
    }

    /// Queues a lease.
    pub(super) fn lease(&self, batch: BatchKey, head: &SegmentHead) {
        // Of a closed store nobody leases any more.
        let lease = Lease { batch, segment: head.no, model: Arc::clone(&head.model) };
        let _ = self.queue.keep(Kept::Lease(lease));
    }

    pub(super) fn health(&self) -> StoreHealth {
        self.shared.health(self.queue.len() as u64)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Ends the threads and lets go of the folder. Blocks for as long as one commit or drain takes.
    pub(super) fn end(&self, clean: bool) {
        self.queue.end(if clean { Ending::Drain } else { Ending::Abort });
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
