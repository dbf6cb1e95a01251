//! Segments: written at upload, read when leased and when a file is given back.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::{Fault, damaged};
use super::files::check_uploading;
use super::values::{pair, uint};
use super::writing::Writing;
use crate::domain::ids::FileKey;
use crate::domain::segment::{Segment, SegmentHead};
use crate::store::payload::pieces_of;

/// The columns of a [`SegmentHead`], in the order [`read_head`] takes them.
macro_rules! select_heads {
    ($rest:literal) => {
        concat!("SELECT no, model, item_count, first_line, last_line, endpoints, raw_bytes, chunks ", $rest)
    };
}

/// Appends segments; the pieces of large ones are there already.
pub(crate) fn append(writing: &mut Writing<'_>, file: FileKey, segments: &[Segment]) -> Result<(), Fault> {
    check_uploading(writing.connection, file)?;
    let mut insert = writing.connection.prepare_cached(
        "INSERT INTO segment (id, file, no, model, item_count, first_line, last_line, endpoints, raw_bytes, \
         chunks, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for Segment { head, data } in segments {
        let chunks = pieces_of(data.len());
        insert.execute(params![
            pair(file.0, head.no.into()),
            file.0,
            head.no,
            head.model,
            head.item_count,
            head.first_line,
            head.last_line,
            head.endpoints,
            head.raw_bytes,
            chunks,
            (chunks == 0).then_some(&**data)
        ])?;
        writing.effects.rows += 1;
    }
    Ok(())
}

/// Writes one piece of a large segment.
pub(crate) fn append_piece(
    writing: &mut Writing<'_>,
    file: FileKey,
    segment: u32,
    no: u32,
    data: &[u8],
) -> Result<(), Fault> {
    check_uploading(writing.connection, file)?;
    let sql = "INSERT OR REPLACE INTO segment_chunk (segment, no, data) VALUES (?1, ?2, ?3)";
    let id = pair(file.0, segment.into());
    writing.connection.prepare_cached(sql)?.execute(params![id, no, data])?;
    writing.effects.rows += 1;
    Ok(())
}

/// Heads from a number on, ascending, of one model or all.
pub(crate) fn heads(
    connection: &Connection,
    file: FileKey,
    model: Option<&str>,
    from_no: u32,
    limit: usize,
) -> Result<Vec<SegmentHead>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let head = |row: &Row<'_>| read_head(row);
    let heads = match model {
        Some(model) => connection
            .prepare_cached(select_heads!(
                "FROM segment WHERE file = ?1 AND model = ?2 AND no >= ?3 ORDER BY no LIMIT ?4"
            ))?
            .query_map(params![file.0, model, from_no, limit], head)?
            .collect::<rusqlite::Result<_>>()?,
        None => connection
            .prepare_cached(select_heads!("FROM segment WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3"))?
            .query_map(params![pair(file.0, from_no.into()), pair(file.0, u32::MAX.into()), limit], head)?
            .collect::<rusqlite::Result<_>>()?,
    };
    Ok(heads)
}

/// One segment with its data.
pub(crate) fn segment(connection: &Connection, file: FileKey, no: u32) -> Result<Option<Segment>, Fault> {
    let id = pair(file.0, no.into());
    let found = connection
        .prepare_cached(select_heads!(", data FROM segment WHERE id = ?1"))?
        .query_row([id], |row| {
            Ok((read_head(row)?, row.get::<_, u32>(7)?, row.get::<_, Option<Vec<u8>>>(8)?))
        })
        .optional()?;
    let Some((head, chunks, data)) = found else { return Ok(None) };
    let data = match data {
        Some(data) => data,
        None => pieces(connection, id, chunks)?,
    };
    Ok(Some(Segment { head, data: data.into() }))
}

/// A large segment's data. The row came after all pieces and none ever changes, so that it needs no
/// transaction.
fn pieces(connection: &Connection, segment: i64, chunks: u32) -> Result<Vec<u8>, Fault> {
    let sql = "SELECT data FROM segment_chunk WHERE segment = ?1 AND no < ?2 ORDER BY no";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![segment, chunks])?;
    let (mut data, mut met) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        data.extend_from_slice(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
        met += 1;
    }
    if met == chunks { Ok(data) } else { Err(damaged("pieces of a segment are missing")) }
}

fn read_head(row: &Row<'_>) -> rusqlite::Result<SegmentHead> {
    Ok(SegmentHead {
        no: row.get(0)?,
        model: row.get_ref(1)?.as_str()?.into(),
        item_count: row.get(2)?,
        first_line: row.get(3)?,
        last_line: row.get(4)?,
        endpoints: row.get(5)?,
        raw_bytes: u32::try_from(uint(row, 6)?).unwrap_or(u32::MAX),
    })
}
