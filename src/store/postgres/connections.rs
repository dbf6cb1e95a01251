//! The way to the server: pools for what must not wait for each other, and how long anything may take.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolConfig, QueueMode, RecyclingMethod, Runtime, Timeouts,
};
use futures_util::future::{join, join_all, join3};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use super::arguments::{Argument, arguments};
use super::columns::Columns;
use super::fault::{Attempt, Fault};
use super::membership::Membership;
use super::server::{Server, give_up};
use super::tls::Tls;
use super::transaction::Transaction;
use crate::domain::time::Timestamp;
use crate::store::shared::Shared;
use crate::store::{StoreError, WorkerSettings};

/// How long this side waits for an answer. Longer than the server's own limits, which say why: it counts where the
/// server is gone without a word.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
/// How long anyone waits for a connection.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(5);

/// What a connection is for. One kind's waiting never holds another's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Creates, cancels and the like: small, somebody waits.
    Control,
    /// Uploads and erasing.
    Bulk,
    /// Results.
    Flush,
}

/// Every connection of a store but those of its beats and its bells.
pub(super) struct Connections {
    control: Pool,
    bulk: Pool,
    flush: Pool,
    read: Pool,
    pub(super) exchange: Pool,
    /// With its schema's name, so that it needs no transaction that sets a search path first.
    pub(super) exchange_sql: String,
    /// Asked at the start of what writes: facts of its transaction, which gets its settings with that.
    facts: String,
    /// For giving up what gets no answer.
    tls: Tls,
    /// Whether a statement by itself runs as `READ COMMITTED`.
    reads_committed: bool,
    begin_read: String,
    begin_snapshot: String,
    /// The schema's name, for statements that go without their transaction's settings.
    pub(super) schema: String,
    pub(super) membership: Membership,
    pub(super) shared: Arc<Shared>,
}

impl Connections {
    pub(super) fn new(
        server: &Server,
        schema: &str,
        worker: WorkerSettings,
        shared: Arc<Shared>,
    ) -> Attempt<Self> {
        // With each transaction, not once per connection: behind a proxy the next transaction may run on another one. All in
        // one statement, since a `SET LOCAL` for each would be half of what a short transaction has to say.
        // Plans are made for the values at hand, so compiling them never pays. A process that is stopped in the middle of
        // a transaction must not hold its locks for long: others write to the same batches.
        let search_path = format!("\"{schema}\"");
        let bounds = [
            ("search_path", search_path.as_str()),
            ("statement_timeout", "5000"),
            ("lock_timeout", "2000"),
            ("idle_in_transaction_session_timeout", "2000"),
            ("jit", "off"),
        ];
        let settings = |settings: &[(&str, &str)]| {
            let set = settings.iter().map(|(name, value)| format!("set_config('{name}', '{value}', TRUE)"));
            set.collect::<Vec<_>>().join(", ")
        };
        let reading = settings(&bounds);
        // What was acknowledged must survive the server's crash, whatever its administrator set for others.
        let writing = settings(&[&bounds[..], &[("synchronous_commit", server.commit_mode())]].concat());
        Ok(Self {
            control: pool(server, 4)?,
            bulk: pool(server, 2)?,
            flush: pool(server, 2)?,
            read: pool(server, 4)?,
            // One is enough, until an exchange gets no answer.
            exchange: pool(server, 2)?,
            exchange_sql: format!(
                "SELECT {CAME}, answer.*, shares.* FROM \"{schema}\".ledger_exchange({EXCHANGE_ARGUMENTS}) AS answer \
                 CROSS JOIN LATERAL \"{schema}\".ledger_shares(answer.now, {SHARES_ARGUMENTS}) AS shares"
            ),
            facts: format!("SELECT {FACTS}, {writing}"),
            begin_read: format!("{BEGIN} READ ONLY; SELECT {reading}"),
            tls: server.tls().clone(),
            reads_committed: server.reads_committed(),
            begin_snapshot: format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {reading}"),
            schema: schema.to_owned(),
            membership: Membership::new(worker, Arc::clone(&shared)),
            shared,
        })
    }

    /// Makes a connection of each kind. Where fewer are allowed a start says so: later the kinds that came first would keep
    /// all there are, and one of the others never get any.
    pub(super) async fn reserve(&self) -> Attempt<()> {
        let made = join_all(self.pools().map(Pool::get)).await;
        // Kept until all are there.
        made.into_iter().collect::<Result<Vec<Object>, _>>()?;
        Ok(())
    }

