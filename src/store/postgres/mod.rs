//! The store on `PostgreSQL`: one schema that several processes share, a flusher that groups what must not be lost, pools
//! for the rest.
//!
//! Every transaction brings its own settings and every statement its own types, so that nothing depends on
//! which session of a proxy runs it. Locks are taken in one order everywhere: worker, app, batch, cursor,
//! `batch_segment`, result, ledger, file.

pub(super) mod api_keys;
pub(super) mod apps;
mod arguments;
pub(super) mod batch_lists;
pub(super) mod batch_rows;
pub(super) mod batches;
mod beats;
mod bells;
pub(super) mod boots;
pub(super) mod check;
pub(super) mod claims;
pub(super) mod columns;
mod connections;
pub(super) mod content;
mod copied_columns;
mod credentials;
pub(super) mod destination;
pub(super) mod exchange;
mod facts;
mod fault;
pub(super) mod files;
mod flush;
mod flusher;
pub(super) mod frontier;
mod hold;
pub(super) mod inspection;
pub(super) mod keys;
mod membership;
mod own_before;
mod result_rows;
pub(super) mod results;
pub(super) mod retention;
mod schema;
mod server;
mod tls;
pub(super) mod told;
mod transaction;
mod unfinished_copy;
pub(super) mod usage;
mod views;
pub(super) mod work;
pub(super) mod workers;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_postgres::Row;
use tokio_util::task::TaskTracker;

use self::arguments::Argument;
use self::beats::Beats;
use self::bells::Bells;
use self::connections::{Connections, Lane, Queries};
use self::fault::{Attempt, Fault};
use self::flusher::Flusher;
use self::membership::{Identity, Membership};
use self::server::Server;
use self::transaction::Transaction;
use crate::config::Secret;
use crate::store::kept::{Kept, PendingFlush};
use crate::store::shared::Shared;
use crate::store::{Flush, Recorded, Result, StoreError, StoreHealth, WorkerSettings};

/// How long a clean end waits for what is queued.
const LAST_COMMITS: Duration = Duration::from_secs(20);

/// An open database and its tasks.
pub(super) struct Database {
    connections: Arc<Connections>,
    /// To the flusher; none once closed.
    queue: Mutex<Option<mpsc::UnboundedSender<Kept>>>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    /// Writes that nobody waits for.
    unanswered: TaskTracker,
    /// For the connections of its own that the worker's beats need.
    server: Server,
    /// The other tasks: more once this is a worker.
    tasks: Mutex<Vec<AbortHandle>>,
    beats: Once,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Database").finish_non_exhaustive()
    }
}

/// Why a URL can't be used, as far as can be told without connecting.
pub(super) fn check_url(url: &Secret) -> std::result::Result<(), String> {
    Server::meant(url.expose()).map(|_| ())
}

/// Brings the schema up to date, on a server that will do.
pub(super) async fn migrate(url: &Secret, schema: &str) -> Result<()> {
    let mut server = Server::of(url.expose())?;
    server.check().await?;
    unfinished_copy::refuse(&server, schema).await?;
    schema::migrate(&server, schema).await
}

impl Database {
    /// Looks at the server, brings the schema up to date and starts the tasks.
    pub(super) async fn open(
        url: &Secret,
        url_file: Option<PathBuf>,
        schema: &str,
        worker: WorkerSettings,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let mut server = Server::of(url.expose())?;
        if let Some(file) = url_file {
            server.renew_credentials_from(file);
        }
        server.check().await?;
        unfinished_copy::refuse(&server, schema).await?;
        schema::migrate(&server, schema).await?;
        let connections = Arc::new(Connections::new(&server, schema, worker, shared)?);
        connections.reserve().await?;
        let (queue, queued) = mpsc::unbounded_channel();
        let flusher = tokio::spawn(Flusher::new(Arc::clone(&connections), queued).run());
        let bells = Bells::new(server.clone(), schema, Arc::clone(&connections));
        let measure = flusher::measure(Arc::clone(&connections));
        let tasks = vec![tokio::spawn(bells.run()).abort_handle(), tokio::spawn(measure).abort_handle()];
        let (queue, flusher, tasks) = (Mutex::new(Some(queue)), Mutex::new(Some(flusher)), Mutex::new(tasks));
        let (unanswered, beats) = (TaskTracker::new(), Once::new());
        Ok(Self { connections, queue, flusher, unanswered, server, tasks, beats })
    }

