//! Copies a whole store from `SQLite` to `PostgreSQL`, so that a service can move from its machine's file to a server.
//!
//! Tables, columns and keys are read from the databases themselves instead of being listed here: a table that a later
//! migration adds is copied without anyone having to think of it. The rows that arrived are the record of how far a
//! copy came, so that an interrupted one goes on behind the last of each table; a list of progress beside them could
//! say something else than they do.

mod error;
pub(in crate::store) mod rows;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::error::CopyError;
pub use self::rows::Tally;

use self::rows::{Table, Tallying, is_of_workers};
use super::postgres::destination::Destination;
use super::sqlite::source::Source;
use crate::config::Secret;

/// What is copied, and where to.
#[derive(Clone, Debug)]
pub struct CopySettings {
    /// The `SQLite` database; its folder is held meanwhile and nothing in it is changed.
    pub from: PathBuf,
    /// The `PostgreSQL` database.
    pub url: Secret,
    /// The schema there: made if need be, else empty or with a copy of the same store that was interrupted.
    pub schema: String,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyStep<'a> {
    /// It goes on where an earlier one was interrupted.
    Resumed,
    /// So many rows of a table were written since this run began.
    Copying {
        /// The table.
        table: &'a str,
        /// Its rows written by this run.
        rows: u64,
    },
    /// Every row of a table is there.
    Copied {
        /// The table.
        table: &'a str,
        /// Its rows written by this run.
        rows: u64,
    },
    /// A table was read on both sides, and is the same.
    Checked {
        /// The table.
        table: &'a str,
        /// What it comes to.
        tally: &'a Tally,
    },
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyReport {
    /// Whether an interrupted copy was gone on with.
    pub resumed: bool,
    /// Each table with what it comes to, on both sides alike.
    pub tables: Vec<(String, Tally)>,
}

/// Copies a store, checks the copy row by row, and only then lets a service start on it.
///
/// # Errors
/// See [`CopyError`]. Nothing is lost by one: the source is as it was, and what was copied stays for the next run.
pub async fn copy(
    settings: &CopySettings,
    tell: &mut (dyn FnMut(CopyStep<'_>) + Send),
) -> Result<CopyReport, CopyError> {
    let source = Source::open(&settings.from)?;
    let destination = Destination::open(&settings.url, &settings.schema).await?;
    let tables = shared_tables(&source, destination.tables().await?)?;
    let resumed = destination.begin(&source.fingerprint().map_err(CopyError::Source)?, &tables).await?;
    if resumed {
        tell(CopyStep::Resumed);
    }
    for table in &tables {
        let rows = copy_table(&source, &destination, table, tell).await?;
        tell(CopyStep::Copied { table: &table.name, rows });
    }
    let mut report = CopyReport { resumed, tables: Vec::new() };
    for table in &tables {
        let tally = check_table(&source, &destination, table).await?;
        tell(CopyStep::Checked { table: &table.name, tally: &tally });
        report.tables.push((table.name.clone(), tally));
    }
    let mut given = Vec::new();
    for table in &tables {
        let last = source.last_given(&table.name).map_err(CopyError::Source)?;
        given.extend(
            table.identity.as_deref().zip(last).map(|(column, last)| (table.name.as_str(), column, last)),
        );
    }
    destination.finish(&tables, &given).await?;
    Ok(report)
}

/// The tables of the source, each with its place in the destination. What only the destination has stays empty.
fn shared_tables(source: &Source, tables: Vec<Table>) -> Result<Vec<Arc<Table>>, CopyError> {
    let mut wanted = source.tables().map_err(CopyError::Source)?;
    wanted.retain(|name, _| !is_of_workers(name));
    let mut shared = Vec::new();
    for table in tables {
        let Some(columns) = wanted.remove(&table.name) else { continue };
        let there: BTreeSet<_> = table.columns.iter().map(|column| column.name.clone()).collect();
        if columns != there || table.key.is_empty() {
            return Err(CopyError::Unlike(format!("the columns of table {}", table.name)));
        }
        shared.push(Arc::new(table));
    }
    match wanted.into_keys().next() {
        Some(name) => Err(CopyError::Unlike(format!("there is no table {name} to copy to"))),
        None => Ok(shared),
    }
}

/// Copies what is missing of a table; the number of rows.
async fn copy_table(
    source: &Source,
    destination: &Destination,
    table: &Arc<Table>,
    tell: &mut (dyn FnMut(CopyStep<'_>) + Send),
) -> Result<u64, CopyError> {
    let after = destination.last_key(table).await?;
    let (mut groups, mut rows) = (source.groups(table, after), 0);
    while let Some(group) = groups.recv().await {
        let group = group.map_err(CopyError::Source)?;
        let more = group.rows.len() as u64;
        destination.insert(table, group).await?;
        rows += more;
        tell(CopyStep::Copying { table: &table.name, rows });
    }
    Ok(rows)
}

/// Reads a table on both sides.
async fn check_table(
    source: &Source,
    destination: &Destination,
    table: &Arc<Table>,
) -> Result<Tally, CopyError> {
    let here = async {
        let (mut groups, mut tallying) = (source.groups(table, None), Tallying::default());
        while let Some(group) = groups.recv().await {
            group.map_err(CopyError::Source)?.rows.iter().for_each(|row| tallying.add(row));
        }
        Ok(tallying.finish())
    };
    let (source_tally, copy_tally) = tokio::try_join!(here, destination.tally(table))?;
    if source_tally != copy_tally {
        let (source_tally, copy_tally) = (Box::new(source_tally), Box::new(copy_tally));
        return Err(CopyError::Differs { table: table.name.clone(), source_tally, copy_tally });
    }
    Ok(source_tally)
}
