//! The schema: numbered migrations, each applied once, all that are missing in one transaction.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::arguments::arguments;
use super::connections::BEGIN;
use super::fault::{Attempt, Fault, told};
use super::server::Server;
use crate::store::StoreError;

/// One step of the schema; its number is its place in [`MIGRATIONS`], from 1, and means what the same number
/// means in the other database.
struct Migration {
    sql: &'static str,
    /// The oldest schema whose programs can still work on the result.
    min_compatible: i64,
}

const MIGRATIONS: [Migration; 7] = [
    Migration { sql: include_str!("../../../migrations/postgres/0001_first.sql"), min_compatible: 1 },
    Migration { sql: include_str!("../../../migrations/postgres/0002_apps.sql"), min_compatible: 2 },
    Migration { sql: include_str!("../../../migrations/postgres/0003_workers.sql"), min_compatible: 3 },
    Migration { sql: include_str!("../../../migrations/postgres/0004_ledger.sql"), min_compatible: 3 },
    Migration { sql: include_str!("../../../migrations/postgres/0005_shares.sql"), min_compatible: 3 },
    Migration { sql: include_str!("../../../migrations/postgres/0006_running.sql"), min_compatible: 3 },
    Migration { sql: include_str!("../../../migrations/postgres/0007_heads.sql"), min_compatible: 3 },
];

/// The newest schema this program knows.
pub(super) const SUPPORTED: i64 = MIGRATIONS.len() as i64;

/// Brings the schema to [`SUPPORTED`], or leaves a newer one that says it can be worked on. Two programs that
/// start at once do it one after the other.
pub(super) async fn migrate(server: &Server, schema: &str) -> Result<(), StoreError> {
    let alone = server.connect().await?;
    let migrated = async {
        // No limit to a statement: an index over many rows takes its time. The wait for somebody's lock has one.
        let begin = format!("{BEGIN}; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 60000");
        alone.client.batch_execute(&begin).await?;
        let sql = "SELECT pg_advisory_xact_lock(hashtextextended('sluicegate migrations of ' || $1, 0))";
        alone.client.query_typed(sql, &arguments![schema]).await?;
        apply(&alone.client, schema).await?;
        alone.client.batch_execute("COMMIT").await?;
        Ok(())
    };
    migrated.await.map_err(|fault: Fault| match &fault {
        Fault::Database(error) if fault.is(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            StoreError::Unavailable(format!("{}: {}", may_not_change(server, schema), told(error)))
        }
        _ => fault.into(),
    })
}

fn may_not_change(server: &Server, schema: &str) -> String {
    let user = server.user();
    format!(
        "user {user} may not make or change the schema {schema}; make it with CREATE SCHEMA {schema} AUTHORIZATION {user}"
    )
}

/// What [`migrate`] would say, before it tries.
pub(super) fn not_allowed(server: &Server, schema: &str) -> StoreError {
    StoreError::Unavailable(may_not_change(server, schema))
}

/// Refuses a schema that only newer programs can work on.
pub(super) fn refuse_newer(min_compatible: i64) -> Result<(), StoreError> {
    if min_compatible > SUPPORTED {
        let (found, supported) = (min_compatible as u32, SUPPORTED as u32);
        return Err(StoreError::NewerSchema { found, supported });
    }
    Ok(())
}

async fn apply(client: &Client, schema: &str) -> Attempt<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
    // Asked first: the statement itself needs a right that one who only uses the schema has not.
    let exists: bool = client.query_typed_one(sql, &arguments![schema]).await?.try_get(0)?;
    if !exists {
        client.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await?;
    }
    client.batch_execute(&format!("SET LOCAL search_path = \"{schema}\"")).await?;
    let (found, min_compatible) = marked(client, schema).await?;
    refuse_newer(min_compatible)?;
    for (number, migration) in (1..).zip(&MIGRATIONS).filter(|(number, _)| *number > found) {
        client.batch_execute(migration.sql).await?;
        client.execute_typed("DELETE FROM schema", &[]).await?;
        let sql = "INSERT INTO schema VALUES ($1, $2)";
        client.execute_typed(sql, &arguments![number, migration.min_compatible]).await?;
    }
    Ok(())
}

/// (version, `min_compatible`) as stored; zeros for an empty schema.
pub(super) async fn marked(client: &Client, schema: &str) -> Attempt<(i64, i64)> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'schema')";
    let exists: bool = client.query_typed_one(sql, &arguments![schema]).await?.try_get(0)?;
    if !exists {
        return Ok((0, 0));
    }
    let rows = client.query_typed("SELECT version, min_compatible FROM schema", &[]).await?;
    let row = rows.first().ok_or_else(|| StoreError::Damaged("the schema row is missing".to_owned()))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
