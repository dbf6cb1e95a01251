//! The law against upstreams of several kinds, second by second, with seeded chance.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use rstest::rstest;

use super::*;

/// What is configured.
const MOST: u32 = 64;
const SECOND: i64 = 1_000_000;
/// Answers take this long, refusals a hundredth of it, and calls leave this far apart.
const ANSWER: i64 = 100_000;
const REFUSAL: i64 = 1_000;
const APART: i64 = 100;

/// An upstream at a moment: so many slots, and the share that is refused whatever the load.
#[derive(Clone, Copy)]
struct Upstream {
    slots: u32,
    random: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    /// Microseconds of calls in flight.
    in_flight: i64,
    calls: u32,
    /// Refused for want of a slot.
    crowded: u32,
    limit: u32,
}

/// Numbers from 0 to 1, by xorshift.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        for shift in [13, -7, 17_i32] {
            let shifted = if shift > 0 { self.0 << shift } else { self.0 >> -shift };
            self.0 ^= shifted;
        }
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A call in flight, by when it ends.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    ends: i64,
    sent_at: i64,
    among: u32,
    answered: bool,
}

/// An endless backlog against an upstream; what each second was like.
struct Run {
    overload: Overload,
    chance: Chance,
    running: BinaryHeap<Reverse<Call>>,
    /// Calls that hold a slot.
    held: u32,
    now: i64,
    seconds: Vec<Second>,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            overload: Overload::default(),
            chance: Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            running: BinaryHeap::new(),
            held: 0,
            now: SECOND,
            seconds: Vec::new(),
        }
    }

    fn limit(&self) -> u32 {
        self.overload.limit().unwrap_or(MOST)
    }

    /// Goes on for so many seconds.
    fn against(&mut self, upstream: Upstream, seconds: i64) {
        for _ in 0..seconds {
            let ends = (self.now / SECOND + 1) * SECOND;
            self.seconds.push(Second::default());
            while self.now < ends {
                self.step(upstream, ends);
            }
            self.last().limit = self.limit();
        }
    }

    fn last(&mut self) -> &mut Second {
        self.seconds.last_mut().unwrap()
    }

    fn step(&mut self, upstream: Upstream, ends: i64) {
        let free = (self.running.len() as u32) < self.limit();
        let next_end = self.running.peek().map_or(i64::MAX, |Reverse(call)| call.ends);
        let next = if free { self.now + APART } else { i64::MAX }.min(next_end).min(ends);
        let in_flight = (next - self.now) * self.running.len() as i64;
        self.last().in_flight += in_flight;
        self.now = next;
        if next == next_end {
            self.end_call();
        } else if next < ends {
            self.send(upstream);
        }
    }

    fn send(&mut self, upstream: Upstream) {
        let random = self.chance.next() < upstream.random;
        let crowded = !random && self.held >= upstream.slots;
        let answered = !random && !crowded;
        self.held += u32::from(answered);
        self.last().calls += 1;
        self.last().crowded += u32::from(crowded);
        // Twice as long at most, and as often shorter.
        let takes = if answered { (ANSWER as f64 * 2.0 * self.chance.next()) as i64 } else { REFUSAL };
        let among = self.running.len() as u32 + 1;
        let call = Call { ends: self.now + takes.max(1), sent_at: self.now, among, answered };
        self.running.push(Reverse(call));
    }

    fn end_call(&mut self) {
        let Reverse(call) = self.running.pop().unwrap();
        let sent = Sent { at: Timestamp::from_micros(call.sent_at), among: call.among };
        if call.answered {
            self.held -= 1;
            self.overload.answered(sent, Some(MOST));
        } else {
            let others = self.running.len() as u32;
            self.overload.refused(sent, others, Some(MOST), Timestamp::from_micros(self.now));
        }
    }

    /// Calls in flight on average.
    fn in_flight(&self, seconds: Range<usize>) -> f64 {
        let count = seconds.len() as f64;
        let sum: i64 = self.seconds[seconds].iter().map(|second| second.in_flight).sum();
        sum as f64 / SECOND as f64 / count
    }

    /// The share of the calls that had no slot.
    fn crowded(&self, seconds: Range<usize>) -> f64 {
        let calls: u32 = self.seconds[seconds.clone()].iter().map(|second| second.calls).sum();
        let crowded: u32 = self.seconds[seconds].iter().map(|second| second.crowded).sum();
        f64::from(crowded) / f64::from(calls)
    }
}

