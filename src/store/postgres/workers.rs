//! Workers' rows: a process comes, is taken for dead, comes back, ends.
//!
//! Who changes whose a worker's segments are, locks its row `FOR UPDATE` first. A claim locks its own `FOR KEY SHARE`:
//! that waits for such a change and is waited for by one, but a beat, which changes no key, waits for neither.

use std::time::Duration;

use tokio::time::Instant;

use super::Database;
use super::arguments::{Statement, arguments};
use super::columns::Columns;
use super::connections::{Lane, Queries};
use super::fault::{Attempt, damaged};
use super::membership::{Identity, Membership, since_start};
use super::transaction::Transaction;
use super::unfinished_copy;
use crate::domain::time::Timestamp;
use crate::domain::worker::{WorkerKey, WorkerRecord};
use crate::store::ownership::{self, DEAD_AFTER};
use crate::store::{LimitsTold, Result, WorkerSettings};

/// Makes this process a worker, in the transaction that writes its boot's row; its key and epoch. What it had claimed
/// under epochs before stays in its name.
pub(super) async fn register(transaction: &Transaction, settings: &WorkerSettings) -> Attempt<(i64, i64)> {
    unfinished_copy::keep_out(transaction).await?;
    let sql = "SELECT key FROM worker WHERE name = $1 FOR UPDATE";
    transaction.row(sql, &arguments![settings.name]).await?;
    let sql = "INSERT INTO worker (name, epoch, version, started_at, beat_at) VALUES ($1, 1, $2, $3, $3) \
               ON CONFLICT (name) DO UPDATE SET epoch = worker.epoch + 1, version = excluded.version, \
               started_at = excluded.started_at, beat_at = excluded.beat_at, ended_at = NULL, taken_at = NULL, \
               running = 0, running_batches = '{}', running_calls = '{}', leases = 0, exchange = 0, limits = '{}' \
               RETURNING key, epoch";
    let now = transaction.now.micros();
    let row = transaction.row(sql, &arguments![settings.name, settings.version, now]).await?;
    let row = row.ok_or_else(|| damaged("a worker has no row"))?;
    let mut columns = Columns::of(&row);
    Ok((columns.take()?, columns.take()?))
}

/// What the other living workers told of their limits, and whether this one is the oldest of all.
pub(super) async fn others(transaction: &Transaction, worker: i64) -> Attempt<(Vec<LimitsTold>, bool)> {
    let heard_after = (transaction.now - DEAD_AFTER).micros();
    let sql = "SELECT key, name, limits FROM worker \
               WHERE key <> $1 AND ended_at IS NULL AND taken_at IS NULL AND beat_at >= $2 ORDER BY key";
    let (mut others, mut is_first) = (Vec::new(), true);
    for row in &transaction.rows(sql, &arguments![worker, heard_after]).await? {
        let mut columns = Columns::of(row);
        let (key, worker_name, limits): (i64, String, String) =
            (columns.take()?, columns.take()?, columns.take()?);
        is_first &= key > worker;
        others.push(LimitsTold { worker: worker_name, limits });
    }
    Ok((others, is_first))
}

/// What makes everything that a worker held free: its segments nobody's.
///
/// Its places in the ledger belong here too.
fn letting_go(worker: i64) -> Vec<Statement> {
    let segments = "UPDATE batch_segment SET worker = 0 WHERE worker = $1";
    vec![Statement::new(segments).with(worker)]
}

/// Gives up what a worker was writing: nobody goes on with an upload.
pub(super) async fn give_up_files(transaction: &Transaction, worker: i64) -> Attempt<()> {
    let now = transaction.now.micros();
    for sql in [
        "UPDATE file SET deleted_at = $2 WHERE worker = $1 AND status = 'uploading' AND deleted_at IS NULL",
        "UPDATE file SET deleted_at = $2 WHERE worker = $1 AND source = 'inline' AND deleted_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = file.key AND batch.deleted_at IS NULL)",
    ] {
        transaction.execute(sql, &arguments![worker, now]).await?;
    }
    Ok(())
}

/// Takes part anew, as the same boot. What it is writing goes on.
pub(crate) async fn rejoin(database: &Database) -> Result<()> {
    let membership = database.membership();
    let boot = membership.last_known().map_or(0, |known| known.boot);
    let sent = since_start();
    let mut transaction = database.begin(Lane::Control).await?;
    warn_of_namesake(&transaction, membership).await?;
    let (key, epoch) = register(&transaction, &membership.settings).await?;
    transaction.run(&letting_go(key)).await?;
    transaction.effects.work = true;
    transaction.commit().await?;
    membership.join(Identity { key, epoch, boot }, sent);
    tracing::info!(epoch, "this worker takes part again");
    Ok(())
}

