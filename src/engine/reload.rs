//! Other settings while the dispatcher runs: limits, lanes and providers, taken over between two rounds.

use std::collections::HashSet;

use crate::domain::time::Timestamp;

use super::batches::Feed;
use super::dispatcher::Dispatcher;
use super::item::{FeedId, LaneId, RouteId};
use super::lanes::Renewed;
use super::settings::EngineSettings;
use super::start::{bounded, shares_places, watch_key};

impl Dispatcher {
    /// Takes over other settings. Calls in flight end as they began; what waits goes by the new ones from now on, and
    /// items whose lanes were all taken away wait for another one.
    pub(super) fn reload(&mut self, settings: EngineSettings, now: Timestamp) {
        let EngineSettings { limits, interactive_share, drain_timeout, providers, route } = settings;
        self.gate.share_places(self.service, shares_places(&limits), now);
        let (limits, ceiling) = bounded(limits);
        self.drain_timeout = drain_timeout;
        self.gate.set_interactive_share(interactive_share);
        let all_limited = self.gate.set_limits(self.service, &limits, now);
        let renewed = self.lanes.renew(providers, (route, ceiling), &mut self.gate, now);
        let Renewed { mut limited, moved, clients } = renewed;
        clients.iter().for_each(|provider| watch_key(provider, &self.reporter.events));
        self.interactive.forget_habits(&moved);
        if all_limited {
            limited.extend(self.lanes.ids());
        }
        self.reroute_feeds(&limited, now);
        self.reroute_calls(&limited, now);
        self.sort_feeds(now);
        // Gauges, and what other workers are told, follow at once.
        self.settled = false;
        self.next_tick = now;
    }

    /// Whether what waits on a route may weigh otherwise than when it was put into the gate.
    pub(super) fn is_limited(&self, route: RouteId, limited: &HashSet<LaneId>) -> bool {
        self.lanes.route(route).lanes().any(|lane| limited.contains(&lane))
    }

    fn reroute_feeds(&mut self, limited: &HashSet<LaneId>, now: Timestamp) {
        let mut feeds: Vec<FeedId> = self.batches.feeds.keys().copied().collect();
        feeds.sort_unstable();
        for id in feeds {
            let Some(Feed { batch, model, route: before, .. }) = self.batches.feeds.get(&id) else {
                continue;
            };
            let (batch, model, before) = (*batch, std::sync::Arc::clone(model), *before);
            let route = self.route_for(batch, &model, now);
            if route != before {
                self.withdraw(id, now);
                self.move_feed(id, before, route);
            } else if route.is_some_and(|route| self.is_limited(route, limited)) {
                self.withdraw(id, now);
            } else {
                continue;
            }
            self.enqueue(id, now);
        }
    }

    /// A feed's model has another route, or none any more: its items wait then, whatever they would do if it had never
    /// had one.
    fn move_feed(&mut self, id: FeedId, before: Option<RouteId>, route: Option<RouteId>) {
        let mut due = Vec::new();
        if let Some(before) = before {
            let before = self.lanes.route_mut(before);
            before.remove_feed(id);
            due = before.take_due(id);
        }
        self.laneless.retain(|laneless| *laneless != id);
        let Some(feed) = self.batches.feeds.get_mut(&id) else { return };
        feed.route = route;
        feed.waits_for_lane = true;
        let app = self.batches.batches.get(&feed.batch).map(|batch| batch.record.app);
        match (route, app) {
            (Some(route), Some(app)) => {
                let route = self.lanes.route_mut(route);
                route.add_feed(app, id);
                route.due.extend(due.into_iter().map(|item| (id, item)));
            }
            _ => due.into_iter().for_each(|item| self.wake_item(id, item)),
        }
    }
}
