//! Taking lines in: whatever the source, they are parsed, compressed and stored, each step on its
//! own thread, with little between them.
//!
//! Parsing and compressing cost about the same as the disk: one after another on one thread would
//! take in half as much. All channels are short, so a slow disk slows the client down instead of
//! filling the memory.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

use crate::clock::Clock;
use crate::domain::endpoint::Endpoint;
use crate::domain::file::{FileRecord, FileSource, FileSummary, KeyBlock, LineProblem};
use crate::domain::ids::{AppKey, FileId, FileKey};
use crate::domain::segment::{OpenSegment, Segment};
use crate::domain::time::Timestamp;
use crate::ingest::{self, ClosedSegment, Finished, Ingest, IngestLimits, StoredFile};
use crate::shutdown::Shutdown;
use crate::store::{NewFile, Store, StoreError};

use super::error::{ApiError, Refusal, Result};
use super::input::open_segment;
use super::places::Places;

/// Files taken in at once from clients' connections, however slow these are.
const STREAMS_AT_ONCE: usize = 16;
/// Of these, one app's at most.
const STREAMS_OF_APP: usize = 12;
/// Files made at once of bodies that are in memory or of other files.
const COPIES_AT_ONCE: usize = 8;
/// Of these, one app's at most.
const COPIES_OF_APP: usize = 6;
/// Compressed bytes stored by one command: more would hold the writer for too long.
const GROUP_BYTES: usize = 1 << 20;
/// Closed segments between parser and compressor.
const CLOSED_AHEAD: usize = 4;

/// Takes lines in. Cloning shares its places.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    store: Store,
    clock: Clock,
    shutdown: Shutdown,
    limits: IngestLimits,
    streams: Places,
    copies: Places,
}

/// Where lines come from: what waits for a client must not keep out what is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client's connection.
    Stream,
    /// Memory or the store.
    Copy,
}

/// How lines are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As they stand; problems are noted.
    Exactly,
    /// As they stand, and as they stood in another file before.
    Again,
    /// Completed from the batch's endpoint; problems are noted.
    Completed(Option<Endpoint>),
}

/// A file about to be taken in.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) app: AppKey,
    pub(crate) source: FileSource,
    pub(crate) filename: String,
    pub(crate) origin: Origin,
    pub(crate) reading: Reading,
}

impl Intake {
    pub(crate) fn new(store: Store, clock: Clock, shutdown: Shutdown, limits: IngestLimits) -> Self {
        let streams = Places::new(STREAMS_AT_ONCE, STREAMS_OF_APP);
        let copies = Places::new(COPIES_AT_ONCE, COPIES_OF_APP);
        Self { store, clock, shutdown, limits, streams, copies }
    }

    /// Takes in what `read` pushes, on a thread of its own. The draft is stored whole, yet nobody
    /// sees it before [`Draft::finish`].
    ///
    /// # Errors
    /// What `read` stopped with, the file's own refusals, and the store's.
    pub(crate) async fn take_in<R>(&self, arrival: Arrival, read: R) -> Result<Draft>
    where
        R: FnOnce(&mut Lines) -> std::result::Result<(), Stop> + Send + 'static,
    {
        let places = if arrival.origin == Origin::Stream { &self.streams } else { &self.copies };
        let place = places.take(arrival.app, 1).await?;
        let salt = rand::random();
        let created_at = self.clock.now();
        let file = NewFile {
            app: arrival.app,
            id: FileId::from_random(rand::random()),
            source: arrival.source,
            filename: arrival.filename,
            created_at,
            expires_at: None,
            salt,
        };
        let key = self.store.begin_file(file).await?;
        let mut draft = Draft {
            store: self.store.clone(),
            shutdown: self.shutdown.clone(),
            key,
            created_at,
            summary: FileSummary::default(),
            kept: false,
        };
        let ingest = match arrival.reading {
            Reading::Exactly => Ingest::new(self.limits, salt),
            Reading::Again => Ingest::again(self.limits, salt),
            Reading::Completed(endpoint) => Ingest::for_endpoint(self.limits, salt, endpoint),
        };
        let (closed, to_compress) = mpsc::channel(CLOSED_AHEAD);
        let (groups, to_store) = mpsc::channel(1);
        let parser = spawn_blocking(move || parse(Lines { ingest, closed }, read));
        spawn_blocking(move || compress(to_compress, &groups));
        store_groups(&self.store, key, to_store).await?;
        let (chunks, summary) = parser.await.map_err(died)?.map_err(Stop::into_error)?;
        draft.summary = find_duplicates(self.store.clone(), key, chunks, summary).await?;
        drop(place);
        Ok(draft)
    }
}

/// Why a reading stopped before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever was to take it on, or to bring it, is gone, and says why in its own place.
    Elsewhere,
    /// This is why.
    Refused(ApiError),
}

