//! What a worker's boot before had claimed: its own first, then anyone's.
//!
//! A process that starts again has nothing else to do. Were its segments anyone's at once, the others would have
//! claimed them before it can ask, and put them behind the seconds of work that each of them has at hand.

use std::sync::Arc;
use std::time::Duration;

use super::arguments::arguments;
use super::connections::{Connections, Lane};
use super::fault::Attempt;
use super::membership::Identity;
use crate::store::StoreError;

/// How long after its boot they are its own alone. What it has not claimed by then, it can't or need not run: its
/// configuration may have changed.
const KEPT: Duration = Duration::from_secs(5);

/// How soon is tried again what did not work.
const AGAIN: Duration = Duration::from_secs(1);

/// Lets others have what this boot has not claimed in time.
pub(super) async fn let_go_later(connections: Arc<Connections>, identity: Identity) {
    tokio::time::sleep(KEPT).await;
    while let Err(fault) = let_go(&connections, identity).await {
        if fault.answer() == StoreError::Closed {
            return;
        }
        tracing::warn!(error = %fault.answer(), "what this worker ran before could not be let go of yet");
        tokio::time::sleep(AGAIN).await;
    }
    connections.membership.let_go_of_before();
}

async fn let_go(connections: &Arc<Connections>, identity: Identity) -> Attempt<()> {
    let Identity { key, epoch, .. } = identity;
    let mut transaction = connections.begin(Lane::Control).await?;
    let sql = "UPDATE batch_segment SET worker = 0 WHERE worker = $1 AND epoch < $2";
    let segments = transaction.execute(sql, &arguments![key, epoch]).await?;
    transaction.effects.rows += segments;
    transaction.effects.work = segments > 0;
    transaction.commit().await
}
