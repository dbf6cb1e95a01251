//! The levels that several heads share, and the heads that wait behind them.

use super::cost::Cost;
use super::reason::Reason;
use super::slots::Key;
use super::turns::{Turn, TurnHeap};
use crate::domain::time::Timestamp;

/// The most levels of a path.
pub const MOST_LEVELS: usize = 6;

/// A path's id. One kept after the path was removed finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathId(pub(super) Key);

/// A waiting head's id. One kept after the head was admitted or withdrawn finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeadId(pub(super) Key);

/// The next call of one lane, app and batch, waiting for its turn.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The caller's own number, given back when it is admitted.
    pub tag: u64,
    /// The levels that it shares with others.
    pub path: PathId,
    /// A level of its own, such as its batch's.
    pub own: Option<super::level::LevelId>,
    /// What it takes.
    pub cost: Cost,
    /// Its place among its app's heads: the lower goes first, among equals the earlier.
    pub turn: u64,
    /// Whether a client waits for it: it goes before others within its share.
    pub interactive: bool,
}

/// A list of levels that can be compared and copied without allocating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LevelList {
    indices: [u32; MOST_LEVELS],
    length: u8,
}

impl LevelList {
    /// Adds one more; false if the list is full.
    pub(super) fn push(&mut self, index: u32) -> bool {
        let place = self.indices.get_mut(usize::from(self.length));
        let Some(place) = place else { return false };
        *place = index;
        self.length += 1;
        true
    }

    /// The levels that another list has too.
    pub(super) fn common(self, other: Self) -> Self {
        let mut common = Self::default();
        for level in self.as_slice().iter().filter(|level| other.as_slice().contains(level)) {
            common.push(*level);
        }
        common
    }

    /// The levels, outermost first.
    pub(super) fn as_slice(&self) -> &[u32] {
        &self.indices[..usize::from(self.length)]
    }
}

/// Where a path's heads wait at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PathState {
    /// Nobody waits.
    #[default]
    Idle,
    /// About to try, sent by a level that opened or by a change of its first head.
    Ready { from: Option<u32> },
    /// Trying: who comes first is looked at again before anything is decided.
    Trying,
    /// At one level, in its order of turns.
    Waiting { level: u32 },
}

/// Why a path waits, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) level: u32,
    pub(super) reason: Reason,
    pub(super) since: Timestamp,
    pub(super) until: Option<Timestamp>,
}

/// One distinct list of shared levels. Heads with the same levels are alike in everything but their
/// turn, so only the first of them is tried: ten thousand waiting heads cost what one does.
#[derive(Debug, Default)]
pub(super) struct Path {
    pub(super) levels: LevelList,
    /// Whether its heads are interactive ones; others with the same levels have a path of their own.
    pub(super) interactive: bool,
    /// The ordinal of its app; 0 if it has none.
    pub(super) app: u32,
    /// The level of its app.
    pub(super) app_level: Option<u32>,
    /// When a head of it left or was taken back last.
    pub(super) left_at: Timestamp,
    /// The round in which it may try again.
    pub(super) round: u64,
    pub(super) heads: TurnHeap,
    pub(super) state: PathState,
    pub(super) wait: Option<Wait>,
    /// How often it was added and not yet removed.
    pub(super) added: u32,
    /// Heads that wait here or at a level of their own.
    pub(super) members: u32,
    pub(super) grants: u32,
}

/// A head as it waits.
#[derive(Debug, Default)]
pub(super) struct WaitingHead {
    pub(super) tag: u64,
    pub(super) path: u32,
    pub(super) own: Option<u32>,
    pub(super) cost: Cost,
    pub(super) turn: Turn,
    /// Why it waits at its own level, while it does.
    pub(super) own_wait: Option<Wait>,
}
