//! Claims: which segments are whose, decided by the database.
//!
//! What can be claimed is locked with what others hold left out, so that no claim waits for another; only those of
//! batches that one worker at a time may run wait, and lock every cursor of the batch in the order of its key. A batch
//! that ends at this moment deletes its cursors first: it waits for a claim that holds one and then finds its rows.

use std::sync::Arc;

use futures_util::future::{try_join, try_join4};
use tokio_postgres::Row;

use super::Database;
use super::arguments::arguments;
use super::columns::{Columns, int};
use super::connections::{Connections, Fate, Lane, Queries};
use super::content::read_head;
use super::fault::{Attempt, Fault};
use super::membership::Identity;
use super::transaction::Transaction;
use crate::domain::ids::BatchKey;
use crate::store::{Claim, Claimed, ClaimedSegment, Result, StoreError};

/// Makes segments this worker's.
pub(crate) async fn claim(database: &Database, claim: &Claim) -> Result<Claimed> {
    let identity = database.membership().identity()?;
    let mut transaction = database.begin(Lane::Control).await?;
    let claimed = match choose(&transaction, claim, identity).await? {
        Choice::Fenced => {
            database.membership().lose(identity.epoch);
            return Err(StoreError::Fenced);
        }
        Choice::Claimed(claimed) if claimed.segments.is_empty() => return Ok(claimed),
        Choice::Claimed(claimed) => claimed,
    };
    transaction.effects.rows += claimed.segments.len() as u64;
    match transaction.commit().await {
        Ok(()) => Ok(claimed),
        Err(fault) => {
            if let Fault::Unknown(id) = &fault {
                let segments = claimed.segments.iter().map(|claimed| i64::from(claimed.head.no)).collect();
                let unsure = Unsure { id: id.clone(), identity, batch: claim.batch, segments };
                let connections = Arc::clone(&database.connections);
                database.write_unanswered(unsure.give_back(connections));
            }
            Err(fault.into())
        }
    }
}

/// What a claim comes to before it is committed.
enum Choice {
    /// The worker's part is over.
    Fenced,
    /// These segments, or none.
    Claimed(Claimed),
}

async fn choose(transaction: &Transaction, claim: &Claim, identity: Identity) -> Attempt<Choice> {
    let Identity { key, epoch, .. } = identity;
    let own = "SELECT 1 FROM worker WHERE key = $1 AND epoch = $2 AND taken_at IS NULL FOR KEY SHARE";
    let (own_arguments, model): (_, &str) = (arguments![key, epoch], &claim.model);
    let batch = "SELECT EXISTS (SELECT 1 FROM cursor WHERE batch = $1 AND model = $2) FROM batch \
                 WHERE key = $1 AND deleted_at IS NULL AND ended_at IS NULL AND (status = 'in_progress' OR $3)";
    let batch_arguments = arguments![claim.batch.0, model, claim.closing];
    // Sent in this order in one go, and run one after the other.
    let (own, batch, cursor, (is_others, orphans)) = try_join4(
        transaction.row(own, &own_arguments),
        transaction.row(batch, &batch_arguments),
        lock_cursor(transaction, claim),
        try_join(is_others(transaction, claim, key), take_orphans(transaction, claim, identity)),
    )
    .await?;
    if own.is_none() {
        return Ok(Choice::Fenced);
    }
    let Some(batch) = batch.filter(|_| !is_others) else { return Ok(Choice::Claimed(Claimed::default())) };
    let mut segments = read_segments(&orphans, true)?;
    let has_cursor: bool = Columns::of(&batch).take()?;
    let left = claim.most.saturating_sub(segments.len());
    let more = match cursor {
        _ if left == 0 => true,
        // Somebody else moves it.
        None => has_cursor,
        Some(next) => {
            let fresh = move_cursor(transaction, claim, identity, (next, left)).await?;
            segments.extend(read_segments(&fresh, false)?);
            fresh.len() >= left
        }
    };
    Ok(Choice::Claimed(Claimed { segments, more }))
}

/// Locks the model's cursor unless somebody else has it; the segment it stands at. Of a batch to be run alone every
/// cursor, for which it waits.
async fn lock_cursor(transaction: &Transaction, claim: &Claim) -> Attempt<Option<i64>> {
    let sql = if claim.alone {
        "SELECT model, next_segment FROM cursor WHERE batch = $1 AND $2::text IS NOT NULL ORDER BY model FOR UPDATE"
    } else {
        "SELECT model, next_segment FROM cursor WHERE batch = $1 AND model = $2 FOR UPDATE SKIP LOCKED"
    };
    let rows = transaction.rows(sql, &arguments![claim.batch.0, &*claim.model]).await?;
    for row in &rows {
        let mut columns = Columns::of(row);
        let (model, next): (&str, i64) = (columns.take()?, columns.take()?);
        if model == &*claim.model {
            return Ok(Some(next));
        }
    }
    Ok(None)
}

/// Whether a batch that is to be run alone is another worker's.
async fn is_others(transaction: &Transaction, claim: &Claim, worker: i64) -> Attempt<bool> {
    let sql = "SELECT $3 AND EXISTS (SELECT 1 FROM batch_segment WHERE batch = $1 AND worker NOT IN (0, $2))";
    let row = transaction.row(sql, &arguments![claim.batch.0, worker, claim.alone]).await?;
    row.map_or(Ok(false), |row| Columns::of(&row).take())
}

async fn take_orphans(transaction: &Transaction, claim: &Claim, identity: Identity) -> Attempt<Vec<Row>> {
    let (Identity { key, epoch, .. }, most) = (identity, int(claim.most as u64));
    // Not always the second one: it looks at every segment that anyone has of the batch.
    let sql = if transaction.membership().keeps_before() { TAKE_OWN_AND_ORPHANS } else { TAKE_ORPHANS };
    transaction.rows(sql, &arguments![claim.batch.0, claim.file.0, &*claim.model, most, key, epoch]).await
}

