//! When each batch of those that want the same lanes has its last item started: pure.
//!
//! Apps share by their weights, an app's batches go one after the other. As if work were a liquid: exact but for
//! the rounding to whole items.

use crate::domain::ids::AppKey;

/// Items of one batch that have not started. An app's are given in their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) app: AppKey,
    /// The app's share among those that wait; at least 1.
    pub(super) weight: u32,
    pub(super) items: f64,
}

/// When the works are through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Through {
    /// In items of all apps that are through by then.
    pub(super) among_all: f64,
    /// In items of its own app.
    pub(super) of_app: f64,
}

struct Share {
    app: AppKey,
    weight: f64,
    items: f64,
}

/// For each work how many items have started when its last one does.
pub(super) fn through(works: &[Work]) -> Vec<Through> {
    let mut shares: Vec<Share> = Vec::new();
    let mut of_app = Vec::with_capacity(works.len());
    for work in works {
        let place = shares.iter().position(|share| share.app == work.app).unwrap_or(shares.len());
        if place == shares.len() {
            shares.push(Share { app: work.app, weight: f64::from(work.weight.max(1)), items: 0.0 });
        }
        shares[place].items += work.items;
        of_app.push((place, shares[place].items));
    }
    let ends = ends(&shares);
    let through = of_app.into_iter().map(|(place, items)| Through {
        of_app: items,
        among_all: items_at(&ends, items / shares[place].weight),
    });
    through.collect()
}

/// A moment at which an app's last work is through: items per unit of weight by then, and of all apps.
struct End {
    round: f64,
    items: f64,
}

/// The apps' ends in their order.
fn ends(shares: &[Share]) -> Vec<End> {
    let mut by_round: Vec<(f64, f64)> =
        shares.iter().map(|share| (share.items / share.weight, share.weight)).collect();
    by_round.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut weight: f64 = shares.iter().map(|share| share.weight).sum();
    let mut last = End { round: 0.0, items: 0.0 };
    let mut ends = Vec::with_capacity(by_round.len());
    for (round, own) in by_round {
        let items = last.items + (round - last.round) * weight;
        weight -= own;
        ends.push(End { round, items });
        last = End { round, items };
    }
    ends
}

/// Items of all apps when one has had so many per unit of its weight.
fn items_at(ends: &[End], round: f64) -> f64 {
    let after = ends.partition_point(|end| end.round < round);
    let before = after.checked_sub(1).map_or((0.0, 0.0), |before| (ends[before].round, ends[before].items));
    let Some(end) = ends.get(after) else { return before.1 };
    let width = end.round - before.0;
    if width <= 0.0 {
        return end.items;
    }
    before.1 + (end.items - before.1) * (round - before.0) / width
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn work(app: i64, weight: u32, items: f64) -> Work {
        Work { app: AppKey(app), weight, items }
    }

    fn among_all(works: &[Work]) -> Vec<f64> {
        through(works).iter().map(|through| through.among_all).collect()
    }

    #[test]
    fn one_apps_batches_go_one_after_the_other() {
        assert_eq!(among_all(&[work(1, 1, 10.0), work(1, 1, 5.0)]), [10.0, 15.0]);
    }

    #[test]
    fn apps_share_by_weight_until_one_is_through() {
        // Two to one: the small one is through after 15 of all, the large one has the rest alone.
        assert_eq!(among_all(&[work(1, 1, 100.0), work(2, 2, 10.0)]), [110.0, 15.0]);
    }

    fn works() -> impl Strategy<Value = Vec<Work>> {
        // An app has one weight.
        let one = (0..4_i64, 1..10_000_u32).prop_map(|(app, items)| {
            work(app, [1, 2, 5, 1][usize::try_from(app).unwrap()], f64::from(items))
        });
        prop::collection::vec(one, 1..20)
    }

    proptest! {
        #[test]
        fn the_last_one_ends_when_everything_has(works in works()) {
            let total: f64 = works.iter().map(|work| work.items).sum();
            let last = among_all(&works).into_iter().fold(0.0, f64::max);
            prop_assert!((last - total).abs() < 1e-6 * total);
        }

        #[test]
        fn none_ends_before_its_own_and_what_is_before_it_in_its_app(works in works()) {
            for (at, through) in works.iter().zip(through(&works)) {
                prop_assert!(through.of_app >= at.items);
                prop_assert!(through.among_all >= through.of_app * (1.0 - 1e-9));
            }
        }

        #[test]
        fn what_comes_behind_in_the_same_app_delays_nothing_of_it(works in works(), items in 1.0..1e4_f64) {
            let before = among_all(&works);
            let mut more = works.clone();
            let last = works[works.len() - 1];
            more.push(Work { items, ..last });
            let after = among_all(&more);
            for ((work, before), after) in works.iter().zip(&before).zip(&after) {
                if work.app == last.app {
                    prop_assert!((before - after).abs() < 1e-6 * before.max(1.0));
                } else {
                    prop_assert!(*after >= before * (1.0 - 1e-9));
                }
            }
        }
    }
}
