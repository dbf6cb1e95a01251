//! Files: written once, segment by segment, then never changed.

use bytes::Bytes;

use crate::domain::file::{FileRecord, FileSource, FileSummary, ItemKey, KeyBlock};
use crate::domain::ids::{AppKey, FileId, FileKey};
use crate::domain::segment::{Segment, SegmentHead};
use crate::domain::time::Timestamp;

use super::sqlite::{Lane, Span, Writing, content, files, keys};
use super::{Database, Page, Result, Store, payload, postgres};

/// A file about to be written.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Its owner.
    pub app: AppKey,
    /// Its public id.
    pub id: FileId,
    /// `Upload` or `Inline`; the views over results are made by the store itself.
    pub source: FileSource,
    /// The name its uploader gave.
    pub filename: String,
    /// When it arrived.
    pub created_at: Timestamp,
    /// When its client wants it gone; `None`: as retention says.
    pub expires_at: Option<Timestamp>,
    /// Keys the hashes of its `custom_id`s.
    pub salt: u64,
}

/// What finding an item by its `custom_id` needs to know of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSalt {
    /// As in [`NewFile::salt`].
    pub salt: u64,
    /// It was deleted, and its item keys and segments go one by one.
    pub is_deleted: bool,
}

/// Which files to list.
#[derive(Clone, Debug)]
pub struct FileQuery {
    /// Whose.
    pub app: AppKey,
    /// The last id of the page before; one that is unknown gives an empty page.
    pub after: Option<FileId>,
    /// Most entries.
    pub limit: usize,
    /// Newest first.
    pub descending: bool,
    /// `batch` or `batch_output`; anything else matches nothing.
    pub purpose: Option<String>,
}

/// # Writing
/// An upload calls these one after another from one task; each returns when its rows are durable, so
/// the disk's speed is the upload's. A thread without a runtime calls them with `Handle::block_on`.
impl Store {
    /// Makes the row of a file that nobody sees yet.
    ///
    /// # Errors
    /// [`StoreError::Full`](super::StoreError::Full), [`StoreError::OverQuota`](super::StoreError::OverQuota)
    /// and what every write may answer.
    pub async fn begin_file(&self, file: NewFile) -> Result<FileKey> {
        match &self.database {
            Database::Sqlite(database) => {
                database.write_new(Lane::Bulk, move |writing| files::begin(writing, &file)).await
            }
            Database::Postgres(database) => postgres::files::begin(database, &file).await,
        }
    }

    /// Appends segments. The caller groups small ones to about 1 MB of data.
    ///
    /// # Errors
    /// [`StoreError::Damaged`](super::StoreError::Damaged) if the file is not being written;
    /// [`StoreError::Full`](super::StoreError::Full).
    pub async fn append_segments(&self, file: FileKey, segments: Vec<Segment>) -> Result<()> {
        for segment in &segments {
            for (no, data) in payload::pieces(&segment.data) {
                self.append_piece(file, segment.head.no, no, data).await?;
            }
        }
        match &self.database {
            Database::Sqlite(database) => {
                database.write_new(Lane::Bulk, move |writing| content::append(writing, file, &segments)).await
            }
            Database::Postgres(database) => postgres::content::append(database, file, &segments).await,
        }
    }

    async fn append_piece(&self, file: FileKey, segment: u32, no: u32, data: Bytes) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => {
                let command =
                    move |writing: &mut Writing<'_>| content::append_piece(writing, file, segment, no, &data);
                database.write_new(Lane::Bulk, command).await
            }
            Database::Postgres(database) => {
                postgres::content::append_piece(database, (file, segment), no, &data).await
            }
        }
    }

    /// Appends blocks of item keys.
    ///
    /// # Errors
    /// As [`Store::append_segments`].
    pub async fn append_keys(&self, file: FileKey, blocks: Vec<KeyBlock>) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => {
                database.write_new(Lane::Bulk, move |writing| keys::append(writing, file, &blocks)).await
            }
            Database::Postgres(database) => postgres::keys::append(database, file, &blocks).await,
        }
    }

    /// Notes lines of a segment whose `custom_id` stood on an earlier line.
    ///
    /// # Errors
    /// As [`Store::append_segments`].
    pub async fn append_duplicates(&self, file: FileKey, segment: u32, lines: Vec<u32>) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => {
                let command =
                    move |writing: &mut Writing<'_>| keys::append_duplicates(writing, file, segment, &lines);
                database.write_new(Lane::Bulk, command).await
            }
            Database::Postgres(database) => {
                postgres::keys::append_duplicates(database, file, segment, &lines).await
            }
        }
    }

    /// Makes a file complete and visible.
    ///
    /// # Errors
    /// As [`Store::append_segments`]; [`StoreError::OverQuota`](super::StoreError::OverQuota).
    pub async fn finish_file(
        &self,
        file: FileKey,
        summary: FileSummary,
        expires_at: Option<Timestamp>,
    ) -> Result<FileRecord> {
        let finished = match &self.database {
            Database::Sqlite(database) => {
                let command =
                    move |writing: &mut Writing<'_>| files::finish(writing, file, &summary, expires_at);
                database.write_new(Lane::Bulk, command).await
            }
            Database::Postgres(database) => {
                postgres::files::finish(database, file, &summary, expires_at).await
            }
        }?;
        Ok(self.with_expiry(finished))
    }

    /// Gives up a file that was begun; what was written of it is erased by and by.
    pub async fn abandon_file(&self, file: FileKey) {
        // At worst the next start finds it: whatever is not complete then is given up.
        let _ = match &self.database {
            Database::Sqlite(database) => {
                database.write(Lane::Bulk, move |writing| files::abandon(writing, file)).await
            }
            Database::Postgres(database) => postgres::files::abandon(database, file).await,
        };
    }

    /// Hides a file at once; its data goes when no running batch uses it. `false`: there is none.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn delete_file(&self, app: AppKey, id: &FileId) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => {
                let id = id.clone();
                database.write(Lane::Control, move |writing| files::delete(writing, app, &id)).await
            }
            Database::Postgres(database) => postgres::files::delete(database, app, id).await,
        }
    }
}