    fn pools(&self) -> [&Pool; 5] {
        [&self.control, &self.bulk, &self.flush, &self.read, &self.exchange]
    }

    /// Begins to write, on a connection of that kind.
    pub(super) async fn begin(self: &Arc<Self>, lane: Lane) -> Attempt<Transaction> {
        let pool = match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
            Lane::Flush => &self.flush,
        };
        match self.begin_once(pool).await {
            // A connection that broke while it was idle shows that only when used.
            Err(fault @ Fault::Database(_)) if fault.is_lost() => self.begin_once(pool).await,
            begun => begun,
        }
    }

    async fn begin_once(self: &Arc<Self>, pool: &Pool) -> Attempt<Transaction> {
        let mut transaction = Transaction::on(pool.get().await?, Arc::clone(self));
        let client = transaction.client()?;
        let asked = join(client.batch_execute(BEGIN), client.query_typed(&self.facts, &[]));
        let (begun, facts) = transaction.bounded(async { Ok(asked.await) }).await?;
        begun?;
        let facts = facts?;
        let row = facts.first().ok_or_else(|| Fault::Away("the server told no time".to_owned()))?;
        let mut columns = Columns::of(row);
        transaction.id = columns.take()?;
        transaction.now = columns.moment()?;
        Ok(transaction)
    }

    /// Begins to read one state of the database by several statements.
    pub(super) async fn snapshot(self: &Arc<Self>) -> Attempt<Transaction> {
        let transaction = Transaction::on(self.read.get().await?, Arc::clone(self));
        let client = transaction.client()?;
        transaction.bounded(async { Ok(client.batch_execute(&self.begin_snapshot).await?) }).await?;
        Ok(transaction)
    }

    /// One statement in a transaction of its own, in one round trip.
    pub(super) async fn read(&self, sql: &str, arguments: &[Argument<'_>]) -> Attempt<Vec<Row>> {
        match self.read_once(sql, arguments).await {
            Err(fault @ Fault::Database(_)) if fault.is_lost() => self.read_once(sql, arguments).await,
            rows => rows,
        }
    }

    /// One statement by itself, which names the schema of what it reads: of those that run all the time, none should
    /// cost three.
    pub(super) async fn read_plain(&self, sql: &str, arguments: &[Argument<'_>]) -> Attempt<Vec<Row>> {
        let client = self.read.get().await?;
        match tokio::time::timeout(PATIENCE, client.query_typed(sql, arguments)).await {
            Ok(rows) => Ok(rows?),
            Err(_) => {
                self.give_up(client);
                Err(no_answer())
            }
        }
    }

    /// A statement that writes by itself: names its schema, needs no settings.
    pub(super) async fn alone(
        &self,
        client: &Client,
        sql: &str,
        arguments: &[Argument<'_>],
    ) -> Attempt<Vec<Row>> {
        if self.reads_committed {
            return Ok(client.query_typed(sql, arguments).await?);
        }
        // The user's or the database's own setting: it would refuse a row that somebody else changed meanwhile.
        let (begin, query) = (client.batch_execute(BEGIN), client.query_typed(sql, arguments));
        let (begun, rows, committed) = join3(begin, query, client.batch_execute("COMMIT")).await;
        begun?;
        let rows = rows?;
        committed?;
        Ok(rows)
    }

    /// Ends a connection of a pool while its statement may still be waiting. Not for one that commits.
    pub(super) fn give_up(&self, client: Object) {
        let client = Object::take(client);
        let cancel = client.cancel_token();
        give_up(client, cancel, self.tls.clone());
    }

    async fn read_once(&self, sql: &str, arguments: &[Argument<'_>]) -> Attempt<Vec<Row>> {
        let client = self.read.get().await?;
        // Sent together: the answers of all three come back in one go.
        let (begin, query) = (client.batch_execute(&self.begin_read), client.query_typed(sql, arguments));
        match tokio::time::timeout(PATIENCE, join3(begin, query, client.batch_execute("COMMIT"))).await {
            Ok((begun, rows, _)) => {
                begun?;
                Ok(rows?)
            }
            Err(_) => {
                drop(Object::take(client));
                Err(no_answer())
            }
        }
    }

    /// What became of a transaction whose commit got no answer; [`Fault::Unknown`] if that can't be told in time.
    ///
    /// The server keeps the outcome of every transaction, so nothing need be done twice to be sure.
    pub(super) async fn fate(&self, id: &str) -> Attempt<Fate> {
        let (number, started) = id.split_once('@').unwrap_or((id, ""));
        let asked = async {
            loop {
                match self.read(STATUS, &arguments![number, started]).await {
                    Ok(rows) => match rows.first().map(|row| row.try_get::<_, Option<&str>>(0)) {
                        Some(Ok(Some("committed"))) => return Fate::Committed,
                        // Its server process has not noticed yet that nobody is there any more.
                        Some(Ok(Some("in progress"))) => {}
                        Some(Ok(Some("started anew"))) => return Fate::Forgotten,
                        _ => return Fate::Aborted,
                    },
                    Err(Fault::Refused(StoreError::Closed)) => std::future::pending().await,
                    // A crash took it, and its number is still to be given out again.
                    Err(fault) if fault.is(&SqlState::INVALID_PARAMETER_VALUE) => return Fate::Forgotten,
                    Err(fault) => {
                        tracing::debug!(error = %fault.answer(), "a commit's outcome is asked for again")
                    }
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(FATE_PATIENCE, asked).await.map_err(|_| Fault::Unknown(id.to_owned()))
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        for pool in self.pools() {
            pool.close();
        }
    }
}

/// Whatever is usual for the user: what waited for somebody's lock goes on with the row as it is then.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

const EXCHANGE_ARGUMENTS: &str =
    "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18";
/// When a statement came, before it waited for anybody's lock.
const CAME: &str = "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint";
const SHARES_ARGUMENTS: &str = "$19, $20, $21, $22, $23";
/// The transaction's number, which makes it one that its outcome can be asked for, with the server's start, and the
/// database's time. A server that crashed gives numbers out again that no other transaction of before saw on disk.
const FACTS: &str = "pg_current_xact_id()::text || '@' || extract(epoch FROM pg_postmaster_start_time())::text, \
     (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
/// What became of a number that was given out by a server started then.
const STATUS: &str = "SELECT CASE WHEN extract(epoch FROM pg_postmaster_start_time())::text = $2 \
     THEN pg_xact_status($1::text::xid8) ELSE 'started anew' END";
/// How long a commit's outcome is asked for. The server ends a transaction that nobody goes on with after 2 s.
const FATE_PATIENCE: Duration = Duration::from_secs(15);

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is durable.
    Committed,
    /// Nothing of it is there.
    Aborted,
    /// The server has started anew since: its rows may be there or not, and its number may be another's.
    Forgotten,
}

/// The fault of an answer that does not come.
pub(super) fn no_answer() -> Fault {
    Fault::Away(format!("the database did not answer within {} s", PATIENCE.as_secs()))
}

/// A server's answer, unless it takes too long.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Attempt<T> {
    Ok(tokio::time::timeout(PATIENCE, answer).await.map_err(|_| no_answer())??)
}

fn pool(server: &Server, most: usize) -> Attempt<Pool> {
    // Checked by use: a test query with each checkout would double the round trips.
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(server.config().clone(), server.clone(), config);
    let wait = Some(CONNECTION_PATIENCE);
    let config = PoolConfig {
        max_size: most,
        timeouts: Timeouts { wait, create: wait, recycle: wait },
        queue_mode: QueueMode::Fifo,
    };
    let pool = Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build();
    pool.map_err(|error| Fault::Away(error.to_string()))
}

/// Statements that read, each by itself or within a transaction.
pub(crate) trait Queries {
    /// The rows of a statement.
    fn rows(&self, sql: &str, arguments: &[Argument<'_>]) -> impl Future<Output = Attempt<Vec<Row>>> + Send;

    /// Its first row.
    fn row(&self, sql: &str, arguments: &[Argument<'_>]) -> impl Future<Output = Attempt<Option<Row>>> + Send
    where
        Self: Sync,
    {
        async move { Ok(self.rows(sql, arguments).await?.into_iter().next()) }
    }
}

/// The time of a transaction that did not begin.
pub(super) const NO_TIME: Timestamp = Timestamp::ZERO;
