//! A database that is copied from: read as it is, with nothing in its folder changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use tokio::sync::mpsc;

use super::connection::open_reader;
use super::fault::{Fault, damaged};
use super::folder::Folder;
use super::schema;
use crate::store::copy::CopyError;
use crate::store::copy::rows::{Cell, Group, Table, Tally, Tallying};
use crate::store::{Result, StoreError};

type Attempt<T> = std::result::Result<T, Fault>;

/// A held database.
pub(in crate::store) struct Source {
    connection: Arc<Mutex<Connection>>,
    _folder: Folder,
}

impl Source {
    /// Holds the data folder, and sees one state of the database from now on.
    ///
    /// # Errors
    /// [`CopyError::Missing`], [`CopyError::Source`] with [`StoreError::InUse`] among others, and
    /// [`CopyError::OlderSchema`]: bringing it up to date would change it.
    pub(in crate::store) fn open(path: &Path) -> std::result::Result<Self, CopyError> {
        // Holding a folder makes what is missing; here that would hide a mistyped path.
        if !path.is_file() {
            return Err(CopyError::Missing(path.to_owned()));
        }
        let open = || {
            let folder = Folder::hold(path)?;
            let connection = open_reader(path)?;
            connection.execute_batch("BEGIN")?;
            let marked = schema::marked(&connection)?;
            Ok((Self { connection: Arc::new(Mutex::new(connection)), _folder: folder }, marked))
        };
        let (source, (version, min_compatible)) =
            open().map_err(|fault: Fault| CopyError::Source(fault.into()))?;
        let supported = schema::SUPPORTED;
        if version > supported || min_compatible > supported {
            return Err(CopyError::Source(StoreError::NewerSchema { found: version, supported }));
        }
        if version < supported {
            return Err(CopyError::OlderSchema { found: version, supported });
        }
        Ok(source)
    }

    /// Every table with its columns.
    pub(in crate::store) fn tables(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let read = |connection: &Connection| {
            let sql = "SELECT name FROM sqlite_schema \
                       WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> 'schema'";
            let names = connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Vec<_>>();
            let mut tables = BTreeMap::new();
            for name in names {
                let name: String = name?;
                let mut columns = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
                let columns =
                    columns.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
                tables.insert(name, columns);
            }
            Ok(tables)
        };
        self.read(read)
    }

    /// What tells this database, as it is, from any other: which starts it has seen. A service that runs on it adds
    /// one.
    pub(in crate::store) fn fingerprint(&self) -> Result<Tally> {
        self.read(|connection| {
            let mut tallying = Tallying::default();
            let mut boots = connection.prepare("SELECT id, started_at, ended_at FROM boot ORDER BY id")?;
            let mut rows = boots.query([])?;
            while let Some(row) = rows.next()? {
                tallying.add(&[cell(row.get_ref(0)?)?, cell(row.get_ref(1)?)?, cell(row.get_ref(2)?)?]);
            }
            Ok(tallying.finish())
        })
    }

    /// The largest number that a table ever gave to a row, if it gives any.
    pub(in crate::store) fn last_given(&self, table: &str) -> Result<Option<i64>> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
        self.read(|connection| Ok(connection.query_row(sql, [table], |row| row.get(0)).optional()?))
    }

    /// A table's rows behind that key, or all, in the order of their keys. One group is read ahead.
    pub(in crate::store) fn groups(
        &self,
        table: &Arc<Table>,
        after: Option<Vec<Cell>>,
    ) -> mpsc::Receiver<Result<Group>> {
        let (sender, receiver) = mpsc::channel(1);
        let (connection, table) = (Arc::clone(&self.connection), Arc::clone(table));
        tokio::task::spawn_blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(fault) = send_groups(&connection, &table, after, &sender) {
                // Nobody waits any more if this fails.
                let _ = sender.blocking_send(Err(fault.into()));
            }
        });
        receiver
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Attempt<T>) -> Result<T> {
        Ok(read(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))?)
    }
}

fn send_groups(
    connection: &Connection,
    table: &Table,
    after: Option<Vec<Cell>>,
    sender: &mpsc::Sender<Result<Group>>,
) -> Attempt<()> {
    let mut statement = connection.prepare(&select(table, after.is_some()))?;
    let mut rows = statement.query(params_from_iter(after.into_iter().flatten()))?;
    let mut group = Group::default();
    while let Some(row) = rows.next()? {
        let cells = (0..table.columns.len()).map(|index| cell(row.get_ref(index)?));
        if group.add(cells.collect::<Attempt<_>>()?)
            && sender.blocking_send(Ok(std::mem::take(&mut group))).is_err()
        {
            return Ok(());
        }
    }
    if !group.rows.is_empty() {
        let _ = sender.blocking_send(Ok(group));
    }
    Ok(())
}

/// Reads a table in the order of its key, behind a key or from the start.
fn select(table: &Table, behind: bool) -> String {
    let key = table.key_list();
    let places = vec!["?"; table.key.len()].join(", ");
    let condition = if behind { format!("WHERE ({key}) > ({places})") } else { String::new() };
    format!("SELECT {} FROM \"{}\" {condition} ORDER BY {key}", table.column_list(), table.name)
}

/// A value as both databases mean it. The other one can't hold a NUL in a text: what it would leave out when it is
/// written there is left out here.
fn cell(value: ValueRef<'_>) -> Attempt<Cell> {
    Ok(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Int(value),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|_| damaged("a text is not UTF-8"))?;
            Cell::Text(text.replace('\0', ""))
        }
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => return Err(damaged("a column holds a fraction")),
    })
}

impl rusqlite::ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Int(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}
