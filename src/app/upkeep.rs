//! What runs beside the data's path: retention and the store's gauges.

use std::time::Duration;

use crate::clock::Clock;
use crate::shutdown::Shutdown;
use crate::store::Store;

/// How often retention looks; it goes on at once while it finds something.
const SWEEP: Duration = Duration::from_secs(60);

/// Erases what retention no longer keeps, in small steps.
pub(super) async fn sweep(store: Store, clock: Clock, shutdown: Shutdown) {
    loop {
        let found = match store.sweep(clock.now()).await {
            Ok(swept) => swept.more,
            Err(error) => {
                tracing::warn!(error = %error, "retention could not erase; trying again in a minute");
                false
            }
        };
        let pause = if found { Duration::from_millis(20) } else { SWEEP };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.begun() => return,
        }
    }
}
