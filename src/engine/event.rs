//! What the dispatcher is told by the tasks it started.

use tokio::sync::oneshot;

use crate::domain::app::AppRecord;
use crate::domain::batch::BatchStatus;
use crate::domain::ids::{AppKey, BatchKey};
use crate::domain::limit_status::LimitStatus;
use crate::domain::progress::{ItemProgress, WindowQuestion, WouldFit};
use crate::store::Claimed;

use super::attempt::Ended;
use super::interactive::Note;
use super::item::{FeedId, LeaseKey};
use super::loader::Loaded;
use super::lost::Lost;
use super::refresh::Refreshed;
use super::settings::EngineSettings;
use super::sharing::{Exchanged, LevelsRead};

#[derive(Debug)]
pub(super) enum Event {
    /// Several of them, in their order.
    Several(Vec<Event>),
    /// An attempt ended.
    Ended(Box<Ended>),
    /// An attempt's task panicked.
    Lost(Lost),
    /// A leased segment's bytes are here, for the first time or again.
    Loaded { lease: LeaseKey, loaded: Box<Loaded> },
    /// Segments of a feed were claimed.
    Claimed { feed: FeedId, batch: BatchKey, claimed: Claimed },
    /// The batches that the store says are active.
    Refreshed(Refreshed),
    /// An exchange with the shared ledger came to an end.
    Exchanged(Box<Exchanged>),
    /// What other workers saved of levels.
    LevelsRead(Box<LevelsRead>),
    /// This worker joined anew, after others had taken its work over.
    Rejoined,
    /// A batch's stop is durable, or was not needed any more.
    StopRecorded { batch: BatchKey },
    /// The closer wrote the rest of a batch, which ended it unless something else did.
    Closed { batch: BatchKey, ended: Option<BatchStatus> },
    /// A reply wants more memory; answered with the bytes charged for it.
    Grow { call: u64, bytes: u64, reply: oneshot::Sender<u64> },
    /// A provider's key changed.
    KeyChanged { provider: String },
    /// A client's own call changed.
    Interactive(Box<Note>),
    /// What the store says of all apps.
    Apps(Vec<AppRecord>),
    /// Somebody asks what limits there are.
    ShowLimits { of_app: Option<AppKey>, reply: oneshot::Sender<Vec<LimitStatus>> },
    /// Somebody asks how far an item is that has no result: by its batch, segment and line.
    ShowItem { lease: LeaseKey, line: u32, reply: oneshot::Sender<ItemProgress> },
    /// Somebody asks whether a batch would end within its window; answered with what would fit if it would not.
    Reach { question: Box<WindowQuestion>, reply: oneshot::Sender<Option<WouldFit>> },
    /// Other settings hold from now on; answered once they do.
    Reload { settings: Box<EngineSettings>, reply: oneshot::Sender<()> },
    /// An operator pauses a lane, or ends its pause; answered with the state it is in then.
    PauseLane { provider: String, model: String, paused: bool, reply: oneshot::Sender<Option<&'static str>> },
}
