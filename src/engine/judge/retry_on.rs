//! Which failures are tried again.

use crate::metrics::RetryReason;

/// A set of reasons. A lane's refusals and stops are not failures of an item and not in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn(u16);

impl RetryOn {
    /// Every reason.
    pub const ALL: Self = Self(u16::MAX);

    /// These reasons and no other.
    pub fn only(reasons: &[RetryReason]) -> Self {
        Self(reasons.iter().fold(0, |set, reason| set | 1 << reason.index()))
    }

    /// Whether failures of this kind are tried again.
    pub const fn contains(&self, reason: RetryReason) -> bool {
        self.0 & 1 << reason.index() != 0
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Self::ALL
    }
}
