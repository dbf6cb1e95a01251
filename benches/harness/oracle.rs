//! What an upstream's oracle and log say at a moment, and between two.

use std::time::Instant;

use serde_json::Value;

use super::upstream::Upstream;

/// What one upstream has seen up to a moment.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// When it was read.
    pub(crate) at: Instant,
    oracle: Value,
    log: Value,
}

impl Reading {
    /// Asks the upstream.
    pub(crate) async fn of(upstream: &Upstream) -> anyhow::Result<Self> {
        let oracle = upstream.ask("oracle").await?;
        Ok(Self { at: Instant::now(), oracle, log: upstream.ask("log").await? })
    }

    /// Seconds on the oracle's clock, which starts anew when its laws are changed.
    pub(crate) fn clock(&self) -> f64 {
        number(&self.oracle["clock_seconds"])
    }

    /// A number of the first law's report.
    pub(crate) fn law(&self, key: &str) -> f64 {
        number(&self.oracle["laws"][0][key])
    }

    /// A number of the report of a law of a unit; 0 without one.
    pub(crate) fn law_of(&self, unit: &str, key: &str) -> f64 {
        let mut laws = self.oracle["laws"].as_array().into_iter().flatten();
        laws.find(|law| law["unit"] == unit).map_or(0.0, |law| number(&law[key]))
    }

    /// Calls that were answered with a status.
    pub(crate) fn answered(&self, status: u16) -> f64 {
        number(&self.log["answered"][status.to_string()])
    }

    /// Calls that arrived.
    pub(crate) fn arrived(&self) -> f64 {
        number(&self.log["arrived"])
    }

    /// Slots that were busy, summed over time, in seconds.
    pub(crate) fn busy_slot_seconds(&self) -> f64 {
        number(&self.oracle["busy_slot_seconds"])
    }

    /// The most calls that were ever in flight at once.
    pub(crate) fn max_in_flight(&self) -> f64 {
        number(&self.oracle["max_in_flight"])
    }

    /// The share of some slots that were busy since an earlier reading.
    pub(crate) fn busy_since(&self, earlier: &Self, slots: u32) -> f64 {
        let seconds = self.clock() - earlier.clock();
        (self.busy_slot_seconds() - earlier.busy_slot_seconds()) / (f64::from(slots) * seconds)
    }

    /// The share of the first law's limit that was let in since an earlier reading of the same books.
    pub(crate) fn used_since(&self, earlier: &Self) -> f64 {
        let seconds = self.clock() - earlier.clock();
        (self.law("accepted") - earlier.law("accepted"))
            / (self.law("limit") * seconds / self.law("period_seconds"))
    }

    /// The same of the law of a unit.
    pub(crate) fn used_of_since(&self, unit: &str, earlier: &Self) -> f64 {
        let seconds = self.clock() - earlier.clock();
        (self.law_of(unit, "accepted") - earlier.law_of(unit, "accepted"))
            / (self.law_of(unit, "limit") * seconds / self.law_of(unit, "period_seconds"))
    }

    /// Calls beyond the first one of their id.
    pub(crate) fn repeats(&self) -> f64 {
        number(&self.log["repeats"])
    }

    /// Calls with a status per second since an earlier reading.
    pub(crate) fn pace_since(&self, earlier: &Self, status: u16) -> f64 {
        (self.answered(status) - earlier.answered(status)) / (self.at - earlier.at).as_secs_f64()
    }

    /// The share of the calls since an earlier reading that were answered with a status.
    pub(crate) fn share_since(&self, earlier: &Self, status: u16) -> f64 {
        (self.answered(status) - earlier.answered(status)) / (self.arrived() - earlier.arrived()).max(1.0)
    }
}

/// Asks several upstreams, one after the other.
pub(crate) async fn read_all(upstreams: impl Iterator<Item = &Upstream>) -> anyhow::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for upstream in upstreams {
        readings.push(Reading::of(upstream).await?);
    }
    Ok(readings)
}

/// A count in a report; 0 if it is not there.
pub(crate) fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}
