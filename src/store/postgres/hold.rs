//! The hold on the schema: one process at a time, until several can share one.

use std::sync::Arc;
use std::time::Duration;

use super::arguments::arguments;
use super::connections::{Connections, in_time};
use super::server::{Alone, Server};
use crate::store::{Result, StoreError};

/// How long a start waits for the process before: its server process may take a moment to notice its end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the hold is looked after.
const LOOK: Duration = Duration::from_secs(3);

/// A held schema.
///
/// The lock belongs to a transaction that stays open, not to a session: behind a proxy that gives each transaction
/// another session a lock of the latter would belong to nobody. The transaction has neither a snapshot nor a
/// number, so it keeps nothing from being cleaned up.
pub(super) struct Hold {
    alone: Alone,
}

impl Hold {
    /// Takes the hold.
    ///
    /// # Errors
    /// [`StoreError::SchemaInUse`] if another process has it.
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
                return Ok(Self { alone });
            }
            if tokio::time::Instant::now() >= until {
                return Err(StoreError::SchemaInUse(schema.to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether it is known to be lost.
    pub(super) fn is_lost(&self) -> bool {
        self.alone.client.is_closed()
    }

    /// Returns when it is lost.
    async fn lost(&mut self) {
        loop {
            tokio::select! {
                () = self.alone.ended() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if in_time(self.alone.client.batch_execute("SELECT 1")).await.is_err() {
                return;
            }
        }
    }

    /// Looks after the hold for as long as the store is open. While it is lost nothing is written: another
    /// process may have it.
    pub(super) async fn keep(mut self, server: Server, schema: String, connections: Arc<Connections>) {
        loop {
            self.lost().await;
            connections.tell_held(false);
            connections.shared.tell_away(true);
            tracing::warn!(schema, "the hold on the schema was lost; nothing is written until it is back");
            self = loop {
                match Self::take(&server, &schema).await {
                    Ok(hold) => break hold,
                    Err(error) => tracing::warn!(error = %error, "the hold on the schema is not back"),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            };
            connections.tell_held(true);
            tracing::info!(schema, "the hold on the schema is back");
        }
    }
}