/// Tells of another process that started under this worker's name and lives: each would end the other's part for ever.
async fn warn_of_namesake(transaction: &Transaction, membership: &Membership) -> Attempt<()> {
    let epoch = membership.last_known().map_or(0, |known| known.epoch);
    let sql = "SELECT 1 FROM worker WHERE name = $1 AND epoch > $2 AND ended_at IS NULL AND taken_at IS NULL";
    let name = membership.settings.name.as_str();
    if transaction.row(sql, &arguments![name, epoch]).await?.is_some() {
        tracing::error!(
            name,
            "another process is called as this one, so neither keeps what it runs: give one of them another port, or its \
             machine another name"
        );
    }
    Ok(())
}

/// Makes the work of one that looked dead nobody's. `false`: it was heard of after all, or somebody else did so.
pub(super) async fn take_over(mut transaction: Transaction, worker: i64) -> Attempt<bool> {
    let heard_before = transaction.now - DEAD_AFTER;
    let sql = "SELECT name FROM worker WHERE key = $1 AND ended_at IS NULL AND taken_at IS NULL AND beat_at < $2 \
               FOR UPDATE SKIP LOCKED";
    let Some(row) = transaction.row(sql, &arguments![worker, heard_before.micros()]).await? else {
        return Ok(false);
    };
    let name: String = Columns::of(&row).take()?;
    let now = transaction.now.micros();
    let sql = "UPDATE worker SET epoch = epoch + 1, taken_at = $2, running = 0, leases = 0 WHERE key = $1";
    transaction.execute(sql, &arguments![worker, now]).await?;
    transaction.run(&letting_go(worker)).await?;
    give_up_files(&transaction, worker).await?;
    transaction.effects.work = true;
    transaction.commit().await?;
    tracing::warn!(worker = name, "a worker is dead: its work was taken over");
    Ok(true)
}

/// Ends this worker's part in order.
pub(super) async fn leave(transaction: &mut Transaction, identity: Identity) -> Attempt<()> {
    let Identity { key, epoch, .. } = identity;
    let sql = "SELECT key FROM worker WHERE key = $1 AND epoch = $2 FOR UPDATE";
    if transaction.row(sql, &arguments![key, epoch]).await?.is_none() {
        // Its part is another's by now.
        return Ok(());
    }
    let sql = "UPDATE worker SET ended_at = $2, beat_at = $2, running = 0, leases = 0 WHERE key = $1";
    transaction.execute(sql, &arguments![key, transaction.now.micros()]).await?;
    transaction.run(&letting_go(key)).await?;
    transaction.effects.work = true;
    Ok(())
}

/// How long one that is gone is remembered.
pub(super) const REMEMBERED: Duration = Duration::from_hours(7 * 24);

/// Forgets those that have been gone for long, and how they ran.
pub(super) async fn forget_gone(transaction: &Transaction) -> Attempt<()> {
    let gone = (transaction.now - REMEMBERED).micros();
    let sql =
        "DELETE FROM boot WHERE worker IN (SELECT key FROM worker WHERE coalesce(ended_at, taken_at) < $1)";
    transaction.execute(sql, &arguments![gone]).await?;
    let sql = "DELETE FROM worker WHERE coalesce(ended_at, taken_at) < $1";
    transaction.execute(sql, &arguments![gone]).await?;
    Ok(())
}

/// Every worker, by its key.
pub(crate) async fn all(database: &Database) -> Result<Vec<WorkerRecord>> {
    let sql = "SELECT key, name, epoch, version, started_at, beat_at, ended_at IS NOT NULL, taken_at IS NOT NULL, \
               (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, running, leases \
               FROM worker ORDER BY key";
    let rows = database.rows(sql, &[]).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        let (key, name, epoch) = (WorkerKey(columns.take()?), columns.take()?, columns.take()?);
        let (version, started_at, beat_at) = (columns.take()?, columns.moment()?, columns.moment()?);
        let (ended, taken, now) = (columns.take()?, columns.take()?, columns.moment()?);
        let state = ownership::state(beat_at, ended, taken, now);
        let (running, leases) = (columns.uint()?, columns.uint()?);
        Ok(WorkerRecord { key, name, epoch, version, started_at, beat_at, state, running, leases })
    };
    Ok(rows.iter().map(read).collect::<Attempt<_>>()?)
}

/// The database's time, and the moment here at which it was so: exact to half of a round trip.
pub(crate) async fn time(database: &Database) -> Result<(Timestamp, Instant)> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    // The first question may have to connect first.
    database.rows(sql, &[]).await?;
    let asked = Instant::now();
    let row = database.row(sql, &[]).await?.ok_or_else(|| damaged("the server told no time"))?;
    let moment = Columns::of(&row).moment()?;
    Ok((moment, asked + asked.elapsed() / 2))
}
