//! Item keys and duplicates: what upload learned about `custom_id`s.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;
use super::files::check_uploading;
use super::writing::Writing;
use crate::domain::file::{ItemKey, KeyBlock};
use crate::domain::ids::FileKey;
use crate::store::packed_keys::{ordered, pack, unpack};

/// Appends blocks of keys.
pub(crate) fn append(writing: &mut Writing<'_>, file: FileKey, blocks: &[KeyBlock]) -> Result<(), Fault> {
    check_uploading(writing.connection, file)?;
    let mut insert = writing.connection.prepare_cached(
        "INSERT INTO item_key (file, chunk, no, first_hash, last_hash, keys) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for block in blocks {
        let (Some(first), Some(last)) = (block.keys.first(), block.keys.last()) else { continue };
        insert.execute(params![
            file.0,
            block.chunk,
            block.no,
            ordered(first.hash),
            ordered(last.hash),
            pack(&block.keys)
        ])?;
        writing.effects.rows += 1;
    }
    Ok(())
}

/// Notes duplicates of a segment.
pub(crate) fn append_duplicates(
    writing: &mut Writing<'_>,
    file: FileKey,
    segment: u32,
    lines: &[u32],
) -> Result<(), Fault> {
    check_uploading(writing.connection, file)?;
    let sql = "INSERT OR IGNORE INTO duplicate_line (file, segment, line) VALUES (?1, ?2, ?3)";
    let mut insert = writing.connection.prepare_cached(sql)?;
    for line in lines {
        insert.execute(params![file.0, segment, line])?;
        writing.effects.rows += 1;
    }
    Ok(())
}

/// The duplicates of a segment, ascending.
pub(crate) fn duplicates(connection: &Connection, file: FileKey, segment: u32) -> Result<Vec<u32>, Fault> {
    let sql = "SELECT line FROM duplicate_line WHERE file = ?1 AND segment = ?2 ORDER BY line";
    let mut statement = connection.prepare_cached(sql)?;
    let lines = statement.query_map(params![file.0, segment], |row| row.get(0))?;
    Ok(lines.collect::<rusqlite::Result<_>>()?)
}

/// Every key with that hash, by line.
pub(crate) fn find(connection: &Connection, file: FileKey, hash: u64) -> Result<Vec<ItemKey>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT keys FROM item_key INDEXED BY item_key_block \
         WHERE file = ?1 AND first_hash <= ?2 AND last_hash >= ?2",
    )?;
    let mut rows = statement.query(params![file.0, ordered(hash)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let keys = unpack(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
        found.extend(keys.into_iter().filter(|key| key.hash == hash));
    }
    found.sort_unstable_by_key(|key| key.line);
    Ok(found)
}

/// How many blocks each chunk has.
pub(crate) fn chunks(connection: &Connection, file: FileKey) -> Result<Vec<u32>, Fault> {
    let sql = "SELECT max(no) + 1 FROM item_key WHERE file = ?1 GROUP BY chunk ORDER BY chunk";
    let mut statement = connection.prepare_cached(sql)?;
    let blocks = statement.query_map([file.0], |row| row.get(0))?;
    Ok(blocks.collect::<rusqlite::Result<_>>()?)
}

/// One block.
pub(crate) fn block(
    connection: &Connection,
    file: FileKey,
    chunk: u32,
    no: u32,
) -> Result<Option<KeyBlock>, Fault> {
    let sql = "SELECT keys FROM item_key WHERE file = ?1 AND chunk = ?2 AND no = ?3";
    let keys: Option<Vec<u8>> =
        connection.prepare_cached(sql)?.query_row(params![file.0, chunk, no], |row| row.get(0)).optional()?;
    keys.map(|keys| Ok(KeyBlock { chunk, no, keys: unpack(&keys)? })).transpose()
}
