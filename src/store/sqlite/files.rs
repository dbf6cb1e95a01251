//! Files: their rows.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::apps;
use super::fault::{Fault, damaged};
use super::values::{int, moment, optional_moment, uint, unreadable};
use super::writing::Writing;
use crate::domain::file::{FileRecord, FileSource, FileSummary};
use crate::domain::ids::{AppKey, BatchKey, FileId, FileKey};
use crate::domain::time::Timestamp;
use crate::store::{FileQuery, FileSalt, NewFile, Page, StoreError, json};

/// The columns of a [`FileRecord`], in the order [`read_record`] takes them.
macro_rules! select_files {
    ($conditions:literal) => {
        concat!(
            "SELECT key, id, source, batch, filename, bytes, items, created_at, expires_at FROM file WHERE ",
            $conditions
        )
    };
}

/// Makes the row of a file that nobody sees yet.
pub(crate) fn begin(writing: &mut Writing<'_>, new: &NewFile) -> Result<FileKey, Fault> {
    let source = match new.source {
        FileSource::Upload => "upload",
        FileSource::Inline => "inline",
        FileSource::Output(_) | FileSource::Errors(_) => {
            return Err(damaged("a view over results can't be written"));
        }
    };
    if new.source == FileSource::Upload {
        // What does not fit now is refused before it is sent. Lines that come with a create are counted with
        // it: a create that is a repetition must be known first.
        apps::check_bytes(writing.connection, new.app, 0)?.map_err(StoreError::OverQuota)?;
    }
    writing.connection.execute(
        "INSERT INTO file (id, app, source, status, filename, created_at, expires_at, salt) \
         VALUES (?1, ?2, ?3, 'uploading', ?4, ?5, ?6, ?7)",
        params![
            new.id.as_str(),
            new.app.0,
            source,
            new.filename,
            new.created_at.micros(),
            new.expires_at.map(crate::domain::time::Timestamp::micros),
            new.salt.cast_signed()
        ],
    )?;
    writing.effects.rows += 1;
    Ok(FileKey(writing.connection.last_insert_rowid()))
}

/// Refuses to write to a file that is complete or given up.
pub(crate) fn check_uploading(connection: &Connection, file: FileKey) -> Result<(), Fault> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM file WHERE key = ?1 AND status = 'uploading' AND deleted_at IS NULL)";
    let uploading: bool = connection.prepare_cached(sql)?.query_row([file.0], |row| row.get(0))?;
    if uploading { Ok(()) } else { Err(damaged("the file is not being written")) }
}

/// Makes a file complete.
pub(crate) fn finish(
    writing: &mut Writing<'_>,
    file: FileKey,
    summary: &FileSummary,
    expires_at: Option<Timestamp>,
) -> Result<FileRecord, Fault> {
    let connection = writing.connection;
    check_uploading(connection, file)?;
    check_quota(connection, file, summary.bytes)?;
    connection.execute(
        "INSERT INTO file_summary (file, summary) VALUES (?1, ?2)",
        params![file.0, json::summary_to_text(summary)?],
    )?;
    connection.execute(
        "UPDATE file SET status = 'processed', bytes = ?2, items = ?3, \
         expires_at = coalesce(?4, expires_at) WHERE key = ?1",
        params![file.0, int(summary.bytes), int(summary.items), expires_at.map(Timestamp::micros)],
    )?;
    writing.effects.rows += 2;
    Ok(connection.query_row(select_files!("key = ?1"), [file.0], read_record)?)
}

/// Refuses an upload that is found to be larger than what its app may still store.
fn check_quota(connection: &Connection, file: FileKey, bytes: u64) -> Result<(), Fault> {
    let sql = "SELECT app FROM file WHERE key = ?1 AND source = 'upload'";
    let app: Option<i64> =
        connection.prepare_cached(sql)?.query_row([file.0], |row| row.get(0)).optional()?;
    if let Some(app) = app {
        apps::check_bytes(connection, AppKey(app), bytes)?.map_err(StoreError::OverQuota)?;
    }
    Ok(())
}

/// Gives up a file that is not complete.
pub(crate) fn abandon(writing: &mut Writing<'_>, file: FileKey) -> Result<(), Fault> {
    writing.connection.execute(
        "UPDATE file SET deleted_at = ?2 WHERE key = ?1 AND status = 'uploading' AND deleted_at IS NULL",
        params![file.0, writing.now.micros()],
    )?;
    Ok(())
}