fn slots(slots: u32) -> Upstream {
    Upstream { slots, random: 0.0 }
}

#[rstest]
fn refusals_at_random_hold_nothing_down(
    #[values(0.01, 0.1, 0.3)] random: f64,
    #[values(1, 2, 3, 4)] seed: u64,
) {
    let mut run = Run::new(seed);
    run.against(Upstream { slots: u32::MAX, random }, 180);
    for from in (60..180).step_by(30) {
        let in_flight = run.in_flight(from..from + 30);
        assert!(in_flight >= 0.8 * f64::from(MOST), "{in_flight} from second {from} on");
    }
}

#[rstest]
fn slots_are_found_and_kept(#[values(2, 8, 20, 50)] count: u32, #[values(1, 2)] seed: u64) {
    let mut run = Run::new(seed);
    run.against(slots(count), 180);
    assert!(run.seconds[10..].iter().all(|second| second.limit.abs_diff(count) <= 1), "{:?}", run.seconds);
    assert!(run.in_flight(60..180) >= 0.98 * f64::from(count));
    let crowded = run.crowded(60..180);
    // Every 64 windows one call too many.
    assert!(crowded <= 0.0155 / f64::from(count) + 0.0005, "{crowded}");
}

#[test]
fn slots_are_kept_beside_refusals_at_random() {
    let seeds = 1..=4;
    let crowded = seeds.clone().map(|seed| {
        let mut run = Run::new(seed);
        run.against(Upstream { slots: 8, random: 0.03 }, 180);
        let good = run.seconds[60..].iter().filter(|second| (6..=10).contains(&second.limit)).count();
        assert!(good >= 100, "{good} of 120 seconds");
        assert!(run.seconds[60..].iter().all(|second| second.limit > 3), "{:?}", run.seconds);
        run.crowded(60..180)
    });
    let mean = crowded.sum::<f64>() / seeds.count() as f64;
    assert!(mean <= 0.02, "{mean}");
}

#[rstest]
fn slots_that_go_and_come_are_followed(#[values(0.0, 0.03, 0.1)] random: f64, #[values(1, 2)] seed: u64) {
    let mut run = Run::new(seed);
    for count in [MOST, 8, MOST] {
        run.against(Upstream { slots: count, random }, 90);
    }
    assert!(run.in_flight(150..180) <= 10.0 && run.crowded(150..180) <= 0.05, "{}", run.crowded(150..180));
    assert!(run.in_flight(150..180) >= 4.0, "{}", run.in_flight(150..180));
    assert!(run.in_flight(240..270) >= 0.8 * f64::from(MOST), "{}", run.in_flight(240..270));
}

#[rstest]
fn another_share_at_random_is_another_base_rate(#[values(1, 2, 3)] seed: u64) {
    let mut run = Run::new(seed);
    for random in [0.01, 0.1, 0.0, 0.3] {
        run.against(Upstream { slots: u32::MAX, random }, 90);
    }
    for end in [90, 180, 270, 360] {
        assert!(run.in_flight(end - 20..end) >= 0.8 * f64::from(MOST), "{}", run.in_flight(end - 20..end));
    }
}

#[test]
fn an_upstream_that_refuses_everything_is_left_with_one_call_soon() {
    let mut run = Run::new(1);
    run.against(slots(MOST), 30);
    while run.limit() > 2 {
        run.step(slots(0), i64::MAX - 1);
    }
    let calls = run.seconds[30..].iter().map(|second| second.calls).sum::<u32>() + run.last().calls;
    assert!(run.now < 32 * SECOND && calls < 2_000, "{calls} calls, {} µs", run.now);
}

#[test]
fn one_round_trip_is_one_loss() {
    let mut overload = Overload::default();
    let sent = Sent { at: Timestamp::from_seconds(10), among: 64 };
    for others in (0..50).rev() {
        overload.refused(sent, others, Some(MOST), Timestamp::from_seconds(11));
    }
    assert_eq!(overload.limit(), Some(54));
}

#[test]
fn what_was_found_before_is_where_it_goes_on() {
    let mut run = Run::new(1);
    run.overload = Overload::resumed(Some(8));
    run.against(slots(8), 10);
    assert!(run.seconds.iter().all(|second| second.limit.abs_diff(8) <= 1), "{:?}", run.seconds);
}
