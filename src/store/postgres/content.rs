//! Segments: written at upload, read when leased and when a file is given back.

use bytes::Bytes;
use tokio_postgres::Row;

use super::Database;
use super::arguments::arguments;
use super::columns::{Columns, int};
use super::connections::{Lane, Queries};
use super::fault::{Attempt, damaged};
use super::files::check_uploading;
use super::result_rows::pair;
use crate::domain::ids::FileKey;
use crate::domain::segment::{Segment, SegmentHead};
use crate::store::Result;
use crate::store::payload::pieces_of;

/// The columns that [`read_head`] reads.
macro_rules! select_heads {
    ($rest:literal) => {
        concat!("SELECT no, model, item_count, first_line, last_line, endpoints, raw_bytes ", $rest)
    };
}

/// Appends segments; the pieces of large ones are there already.
pub(crate) async fn append(database: &Database, file: FileKey, segments: &[Segment]) -> Result<()> {
    let mut transaction = database.begin_new(Lane::Bulk).await?;
    check_uploading(&transaction, file).await?;
    let column = |of: fn(&SegmentHead) -> i64| -> Vec<i64> {
        segments.iter().map(|segment| of(&segment.head)).collect()
    };
    let ids: Vec<i64> = segments.iter().map(|segment| pair(file.0, segment.head.no.into())).collect();
    let models: Vec<&str> = segments.iter().map(|segment| &*segment.head.model).collect();
    let chunks: Vec<i64> = segments.iter().map(|segment| pieces_of(segment.data.len()).into()).collect();
    let data = segments.iter().map(|segment| (pieces_of(segment.data.len()) == 0).then_some(&*segment.data));
    let data: Vec<Option<&[u8]>> = data.collect();
    let sql = "INSERT INTO segment (id, file, no, model, item_count, first_line, last_line, endpoints, raw_bytes, \
               chunks, data) \
               SELECT made.id, $1, made.no, made.model, made.item_count, made.first_line, made.last_line, \
               made.endpoints, made.raw_bytes, made.chunks, made.data \
               FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], \
               $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[]) AS made (id, no, model, item_count, \
               first_line, last_line, endpoints, raw_bytes, chunks, data)";
    transaction
        .execute(
            sql,
            &arguments![
                file.0,
                ids,
                column(|head| head.no.into()),
                models,
                column(|head| head.item_count.into()),
                column(|head| head.first_line.into()),
                column(|head| head.last_line.into()),
                column(|head| head.endpoints.into()),
                column(|head| head.raw_bytes.into()),
                chunks,
                data,
            ],
        )
        .await?;
    transaction.effects.rows += segments.len() as u64;
    Ok(transaction.commit().await?)
}

/// Writes one piece of a large segment.
pub(crate) async fn append_piece(
    database: &Database,
    (file, segment): (FileKey, u32),
    no: u32,
    data: &[u8],
) -> Result<()> {
    let mut transaction = database.begin_new(Lane::Bulk).await?;
    check_uploading(&transaction, file).await?;
    let sql = "INSERT INTO segment_chunk (segment, no, data) VALUES ($1, $2, $3) \
               ON CONFLICT (segment, no) DO UPDATE SET data = excluded.data";
    let id = pair(file.0, segment.into());
    transaction.execute(sql, &arguments![id, i64::from(no), data]).await?;
    transaction.effects.rows += 1;
    Ok(transaction.commit().await?)
}

/// Heads from a number on, ascending, of one model or all.
pub(crate) async fn heads(
    database: &Database,
    file: FileKey,
    model: Option<&str>,
    from_no: u32,
    limit: usize,
) -> Result<Vec<SegmentHead>> {
    let limit = int(limit as u64);
    let rows = match model {
        Some(model) => {
            let sql = select_heads!(
                "FROM segment WHERE file = $1 AND model = $2 AND no >= $3 ORDER BY no LIMIT $4"
            );
            database.rows(sql, &arguments![file.0, model, i64::from(from_no), limit]).await?
        }
        None => {
            let sql = select_heads!("FROM segment WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT $3");
            let (first, last) = (pair(file.0, from_no.into()), pair(file.0, u32::MAX.into()));
            database.rows(sql, &arguments![first, last, limit]).await?
        }
    };
    Ok(rows.iter().map(|row| read_head(&mut Columns::of(row))).collect::<Attempt<_>>()?)
}

/// One segment with its data, its pieces read by the same statement: they may be erased between two.
pub(crate) async fn segment(
    queries: &(impl Queries + Sync),
    file: FileKey,
    no: u32,
) -> Attempt<Option<Segment>> {
    let sql = select_heads!(
        ", chunks, data, ARRAY(SELECT segment_chunk.data FROM segment_chunk \
         WHERE segment_chunk.segment = segment.id AND segment_chunk.no < segment.chunks ORDER BY segment_chunk.no) \
         FROM segment WHERE id = $1"
    );
    let row = queries.row(sql, &arguments![pair(file.0, no.into())]).await?;
    row.as_ref().map(read_segment).transpose()
}

fn read_segment(row: &Row) -> Attempt<Segment> {
    let mut columns = Columns::of(row);
    let (head, chunks) = (read_head(&mut columns)?, columns.uint::<usize>()?);
    let (data, pieces): (Option<&[u8]>, Vec<&[u8]>) = (columns.take()?, columns.take()?);
    let data = match data {
        Some(data) => Bytes::copy_from_slice(data),
        None if pieces.len() == chunks => pieces.concat().into(),
        None => return Err(damaged("pieces of a segment are missing")),
    };
    Ok(Segment { head, data })
}

pub(super) fn read_head(columns: &mut Columns<'_>) -> Attempt<SegmentHead> {
    Ok(SegmentHead {
        no: columns.uint()?,
        model: columns.take::<&str>()?.into(),
        item_count: columns.uint()?,
        first_line: columns.uint()?,
        last_line: columns.uint()?,
        endpoints: columns.uint()?,
        raw_bytes: columns.uint()?,
    })
}
