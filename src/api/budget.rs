//! `GET /v1/budget`: every limit and its use.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::domain::api_key::Scope;
use crate::domain::limit_status::LimitStatus;

use super::caller::Caller;
use super::state::Board;

/// The list. It is whole: limits are as many as lanes and apps, not as batches.
#[derive(Debug, Serialize)]
pub(crate) struct BudgetList {
    object: &'static str,
    data: Vec<LimitView>,
}

#[derive(Debug, Serialize)]
struct LimitView {
    level: &'static str,
    name: String,
    provider: Option<String>,
    model: Option<String>,
    dimension: &'static str,
    limit: Option<u64>,
    period_seconds: Option<f64>,
    source: &'static str,
    used: u64,
    reserved: u64,
    debt: u64,
    rate_factor: f64,
    in_flight: u32,
    closed_until: Option<i64>,
    state: &'static str,
    waiting: u64,
}

/// Shows every lane, and of the apps only the caller's own unless it may see all.
pub(crate) async fn show_budget(State(board): State<Board>, caller: Caller) -> Json<BudgetList> {
    let of_app = (caller.scope != Scope::Admin).then_some(caller.app);
    let limits = (board.limits)(of_app).await;
    Json(BudgetList { object: "list", data: limits.into_iter().map(LimitView::from).collect() })
}

impl From<LimitStatus> for LimitView {
    fn from(limit: LimitStatus) -> Self {
        Self {
            level: limit.level,
            name: limit.name,
            provider: limit.provider,
            model: limit.model,
            dimension: limit.dimension,
            limit: limit.limit,
            period_seconds: limit.period.map(|period| period.as_secs_f64()),
            source: if limit.learned { "learned" } else { "configured" },
            used: limit.used,
            reserved: limit.reserved,
            debt: limit.debt,
            rate_factor: limit.rate_factor,
            in_flight: limit.in_flight,
            closed_until: limit.closed_until.map(|until| until.seconds()),
            state: limit.state,
            waiting: limit.waiting,
        }
    }
}
