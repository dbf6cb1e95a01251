//! API keys: made, listed, revoked. Their texts never come here.

use std::time::Duration;

use crate::domain::api_key::{KeyHash, KeyRecord, Scope};
use crate::domain::app::AppName;
use crate::domain::day::Day;
use crate::domain::ids::KeyId;
use crate::domain::time::Timestamp;

use super::sqlite::{Lane, Span, Writing, api_keys};
use super::{Database, Page, Result, Store, postgres};

/// Most keys that are good at once: all of them are held in memory, so that no call costs a query.
pub const MOST_LIVE_KEYS: u64 = 10_000;

/// A key about to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its public id.
    pub id: KeyId,
    /// What its text hashes to.
    pub hash: KeyHash,
    /// What its maker calls it.
    pub name: Option<String>,
    /// From when on it is refused; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// Whose it is and what it is for.
    pub origin: KeyOrigin,
}

/// Whose a new key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// An app's; the app is made if there is none of that name.
    App {
        /// Its name.
        name: AppName,
        /// What the key lets its holder do.
        scope: Scope,
    },
    /// It takes the place of another one, with its app and scope; that one is refused once `overlap` has passed.
    Replacing {
        /// The other key.
        id: KeyId,
        /// How long both are good.
        overlap: Duration,
    },
}

/// What became of making a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKeyOutcome {
    /// Made.
    Made(KeyRecord),
    /// The key to be replaced is not there, or is refused already.
    NothingToReplace,
    /// There are [`MOST_LIVE_KEYS`] good keys already.
    TooManyKeys,
    /// There are [`MOST_APPS`](super::MOST_APPS) apps already.
    TooManyApps,
}

/// Which keys to list, in the order of their making.
#[derive(Clone, Debug)]
pub struct KeyQuery {
    /// Only this app's.
    pub app: Option<AppName>,
    /// The last id of the page before; one that is unknown gives an empty page.
    pub after: Option<KeyId>,
    /// Most entries.
    pub limit: usize,
}

/// The keys that may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveKeys {
    /// Those that are not revoked and had not expired when this was read.
    pub keys: Vec<KeyRecord>,
    /// Whether there ever was a key, good or not: a service that had one does not open up again because the
    /// last one ended.
    pub any_ever: bool,
}

impl Store {
    /// Makes a key.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn create_api_key(&self, key: NewKey) -> Result<NewKeyOutcome> {
        match &self.database {
            Database::Sqlite(database) => {
                database.write(Lane::Control, move |writing| api_keys::create(writing, &key)).await
            }
            Database::Postgres(database) => postgres::api_keys::create(database, &key).await,
        }
    }

    /// Revokes a key; revoking it again changes nothing. `false`: there is none.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn revoke_api_key(&self, id: &KeyId) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => {
                let id = id.clone();
                database.write(Lane::Control, move |writing| api_keys::revoke(writing, &id)).await
            }
            Database::Postgres(database) => postgres::api_keys::revoke(database, id).await,
        }
    }

    /// A page of keys, the ended ones too.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn api_keys(&self, query: KeyQuery) -> Result<Page<KeyRecord>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| api_keys::page(connection, &query)).await
            }
            Database::Postgres(database) => postgres::api_keys::page(database, &query).await,
        }
    }

    /// The keys that may be used at that moment.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn live_api_keys(&self, now: Timestamp) -> Result<LiveKeys> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| api_keys::live(connection, now)).await
            }
            Database::Postgres(database) => postgres::api_keys::live(database, now).await,
        }
    }

    /// Notes the day of a key's use. Not awaited, and lost in a crash: it only tells which keys are idle.
    pub fn note_api_key_used(&self, id: &KeyId, day: Day) {
        match &self.database {
            Database::Sqlite(database) => {
                let id = id.clone();
                let command = move |writing: &mut Writing<'_>| api_keys::note_used(writing, &id, day);
                database.write_unanswered(Lane::Control, command);
            }
            Database::Postgres(database) => postgres::api_keys::note_used(database, id.clone(), day),
        }
    }
}
