//! A schema that is copied to: filled in the order of keys, in small transactions, and marked until it is whole.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::join3;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::arguments::{Argument, arguments};
use super::columns::Columns;
use super::copied_columns::{ColumnValues, cells};
use super::fault::{Attempt, Fault};
use super::hold::Hold;
use super::schema;
use super::server::{Alone, Server};
use super::unfinished_copy::IS_MARKED;
use crate::config::Secret;
use crate::store::StoreError;
use crate::store::copy::CopyError;
use crate::store::copy::rows::{Cell, Column, Group, Kind, Table, Tally, Tallying};

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A held schema and the connection that fills it.
pub(in crate::store) struct Destination {
    hold: Hold,
    work: Alone,
    schema: String,
    commit_mode: &'static str,
}

impl Destination {
    /// Looks at the server, holds the schema and brings it up to date.
    ///
    /// # Errors
    /// [`CopyError::Destination`], with [`StoreError::SchemaInUse`] if a service runs on it.
    pub(in crate::store) async fn open(url: &Secret, schema: &str) -> Result<Self, CopyError> {
        let open = async {
            let mut server = Server::of(url.expose())?;
            server.check().await?;
            let hold = Hold::take(&server, schema).await?;
            schema::migrate(&server, schema).await?;
            let work = server.connect().await?;
            let commit_mode = server.commit_mode();
            Ok(Self { hold, work, schema: schema.to_owned(), commit_mode })
        };
        open.await.map_err(CopyError::Destination)
    }

    /// Every table that rows are copied to, in the order in which they were made.
    pub(in crate::store) async fn tables(&self) -> Result<Vec<Table>, CopyError> {
        let asked =
            self.bounded(async { Ok(self.client().query_typed(TABLES, &arguments![&*self.schema]).await?) });
        let read = async {
            let mut tables: Vec<Table> = Vec::new();
            for row in asked.await? {
                add_column(&mut tables, &row)?;
            }
            Ok(tables)
        };
        read.await.map_err(told)
    }

    /// Begins a copy, or goes on with one; `true`: it goes on.
    ///
    /// # Errors
    /// [`CopyError::NotEmpty`], [`CopyError::OtherSource`].
    pub(in crate::store) async fn begin(
        &self,
        source: &Tally,
        tables: &[Arc<Table>],
    ) -> Result<bool, CopyError> {
        let marked = async {
            self.client().batch_execute(&self.begin_sql(self.commit_mode)).await?;
            let sql = IS_MARKED;
            let row = self.client().query_typed_one(sql, &arguments![&*self.schema]).await?;
            let is_marked: bool = row.try_get(0)?;
            Ok(is_marked)
        };
        if !self.bounded(marked).await.map_err(told)? {
            self.begin_anew(source, tables).await?;
            return Ok(false);
        }
        let begun = async {
            // Waits for the last transaction of a run that was killed: what it wrote counts, or is gone for good.
            self.client().batch_execute("LOCK TABLE copying IN EXCLUSIVE MODE").await?;
            let row = self.client().query_typed_one("SELECT source FROM copying", &[]).await?;
            let begun: Vec<u8> = row.try_get(0)?;
            self.client().batch_execute("COMMIT").await?;
            Ok(begun)
        };
        let begun = self.bounded(begun).await.map_err(told)?;
        if begun != source.sha256 {
            return Err(CopyError::OtherSource(self.schema.clone()));
        }
        Ok(true)
    }

