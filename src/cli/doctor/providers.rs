//! Whether providers are there and take the keys that are configured: one call each, for the list of models.

use std::time::{Duration, SystemTime};

use super::Finding;
use crate::app::{Probe, probe};
use crate::cli::exit::Exit;
use crate::cli::show::seconds;
use crate::config::{Config, Provider};

/// Clocks that differ by more than this confuse people who compare logs.
const CLOCK_WARN: Duration = Duration::from_secs(30);
/// Clocks that differ by more than this make certificates and tokens seem expired.
const CLOCK_FAIL: Duration = Duration::from_mins(10);

/// Looks at every provider, and at the clock by what they say.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut clock = None;
    for provider in &config.providers {
        let probed = probe(provider).await;
        clock = clock.or_else(|| probed.as_ref().ok().and_then(off_by));
        findings.push(judge(provider, probed));
    }
    findings.extend(clock.map(judge_clock));
    findings
}

fn judge(provider: &Provider, probed: Result<Probe, String>) -> Finding {
    let about = format!("provider {}", provider.name);
    let path = format!("providers.{}", provider.name);
    let url = provider.base_url.as_str();
    let probe = match probed {
        Ok(probe) => probe,
        Err(reason) if reason.contains("key") => {
            let advice = format!("{path}.api_key_env, api_key_file or api_key_command name where the key is");
            return Finding::fail(about, reason, advice, Exit::KeyRefused);
        }
        Err(reason) => {
            let advice = format!("is {path}.base_url right, and the network or {path}.proxy?");
            return Finding::fail(about, format!("{url}: {reason}"), advice, Exit::Unreachable);
        }
    };
    let keyless = if provider.key.is_none() { ", without a key" } else { "" };
    match probe.status {
        200..300 => {
            let took = seconds(probe.took.as_secs_f64());
            Finding::ok(about, format!("{url} answers in {took}{keyless}"))
        }
        status @ (401 | 403) => {
            let found = format!("{url} refuses the key ({status}){keyless}");
            Finding::fail(
                about,
                found,
                "put a good key where the configuration takes it from",
                Exit::KeyRefused,
            )
        }
        404 | 405 => {
            let found = format!("{url} is there, but lists no models ({})", probe.status);
            Finding::warn(
                about,
                found,
                "some don't; if calls fail, base_url may lack its version, such as /v1",
            )
        }
        429 => Finding::warn(about, format!("{url} is there, and its limit is used up (429)"), "wait"),
        status => {
            let found = format!("{url} answers with {status}");
            Finding::fail(
                about,
                found,
                "the provider has trouble of its own, or it is not one",
                Exit::Unreachable,
            )
        }
    }
}

fn off_by(probe: &Probe) -> Option<Duration> {
    let (theirs, ours) = (probe.date?, SystemTime::now());
    Some(ours.duration_since(theirs).unwrap_or_else(|error| error.duration()))
}

fn judge_clock(off: Duration) -> Finding {
    let found = format!("{} apart from the provider's", seconds(off.as_secs_f64()));
    let advice = "set the clock (NTP): deadlines and certificates go by it";
    if off > CLOCK_FAIL {
        return Finding::fail("clock", found, advice, Exit::SomeFailed);
    }
    if off > CLOCK_WARN {
        return Finding::warn("clock", found, advice);
    }
    Finding::ok("clock", "agrees with the provider's")
}