async fn move_cursor(
    transaction: &Transaction,
    claim: &Claim,
    identity: Identity,
    (next, most): (i64, usize),
) -> Attempt<Vec<Row>> {
    let (Identity { key, epoch, .. }, most) = (identity, int(most as u64));
    transaction
        .rows(MOVE_CURSOR, &arguments![claim.batch.0, claim.file.0, &*claim.model, most, key, epoch, next])
        .await
}

fn read_segments(rows: &[Row], resumed: bool) -> Attempt<Vec<ClaimedSegment>> {
    let read = |row| Ok(ClaimedSegment { head: read_head(&mut Columns::of(row))?, resumed });
    rows.iter().map(read).collect()
}

/// Takes what is free. What is sent for a batch that turns out not to be this worker's is rolled back.
macro_rules! take {
    ($free:literal) => {
        concat!(
            "WITH free AS ( \
                 SELECT batch_segment.segment FROM batch_segment \
                 JOIN segment ON segment.id = ($2::bigint << 32 | batch_segment.segment) AND segment.model = $3 \
                 WHERE batch_segment.batch = $1 AND (",
            $free,
            ") ORDER BY batch_segment.segment LIMIT $4 FOR UPDATE OF batch_segment SKIP LOCKED \
             ), taken AS ( \
                 UPDATE batch_segment SET worker = $5, epoch = $6 FROM free \
                 WHERE batch_segment.batch = $1 AND batch_segment.segment = free.segment \
                 RETURNING batch_segment.segment \
             ) \
             SELECT no, model, item_count, first_line, last_line, endpoints, raw_bytes FROM taken \
             JOIN segment ON segment.id = ($2::bigint << 32 | taken.segment) ORDER BY no"
        )
    };
}

const TAKE_ORPHANS: &str = take!("batch_segment.worker = 0");

/// And what this worker's boots before left.
const TAKE_OWN_AND_ORPHANS: &str =
    take!("batch_segment.worker = 0 OR batch_segment.worker = $5 AND batch_segment.epoch < $6");

/// By a statement of its own, after the cursor's lock: what it reads is what the last one who had the cursor left.
const MOVE_CURSOR: &str = "WITH page AS ( \
         SELECT no, model, item_count, first_line, last_line, endpoints, raw_bytes FROM segment \
         WHERE file = $2 AND model = $3 AND no >= $7 ORDER BY no LIMIT $4 \
     ), moved AS ( \
         UPDATE cursor SET next_segment = page.after FROM (SELECT max(no) + 1 AS after FROM page) AS page \
         WHERE cursor.batch = $1 AND cursor.model = $3 AND page.after IS NOT NULL \
     ), taken AS ( \
         INSERT INTO batch_segment (batch, segment, worker, epoch) SELECT $1, no, $5, $6 FROM page \
     ) \
     SELECT no, model, item_count, first_line, last_line, endpoints, raw_bytes FROM page ORDER BY no";

/// A claim whose commit got no answer. Its caller was told that it has nothing; if it does, nobody would run it.
struct Unsure {
    id: String,
    identity: Identity,
    batch: BatchKey,
    segments: Vec<i64>,
}

impl Unsure {
    async fn give_back(self, connections: Arc<Connections>) -> Attempt<()> {
        loop {
            match connections.fate(&self.id).await {
                Ok(Fate::Committed | Fate::Forgotten) => break,
                Ok(Fate::Aborted) => return Ok(()),
                Err(fault) if fault.answer() == StoreError::Closed => return Err(fault),
                // It asked for a while already.
                Err(_) => {}
            }
        }
        loop {
            match self.try_give_back(&connections).await {
                Err(fault) if fault.is_lost() || matches!(fault, Fault::Unknown(_)) => {}
                given => return given,
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }

    async fn try_give_back(&self, connections: &Arc<Connections>) -> Attempt<()> {
        let mut transaction = connections.begin(Lane::Control).await?;
        let sql = "UPDATE batch_segment SET worker = 0 \
                   WHERE batch = $1 AND segment = ANY($2) AND worker = $3 AND epoch = $4";
        let Identity { key, epoch, .. } = self.identity;
        transaction.execute(sql, &arguments![self.batch.0, self.segments, key, epoch]).await?;
        transaction.effects.work = true;
        transaction.commit().await
    }
}

/// Lets others have this worker's segments of a batch.
pub(crate) async fn release(database: &Database, batch: BatchKey) -> Result<()> {
    let Identity { key, epoch, .. } = database.membership().identity()?;
    let mut transaction = database.begin(Lane::Control).await?;
    let sql = "UPDATE batch_segment SET worker = 0 WHERE batch = $1 AND worker = $2 AND epoch <= $3";
    transaction.effects.rows += transaction.execute(sql, &arguments![batch.0, key, epoch]).await?;
    transaction.effects.work = true;
    Ok(transaction.commit().await?)
}

/// The running batches and models of which there are segments that nobody runs.
pub(crate) async fn orphans(database: &Database) -> Result<Vec<(BatchKey, String)>> {
    let sql = "SELECT DISTINCT batch.key, segment.model FROM batch_segment \
               JOIN batch ON batch.key = batch_segment.batch AND batch.ended_at IS NULL \
               JOIN segment ON segment.id = (batch.file << 32 | batch_segment.segment) \
               WHERE batch_segment.worker = 0 ORDER BY 1, 2";
    let rows = database.rows(sql, &[]).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        Ok((BatchKey(columns.take()?), columns.take()?))
    };
    Ok(rows.iter().map(read).collect::<Attempt<_>>()?)
}
