//! Files: their rows.

use tokio_postgres::Row;

use super::arguments::{Argument, argument, arguments};
use super::columns::{Columns, int, micros};
use super::connections::{Lane, Queries};
use super::fault::{Attempt, damaged};
use super::transaction::Transaction;
use super::{Database, apps};
use crate::domain::file::{FileRecord, FileSource, FileSummary};
use crate::domain::ids::{AppKey, BatchKey, FileId, FileKey};
use crate::domain::time::Timestamp;
use crate::store::{FileQuery, FileSalt, NewFile, Page, Result, StoreError, json};

/// Selects what [`read_record`] reads; conditions follow.
const SELECT_FILES: &str =
    "SELECT key, id, source, batch, filename, bytes, items, created_at, expires_at FROM file WHERE ";
/// Of these, the ones that clients see.
const SEEN: &str = "deleted_at IS NULL AND status = 'processed' AND source <> 'inline' ";

/// Makes the row of a file that nobody sees yet.
pub(crate) async fn begin(database: &Database, new: &NewFile) -> Result<FileKey> {
    let source = match new.source {
        FileSource::Upload => "upload",
        FileSource::Inline => "inline",
        FileSource::Output(_) | FileSource::Errors(_) => {
            return Err(damaged("a view over results can't be written").into());
        }
    };
    let mut transaction = database.begin_new(Lane::Bulk).await?;
    if new.source == FileSource::Upload {
        // What does not fit now is refused before it is sent. Lines that come with a create are counted with
        // it: a create that is a repetition must be known first.
        check_quota(&transaction, new.app, 0).await?;
    }
    // The server's texts hold no NUL.
    let filename = new.filename.replace('\0', "");
    let sql = "INSERT INTO file (id, app, source, status, filename, created_at, expires_at, salt, worker) \
               VALUES ($1, $2, $3, 'uploading', $4, $5, $6, $7, $8) RETURNING key";
    let row = transaction
        .row(
            sql,
            &arguments![
                new.id.as_str(),
                new.app.0,
                source,
                filename,
                new.created_at.micros(),
                micros(new.expires_at),
                new.salt.cast_signed(),
                database.membership().last_known().map(|known| known.key),
            ],
        )
        .await?
        .ok_or_else(|| damaged("a new file has no key"))?;
    let key = FileKey(Columns::of(&row).take()?);
    transaction.effects.rows += 1;
    transaction.commit().await?;
    Ok(key)
}

/// Refuses to write to a file that is complete or given up; else keeps it from becoming so before the commit.
pub(super) async fn check_uploading(transaction: &Transaction, file: FileKey) -> Attempt<()> {
    let sql = "SELECT 1 FROM file WHERE key = $1 AND status = 'uploading' AND deleted_at IS NULL FOR UPDATE";
    match transaction.row(sql, &arguments![file.0]).await? {
        Some(_) => Ok(()),
        None => Err(damaged("the file is not being written")),
    }
}

/// Makes a file complete.
pub(crate) async fn finish(
    database: &Database,
    file: FileKey,
    summary: &FileSummary,
    expires_at: Option<Timestamp>,
) -> Result<FileRecord> {
    let mut transaction = database.begin_new(Lane::Bulk).await?;
    let sql = "SELECT app FROM file WHERE key = $1 AND source = 'upload'";
    if let Some(row) = transaction.row(sql, &arguments![file.0]).await? {
        // An upload that is found to be larger than what its app may still store.
        check_quota(&transaction, AppKey(Columns::of(&row).take()?), summary.bytes).await?;
    }
    check_uploading(&transaction, file).await?;
    let sql = "INSERT INTO file_summary (file, summary) VALUES ($1, $2)";
    transaction.execute(sql, &arguments![file.0, json::summary_to_text(summary)?]).await?;
    let sql = "UPDATE file SET status = 'processed', bytes = $2, items = $3, \
               worker = CASE source WHEN 'inline' THEN worker END, \
               expires_at = coalesce($4, expires_at) WHERE key = $1";
    let (bytes, items) = (int(summary.bytes), int(summary.items));
    transaction.execute(sql, &arguments![file.0, bytes, items, micros(expires_at)]).await?;
    let row = transaction.row(&format!("{SELECT_FILES}key = $1"), &arguments![file.0]).await?;
    let finished = read_record(&row.ok_or_else(|| damaged("the file's row is gone"))?)?;
    transaction.effects.rows += 2;
    transaction.commit().await?;
    Ok(finished)
}

async fn check_quota(transaction: &Transaction, app: AppKey, added: u64) -> Attempt<()> {
    let quotas = apps::lock(transaction, app).await?;
    Ok(quotas.check_bytes(transaction, added).await?.map_err(StoreError::OverQuota)?)
}