    /// Marks an empty schema, and takes out of it what its making put in.
    async fn begin_anew(&self, source: &Tally, tables: &[Arc<Table>]) -> Result<(), CopyError> {
        for table in tables {
            // The app that every schema is made with comes from the source like all others.
            let made = if table.name == "app" { "WHERE key <> 1" } else { "" };
            let sql = format!("SELECT EXISTS (SELECT 1 FROM \"{}\" {made})", table.name);
            let asked = async { Ok(self.client().query_typed_one(&sql, &[]).await?.try_get(0)?) };
            let has_rows: bool = self.bounded(asked).await.map_err(told)?;
            if has_rows {
                let (schema, table) = (self.schema.clone(), table.name.clone());
                return Err(CopyError::NotEmpty { schema, table });
            }
        }
        let marked = async {
            let sql = "DELETE FROM app; CREATE TABLE copying (source BYTEA NOT NULL)";
            self.client().batch_execute(sql).await?;
            let sql = "INSERT INTO copying VALUES ($1)";
            self.client().execute_typed(sql, &arguments![source.sha256.to_vec()]).await?;
            Ok(self.client().batch_execute("COMMIT").await?)
        };
        self.bounded(marked).await.map_err(told)
    }

    /// The key of a table's last row, if it has any.
    pub(in crate::store) async fn last_key(&self, table: &Table) -> Result<Option<Vec<Cell>>, CopyError> {
        let key: Vec<_> = table.key_columns().cloned().collect();
        let falling: Vec<_> = key.iter().map(|column| format!("\"{}\" DESC", column.name)).collect();
        let sql = format!(
            "SELECT {} FROM \"{}\" ORDER BY {} LIMIT 1",
            table.key_list(),
            table.name,
            falling.join(", ")
        );
        let read = async {
            let (begun, rows, ended) = join3(
                self.client().batch_execute(&self.begin_sql("off")),
                self.client().query_typed(&sql, &[]),
                self.client().batch_execute("COMMIT"),
            )
            .await;
            begun?;
            let rows = rows?;
            ended?;
            rows.first().map(|row| cells(row, &key)).transpose()
        };
        self.bounded(read).await.map_err(told)
    }

    /// Writes rows, in a transaction of their own and one round trip.
    pub(in crate::store) async fn insert(&self, table: &Table, group: Group) -> Result<(), CopyError> {
        if self.hold.is_lost() {
            let reason = "the hold on the schema was lost".to_owned();
            return Err(CopyError::Lost(StoreError::Unavailable(reason)));
        }
        let values = ColumnValues::of(table, group).map_err(told)?;
        let arguments: Vec<Argument<'_>> = values.iter().map(ColumnValues::argument).collect();
        let places: Vec<_> = (1..=values.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "INSERT INTO \"{}\" ({}) SELECT * FROM unnest({})",
            table.name,
            table.column_list(),
            places.join(", ")
        );
        // No group waits for the server's disk: the last commit of all does, and it makes all before it last. Should the
        // server fail in between, the copy goes on from what it still has.
        let begin = format!("{}; LOCK TABLE copying IN ROW EXCLUSIVE MODE", self.begin_sql("off"));
        let written = async {
            let (begun, written, ended) = join3(
                self.client().batch_execute(&begin),
                self.client().execute_typed(&sql, &arguments),
                self.client().batch_execute("COMMIT"),
            )
            .await;
            begun?;
            written?;
            Ok(ended?)
        };
        self.bounded(written).await.map_err(told)
    }

    /// Reads a whole table in the order of its key. Rows come as fast as they are taken, so memory holds a few.
    pub(in crate::store) async fn tally(&self, table: &Table) -> Result<Tally, CopyError> {
        // By the index of the key: a sort would first put all of the table aside.
        let begin =
            format!("{}; SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off", self.begin_sql("off"));
        let sql =
            format!("SELECT {} FROM \"{}\" ORDER BY {}", table.column_list(), table.name, table.key_list());
        let read = async {
            self.bounded(async { Ok(self.client().batch_execute(&begin).await?) }).await?;
            let no_arguments: [(&(dyn ToSql + Sync), Type); 0] = [];
            let rows = async { Ok(self.client().query_typed_raw(&sql, no_arguments).await?) };
            let mut rows = pin!(self.bounded(rows).await?);
            let mut tallying = Tallying::default();
            while let Some(row) = self.bounded(async { Ok(rows.try_next().await?) }).await? {
                tallying.add(&cells(&row, &table.columns)?);
            }
            self.bounded(async { Ok(self.client().batch_execute("COMMIT").await?) }).await?;
            Ok(tallying.finish())
        };
        read.await.map_err(told)
    }

