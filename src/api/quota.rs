//! Telling that an app's quota is used up, and when to come back.

use std::time::Duration;

use crate::domain::app::{OverQuota, Quota};
use crate::domain::batch::BatchStatus;
use crate::store::{BatchQuery, StoreError};

use super::caller::Caller;
use super::error::{ApiError, Refusal};
use super::state::Api;

/// Batches whose pace is asked: more than an app has running.
const BATCHES: usize = 1_000;
/// Told while nothing is known of the pace: the longest wait that the SDKs heed.
const UNKNOWN_SECONDS: u64 = 60;

impl From<OverQuota> for ApiError {
    fn from(over: OverQuota) -> Self {
        let OverQuota { quota, limit, held, added } = over;
        let (name, held_now) = match quota {
            Quota::ItemsQueued => ("items_queued", format!("{held} items wait or run")),
            Quota::BytesStored => ("bytes_stored", format!("{held} bytes are stored")),
        };
        let what_helps = match (quota, over.excess()) {
            (_, None) => "It never fits: split it.",
            (Quota::ItemsQueued, _) => "Try again when some of them have ended.",
            (Quota::BytesStored, _) => "Delete files or batches that are not needed any more.",
        };
        let added = if added == 0 { String::new() } else { format!(" and {added} more were sent") };
        let why = format!("The app's quota {name} is {limit}: {held_now}{added}. {what_helps}");
        Self::new(Refusal::AppQuotaExceeded, why)
    }
}

/// 429 for a create, with the time after which it fits as far as the present pace tells.
///
/// Only ended items make room by themselves; bytes go when someone deletes something or retention does.
pub(crate) async fn refuse_create(api: &Api, caller: Caller, over: OverQuota) -> ApiError {
    match (over.quota, over.excess()) {
        (Quota::ItemsQueued, Some(excess)) => match pace(api, caller).await {
            Ok(pace) => ApiError::from(over).retry_after(Duration::from_secs(seconds_until(excess, pace))),
            Err(error) => error.into(),
        },
        _ => over.into(),
    }
}

/// Items of the app that end per second.
async fn pace(api: &Api, caller: Caller) -> Result<f64, StoreError> {
    let query = BatchQuery {
        app: caller.app,
        after: None,
        limit: BATCHES,
        status: Some(BatchStatus::InProgress),
        metadata: Vec::new(),
    };
    let running = api.store.batches(query).await?.data;
    Ok(running.iter().map(|batch| (api.board.progress)(batch.key).items_per_second).sum())
}

fn seconds_until(excess: u64, pace: f64) -> u64 {
    if pace > 0.0 { ((excess as f64 / pace).ceil() as u64).max(1) } else { UNKNOWN_SECONDS }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(10, 2.0, 5)]
    #[case(11, 2.0, 6)]
    #[case(1, 1_000.0, 1)]
    #[case(7_200, 1.0, 7_200)]
    #[case(10, 0.0, 60)]
    fn waits(#[case] excess: u64, #[case] pace: f64, #[case] seconds: u64) {
        assert_eq!(seconds_until(excess, pace), seconds);
    }
}