/// Gives up a file that is not complete.
pub(crate) async fn abandon(database: &Database, file: FileKey) -> Result<()> {
    let transaction = database.begin(Lane::Bulk).await?;
    let sql =
        "UPDATE file SET deleted_at = $2 WHERE key = $1 AND status = 'uploading' AND deleted_at IS NULL";
    transaction.execute(sql, &arguments![file.0, transaction.now.micros()]).await?;
    Ok(transaction.commit().await?)
}

/// Hides a file that clients see.
pub(crate) async fn delete(database: &Database, app: AppKey, id: &FileId) -> Result<bool> {
    let transaction = database.begin(Lane::Control).await?;
    let sql = format!("UPDATE file SET deleted_at = $3 WHERE app = $1 AND id = $2 AND {SEEN}");
    let now = transaction.now.micros();
    let hidden = transaction.execute(&sql, &arguments![app.0, id.as_str(), now]).await?;
    transaction.commit().await?;
    Ok(hidden == 1)
}

/// A file that clients see.
pub(crate) async fn by_id(database: &Database, app: AppKey, id: &FileId) -> Result<Option<FileRecord>> {
    let sql = format!("{SELECT_FILES}app = $1 AND id = $2 AND {SEEN}");
    let row = database.row(&sql, &arguments![app.0, id.as_str()]).await?;
    Ok(row.as_ref().map(read_record).transpose()?)
}

/// A page of an app's files, by their keys: the order of making.
pub(crate) async fn page(database: &Database, query: &FileQuery) -> Result<Page<FileRecord>> {
    let purpose = match query.purpose.as_deref() {
        None => "",
        Some("batch") => "AND source = 'upload' ",
        Some("batch_output") => "AND source IN ('output', 'errors') ",
        Some(_) => return Ok(Page { data: Vec::new(), has_more: false }),
    };
    let (limit, after) = (int(query.limit as u64 + 1), query.after.as_ref().map(FileId::as_str));
    let mut arguments: Vec<Argument<'_>> = vec![argument(&query.app.0), argument(&limit)];
    let (beyond, order) = if query.descending { ("<", "DESC") } else { (">", "ASC") };
    let mut place = String::new();
    if let Some(after) = &after {
        arguments.push(argument(after));
        // Null for an unknown id: then nothing lies beyond.
        place =
            format!("AND key {beyond} (SELECT key FROM file AS last WHERE last.app = $1 AND last.id = $3) ");
    }
    let sql = format!("{SELECT_FILES}app = $1 AND {SEEN}{purpose}{place}ORDER BY key {order} LIMIT $2");
    let rows = database.rows(&sql, &arguments).await?;
    let found = rows.iter().map(read_record).collect::<Attempt<Vec<_>>>()?;
    Ok(Page::of(found, query.limit))
}

/// What the upload found out.
pub(crate) async fn summary(database: &Database, file: FileKey) -> Result<FileSummary> {
    let row = database.row("SELECT summary FROM file_summary WHERE file = $1", &arguments![file.0]).await?;
    let row = row.ok_or_else(|| damaged("the file has no summary"))?;
    json::summary_from_text(Columns::of(&row).take()?)
}

/// The salt of its item keys, if it is there.
pub(crate) async fn salt(database: &Database, file: FileKey) -> Result<Option<FileSalt>> {
    let sql = "SELECT salt, deleted_at IS NOT NULL FROM file WHERE key = $1";
    let Some(row) = database.row(sql, &arguments![file.0]).await? else { return Ok(None) };
    let mut columns = Columns::of(&row);
    Ok(Some(FileSalt { salt: columns.take::<i64>()?.cast_unsigned(), is_deleted: columns.take()? }))
}

fn read_record(row: &Row) -> Attempt<FileRecord> {
    let mut columns = Columns::of(row);
    let (key, id) = (FileKey(columns.take()?), FileId::new(columns.take::<String>()?));
    let source: &str = columns.take()?;
    let source = match (source, columns.take::<Option<i64>>()?.map(BatchKey)) {
        ("upload", None) => FileSource::Upload,
        ("inline", None) => FileSource::Inline,
        ("output", Some(batch)) => FileSource::Output(batch),
        ("errors", Some(batch)) => FileSource::Errors(batch),
        (other, _) => return Err(damaged(&format!("unknown source {other:?}"))),
    };
    Ok(FileRecord {
        key,
        id,
        source,
        filename: columns.take()?,
        bytes: columns.uint()?,
        items: columns.uint()?,
        created_at: columns.moment()?,
        expires_at: columns.optional_moment()?,
    })
}
