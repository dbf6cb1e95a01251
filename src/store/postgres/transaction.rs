//! One transaction: its statements, its commit, and what is sure when the connection breaks in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use deadpool_postgres::Object;
use futures_util::future::{join, join_all};
use tokio::runtime::Handle;
use tokio_postgres::Row;

use super::arguments::{Argument, Statement};
use super::connections::{Connections, Fate, NO_TIME, PATIENCE, Queries, in_time, no_answer};
use super::fault::{Attempt, Fault};
use super::membership::Membership;
use crate::domain::time::Timestamp;
use crate::store::shared::Effects;

/// A transaction under way; dropping it rolls back.
pub(crate) struct Transaction {
    client: Option<Object>,
    connections: Arc<Connections>,
    /// Its number; empty where it only reads.
    pub(super) id: String,
    /// The database's time at its begin.
    pub(super) now: Timestamp,
    /// What its commit is to tell.
    pub(super) effects: Effects,
    /// No answer came: the connection can't be used again.
    is_mute: AtomicBool,
}

impl Transaction {
    pub(super) fn on(client: Object, connections: Arc<Connections>) -> Self {
        let (id, is_mute) = (String::new(), AtomicBool::new(false));
        Self { client: Some(client), connections, id, now: NO_TIME, effects: Effects::default(), is_mute }
    }

    /// This process among the workers.
    pub(super) fn membership(&self) -> &Membership {
        &self.connections.membership
    }

    /// Runs a statement that returns nothing; the rows it touched.
    pub(super) async fn execute(&self, sql: &str, arguments: &[Argument<'_>]) -> Attempt<u64> {
        let client = self.client()?;
        self.bounded(async { Ok(client.execute_typed(sql, arguments).await?) }).await
    }

    /// Sends the statements in one go. Fewer than 30: so many are sent in their order.
    pub(super) async fn run(&self, statements: &[Statement]) -> Attempt<()> {
        let client = self.client()?;
        let arguments: Vec<_> = statements.iter().map(Statement::arguments).collect();
        let runs = statements.iter().zip(&arguments);
        let runs = runs.map(|(statement, arguments)| client.execute_typed(statement.sql(), arguments));
        let ran = self.bounded(async { Ok(join_all(runs).await) }).await?;
        Ok(ran.into_iter().collect::<Result<Vec<u64>, _>>().map(|_| ())?)
    }

    /// Makes it durable, and rings for what it changed.
    pub(super) async fn commit(self) -> Attempt<()> {
        self.commit_with(&[]).await
    }

    /// Sends the statements and the commit in one go. Fewer than 30: so many are sent in their order.
    pub(super) async fn commit_with(mut self, statements: &[Statement]) -> Attempt<()> {
        debug_assert!(statements.len() < 30, "the order of sending");
        let began = Instant::now();
        let sent = self.bounded(self.send_with_commit(statements)).await;
        match sent {
            Err(fault) if fault.is_lost() => {
                drop(self.client.take().map(Object::take));
                match self.connections.fate(&self.id).await? {
                    Fate::Committed => {}
                    Fate::Aborted => return Err(fault),
                    Fate::Forgotten => return Err(Fault::Unknown(self.id.clone())),
                }
            }
            sent => sent?,
        }
        // Back to its pool, before anyone who is rung for wants one.
        drop(self.client.take());
        self.connections.shared.metrics.committed(self.effects.rows, began.elapsed());
        self.connections.shared.ring(self.effects);
        Ok(())
    }

    async fn send_with_commit(&self, statements: &[Statement]) -> Attempt<()> {
        let commit = async { Ok(self.client()?.batch_execute("COMMIT").await?) };
        let (ran, committed) = join(self.run(statements), commit).await;
        // After a statement that failed the server answers a commit with a rollback, and with no error.
        ran?;
        committed
    }

    /// Its connection.
    pub(super) fn client(&self) -> Attempt<&Object> {
        self.client.as_ref().ok_or_else(no_answer)
    }

    /// An answer of the connection, in time.
    pub(super) async fn bounded<T>(&self, answer: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.is_mute.store(true, Ordering::Relaxed);
                Err(no_answer())
            }
        }
    }
}

impl Queries for Transaction {
    async fn rows(&self, sql: &str, arguments: &[Argument<'_>]) -> Attempt<Vec<Row>> {
        let client = self.client()?;
        self.bounded(async { Ok(client.query_typed(sql, arguments).await?) }).await
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        match Handle::try_current() {
            // What was sent before is answered first, so that the connection is clean again after this.
            Ok(runtime) if !*self.is_mute.get_mut() && !client.is_closed() => {
                runtime.spawn(async move {
                    if in_time(client.batch_execute("ROLLBACK")).await.is_err() {
                        drop(Object::take(client));
                    }
                });
            }
            _ => drop(Object::take(client)),
        }
    }
}