    /// Has the tables give no key again that was given before (`given`: table, column, last key), and takes the mark
    /// off: from now on a service may use the schema.
    pub(in crate::store) async fn finish(
        &self,
        tables: &[Arc<Table>],
        given: &[(&str, &str, i64)],
    ) -> Result<(), CopyError> {
        let finished = async {
            self.client().batch_execute(&self.begin_sql(self.commit_mode)).await?;
            for (table, column, last) in given {
                let sql = "SELECT setval(pg_get_serial_sequence($1, $2), $3)";
                self.client().query_typed(sql, &arguments![format!("\"{table}\""), *column, *last]).await?;
            }
            // The worker that had these, and wrote those, is none of those to come.
            let sql = "UPDATE batch_segment SET worker = 0; UPDATE boot SET worker = NULL; \
                       UPDATE file SET deleted_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
                       WHERE status = 'uploading' AND deleted_at IS NULL";
            self.client().batch_execute(sql).await?;
            // Or the first queries would be planned for empty tables.
            for table in tables {
                self.client().batch_execute(&format!("ANALYZE \"{}\"", table.name)).await?;
            }
            Ok(self.client().batch_execute("DROP TABLE copying; COMMIT").await?)
        };
        self.bounded(finished).await.map_err(told)
    }

    fn client(&self) -> &Client {
        &self.work.client
    }

    /// Begins a transaction in this schema.
    fn begin_sql(&self, commit_mode: &str) -> String {
        format!(
            "BEGIN; SET LOCAL search_path = \"{}\"; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 50000; \
             SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL jit = off; \
             SET LOCAL synchronous_commit = {commit_mode}",
            self.schema
        )
    }

    /// An answer of the server, in time.
    async fn bounded<T>(&self, answer: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        let late = |_| Fault::Away(format!("the server did not answer within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, answer).await.map_err(late)?
    }
}

/// Every column of every table that is made for rows, with its place in the primary key.
const TABLES: &str = "SELECT t.relname::text, c.attname::text, format_type(c.atttypid, NULL), \
            c.attidentity <> '', array_position(k.indkey::int2[], c.attnum)::bigint \
     FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace \
     JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped \
     LEFT JOIN pg_index k ON k.indrelid = t.oid AND k.indisprimary \
     WHERE n.nspname = $1 AND t.relkind = 'r' AND t.relname NOT IN ('schema', 'copying') \
     ORDER BY t.oid, c.attnum";

/// Adds a row of [`TABLES`] to the tables before it.
fn add_column(tables: &mut Vec<Table>, row: &Row) -> Attempt<()> {
    let mut columns = Columns::of(row);
    let (table, name): (String, String) = (columns.take()?, columns.take()?);
    let kind = columns.word(|kind| match kind {
        "bigint" => Some(Kind::Int),
        "boolean" => Some(Kind::Bool),
        "text" => Some(Kind::Text),
        "bytea" => Some(Kind::Bytes),
        // The ledger's and the workers': one process alone has no rows of those that could be copied.
        "integer[]" | "bigint[]" => Some(Kind::Bytes),
        _ => None,
    })?;
    let is_identity: bool = columns.take()?;
    let place: Option<i64> = columns.take()?;
    if tables.last().is_none_or(|last| last.name != table) {
        tables.push(Table { name: table, columns: Vec::new(), key: Vec::new(), identity: None });
    }
    let Some(table) = tables.last_mut() else { return Ok(()) };
    if let Some(place) = place {
        let place = usize::try_from(place).unwrap_or_default();
        table.key.resize(table.key.len().max(place + 1), usize::MAX);
        table.key[place] = table.columns.len();
    }
    if is_identity {
        table.identity = Some(name.clone());
    }
    table.columns.push(Column { name, kind });
    Ok(())
}

/// A connection that broke leaves a copy that can be gone on with.
fn told(fault: Fault) -> CopyError {
    if fault.is_lost() { CopyError::Lost(fault.into()) } else { CopyError::Destination(fault.into()) }
}
