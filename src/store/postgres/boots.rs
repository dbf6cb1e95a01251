//! Boots: one row per start, which tells the worker's next start how this one ended.

use super::Database;
use super::arguments::arguments;
use super::columns::Columns;
use super::connections::{Lane, Queries};
use super::fault::{Attempt, damaged};
use super::membership::{Identity, since_start};
use super::transaction::Transaction;
use super::workers;
use crate::domain::ids::BatchKey;
use crate::domain::time::Timestamp;
use crate::store::previous_boot::{PreviousBoot, REMEMBERED};
use crate::store::{BootReport, Result};

/// Makes this process a worker, writes its boot's row and tells of the worker's boot before.
pub(crate) async fn begin(database: &Database, now: Timestamp) -> Result<BootReport> {
    let sent = since_start();
    let transaction = database.begin(Lane::Control).await?;
    let (key, epoch) = workers::register(&transaction, &database.membership().settings).await?;
    workers::give_up_files(&transaction, key).await?;
    let (others, is_first) = workers::others(&transaction, key).await?;
    let previous = last(&transaction, key).await?;
    let suspect = previous.as_ref().and_then(PreviousBoot::suspect_now);
    let sql = "INSERT INTO boot (started_at, suspect_batch, suspect_line, suspect_deaths, worker) \
               VALUES ($1, $2, $3, $4, $5) RETURNING id";
    let (batch, line) = (suspect.map(|(batch, _, _)| batch.0), suspect.map(|(_, line, _)| i64::from(line)));
    let deaths = suspect.map_or(0, |(_, _, deaths)| i64::from(deaths));
    let row = transaction.row(sql, &arguments![now.micros(), batch, line, deaths, key]).await?;
    let boot: i64 = Columns::of(&row.ok_or_else(|| damaged("a new boot has no number"))?).take()?;
    let sql = "DELETE FROM boot WHERE worker = $1 AND id <= \
               (SELECT id FROM boot WHERE worker = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)";
    transaction.execute(sql, &arguments![key, REMEMBERED]).await?;
    transaction.commit().await?;
    // Not only with the first beat: where a limit is lower elsewhere, nothing may leave here by the higher one.
    database.connections.shared.told.hear(others, is_first);
    database.take_part(Identity { key, epoch, boot }, sent);
    Ok(BootReport {
        boot,
        clean: previous.as_ref().is_none_or(|previous| previous.clean),
        recorded_before: previous.as_ref().is_none_or(|previous| previous.recorded),
        alone: suspect,
    })
}

/// The worker's boot before. One from before there were several workers may be anyone's.
async fn last(transaction: &Transaction, worker: i64) -> Attempt<Option<PreviousBoot>> {
    let sql = "SELECT ended_at IS NOT NULL, recorded <> 0, alone_batch, alone_line, \
                      suspect_batch, suspect_line, suspect_deaths \
               FROM boot WHERE worker = $1 ORDER BY id DESC LIMIT 1";
    let Some(row) = transaction.row(sql, &arguments![worker]).await? else { return Ok(None) };
    let mut columns = Columns::of(&row);
    let (clean, recorded) = (columns.take()?, columns.take()?);
    let alone = item(&mut columns)?;
    let suspect = item(&mut columns)?;
    let deaths = columns.uint()?;
    let suspect = suspect.map(|(batch, line)| (batch, line, deaths));
    Ok(Some(PreviousBoot { clean, recorded, alone, suspect }))
}

fn item(columns: &mut Columns<'_>) -> Attempt<Option<(BatchKey, u32)>> {
    let batch: Option<i64> = columns.take()?;
    let line: Option<u32> = columns.optional_uint()?;
    Ok(batch.map(BatchKey).zip(line))
}

/// Names the item that is about to run alone.
pub(crate) async fn name_alone(database: &Database, batch: BatchKey, line: u32) -> Result<()> {
    let Identity { boot, .. } = database.membership().identity()?;
    let transaction = database.begin(Lane::Control).await?;
    let sql = "UPDATE boot SET alone_batch = $1, alone_line = $2 WHERE id = $3";
    transaction.execute(sql, &arguments![batch.0, i64::from(line), boot]).await?;
    Ok(transaction.commit().await?)
}

/// Notes a clean end, and lets others have what is left.
pub(crate) async fn end(database: &Database) -> Result<()> {
    let Some(identity) = database.membership().last_known() else { return Ok(()) };
    // Before anything else: a beat that finds it ended would take its part for lost.
    database.membership().leave();
    let mut transaction = database.begin(Lane::Control).await?;
    let sql = "UPDATE boot SET ended_at = $1 WHERE id = $2";
    transaction.execute(sql, &arguments![transaction.now.micros(), identity.boot]).await?;
    workers::leave(&mut transaction, identity).await?;
    Ok(transaction.commit().await?)
}
