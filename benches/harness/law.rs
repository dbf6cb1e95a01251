//! The laws that upstreams hold calls against, and the rates they are made of.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use sluicegate::domain::quantity::parse_duration;

/// So many units in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// The units.
    pub(crate) limit: u64,
    /// The time.
    pub(crate) period: Duration,
    written: String,
}

impl Rate {
    /// Units in a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.limit as f64 / self.period.as_secs_f64()
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    /// Reads one such as `600/10s`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts = || {
            let (limit, period) = text.split_once('/')?;
            Some((limit.parse().ok()?, parse_duration(period).ok()?))
        };
        let (limit, period) = parts().with_context(|| format!("`{text}` is no rate such as 600/10s"))?;
        Ok(Self { limit, period, written: text.to_owned() })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written)
    }
}

/// A law of an upstream; shown as a table of its script.
#[derive(Clone, Debug)]
pub(crate) struct Law {
    kind: String,
    unit: &'static str,
    limit: u64,
    period: Duration,
    enforce: bool,
    name: Option<String>,
}

impl Law {
    /// So many of a unit (`requests`, `tokens`, `used-tokens`) in a time, enforced. The kinds are `bucket`, `fixed` and
    /// `sliding`.
    pub(crate) fn enforced(kind: &str, unit: &'static str, rate: &Rate) -> Self {
        Self {
            kind: kind.to_owned(),
            unit,
            limit: rate.limit,
            period: rate.period,
            enforce: true,
            name: None,
        }
    }

    /// The same for a minute.
    pub(crate) fn per_minute(kind: &str, unit: &'static str, limit: u64) -> Self {
        let period = Duration::from_secs(60);
        Self { kind: kind.to_owned(), unit, limit, period, enforce: true, name: None }
    }

    /// The same law with a name for the oracle's report.
    pub(crate) fn named(self, name: String) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The same law, only counting.
    pub(crate) fn watching(self) -> Self {
        Self { enforce: false, ..self }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, unit, limit, period, enforce, name } = self;
        let milliseconds = period.as_millis();
        write!(
            formatter,
            "{{ law = \"{kind}\", unit = \"{unit}\", limit = {limit}, period = \"{milliseconds}ms\", enforce = {enforce}"
        )?;
        if let Some(name) = name {
            write!(formatter, ", name = \"{name}\"")?;
        }
        formatter.write_str(" }")
    }
}

/// The line of a script that gives an upstream its laws.
pub(crate) fn limits(laws: &[Law]) -> String {
    let laws: Vec<String> = laws.iter().map(Law::to_string).collect();
    format!("limits = [{}]\n", laws.join(", "))
}
