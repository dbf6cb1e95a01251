//! Providers that count what arrives, written without the gate's arithmetic.

use sluicegate::domain::limits::Rate;
use sluicegate::domain::time::Timestamp;

/// How often each way of counting finds more than the limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Findings {
    /// Windows that begin at multiples of the period.
    pub(crate) fixed: usize,
    /// Calls that end a window of the period's length, at whatever phase.
    pub(crate) sliding: usize,
    /// Calls that find too little in a bucket as large as the limit.
    pub(crate) bucket: usize,
    /// The most that any window held, as a part of the limit.
    pub(crate) peak: f64,
}

/// Counts arrivals, which come in the order of time, with their units.
pub(crate) fn judge(arrivals: &[(Timestamp, u64)], rate: Rate) -> Findings {
    let (sliding, most) = sliding(arrivals, rate);
    Findings {
        fixed: fixed(arrivals, rate),
        sliding,
        bucket: bucket(arrivals, rate),
        peak: most as f64 / rate.amount as f64,
    }
}

fn fixed(arrivals: &[(Timestamp, u64)], rate: Rate) -> usize {
    let period = i64::try_from(rate.period.as_micros()).unwrap_or(i64::MAX);
    let of_window = |(at, _): &(Timestamp, u64)| at.micros() / period;
    let windows = arrivals.chunk_by(|one, next| of_window(one) == of_window(next));
    windows.filter(|window| window.iter().map(|(_, units)| units).sum::<u64>() > rate.amount).count()
}

fn sliding(arrivals: &[(Timestamp, u64)], rate: Rate) -> (usize, u64) {
    let (mut first, mut sum, mut most, mut over) = (0, 0, 0, 0);
    for (at, units) in arrivals {
        sum += units;
        while at.since(arrivals[first].0) >= rate.period {
            sum -= arrivals[first].1;
            first += 1;
        }
        most = most.max(sum);
        over += usize::from(sum > rate.amount);
    }
    (over, most)
}

fn bucket(arrivals: &[(Timestamp, u64)], rate: Rate) -> usize {
    let full = rate.amount as f64;
    let (mut held, mut before, mut over) = (full, None, 0);
    for (at, units) in arrivals {
        let gone = before.map_or(0.0, |before| at.since(before).as_secs_f64());
        held = full.min(held + gone * full / rate.period.as_secs_f64());
        before = Some(*at);
        let takes = held >= *units as f64;
        held -= if takes { *units as f64 } else { 0.0 };
        over += usize::from(!takes);
    }
    over
}