/// Hides a file that clients see.
pub(crate) fn delete(writing: &mut Writing<'_>, app: AppKey, id: &FileId) -> Result<bool, Fault> {
    let hidden = writing.connection.execute(
        "UPDATE file SET deleted_at = ?3 WHERE app = ?1 AND id = ?2 AND deleted_at IS NULL \
         AND status = 'processed' AND source <> 'inline'",
        params![app.0, id.as_str(), writing.now.micros()],
    )?;
    Ok(hidden == 1)
}

/// A file that clients see.
pub(crate) fn by_id(connection: &Connection, app: AppKey, id: &FileId) -> Result<Option<FileRecord>, Fault> {
    let mut statement = connection.prepare_cached(select_files!(
        "app = ?1 AND id = ?2 AND deleted_at IS NULL AND status = 'processed' AND source <> 'inline'"
    ))?;
    Ok(statement.query_row(params![app.0, id.as_str()], read_record).optional()?)
}

/// A page of an app's files, by their keys: the order of making.
pub(crate) fn page(connection: &Connection, query: &FileQuery) -> Result<Page<FileRecord>, Fault> {
    let nothing = Page { data: Vec::new(), has_more: false };
    let mut sql = String::from(select_files!(
        "app = ? AND deleted_at IS NULL AND status = 'processed' AND source <> 'inline' "
    ));
    let mut values = vec![Value::from(query.app.0)];
    match query.purpose.as_deref() {
        None => {}
        Some("batch") => sql.push_str("AND source = 'upload' "),
        Some("batch_output") => sql.push_str("AND source IN ('output', 'errors') "),
        Some(_) => return Ok(nothing),
    }
    if let Some(after) = &query.after {
        let find = "SELECT key FROM file WHERE app = ?1 AND id = ?2";
        let key: Option<i64> = connection
            .prepare_cached(find)?
            .query_row(params![query.app.0, after.as_str()], |row| row.get(0))
            .optional()?;
        let Some(key) = key else { return Ok(nothing) };
        sql.push_str(if query.descending { "AND key < ? " } else { "AND key > ? " });
        values.push(key.into());
    }
    sql.push_str(if query.descending { "ORDER BY key DESC LIMIT ?" } else { "ORDER BY key LIMIT ?" });
    values.push(int(query.limit as u64 + 1).into());
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), read_record)?;
    let found = rows.collect::<rusqlite::Result<_>>()?;
    Ok(Page::of(found, query.limit))
}

/// What the upload found out.
pub(crate) fn summary(connection: &Connection, file: FileKey) -> Result<FileSummary, Fault> {
    let text: Option<String> = connection
        .prepare_cached("SELECT summary FROM file_summary WHERE file = ?1")?
        .query_row([file.0], |row| row.get(0))
        .optional()?;
    Ok(json::summary_from_text(&text.ok_or_else(|| damaged("the file has no summary"))?)?)
}

/// The salt of its item keys, if it is there.
pub(crate) fn salt(connection: &Connection, file: FileKey) -> Result<Option<FileSalt>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT salt, deleted_at IS NOT NULL FROM file WHERE key = ?1")?;
    let read =
        |row: &Row<'_>| Ok(FileSalt { salt: row.get::<_, i64>(0)?.cast_unsigned(), is_deleted: row.get(1)? });
    Ok(statement.query_row([file.0], read).optional()?)
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<FileRecord> {
    let batch = row.get::<_, Option<i64>>(3)?.map(BatchKey);
    let source = match (row.get_ref(2)?.as_str()?, batch) {
        ("upload", None) => FileSource::Upload,
        ("inline", None) => FileSource::Inline,
        ("output", Some(batch)) => FileSource::Output(batch),
        ("errors", Some(batch)) => FileSource::Errors(batch),
        (other, _) => return Err(unreadable(2, format!("unknown source {other:?}"))),
    };
    Ok(FileRecord {
        key: FileKey(row.get(0)?),
        id: FileId::new(row.get::<_, String>(1)?),
        source,
        filename: row.get(4)?,
        bytes: uint(row, 5)?,
        items: uint(row, 6)?,
        created_at: moment(row, 7)?,
        expires_at: optional_moment(row, 8)?,
    })
}
