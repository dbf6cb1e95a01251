//! Item keys and duplicates: what upload learned about `custom_id`s.

use super::Database;
use super::arguments::arguments;
use super::columns::Columns;
use super::connections::{Lane, Queries};
use super::fault::Attempt;
use super::files::check_uploading;
use crate::domain::file::{ItemKey, KeyBlock};
use crate::domain::ids::FileKey;
use crate::store::Result;
use crate::store::packed_keys::{ordered, pack, unpack};

/// Appends blocks of keys.
pub(crate) async fn append(database: &Database, file: FileKey, blocks: &[KeyBlock]) -> Result<()> {
    let mut transaction = database.begin_new(Lane::Bulk).await?;
    check_uploading(&transaction, file).await?;
    let (mut chunks, mut numbers) = (Vec::new(), Vec::new());
    let (mut firsts, mut lasts, mut packed) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        let (Some(first), Some(last)) = (block.keys.first(), block.keys.last()) else { continue };
        chunks.push(i64::from(block.chunk));
        numbers.push(i64::from(block.no));
        firsts.push(ordered(first.hash));
        lasts.push(ordered(last.hash));
        packed.push(pack(&block.keys));
    }
    transaction.effects.rows += packed.len() as u64;
    let sql = "INSERT INTO item_key (file, chunk, no, first_hash, last_hash, keys) \
               SELECT $1, made.* FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[]) \
               AS made";
    transaction.execute(sql, &arguments![file.0, chunks, numbers, firsts, lasts, packed]).await?;
    Ok(transaction.commit().await?)
}

/// Notes duplicates of a segment.
pub(crate) async fn append_duplicates(
    database: &Database,
    file: FileKey,
    segment: u32,
    lines: &[u32],
) -> Result<()> {
    let mut transaction = database.begin_new(Lane::Bulk).await?;
    check_uploading(&transaction, file).await?;
    let lines: Vec<i64> = lines.iter().map(|line| i64::from(*line)).collect();
    transaction.effects.rows += lines.len() as u64;
    let sql = "INSERT INTO duplicate_line (file, segment, line) SELECT $1, $2, line FROM unnest($3::bigint[]) AS line \
               ON CONFLICT (file, segment, line) DO NOTHING";
    transaction.execute(sql, &arguments![file.0, i64::from(segment), lines]).await?;
    Ok(transaction.commit().await?)
}

/// The duplicates of a segment, ascending.
pub(crate) async fn duplicates(database: &Database, file: FileKey, segment: u32) -> Result<Vec<u32>> {
    let sql = "SELECT line FROM duplicate_line WHERE file = $1 AND segment = $2 ORDER BY line";
    let rows = database.rows(sql, &arguments![file.0, i64::from(segment)]).await?;
    Ok(rows.iter().map(|row| Columns::of(row).uint()).collect::<Attempt<_>>()?)
}

/// Every key with that hash, by line.
pub(crate) async fn find(database: &Database, file: FileKey, hash: u64) -> Result<Vec<ItemKey>> {
    let sql = "SELECT keys FROM item_key WHERE file = $1 AND first_hash <= $2 AND last_hash >= $2";
    let mut found = Vec::new();
    for row in database.rows(sql, &arguments![file.0, ordered(hash)]).await? {
        let keys = unpack(Columns::of(&row).take()?)?;
        found.extend(keys.into_iter().filter(|key| key.hash == hash));
    }
    found.sort_unstable_by_key(|key| key.line);
    Ok(found)
}

/// How many blocks each chunk has.
pub(crate) async fn chunks(database: &Database, file: FileKey) -> Result<Vec<u32>> {
    let sql = "SELECT max(no) + 1 FROM item_key WHERE file = $1 GROUP BY chunk ORDER BY chunk";
    let rows = database.rows(sql, &arguments![file.0]).await?;
    Ok(rows.iter().map(|row| Columns::of(row).uint()).collect::<Attempt<_>>()?)
}

/// One block.
pub(crate) async fn block(
    database: &Database,
    file: FileKey,
    chunk: u32,
    no: u32,
) -> Result<Option<KeyBlock>> {
    let sql = "SELECT keys FROM item_key WHERE file = $1 AND chunk = $2 AND no = $3";
    let row = database.row(sql, &arguments![file.0, i64::from(chunk), i64::from(no)]).await?;
    row.map(|row| Ok(KeyBlock { chunk, no, keys: unpack(Columns::of(&row).take()?)? })).transpose()
}
