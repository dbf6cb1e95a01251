//! The hold of a copy on its schema: one copy at a time, and no service beside it.

use std::time::Duration;

use super::arguments::arguments;
use super::connections::in_time;
use super::fault::Attempt;
use super::server::{Alone, Server};
use crate::store::ownership::DEAD_AFTER;
use crate::store::{Result, StoreError};

/// How long a copy waits for the one before: its server process may take a moment to notice its end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A held schema, by the lock that `unfinished_copy` speaks of. Its transaction has neither a snapshot nor a number,
/// so it keeps nothing from being cleaned up.
pub(super) struct Hold {
    alone: Alone,
}

impl Hold {
    /// Takes the hold.
    ///
    /// # Errors
    /// [`StoreError::SchemaInUse`] if another copy has it, or a service runs on the schema.
    pub(super) async fn take(server: &Server, schema: &str) -> Result<Self> {
        let alone = server.connect().await?;
        let begin =
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 5000";
        in_time(alone.client.batch_execute(begin)).await?;
        let until = tokio::time::Instant::now() + PATIENCE;
        let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended('sluicegate holds ' || $1, 0))";
        loop {
            let rows = in_time(alone.client.query_typed(sql, &arguments![schema])).await?;
            if rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
                break;
            }
            if tokio::time::Instant::now() >= until {
                return Err(StoreError::SchemaInUse(schema.to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if has_workers(server, schema).await? {
            return Err(StoreError::SchemaInUse(schema.to_owned()));
        }
        Ok(Self { alone })
    }

    /// Whether it is known to be lost.
    pub(super) fn is_lost(&self) -> bool {
        self.alone.client.is_closed()
    }
}

/// Whether a worker was heard of lately.
async fn has_workers(server: &Server, schema: &str) -> Attempt<bool> {
    let alone = server.connect().await?;
    let asked = async {
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'worker')";
        let has_table: bool = alone.client.query_typed_one(sql, &arguments![schema]).await?.try_get(0)?;
        if !has_table {
            return Ok(false);
        }
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM \"{schema}\".worker WHERE ended_at IS NULL \
             AND beat_at > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1)"
        );
        let lately = i64::try_from(DEAD_AFTER.as_micros()).unwrap_or(i64::MAX);
        alone.client.query_typed_one(&sql, &arguments![lately]).await?.try_get(0)
    };
    in_time(asked).await
}
