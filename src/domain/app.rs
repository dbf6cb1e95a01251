//! Apps: the client applications, and what each of them may use.

use std::fmt;

use super::ids::AppKey;
use super::limits::Limits;
use super::time::Timestamp;

/// Longest name of an app, in bytes.
pub const LONGEST_APP_NAME: usize = 64;

/// An app's name: what operators call it by, and what its batches show.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppName(String);

impl AppName {
    /// A name of 1 to [`LONGEST_APP_NAME`] lower-case letters, digits, `_`, `-` and `.`, the first a letter or
    /// a digit: it stands in paths and in the gate's ledger. `None` for anything else.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let usual = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = text.bytes().next().is_some_and(usual);
        let rest = text.bytes().all(|byte| usual(byte) || matches!(byte, b'_' | b'-' | b'.'));
        (first && rest && text.len() <= LONGEST_APP_NAME).then_some(Self(text))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What an app may use. The default: an equal share, and no limit of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSettings {
    /// Its share among the apps that wait; at least 1.
    pub weight: u32,
    /// Limits over all of its calls, batches' and interactive ones.
    pub limits: Limits,
    /// The most items of its batches that may wait or run at once; `None`: any number.
    pub items_queued: Option<u64>,
    /// The most bytes of inputs and results that may be kept for it; `None`: any number.
    pub bytes_stored: Option<u64>,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self { weight: 1, limits: Limits::default(), items_queued: None, bytes_stored: None }
    }
}

/// An app's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRecord {
    /// The store's key.
    pub key: AppKey,
    /// Its name.
    pub name: AppName,
    /// What it may use.
    pub settings: AppSettings,
    /// When it was made; the first app is as old as its store.
    pub created_at: Timestamp,
}

/// What an app holds at one moment, as its quotas count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Items of its batches that have no result yet.
    pub items_queued: u64,
    /// Bytes of its files and of the results that running batches have so far.
    pub bytes_stored: u64,
}

/// A quota that something new would not fit in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverQuota {
    /// Which one.
    pub quota: Quota,
    /// The quota itself.
    pub limit: u64,
    /// What is held already.
    pub held: u64,
    /// What was to be added; 0 where that was not known yet.
    pub added: u64,
}

/// A quota of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// [`AppSettings::items_queued`].
    ItemsQueued,
    /// [`AppSettings::bytes_stored`].
    BytesStored,
}

impl OverQuota {
    /// Checks that what is held and what is to be added fit in a quota.
    ///
    /// # Errors
    /// How far they are above it.
    pub fn check(quota: Quota, limit: Option<u64>, held: u64, added: u64) -> Result<(), Self> {
        match limit {
            Some(limit) if held.saturating_add(added) > limit => Err(Self { quota, limit, held, added }),
            _ => Ok(()),
        }
    }

    /// How much must go before it fits; `None`: it never does.
    pub const fn excess(&self) -> Option<u64> {
        if self.added > self.limit { None } else { Some(self.held.saturating_add(self.added) - self.limit) }
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quota, limit, held, added } = self;
        let (name, what) = match quota {
            Quota::ItemsQueued => ("items_queued", "items"),
            Quota::BytesStored => ("bytes_stored", "bytes"),
        };
        write!(formatter, "the app's quota {name} is {limit} {what}, {held} are held and {added} were added")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("default", true)]
    #[case("team-a.search_2", true)]
    #[case("2nd", true)]
    #[case("", false)]
    #[case("-a", false)]
    #[case("A", false)]
    #[case("a b", false)]
    #[case("a/b", false)]
    #[case("ä", false)]
    fn names(#[case] text: &str, #[case] good: bool) {
        assert_eq!(AppName::new(text).is_some(), good);
    }

    #[test]
    fn a_name_has_a_longest() {
        assert!(AppName::new("a".repeat(64)).is_some());
        assert!(AppName::new("a".repeat(65)).is_none());
    }

    proptest! {
        #[test]
        fn what_is_let_in_fits_and_what_is_not_says_by_how_much(
            limit in 0..2_000_u64, held in 0..2_000_u64, added in 0..2_000_u64,
        ) {
            match OverQuota::check(Quota::ItemsQueued, Some(limit), held, added) {
                Ok(()) => prop_assert!(held + added <= limit),
                Err(over) => match over.excess() {
                    Some(excess) => {
                        prop_assert!(excess <= held, "it fits once so much is gone");
                        prop_assert!(OverQuota::check(over.quota, Some(limit), held - excess, added).is_ok());
                        let less = held - (excess - 1);
                        prop_assert!(OverQuota::check(over.quota, Some(limit), less, added).is_err());
                    }
                    None => prop_assert!(OverQuota::check(over.quota, Some(limit), 0, added).is_err()),
                },
            }
            prop_assert!(OverQuota::check(Quota::BytesStored, None, held, added).is_ok());
        }
    }
}
