//! `GET /admin/v1/workers`

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::domain::worker::WorkerRecord;

use super::super::error::Result;
use super::super::list::List;
use super::super::state::Api;

/// A process that works on the store.
#[derive(Debug, Serialize)]
pub(crate) struct WorkerView {
    object: &'static str,
    name: String,
    version: String,
    epoch: i64,
    state: &'static str,
    started_at: i64,
    beat_at: i64,
    running: u32,
    leases: u32,
}

impl WorkerView {
    fn new(record: WorkerRecord) -> Self {
        let WorkerRecord { name, epoch, version, started_at, beat_at, state, running, leases, .. } = record;
        Self {
            object: "sluicegate.worker",
            name,
            version,
            epoch,
            state: state.as_str(),
            started_at: started_at.seconds(),
            beat_at: beat_at.seconds(),
            running,
            leases,
        }
    }
}

/// Every worker, those that ended or died lately too.
pub(crate) async fn list_workers(State(api): State<Api>) -> Result<Json<List<WorkerView>>> {
    let data = api.store.workers().await?.into_iter().map(WorkerView::new).collect();
    Ok(Json(List::new(data, false, |worker: &WorkerView| &worker.name)))
}
