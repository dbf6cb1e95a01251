//! How the boot before ended, and whom that makes suspect: pure, the same for every database.

use crate::domain::ids::BatchKey;

/// Boots remembered: only the last matters, the others are for whoever looks into an accident.
pub(super) const REMEMBERED: i64 = 20;

/// An item that boots died with, and how many in a row did.
pub(super) type Suspect = (BatchKey, u32, u32);

/// The boot before, as its row tells.
pub(super) struct PreviousBoot {
    pub(super) clean: bool,
    pub(super) recorded: bool,
    pub(super) alone: Option<(BatchKey, u32)>,
    pub(super) suspect: Option<Suspect>,
}

impl PreviousBoot {
    /// Whom to suspect now. A boot that died before it named anyone proves nothing new.
    pub(super) fn suspect_now(&self) -> Option<Suspect> {
        if self.clean || self.recorded {
            return None;
        }
        let Some((batch, line)) = self.alone else { return self.suspect };
        let before = self.suspect.filter(|(b, l, _)| (*b, *l) == (batch, line));
        Some((batch, line, before.map_or(0, |(_, _, deaths)| deaths) + 1))
    }
}
