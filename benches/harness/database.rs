//! A PostgreSQL server as one that must not lose anything, and what it has done.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context as _;
use tokio_postgres::{Client, NoTls};

use super::say;

/// A server in a folder of its own.
///
/// It ends with its input, so a benchmark that is killed leaves none.
pub(crate) struct Server {
    process: Child,
    input: Option<ChildStdin>,
    url: String,
    client: Client,
    counts_statements: bool,
}

/// What a server has done since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Bytes of its log.
    pub(crate) log_bytes: f64,
    /// Statements, those that begin, set and commit too; 0 where they are not counted.
    pub(crate) statements: f64,
    /// Commits, likewise.
    pub(crate) commits: f64,
    /// Whole pages that the log had to take, likewise.
    pub(crate) full_pages: f64,
}

impl Work {
    /// What was done since an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            log_bytes: self.log_bytes - earlier.log_bytes,
            statements: self.statements - earlier.statements,
            commits: self.commits - earlier.commits,
            full_pages: self.full_pages - earlier.full_pages,
        }
    }
}

impl Server {
    /// Starts one.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres");
        let mut command = Command::new("bash");
        let command = command.arg(script).arg("durable").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let mut url = String::new();
        BufReader::new(output.context("the server's output")?).read_line(&mut url)?;
        let url = url.trim().to_owned();
        anyhow::ensure!(!url.is_empty(), "no PostgreSQL server: see above");
        let client = connect(&url).await?;
        let counting = client.batch_execute("CREATE EXTENSION pg_stat_statements").await;
        let server = Self { process, input, url, client, counts_statements: counting.is_ok() };
        server.client.batch_execute("CHECKPOINT").await?;
        Ok(server)
    }

    /// What `store.url` is set to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it has done so far.
    pub(crate) async fn work(&self) -> anyhow::Result<Work> {
        let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";
        let log_bytes = self.client.query_one(sql, &[]).await?.try_get(0)?;
        if !self.counts_statements {
            return Ok(Work { log_bytes, ..Work::default() });
        }
        let sql = "SELECT coalesce(sum(calls), 0)::float8, \
                   coalesce(sum(calls) FILTER (WHERE query = 'COMMIT'), 0)::float8, \
                   coalesce(sum(wal_fpi), 0)::float8 FROM pg_stat_statements";
        let row = self.client.query_one(sql, &[]).await?;
        let (statements, commits, full_pages) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Work { log_bytes, statements, commits, full_pages })
    }

    /// Counts calls of functions from now on.
    pub(crate) async fn count_functions(&self) -> anyhow::Result<()> {
        self.client.batch_execute("ALTER SYSTEM SET track_functions = 'all'").await?;
        Ok(self.client.batch_execute("SELECT pg_reload_conf()").await?)
    }

    /// How often a function was called since the start; servers tell about a second late.
    pub(crate) async fn function_calls(&self, name: &str) -> anyhow::Result<f64> {
        let sql = "SELECT coalesce(sum(calls), 0)::float8 FROM pg_stat_user_functions WHERE funcname = $1";
        Ok(self.client.query_one(sql, &[&name]).await?.try_get(0)?)
    }

    /// Prints the statements that took longest.
    pub(crate) async fn show_statements(&self) -> anyhow::Result<()> {
        if !self.counts_statements {
            return Ok(());
        }
        let sql = "SELECT calls::float8, total_exec_time, wal_bytes::float8, \
                   left(regexp_replace(query, '\\s+', ' ', 'g'), 90) \
                   FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 14";
        for row in self.client.query(sql, &[]).await? {
            let (calls, milliseconds): (f64, f64) = (row.try_get(0)?, row.try_get(1)?);
            let (bytes, query): (f64, &str) = (row.try_get(2)?, row.try_get(3)?);
            say(format!("{calls:>8.0} calls {milliseconds:>8.0} ms {:>8.1} MB of log  {query}", bytes / 1e6));
        }
        Ok(())
    }

    /// A reader's view of the database, held until dropped: nothing that it could see is cleaned up meanwhile.
    pub(crate) async fn hold_snapshot(&self) -> anyhow::Result<Client> {
        let client = connect(&self.url).await?;
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await?;
        Ok(client)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