    /// This process among the workers.
    pub(super) fn membership(&self) -> &Membership {
        &self.connections.membership
    }

    /// It is a worker from now on, and beats.
    fn take_part(&self, identity: Identity, sent: Duration) {
        self.membership().join(identity, sent);
        self.beats.call_once(|| {
            let connections = Arc::clone(&self.connections);
            let beats = Beats::new(Arc::clone(&connections), self.server.clone());
            let before = own_before::let_go_later(Arc::clone(&connections), identity);
            let watch = async move { connections.membership.watch_fence().await };
            let more = [tokio::spawn(beats.run()), tokio::spawn(before), tokio::spawn(watch)];
            let more = more.map(|task| task.abort_handle());
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
        });
    }

    fn end_tasks(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }

    /// Begins a command.
    async fn begin(&self, lane: Lane) -> Attempt<Transaction> {
        if self.connections.shared.is_away() {
            // The flusher tries once a second; everyone else is told at once.
            return Err(Fault::Away("the database was not reached lately".to_owned()));
        }
        self.connections.begin(lane).await
    }

    /// The same for what takes new room: refused while the server's disk has none.
    async fn begin_new(&self, lane: Lane) -> Attempt<Transaction> {
        if self.connections.shared.is_refusing() {
            return Err(StoreError::Full.into());
        }
        self.begin(lane).await
    }

    /// Reads one state of the database by several statements.
    async fn snapshot(&self) -> Attempt<Transaction> {
        self.connections.snapshot().await
    }

    /// Runs a write that nobody waits for; a clean end does.
    fn write_unanswered(&self, write: impl Future<Output = Attempt<()>> + Send + 'static) {
        self.unanswered.spawn(async move {
            if let Err(fault) = write.await {
                tracing::warn!(error = %fault.answer(), "a note could not be written");
            }
        });
    }

    /// Queues a flush.
    pub(super) fn record(&self, flush: Flush) -> oneshot::Receiver<Result<Recorded>> {
        let (reply, answer) = oneshot::channel();
        if let Err(Kept::Flush(refused)) = self.keep(Kept::Flush(PendingFlush { flush, reply })) {
            let _ = refused.reply.send(Err(StoreError::Closed));
        }
        answer
    }

    fn keep(&self, kept: Kept) -> std::result::Result<(), Kept> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else { return Err(kept) };
        self.connections.shared.metrics.writer_queue().inc();
        queue.send(kept).map_err(|refused| refused.0)
    }

    pub(super) fn health(&self) -> StoreHealth {
        let queued = self.connections.shared.metrics.writer_queue().get();
        let shared = self.connections.shared.health(u64::try_from(queued).unwrap_or_default());
        StoreHealth { is_unheard: self.membership().is_unheard(), ..shared }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.connections.shared
    }

    /// Commits what is queued and ends.
    pub(super) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let flusher = self.flusher.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.unanswered.close();
        let last = async {
            self.unanswered.wait().await;
            if let Some(flusher) = flusher {
                // A panic in it was told of.
                let _ = flusher.await;
            }
        };
        if tokio::time::timeout(LAST_COMMITS, last).await.is_err() {
            tracing::warn!("the database did not take the last commits in time");
        }
        self.connections.close();
        self.end_tasks();
    }
}

impl Queries for Database {
    async fn rows(&self, sql: &str, arguments: &[Argument<'_>]) -> Attempt<Vec<Row>> {
        self.connections.read(sql, arguments).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(flusher) = self.flusher.lock().unwrap_or_else(PoisonError::into_inner).take() {
            flusher.abort();
        }
        self.connections.close();
        self.end_tasks();
    }
}
