//! What a scripted upstream does: plain data, read from TOML or JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::marker::Act;
use super::span::Span;

/// The behaviour of one scripted upstream. Every key may be left out; unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// What chance depends on, beside the request's id and attempt.
    pub seed: u64,
    /// How long answers take.
    pub latency: Latency,
    /// Texts to answer with, in turn; empty: a short text that names the request.
    pub answers: Vec<String>,
    /// The least length of an answer's text, in bytes; shorter ones are padded.
    pub answer_bytes: usize,
    /// The events that carry the text of a streamed answer; at least 1.
    pub stream_pieces: usize,
    /// The time between two events of a stream.
    pub stream_pause: Span,
    /// Headers of every answer, beside the usual ones.
    pub headers: BTreeMap<String, String>,
    /// The models that `GET /v1/models` lists. Other names are served too.
    pub models: Vec<String>,
    /// The keys that are let in; absent: any key, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
    /// Calls in flight at once; absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// The status of a call that finds every slot taken.
    pub slots_status: u16,
    /// Whether a refusal for rate says when to come back.
    pub retry_after: bool,
    /// Whether answers carry `x-ratelimit-*`, read off the first law of each unit.
    pub ratelimit_headers: bool,
    /// What is kept of each call.
    pub log: LogMode,
    /// Faults at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<Faults>,
    /// Refusals by the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
    /// The laws that calls are held against.
    pub limits: Vec<Law>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            seed: 1,
            latency: Latency::default(),
            answers: Vec::new(),
            answer_bytes: 0,
            stream_pieces: 8,
            stream_pause: Span::default(),
            headers: BTreeMap::new(),
            models: vec!["demo-small".to_owned()],
            keys: None,
            slots: None,
            slots_status: 429,
            retry_after: true,
            ratelimit_headers: false,
            log: LogMode::Counts,
            faults: None,
            storm: None,
            limits: Vec::new(),
        }
    }
}

/// What is kept of each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogMode {
    /// Only totals.
    Off,
    /// Totals, and the number of calls per id.
    Counts,
    /// That, and a row per call.
    Full,
}

/// Faults at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// The share of calls that meet one, 0–1.
    pub probability: f64,
    /// What they meet, each as likely as the others; written as the markers are.
    pub kinds: Vec<Act>,
}

/// Refusals by the clock: every so often, for so long, everything is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// From the start of one storm to the start of the next.
    pub every: Span,
    /// How long each one lasts.
    pub lasts: Span,
    /// When the first one starts, from the upstream's own start.
    #[serde(default)]
    pub offset: Span,
    /// The status of what is refused.
    #[serde(default = "Storm::default_status")]
    pub status: u16,
}

impl Storm {
    fn default_status() -> u16 {
        429
    }

    /// Microseconds until the storm that rages at `now` is over.
    pub(super) fn remaining(&self, now: u64) -> Option<u64> {
        let since = now.checked_sub(self.offset.micros())?;
        let into = since.checked_rem(self.every.micros())?;
        self.lasts.micros().checked_sub(into).filter(|left| *left > 0)
    }
}

/// A law about what may arrive in a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// What reports call it; absent: made from the other keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its kind.
    pub law: LawKind,
    /// Units per period; at least 1.
    pub limit: u64,
    /// The period.
    pub period: Span,
    /// What is counted.
    #[serde(default)]
    pub unit: Unit,
    /// Whether what doesn't fit is refused; otherwise it is only counted.
    #[serde(default)]
    pub enforce: bool,
    /// Where fixed windows start, from the upstream's own start.
    #[serde(default)]
    pub phase: Span,
    /// The size of a bucket; absent: the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Whether what was refused is charged as well.
    #[serde(default)]
    pub count_refused: bool,
}

impl Law {
    /// An enforced law on requests.
    pub fn requests(law: LawKind, limit: u64, period: Span) -> Self {
        Self {
            name: None,
            law,
            limit,
            period,
            unit: Unit::Requests,
            enforce: true,
            phase: Span::default(),
            burst: None,
            count_refused: false,
        }
    }

    /// An enforced law on tokens.
    pub fn tokens(law: LawKind, limit: u64, period: Span) -> Self {
        Self { unit: Unit::Tokens, ..Self::requests(law, limit, period) }
    }

    /// The same law, only counting.
    #[must_use]
    pub fn watching(self) -> Self {
        Self { enforce: false, ..self }
    }

    /// What reports call it.
    pub fn label(&self) -> String {
        let used = if self.unit == Unit::UsedTokens { "used " } else { "" };
        self.name
            .clone()
            .unwrap_or_else(|| format!("{used}{}/{} {}", self.unit.word(), self.period, self.law.word()))
    }
}

/// How a law counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LawKind {
    /// A token bucket, full at the start, filled evenly.
    Bucket,
    /// Windows side by side.
    Fixed,
    /// Every window of the period's length.
    Sliding,
}

impl LawKind {
    /// Its word in scripts and reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Fixed => "fixed",
            Self::Sliding => "sliding",
        }
    }
}

/// What a law counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Calls.
    #[default]
    Requests,
    /// ⌈bytes of text / 4⌉ + the most that may be generated, charged at arrival.
    Tokens,
    /// Input and output tokens as the answer reports them, charged when it leaves; a call is let in while any are left.
    UsedTokens,
}

impl Unit {
    /// Its word in headers and refusals, where providers don't say how they count tokens.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens | Self::UsedTokens => "tokens",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_survives_being_written_and_read() {
        let script: Script = toml::from_str(
            r#"
            latency = "50ms..450ms"
            keys = ["sk-a"]
            slots = 8
            log = "full"
            headers = { openai-version = "2020-10-01" }
            faults = { probability = 0.3, kinds = ["500", "503", "reset", "429 retry-after=2"] }
            storm = { every = "60s", lasts = "10s" }
            [[limits]]
            law = "sliding"
            limit = 600
            period = "60s"
            "#,
        )
        .unwrap();
        assert_eq!(script.limits[0].label(), "requests/1m sliding");
        let written = serde_json::to_string(&script).unwrap();
        assert_eq!(serde_json::from_str::<Script>(&written).unwrap(), script);
    }

    #[test]
    fn unknown_keys_and_values_are_errors() {
        for text in
            ["latancy = '1s'", "latency = 'fast'", "log = 'some'", "[storm]\nevery = '1s'", "slots = -1"]
        {
            assert!(toml::from_str::<Script>(text).is_err(), "{text}");
        }
        assert!(toml::from_str::<Script>("faults = { probability = 1, kinds = ['503 maybe'] }").is_err());
    }

    #[test]
    fn storms_come_and_go() {
        let storm = Storm {
            every: Span::from_secs(60),
            lasts: Span::from_secs(10),
            offset: Span::from_secs(5),
            status: 429,
        };
        let seconds = |at: u64| storm.remaining(at * 1_000_000).map(|left| left / 1_000_000);
        assert_eq!([seconds(0), seconds(5), seconds(14), seconds(15)], [None, Some(10), Some(1), None]);
        assert_eq!([seconds(64), seconds(65), seconds(76)], [None, Some(10), None]);
    }
}
