//! Routes: the lanes that may serve a model in their order of preference, and the feeds these pull from.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use crate::domain::ids::AppKey;

use super::item::{FeedId, LaneId, ReadyItem};
use super::order::Floor;

/// A lane as one route sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RouteLane {
    pub(super) lane: LaneId,
    /// Lower ones are preferred.
    pub(super) order: i32,
    /// Its share among those of the same order; at least 1.
    pub(super) weight: u32,
}

/// A lane and how much of its share it has had.
#[derive(Debug)]
struct Place {
    lane: RouteLane,
    /// Smooth weighted round robin: grows by the weight with every start of its order, pays their sum with its own.
    credit: i64,
}

/// One distinct list of lanes.
#[derive(Debug)]
pub(super) struct Route {
    /// By rising order.
    places: Vec<Place>,
    /// Feeds that its lanes pull from, by app, each app's in turn. Apart, since each app's window is its own: what
    /// goes first among apps is the gate's to say, and it can only choose from what is ready.
    apps: Vec<(AppKey, Vec<FeedId>)>,
    /// What is left to each app's batches that can't be in time any more.
    floors: HashMap<AppKey, Floor>,
    /// Due retries that wait for a lane's retry budget.
    pub(super) due: VecDeque<(FeedId, ReadyItem)>,
}

impl Route {
    /// A route over lanes, of which there is at least one.
    pub(super) fn new(lanes: &[RouteLane]) -> Self {
        let mut places: Vec<Place> = lanes.iter().map(|lane| Place { lane: *lane, credit: 0 }).collect();
        places.sort_by_key(|place| place.lane.order);
        Self { places, apps: Vec::new(), floors: HashMap::new(), due: VecDeque::new() }
    }

    /// Adds an app's feed behind its others.
    pub(super) fn add_feed(&mut self, app: AppKey, feed: FeedId) {
        match self.apps.iter_mut().find(|(known, _)| *known == app) {
            Some((_, feeds)) => feeds.push(feed),
            None => self.apps.push((app, vec![feed])),
        }
    }

    /// Removes a feed.
    pub(super) fn remove_feed(&mut self, feed: FeedId) {
        for (_, feeds) in &mut self.apps {
            feeds.retain(|known| *known != feed);
        }
        self.apps.retain(|(_, feeds)| !feeds.is_empty());
    }

    /// Removes a feed's due retries, and hands them over.
    pub(super) fn take_due(&mut self, feed: FeedId) -> Vec<ReadyItem> {
        let (of_feed, others) = std::mem::take(&mut self.due).into_iter().partition(|(due, _)| *due == feed);
        self.due = others;
        let of_feed: VecDeque<(FeedId, ReadyItem)> = of_feed;
        of_feed.into_iter().map(|(_, item)| item).collect()
    }

    /// A batch in time of the app in a place got a lease: whether a hopeless one of it goes next.
    pub(super) fn floor_is_due(&mut self, app: usize) -> bool {
        let app = self.apps.get(app).map(|(app, _)| *app);
        app.is_some_and(|app| self.floors.entry(app).or_default().is_due())
    }

    /// How many apps have feeds here.
    pub(super) fn apps(&self) -> usize {
        self.apps.len()
    }

    /// One feed of the app in a place; `None` behind its last.
    pub(super) fn feed(&self, app: usize, place: usize) -> Option<FeedId> {
        self.apps.get(app)?.1.get(place).copied()
    }

