//! What the gate's limits look like at the moment, for whoever asks.

use crate::domain::ids::AppKey;
use crate::domain::limit_status::{CONCURRENCY, LimitStatus};
use crate::domain::progress::ItemProgress;
use crate::domain::time::Timestamp;
use crate::gate::{LevelKind, LevelView};

use super::dispatcher::Dispatcher;
use super::item::LeaseKey;

impl Dispatcher {
    /// Every limit of every level that stands for somebody: of the apps' only `of_app`'s, if that is given.
    pub(super) fn limits(&mut self, of_app: Option<AppKey>, now: Timestamp) -> Vec<LimitStatus> {
        let mut limits = Vec::new();
        for id in self.gate.level_ids() {
            let Some(view) = self.gate.view(id, now) else { continue };
            let shown = match view.kind {
                LevelKind::Service => true,
                // What was taken away shows as long as calls of before are in flight.
                LevelKind::Provider | LevelKind::Lane => self.lanes.is_in_force(id) || view.in_flight > 0,
                LevelKind::App => of_app.is_none_or(|app| self.apps.app_of(id) == Some(app)),
                // A batch shows its own, and bytes are nobody's budget.
                LevelKind::Batch | LevelKind::Memory => false,
            };
            if shown {
                limits.extend(rows(&view));
            }
        }
        limits.sort_by(|one, other| (rank(one.level), &one.name).cmp(&(rank(other.level), &other.name)));
        limits
    }

    /// How far an item is that has no result.
    pub(super) fn item_progress(&self, lease: LeaseKey, line: u32, now: Timestamp) -> ItemProgress {
        if self.running.contains_key(&(lease.batch, line)) {
            return ItemProgress { running: true, waiting: None };
        }
        let mut reasons = self.waiting(lease.batch, now);
        // A segment that is not leased yet waits for those before it, whichever lane these are for.
        let feed = self.batches.leases.get(&lease).and_then(|lease| self.batches.feeds.get(&lease.feed));
        if let Some(feed) = feed {
            let lanes: Vec<&str> =
                feed.heads.iter().map(|(lane, _)| self.lanes.get(*lane).name.as_str()).collect();
            reasons.retain(|reason| reason.lane.as_deref().is_none_or(|lane| lanes.contains(&lane)));
        }
        ItemProgress { running: false, waiting: reasons.into_iter().next() }
    }
}

fn rank(level: &str) -> usize {
    ["service", "provider", "lane", "app"].iter().position(|kind| *kind == level).unwrap_or(usize::MAX)
}

/// One row a budget, and one for the calls in flight.
fn rows(view: &LevelView) -> Vec<LimitStatus> {
    let (provider, model) = match view.kind {
        LevelKind::Provider => (Some(view.name.to_string()), None),
        // A model's name may hold slashes, a provider's may not.
        LevelKind::Lane => view
            .name
            .split_once('/')
            .map_or((None, None), |(provider, model)| (Some(provider.to_owned()), Some(model.to_owned()))),
        _ => (None, None),
    };
    let row = LimitStatus {
        level: view.kind.as_str(),
        name: view.name.to_string(),
        provider,
        model,
        dimension: CONCURRENCY,
        limit: view.max_concurrent.map(u64::from),
        period: None,
        learned: false,
        used: u64::from(view.in_flight),
        reserved: 0,
        debt: 0,
        rate_factor: view.rate_factor,
        in_flight: view.in_flight,
        closed_until: view.closed_until,
        state: view.state.as_str(),
        waiting: view.waiting as u64,
    };
    let budgets = view.budgets.iter().map(|budget| LimitStatus {
        dimension: budget.dimension.as_str(),
        limit: Some(budget.limit),
        period: Some(budget.period),
        learned: budget.learned,
        used: budget.used,
        reserved: budget.reserved,
        debt: budget.debt,
        ..row.clone()
    });
    let mut rows: Vec<LimitStatus> = budgets.collect();
    rows.push(row);
    rows
}
