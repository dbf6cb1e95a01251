//! Exchanges with the ledger that workers share.

use crate::domain::exchange::{Answer, Ask};
use crate::store::{Database, Result, Store, StoreError, postgres};

impl Store {
    /// Tells the ledger what this worker gives back and has settled, and asks for what it needs next.
    /// Answered within two seconds, or failed: then the same ask, sent again, is safe.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] once others have taken its work over; [`StoreError::Unavailable`] of a database that no two
    /// processes share, too, which has no ledger.
    pub async fn exchange(&self, ask: &Ask) -> Result<Answer> {
        match &self.database {
            Database::Sqlite(_) => Err(StoreError::Unavailable("a database file is not shared".to_owned())),
            Database::Postgres(database) => postgres::exchange::exchange(database, ask).await,
        }
    }
}