    /// Every feed.
    pub(super) fn feeds(&self) -> impl Iterator<Item = FeedId> + '_ {
        self.apps.iter().flat_map(|(_, feeds)| feeds).copied()
    }

    /// Puts each app's feeds in the order of a key.
    pub(super) fn sort_feeds(&mut self, key: impl Fn(FeedId) -> u64) {
        for (_, feeds) in &mut self.apps {
            feeds.sort_by_cached_key(|feed| key(*feed));
        }
    }

    /// Its lanes, the preferred ones first.
    pub(super) fn lanes(&self) -> impl Iterator<Item = LaneId> + '_ {
        self.places.iter().map(|place| place.lane.lane)
    }

    /// Whether an item can go to another lane.
    pub(super) fn has_choice(&self) -> bool {
        self.places.len() > 1
    }

    /// The lanes that pull at present, whose turn it is first: every lane up to the first order that has an
    /// open one. Closed ones of these orders pull too, so that they take part as soon as they open.
    pub(super) fn pulling(&self, is_open: impl Fn(LaneId) -> bool) -> Vec<LaneId> {
        let open = self.places.iter().filter(|place| is_open(place.lane.lane));
        let last = open.map(|place| place.lane.order).min().unwrap_or(i32::MAX);
        let mut places: Vec<_> = self.places.iter().filter(|place| place.lane.order <= last).collect();
        places.sort_by_key(|place| (place.lane.order, Reverse(place.credit)));
        places.into_iter().map(|place| place.lane.lane).collect()
    }

    /// A lane took an item.
    pub(super) fn started(&mut self, lane: LaneId) {
        let Some(order) = self.places.iter().find(|place| place.lane.lane == lane).map(|it| it.lane.order)
        else {
            return;
        };
        let equals = || self.places.iter().filter(|place| place.lane.order == order);
        let total: i64 = equals().map(|place| i64::from(place.lane.weight)).sum();
        for place in self.places.iter_mut().filter(|place| place.lane.order == order) {
            place.credit += i64::from(place.lane.weight);
            if place.lane.lane == lane {
                place.credit -= total;
            }
            // What a lane could not take for want of room is not kept for it.
            place.credit = place.credit.clamp(-total, total);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(lanes: &[(i32, u32)]) -> Route {
        let lane = |(place, (order, weight)): (usize, &(i32, u32))| RouteLane {
            lane: LaneId(place),
            order: *order,
            weight: *weight,
        };
        Route::new(&lanes.iter().enumerate().map(lane).collect::<Vec<_>>())
    }

    #[test]
    fn a_later_order_pulls_only_while_no_earlier_one_is_open() {
        let route = route(&[(1, 1), (0, 1), (2, 1), (0, 1)]);
        let pulling = |open: &[usize]| {
            let lanes = route.pulling(|lane| open.contains(&lane.0));
            lanes.into_iter().map(|lane| lane.0).collect::<Vec<_>>()
        };
        assert_eq!(pulling(&[0, 1, 2, 3]), [1, 3]);
        assert_eq!(pulling(&[0, 2, 3]), [1, 3]);
        assert_eq!(pulling(&[0, 2]), [1, 3, 0]);
        assert_eq!(pulling(&[2]), [1, 3, 0, 2]);
        assert_eq!(pulling(&[]), [1, 3, 0, 2]);
    }

    proptest! {
        #[test]
        fn equals_start_by_their_weights(weights in prop::collection::vec(1..10_u32, 1..5), rounds in 1..5_u32) {
            let total: u32 = weights.iter().sum();
            let mut route = route(&weights.iter().map(|weight| (0, *weight)).collect::<Vec<_>>());
            let mut starts = vec![0; weights.len()];
            for _ in 0..total * rounds {
                let lane = route.pulling(|_| true)[0];
                route.started(lane);
                starts[lane.0] += 1;
            }
            let expected: Vec<u32> = weights.iter().map(|weight| weight * rounds).collect();
            prop_assert_eq!(starts, expected);
        }

        #[test]
        fn what_a_closed_lane_missed_is_not_made_up_for(missed in 0..1_000_u32) {
            let mut route = route(&[(0, 1), (0, 1)]);
            for _ in 0..missed {
                route.started(LaneId(0));
            }
            let made_up = (0..10).take_while(|_| {
                let lane = route.pulling(|_| true)[0];
                route.started(lane);
                lane == LaneId(1)
            }).count();
            prop_assert!(made_up <= 3);
        }
    }
}
