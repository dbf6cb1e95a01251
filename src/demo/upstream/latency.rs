//! How long an answer takes.

use std::f64::consts::TAU;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::chance::{Purpose, Throw};
use super::span::Span;

/// The law that latencies follow: `50ms`, `50ms..450ms` or `lognormal 200ms 0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Latency {
    /// Always the same.
    Fixed(Span),
    /// Evenly between the two.
    Uniform(Span, Span),
    /// Log-normal: its median, and the standard deviation of the logarithm.
    LogNormal(Span, f64),
}

impl Default for Latency {
    fn default() -> Self {
        Self::Fixed(Span::default())
    }
}

impl Latency {
    /// Reads a law; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("lognormal ") {
            let (median, sigma) = rest.trim().split_once(' ')?;
            let sigma = sigma.trim().parse::<f64>().ok().filter(|sigma| (0.0..=5.0).contains(sigma))?;
            return Some(Self::LogNormal(Span::parse(median)?, sigma));
        }
        let Some((least, most)) = text.split_once("..") else {
            return Span::parse(text).map(Self::Fixed);
        };
        let (least, most) = (Span::parse(least.trim())?, Span::parse(most.trim())?);
        (least <= most).then_some(Self::Uniform(least, most))
    }

    /// The latency of one call.
    pub(super) fn draw(self, throw: Throw) -> Duration {
        match self {
            Self::Fixed(span) => span.0,
            Self::Uniform(least, most) => {
                least.0 + (most.0 - least.0).mul_f64(throw.fraction(Purpose::Latency))
            }
            Self::LogNormal(median, sigma) => {
                // Box–Muller; 1 − u keeps the logarithm's argument above zero.
                let radius = (-2.0 * (1.0 - throw.fraction(Purpose::Latency)).ln()).sqrt();
                let normal = radius * (TAU * throw.fraction(Purpose::LatencySecond)).cos();
                median.0.mul_f64((sigma * normal).exp())
            }
        }
    }
}

impl TryFrom<String> for Latency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
            .ok_or_else(|| format!("`{text}` is no latency such as 50ms, 50ms..450ms or lognormal 200ms 0.5"))
    }
}

impl From<Latency> for String {
    fn from(latency: Latency) -> Self {
        latency.to_string()
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(span) => write!(formatter, "{span}"),
            Self::Uniform(least, most) => write!(formatter, "{least}..{most}"),
            Self::LogNormal(median, sigma) => write!(formatter, "lognormal {median} {sigma}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(law: &str) -> Vec<f64> {
        let law = Latency::parse(law).unwrap();
        let mut drawn: Vec<f64> =
            (0..20_000).map(|number| law.draw(Throw::new(1, number, 1)).as_secs_f64()).collect();
        drawn.sort_by(f64::total_cmp);
        drawn
    }

    #[test]
    fn laws_have_their_shapes() {
        assert_eq!(sample("50ms").first(), sample("50ms").last());
        let uniform = sample("50ms..450ms");
        assert!(uniform[0] >= 0.05 && uniform[19_999] < 0.45);
        assert!((uniform[10_000] - 0.25).abs() < 0.01, "{}", uniform[10_000]);
        let skewed = sample("lognormal 200ms 0.5");
        assert!((skewed[10_000] - 0.2).abs() < 0.006, "{}", skewed[10_000]);
        // One standard deviation above the median is the 84.13th percentile.
        assert!((skewed[16_826] - 0.2 * 0.5_f64.exp()).abs() < 0.012, "{}", skewed[16_826]);
    }

    #[test]
    fn what_is_no_law_is_refused() {
        for text in ["", "fast", "450ms..50ms", "lognormal 200ms", "lognormal 200ms -1", "1ms..2"] {
            assert_eq!(Latency::parse(text), None, "{text}");
        }
    }
}
