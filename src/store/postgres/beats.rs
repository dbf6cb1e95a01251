//! The worker's beats: it tells the database that it lives, and hears whether others do.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::arguments::arguments;
use super::connections::{Connections, Lane};
use super::fault::{Attempt, Fault, damaged};
use super::membership::{Identity, since_start};
use super::server::{Alone, Server};
use super::workers;
use crate::complaint::Complaint;
use crate::domain::ids::BatchKey;
use crate::store::LimitsTold;
use crate::store::ownership::{BEAT, DEAD_AFTER, Health};

/// How long a beat may take: one that takes longer is better sent again, on another connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// How soon one that did not arrive is sent again.
const AGAIN: Duration = Duration::from_millis(500);

/// The task's belongings.
pub(super) struct Beats {
    connections: Arc<Connections>,
    server: Server,
    /// One statement for all of it; it names the schema itself, so that nothing has to be set before it.
    sql: String,
    /// A connection of its own: a beat must not wait for what others do.
    alone: Option<Alone>,
    health: Health,
    /// A takeover under way: no beat waits for it.
    taking: Option<JoinHandle<()>>,
    /// Of beats that do not arrive.
    complaint: Complaint,
}

impl Beats {
    pub(super) fn new(connections: Arc<Connections>, server: Server) -> Self {
        let schema = &connections.schema;
        let now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let dead_after = DEAD_AFTER.as_micros();
        let sql = format!(
            "WITH beat AS ( \
                 UPDATE \"{schema}\".worker SET beat_at = {now}, running = $3, leases = $4, limits = $5, \
                     running_batches = $6, running_calls = $7 \
                 WHERE key = $1 AND epoch = $2 AND taken_at IS NULL AND ended_at IS NULL RETURNING key \
             ), others AS ( \
                 SELECT key, name, limits, running_batches, running_calls, \
                     beat_at < {now} - {dead_after} AS is_dead FROM \"{schema}\".worker \
                 WHERE key <> $1 AND ended_at IS NULL AND taken_at IS NULL \
             ), elsewhere AS ( \
                 SELECT batch, sum(calls)::bigint AS calls \
                 FROM others, unnest(running_batches, running_calls) AS told (batch, calls) \
                 WHERE NOT is_dead GROUP BY batch \
             ) \
             SELECT EXISTS (SELECT 1 FROM beat), ARRAY(SELECT key FROM others WHERE is_dead), \
                 NOT EXISTS (SELECT 1 FROM others WHERE NOT is_dead AND key < $1), \
                 ARRAY(SELECT name FROM others WHERE NOT is_dead AND limits NOT IN ($5, '{{}}') ORDER BY key), \
                 ARRAY(SELECT limits FROM others WHERE NOT is_dead AND limits NOT IN ($5, '{{}}') ORDER BY key), \
                 ARRAY(SELECT batch FROM elsewhere ORDER BY batch), ARRAY(SELECT calls FROM elsewhere ORDER BY batch)"
        );
        Self {
            connections,
            server,
            sql,
            alone: None,
            health: Health::default(),
            taking: None,
            complaint: Complaint::default(),
        }
    }

    /// Its life.
    pub(super) async fn run(mut self) {
        // At once: the one that its start stands for may be old by now.
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.connections.shared.told.news() => {}
            }
            // Whoever lost its part is not heard of until it takes part again.
            let Ok(identity) = self.connections.membership.identity() else { continue };
            match self.beat(identity).await {
                Ok(dead) => {
                    self.complaint.end();
                    self.take_over(dead);
                }
                Err(fault) => {
                    self.alone = None;
                    if self.complaint.begin() {
                        tracing::warn!(error = %fault.answer(), "this worker's beat did not arrive; trying again");
                    }
                    // Calls may start again only once one does.
                    beat.reset_after(AGAIN);
                }
            }
        }
    }

    /// One beat; the workers that look dead.
    async fn beat(&mut self, identity: Identity) -> Attempt<Vec<i64>> {
        let alone = match self.alone.take().filter(|alone| !alone.client.is_closed()) {
            Some(alone) => alone,
            None => self.server.connect().await?,
        };
        let told = &self.connections.shared.told;
        let (running, leases) = told.load();
        let (running, leases, limits) = (i64::from(running), i64::from(leases), told.limits());
        let by_batch = told.by_batch();
        let (batches, calls): (Vec<i64>, Vec<i64>) =
            by_batch.iter().map(|(batch, calls)| (batch.0, i64::from(*calls))).unzip();
        let Identity { key, epoch, .. } = identity;
        let sent = since_start();
        let limits: &str = &limits;
        let arguments = arguments![key, epoch, running, leases, limits, batches, calls];
        let asked = self.connections.alone(&alone.client, &self.sql, &arguments);
        let Ok(answered) = tokio::time::timeout(PATIENCE, asked).await else {
            alone.give_up(&self.server);
            return Err(Fault::Away(format!("no answer within {} s", PATIENCE.as_secs())));
        };
        let rows = answered?;
        self.alone = Some(alone);
        let row = rows.first().ok_or_else(|| damaged("a beat was answered nothing"))?;
        let (arrived, dead): (bool, Vec<i64>) = (row.try_get(0)?, row.try_get(1)?);
        let (names, limits): (Vec<String>, Vec<String>) = (row.try_get(3)?, row.try_get(4)?);
        let others = names.into_iter().zip(limits).map(|(worker, limits)| LimitsTold { worker, limits });
        let (batches, calls): (Vec<i64>, Vec<i64>) = (row.try_get(5)?, row.try_get(6)?);
        let elsewhere = batches.into_iter().map(BatchKey).zip(calls.into_iter().map(i64::unsigned_abs));
        let told = &self.connections.shared.told;
        told.hear_running(elsewhere.collect());
        told.hear(others.collect(), row.try_get(2)?);
        if arrived {
            self.health.beat(sent);
            self.connections.membership.beat_arrived(epoch, sent);
        } else {
            self.health = Health::default();
            self.connections.membership.lose(epoch);
        }
        Ok(dead)
    }

    /// Takes over from the dead, once sure that they are not just unheard.
    fn take_over(&mut self, dead: Vec<i64>) {
        let is_sure = self.health.may_take_over(since_start()) && self.connections.membership.may_start();
        let is_free = self.taking.as_ref().is_none_or(JoinHandle::is_finished);
        if dead.is_empty() || !is_sure || !is_free {
            return;
        }
        let connections = Arc::clone(&self.connections);
        self.taking = Some(tokio::spawn(async move {
            for worker in dead {
                if let Err(fault) = take_over(&connections, worker).await {
                    tracing::warn!(error = %fault.answer(), "a dead worker's work could not be taken over yet");
                }
            }
        }));
    }
}

async fn take_over(connections: &Arc<Connections>, worker: i64) -> Attempt<bool> {
    let transaction = connections.begin(Lane::Control).await?;
    workers::take_over(transaction, worker).await
}
