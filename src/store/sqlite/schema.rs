//! The schema: numbered migrations, each applied once, in one transaction.

use rusqlite::{Connection, OptionalExtension};

use super::fault::Fault;
use crate::store::StoreError;

/// One step of the schema; its number is its place in [`MIGRATIONS`], from 1.
struct Migration {
    sql: &'static str,
    /// The oldest schema whose programs can still work on the result.
    min_compatible: u32,
}

const MIGRATIONS: [Migration; 7] = [
    Migration { sql: include_str!("../../../migrations/sqlite/0001_first.sql"), min_compatible: 1 },
    Migration { sql: include_str!("../../../migrations/sqlite/0002_apps.sql"), min_compatible: 2 },
    Migration { sql: include_str!("../../../migrations/sqlite/0003_workers.sql"), min_compatible: 3 },
    Migration { sql: include_str!("../../../migrations/sqlite/0004_ledger.sql"), min_compatible: 3 },
    Migration { sql: include_str!("../../../migrations/sqlite/0005_shares.sql"), min_compatible: 3 },
    Migration { sql: include_str!("../../../migrations/sqlite/0006_running.sql"), min_compatible: 3 },
    Migration { sql: include_str!("../../../migrations/sqlite/0007_heads.sql"), min_compatible: 3 },
];

/// The newest schema this program knows.
pub(super) const SUPPORTED: u32 = MIGRATIONS.len() as u32;

/// Brings the database to [`SUPPORTED`], or leaves a newer one that says it can be worked on.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    let (found, min_compatible) = marked(connection)?;
    if min_compatible > SUPPORTED {
        return Err(StoreError::NewerSchema { found: min_compatible, supported: SUPPORTED }.into());
    }
    for (number, migration) in (1..).zip(&MIGRATIONS).skip(found as usize) {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration.sql)?;
        transaction.execute("DELETE FROM schema", [])?;
        transaction.execute("INSERT INTO schema VALUES (?1, ?2)", (number, migration.min_compatible))?;
        transaction.commit()?;
    }
    Ok(())
}

/// (version, `min_compatible`) as stored; zeros for an empty database.
pub(super) fn marked(connection: &Connection) -> Result<(u32, u32), Fault> {
    let exists: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema')",
        [],
        |row| row.get(0),
    )?;
    if !exists {
        return Ok((0, 0));
    }
    let row = connection
        .query_row("SELECT version, min_compatible FROM schema", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    row.ok_or_else(|| StoreError::Damaged("the schema row is missing".to_owned()).into())
}
