//! A set of limits as given, and as the gate takes it.

use std::num::NonZeroU32;
use std::time::Duration;

use super::description::{Notation, ValueKind};
use super::reader::{Reader, Report, keys};
use super::setting::{Mismatch, Setting, quoted, text_of};
use super::tree::Value;
use crate::domain::limits::{Limits, PROCESS_CONCURRENCY, Rate};
use crate::domain::quantity::{self, QuantityError};

/// What a bare number is per, unless `limits.period` says otherwise.
pub(super) const PERIOD: Duration = Duration::from_mins(1);

/// A rate, or a bare number that waits for its period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Amount {
    Rate(Rate),
    PerPeriod(u64),
}

impl Setting for Amount {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "rate",
            examples: &["\"500/min\"", "\"10/s\"", "\"10000/day\"", "\"600/90s\"", "500"],
            note: "a number alone is per `period`; of several, all hold",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        let rate = match value {
            Value::Integer(amount) => u64::try_from(*amount).map_err(|_| QuantityError::RateOfNothing)?,
            value => {
                let text = text_of(value).ok_or(QuantityError::Rate)?;
                match text.parse() {
                    Ok(amount) => amount,
                    Err(_) => return Ok(Self::Rate(quantity::parse_rate(text, PERIOD)?)),
                }
            }
        };
        if rate == 0 { Err(QuantityError::RateOfNothing.into()) } else { Ok(Self::PerPeriod(rate)) }
    }

    fn shown(&self) -> Option<String> {
        match self {
            Self::Rate(rate) => Some(quoted(&quantity::display_rate(*rate))),
            Self::PerPeriod(amount) => Some(amount.to_string()),
        }
    }
}

/// A time of day, UTC, in seconds after midnight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TimeOfDay(u32);

impl Setting for TimeOfDay {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation { name: "time of day", examples: &["\"07:30\""], note: "in UTC" })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        let read = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let (hours, minutes) = (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok()?);
            (hours < 24 && minutes < 60 && text.len() == 5).then_some(Self(hours * 3_600 + minutes * 60))
        };
        text_of(value)
            .and_then(read)
            .ok_or_else(|| Mismatch::expected("a time of day in UTC such as \"07:00\""))
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&format!("{:02}:{:02}", self.0 / 3_600, self.0 / 60 % 60)))
    }
}

keys! {
    /// `limits` as given.
    pub(super) struct LimitKeys {
        /// Calls in flight at once, over all replicas. The default is the service's, and each replica's own; a lane for
        /// which nothing at all is configured has 64.
        pub(super) max_concurrent: Option<NonZeroU32> = None => NonZeroU32::new(PROCESS_CONCURRENCY),
        /// Requests per period.
        pub(super) requests: Vec<Amount> = Vec::new(),
        /// Tokens per period, input and output together.
        pub(super) tokens: Vec<Amount> = Vec::new(),
        /// Input tokens per period.
        pub(super) input_tokens: Vec<Amount> = Vec::new(),
        /// Output tokens per period.
        pub(super) output_tokens: Vec<Amount> = Vec::new(),
        /// What a bare number is per: the level's own period, else the service's, else `"1m"`.
        pub(super) period: Option<Duration> = None,
        /// Requests that may leave at once, instead of being paced evenly; with a store on PostgreSQL they are paced.
        pub(super) burst: Option<NonZeroU32> = None,
        /// Whether limits are learned from what the provider says; not set: where nothing is configured.
        pub(super) learn: Option<bool> = None,
        /// The time of day, UTC, at which periods of a day start, such as `"00:00"`; not set: they are rolling.
        pub(super) day_starts: Option<TimeOfDay> = None,
    }
}

/// The `limits` of any level; bare numbers are per its own period, else per `period`.
pub(super) fn read_limits(parent: &mut Reader<'_>, period: Duration) -> Limits {
    LimitKeys::read(parent.section("limits"), &LimitKeys::default()).resolve(period)
}

/// The service's limits and the period that other levels fall back on.
pub(super) fn read_service_limits(root: &mut Reader<'_>) -> (Limits, Duration) {
    let keys = LimitKeys::read(root.section("limits"), &LimitKeys::default());
    let period = keys.period.unwrap_or(PERIOD);
    (keys.resolve(period), period)
}

/// Refuses periods that are too short to count in.
pub(super) fn check(limits: &Limits, path: &str, report: &mut Report) {
    let Limits { requests, tokens, input_tokens, output_tokens, .. } = limits;
    for (key, rates) in [
        ("requests", requests),
        ("tokens", tokens),
        ("input_tokens", input_tokens),
        ("output_tokens", output_tokens),
    ] {
        for rate in rates {
            if let Err(error) = quantity::rate(rate.amount, rate.period) {
                report.problem(&format!("{path}.{key}"), None, format!("must be {error}"));
            }
        }
    }
}

impl LimitKeys {
    fn resolve(self, period: Duration) -> Limits {
        let Self {
            max_concurrent,
            requests,
            tokens,
            input_tokens,
            output_tokens,
            period: own,
            burst,
            learn,
            day_starts,
        } = self;
        let period = own.unwrap_or(period);
        let rates = |amounts: Vec<Amount>| {
            let rate = |amount| match amount {
                Amount::Rate(rate) => rate,
                Amount::PerPeriod(amount) => Rate { amount, period },
            };
            amounts.into_iter().map(rate).collect()
        };
        Limits {
            max_concurrent: max_concurrent.map(NonZeroU32::get),
            requests: rates(requests),
            tokens: rates(tokens),
            input_tokens: rates(input_tokens),
            output_tokens: rates(output_tokens),
            burst: burst.map(NonZeroU32::get),
            learn,
            day_starts: day_starts.map(|TimeOfDay(seconds)| seconds),
        }
    }
}

/// Each key of a set of limits with its value as the file would hold it.
pub(super) fn shown(limits: &Limits) -> Vec<(&'static str, Option<String>)> {
    let Limits { max_concurrent, requests, tokens, input_tokens, output_tokens, burst, learn, day_starts } =
        limits;
    let rates = |rates: &[Rate]| rates.iter().copied().map(Amount::Rate).collect::<Vec<_>>().shown();
    vec![
        ("max_concurrent", max_concurrent.map(|calls| calls.to_string())),
        ("requests", rates(requests)),
        ("tokens", rates(tokens)),
        ("input_tokens", rates(input_tokens)),
        ("output_tokens", rates(output_tokens)),
        ("burst", burst.map(|calls| calls.to_string())),
        ("learn", learn.shown()),
        ("day_starts", day_starts.map(TimeOfDay).shown()),
    ]
}
