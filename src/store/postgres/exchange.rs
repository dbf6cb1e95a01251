//! Exchanges: one statement each, on connections that nothing else waits for.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::Row;

use super::Database;
use super::arguments::Argument;
use super::columns::Columns;
use super::connections::Connections;
use super::fault::{Attempt, Fault, damaged};
use super::told::{self, Told};
use crate::domain::exchange::{Answer, Ask};
use crate::domain::worker::WorkerKey;
use crate::store::{Result, StoreError};

/// How long an exchange may take, with the wait for a connection: what it would grant later is past by then.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the function says to a worker whose epoch is over.
const FENCED: &str = "SG001";

/// One exchange of this worker.
pub(crate) async fn exchange(database: &Database, ask: &Ask) -> Result<Answer> {
    let identity = database.membership().identity()?;
    let answered = exchange_of(database, (WorkerKey(identity.key), identity.epoch), ask).await;
    if answered == Err(StoreError::Fenced) {
        database.membership().lose(identity.epoch);
    }
    answered
}

/// One exchange of a worker in one of its epochs.
pub(in crate::store) async fn exchange_of(
    database: &Database,
    worker: (WorkerKey, i64),
    ask: &Ask,
) -> Result<Answer> {
    let connections = &database.connections;
    let told = Told::of(worker, ask);
    let arguments = told.arguments();
    let asked = async {
        match ask_once(connections, &arguments).await {
            // A connection that broke while it was idle shows that only when used. What is told is taken once.
            Err(fault @ Fault::Database(_)) if fault.is_lost() => ask_once(connections, &arguments).await,
            asked => asked,
        }
    };
    let late = || Fault::Away(format!("the ledger did not answer within {} s", PATIENCE.as_secs()));
    let rows = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| late()).flatten();
    let rows = rows.map_err(|fault| match &fault {
        Fault::Database(error) if error.code().is_some_and(|code| code.code() == FENCED) => {
            StoreError::Fenced
        }
        _ => fault.answer(),
    })?;
    let row = rows.first().ok_or_else(|| damaged("the ledger answered nothing"))?;
    Ok(told::answer(ask, &mut Columns::of(row))?)
}

async fn ask_once(connections: &Connections, arguments: &[Argument<'_>]) -> Attempt<Vec<Row>> {
    let mut client = Unanswered { client: Some(connections.exchange.get().await?), connections };
    let Some(connection) = &client.client else { return Ok(Vec::new()) };
    let rows = connections.alone(connection, &connections.exchange_sql, arguments).await;
    // It was answered, so it goes back to its pool.
    drop(client.client.take());
    rows
}

/// A connection that waits for an answer. Dropped before that came, it is of no use to anybody else: they would wait
/// for that answer first.
struct Unanswered<'a> {
    client: Option<Object>,
    connections: &'a Connections,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.connections.give_up(client);
        }
    }
}
