//! Providers that enforce a limit, written without the gate's arithmetic.

pub(crate) mod upstream;

use std::collections::VecDeque;

use sluicegate::domain::limits::Rate;
use sluicegate::domain::time::Timestamp;

/// One way of enforcing a limit.
pub(crate) enum Oracle {
    /// A bucket as large as the limit, refilled evenly.
    Bucket { rate: Rate, tokens: f64, at: Option<Timestamp> },
    /// Windows that begin at multiples of the period.
    Fixed { rate: Rate, window: i64, count: u64 },
    /// A log of what was taken within the last period.
    Sliding { rate: Rate, log: VecDeque<Timestamp> },
}

impl Oracle {
    pub(crate) fn bucket(rate: Rate) -> Self {
        Self::Bucket { rate, tokens: rate.amount as f64, at: None }
    }

    pub(crate) fn fixed(rate: Rate) -> Self {
        Self::Fixed { rate, window: i64::MIN, count: 0 }
    }

    pub(crate) fn sliding(rate: Rate) -> Self {
        Self::Sliding { rate, log: VecDeque::new() }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Bucket { .. } => "token bucket",
            Self::Fixed { .. } => "fixed window",
            Self::Sliding { .. } => "sliding log",
        }
    }

    /// Whether a call that arrives is taken; a refused one does not count.
    pub(crate) fn takes(&mut self, now: Timestamp) -> bool {
        match self {
            Self::Bucket { rate, tokens, at } => {
                let gone = at.map_or(0.0, |at| now.since(at).as_secs_f64());
                let refill = gone * rate.amount as f64 / rate.period.as_secs_f64();
                *tokens = (*tokens + refill).min(rate.amount as f64);
                *at = Some(now);
                let takes = *tokens >= 1.0;
                *tokens -= if takes { 1.0 } else { 0.0 };
                takes
            }
            Self::Fixed { rate, window, count } => {
                let present = now.micros() / i64::try_from(rate.period.as_micros()).unwrap_or(i64::MAX);
                if *window != present {
                    (*window, *count) = (present, 0);
                }
                let takes = *count < rate.amount;
                *count += u64::from(takes);
                takes
            }
            Self::Sliding { rate, log } => {
                while log.front().is_some_and(|first| now.since(*first) >= rate.period) {
                    log.pop_front();
                }
                let takes = (log.len() as u64) < rate.amount;
                if takes {
                    log.push_back(now);
                }
                takes
            }
        }
    }
}

/// How many arrivals ended a window, at whatever phase, that held more than the limit.
pub(crate) fn windows_over(arrivals: &[Timestamp], rate: Rate) -> usize {
    let mut first = 0;
    let mut over = 0;
    for (last, moment) in arrivals.iter().enumerate() {
        while moment.since(arrivals[first]) >= rate.period {
            first += 1;
        }
        over += usize::from((last + 1 - first) as u64 > rate.amount);
    }
    over
}