impl Stop {
    fn into_error(self) -> ApiError {
        match self {
            Self::Refused(error) => error,
            // Only seen if nobody said anything, which would be a defect.
            Self::Elsewhere => ApiError::internal("an intake stopped without a reason"),
        }
    }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<ingest::Refusal> for Stop {
    fn from(refusal: ingest::Refusal) -> Self {
        let kind = if refusal.is_too_large() { Refusal::TooLarge } else { Refusal::InvalidValue };
        Self::Refused(ApiError::new(kind, refusal.to_string()))
    }
}

/// Where the bytes of lines are pushed.
#[derive(Debug)]
pub(crate) struct Lines {
    ingest: Ingest,
    closed: mpsc::Sender<Parsed>,
}

/// What the parser hands on.
#[derive(Debug)]
enum Parsed {
    Segment(ClosedSegment),
    Keys(Vec<KeyBlock>),
}

impl Lines {
    /// Parses more bytes: pieces of 64 KiB to 1 MiB, cut anywhere. Blocks.
    ///
    /// # Errors
    /// If they can't be a file's, or nobody takes them any more.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> std::result::Result<(), Stop> {
        self.ingest.push(bytes)?;
        let (closed, keys) = (self.ingest.take_closed(), self.ingest.take_keys());
        hand_on(&self.closed, closed, keys)
    }

    /// The first thing wrong so far.
    pub(crate) fn first_problem(&self) -> Option<&LineProblem> {
        self.ingest.problems().first()
    }
}

fn hand_on(
    to: &mpsc::Sender<Parsed>,
    closed: Vec<ClosedSegment>,
    keys: Vec<KeyBlock>,
) -> std::result::Result<(), Stop> {
    for segment in closed {
        to.blocking_send(Parsed::Segment(segment)).map_err(|_| Stop::Elsewhere)?;
    }
    if keys.is_empty() {
        return Ok(());
    }
    to.blocking_send(Parsed::Keys(keys)).map_err(|_| Stop::Elsewhere)
}

fn parse<R>(mut lines: Lines, read: R) -> std::result::Result<(u32, FileSummary), Stop>
where
    R: FnOnce(&mut Lines) -> std::result::Result<(), Stop>,
{
    read(&mut lines)?;
    let Lines { ingest, closed: to } = lines;
    let Finished { closed, keys, chunks, summary } = ingest.finish()?;
    hand_on(&to, closed, keys)?;
    Ok((chunks, summary))
}

/// What one command stores.
#[derive(Debug)]
enum Group {
    Segments(Vec<Segment>),
    Keys(Vec<KeyBlock>),
}

fn compress(mut parsed: mpsc::Receiver<Parsed>, groups: &mpsc::Sender<Group>) {
    let (mut group, mut bytes) = (Vec::new(), 0);
    while let Some(next) = parsed.blocking_recv() {
        let full = match next {
            Parsed::Keys(keys) => Some(Group::Keys(keys)),
            Parsed::Segment(closed) => {
                let segment = closed.compress();
                bytes += segment.data.len();
                group.push(segment);
                (bytes >= GROUP_BYTES).then(|| {
                    bytes = 0;
                    Group::Segments(std::mem::take(&mut group))
                })
            }
        };
        if full.is_some_and(|full| groups.blocking_send(full).is_err()) {
            return;
        }
    }
    if !group.is_empty() {
        // If nobody takes it, whoever should have says why.
        let _ = groups.blocking_send(Group::Segments(group));
    }
}

async fn store_groups(store: &Store, file: FileKey, mut groups: mpsc::Receiver<Group>) -> Result<()> {
    while let Some(group) = groups.recv().await {
        match group {
            Group::Segments(segments) => store.append_segments(file, segments).await?,
            Group::Keys(keys) => store.append_keys(file, keys).await?,
        }
    }
    Ok(())
}

async fn find_duplicates(
    store: Store,
    file: FileKey,
    chunks: u32,
    mut summary: FileSummary,
) -> Result<FileSummary> {
    let runtime = Handle::current();
    let found = spawn_blocking(move || {
        let mut stored = Stored { store, file, runtime };
        ingest::find_duplicates(&mut stored, chunks, &mut summary).map(|()| summary)
    });
    Ok(found.await.map_err(died)??)
}

fn died(error: JoinError) -> ApiError {
    ApiError::internal(format!("an intake's thread ended: {error}"))
}

/// The file as stored so far, read from a thread without a runtime.
struct Stored {
    store: Store,
    file: FileKey,
    runtime: Handle,
}

impl StoredFile for Stored {
    type Error = StoreError;

    fn key_block(&mut self, chunk: u32, no: u32) -> std::result::Result<Option<KeyBlock>, StoreError> {
        self.runtime.block_on(self.store.key_block(self.file, chunk, no))
    }

    fn segment(&mut self, no: u32) -> std::result::Result<OpenSegment, StoreError> {
        self.runtime.block_on(open_segment(&self.store, self.file, no))
    }

    fn record_duplicates(&mut self, segment: u32, lines: Vec<u32>) -> std::result::Result<(), StoreError> {
        self.runtime.block_on(self.store.append_duplicates(self.file, segment, lines))
    }
}

/// A file that is stored but not seen; given up when dropped.
#[derive(Debug)]
pub(crate) struct Draft {
    store: Store,
    shutdown: Shutdown,
    key: FileKey,
    created_at: Timestamp,
    pub(crate) summary: FileSummary,
    kept: bool,
}

impl Draft {
    /// The file's row.
    pub(crate) fn key(&self) -> FileKey {
        self.key
    }

    /// Makes it a file, to be kept for `lifetime` if its client said so.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn finish(mut self, lifetime: Option<Duration>) -> Result<FileRecord> {
        let summary = std::mem::take(&mut self.summary);
        let expires_at = lifetime.map(|lifetime| self.created_at + lifetime);
        let file = self.store.finish_file(self.key, summary, expires_at).await?;
        self.kept = true;
        Ok(file)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            let (store, key) = (self.store.clone(), self.key);
            self.shutdown.spawn(async move { store.abandon_file(key).await });
        }
    }
}
