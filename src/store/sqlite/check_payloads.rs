//! What results hold, opened.

use rusqlite::{Connection, params};

use super::fault::Fault;
use crate::store::check::CheckReport;
use crate::store::payload::unpack;

/// Opens every payload.
pub(super) fn check(connection: &Connection, report: &mut CheckReport) -> Result<(), Fault> {
    let sql = "SELECT batch.id, result.batch, line, compressed, chunks, payload FROM result \
               JOIN batch ON batch.key = result.batch WHERE batch.deleted_at IS NULL ORDER BY result.id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        let (batch, line, chunks): (i64, u32, u32) = (row.get(1)?, row.get(2)?, row.get(4)?);
        let wrong = if chunks > 0 {
            pieces(connection, batch, line, chunks)?
        } else {
            let stored = row.get_ref(5)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
            unpack(stored.unwrap_or_default(), row.get(3)?).err().map(|error| error.to_string())
        };
        if let Some(why) = wrong {
            let batch: String = row.get(0)?;
            report.add("results", [format!("batch {batch}: the result of line {line}: {why}")]);
        }
    }
    report.looked_at.push(("results", looked_at));
    Ok(())
}

/// What is wrong with the pieces of a large result.
fn pieces(connection: &Connection, batch: i64, line: u32, chunks: u32) -> Result<Option<String>, Fault> {
    let sql =
        "SELECT compressed, data FROM result_chunk WHERE batch = ?1 AND line = ?2 AND no < ?3 ORDER BY no";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![batch, line, chunks])?;
    let mut met = 0;
    while let Some(row) = rows.next()? {
        met += 1;
        let data = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        if let Err(error) = unpack(data, row.get(0)?) {
            return Ok(Some(format!("piece {met}: {error}")));
        }
    }
    Ok((met != chunks).then(|| format!("{met} of its {chunks} pieces are there")))
}