/// # Reading
impl Store {
    /// A complete file that clients may see: uploads and the views over results, never inline ones.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn file(&self, app: AppKey, id: &FileId) -> Result<Option<FileRecord>> {
        let file = match &self.database {
            Database::Sqlite(database) => {
                let id = id.clone();
                database.read(Span::Point, move |connection| files::by_id(connection, app, &id)).await?
            }
            Database::Postgres(database) => postgres::files::by_id(database, app, id).await?,
        };
        Ok(file.map(|file| self.with_expiry(file)))
    }

    /// What the upload found out.
    ///
    /// # Errors
    /// [`StoreError::Damaged`](super::StoreError::Damaged) if there is no such file.
    pub async fn file_summary(&self, file: FileKey) -> Result<FileSummary> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| files::summary(connection, file)).await
            }
            Database::Postgres(database) => postgres::files::summary(database, file).await,
        }
    }

    /// The salt of its item keys; `None` if there is no such file any more.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn file_salt(&self, file: FileKey) -> Result<Option<FileSalt>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Point, move |connection| files::salt(connection, file)).await
            }
            Database::Postgres(database) => postgres::files::salt(database, file).await,
        }
    }

    /// A page of an app's files.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn files(&self, query: FileQuery) -> Result<Page<FileRecord>> {
        let page = match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| files::page(connection, &query)).await?
            }
            Database::Postgres(database) => postgres::files::page(database, &query).await?,
        };
        let data = page.data.into_iter().map(|file| self.with_expiry(file)).collect();
        Ok(Page { data, has_more: page.has_more })
    }

    /// The row has only what its client asked for, so that changed retention holds for old files too.
    fn with_expiry(&self, mut file: FileRecord) -> FileRecord {
        let retention = match file.source {
            FileSource::Upload => self.files_retention,
            FileSource::Inline => None,
            FileSource::Output(_) | FileSource::Errors(_) => self.results_retention,
        };
        let by_retention = retention.map(|kept| file.created_at + kept);
        file.expires_at = file.expires_at.into_iter().chain(by_retention).min();
        file
    }

    /// The heads of at most `limit` segments from number `from_no` on, ascending; of one model or all.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn segment_heads(
        &self,
        file: FileKey,
        model: Option<&str>,
        from_no: u32,
        limit: usize,
    ) -> Result<Vec<SegmentHead>> {
        match &self.database {
            Database::Sqlite(database) => {
                let model = model.map(str::to_owned);
                let heads =
                    move |connection: &_| content::heads(connection, file, model.as_deref(), from_no, limit);
                database.read(Span::Page, heads).await
            }
            Database::Postgres(database) => {
                postgres::content::heads(database, file, model, from_no, limit).await
            }
        }
    }

    /// One segment with its data.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn segment(&self, file: FileKey, no: u32) -> Result<Option<Segment>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| content::segment(connection, file, no)).await
            }
            Database::Postgres(database) => {
                postgres::content::segment(&**database, file, no).await.map_err(Into::into)
            }
        }
    }

    /// The lines of a segment that [`Store::append_duplicates`] noted, ascending.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn duplicate_lines(&self, file: FileKey, segment: u32) -> Result<Vec<u32>> {
        match &self.database {
            Database::Sqlite(database) => {
                database
                    .read(Span::Point, move |connection| keys::duplicates(connection, file, segment))
                    .await
            }
            Database::Postgres(database) => postgres::keys::duplicates(database, file, segment).await,
        }
    }

    /// Every key with that hash, by line.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn find_keys(&self, file: FileKey, hash: u64) -> Result<Vec<ItemKey>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| keys::find(connection, file, hash)).await
            }
            Database::Postgres(database) => postgres::keys::find(database, file, hash).await,
        }
    }

    /// How many blocks each sorted chunk of keys has.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn key_chunks(&self, file: FileKey) -> Result<Vec<u32>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Point, move |connection| keys::chunks(connection, file)).await
            }
            Database::Postgres(database) => postgres::keys::chunks(database, file).await,
        }
    }

    /// One block of one chunk.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn key_block(&self, file: FileKey, chunk: u32, no: u32) -> Result<Option<KeyBlock>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| keys::block(connection, file, chunk, no)).await
            }
            Database::Postgres(database) => postgres::keys::block(database, file, chunk, no).await,
        }
    }
}
