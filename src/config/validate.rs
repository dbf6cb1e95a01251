//! What can only be judged over several keys.

use std::path::PathBuf;
use std::time::Duration;

use super::limits;
use super::pairs::Pairs;
use super::providers::Provider;
use super::reader::Report;
use super::secret::Secret;
use super::sections::{DEFAULT_SCHEMA, Store, StoreKeys, StoreLocation, Timeouts};
use super::setting::{Setting, Size, quoted};
use super::sources::ReadFile;
use super::{Config, Retry};

/// Reports whatever does not go together.
pub(super) fn check(config: &Config, report: &mut Report) {
    let Config { limits, timeouts, retry, providers, .. } = config;
    check_addresses(config, report);
    check_sizes(config, report);
    check_durations(config, report);
    limits::check(limits, "limits", report);
    check_timeouts(timeouts, "timeouts", report);
    check_retry(retry, "retry", report);
    for provider in providers {
        check_provider(provider, report);
    }
    check_catch_alls(providers, report);
    check_shared_budgets(providers, report);
    check_shared_keys(providers, report);
}

fn check_addresses(config: &Config, report: &mut Report) {
    let Config { server, .. } = config;
    if server.admin_listen.is_some_and(|admin| admin == server.listen && admin.port() != 0) {
        report.problem("server.admin_listen", server.admin_listen.shown(), "must differ from server.listen");
    }
}

fn check_sizes(config: &Config, report: &mut Report) {
    let Config { server, batches, .. } = config;
    let smallest =
        |what: &str, size: Size| format!("must be at least {what}, {}", size.shown().unwrap_or_default());
    if batches.max_line.0 == 0 {
        report.problem("batches.max_line", batches.max_line.shown(), "must be at least 1B");
    }
    if batches.max_file < batches.max_line {
        let message = smallest("batches.max_line", batches.max_line);
        report.problem("batches.max_file", batches.max_file.shown(), message);
    }
    if batches.max_inline < batches.max_line {
        let message = smallest("batches.max_line", batches.max_line);
        report.problem("batches.max_inline", batches.max_inline.shown(), message);
    }
    // A line is held beside what is already there of its reply.
    let least = Size(batches.max_line.0.saturating_mul(2));
    if server.memory_budget < least {
        let message = smallest("twice batches.max_line", least);
        report.problem("server.memory_budget", server.memory_budget.shown(), message);
    }
}

fn check_durations(config: &Config, report: &mut Report) {
    let Config { retention, .. } = config;
    for (key, duration) in [("retention.files", retention.files), ("retention.results", retention.results)] {
        check_positive(key, duration, report);
    }
}

fn check_timeouts(timeouts: &Timeouts, path: &str, report: &mut Report) {
    let Timeouts { connect, first_byte, idle, request } = *timeouts;
    for (key, duration) in
        [("connect", connect), ("first_byte", first_byte), ("idle", idle), ("request", request)]
    {
        check_positive(&format!("{path}.{key}"), duration, report);
    }
}

fn check_positive(key: &str, duration: Duration, report: &mut Report) {
    if duration.is_zero() && !report.is_reported(key) {
        report.problem(key, duration.shown(), "must be longer than nothing");
    }
}

fn check_retry(retry: &Retry, path: &str, report: &mut Report) {
    if retry.min_delay > retry.max_delay {
        let most = retry.max_delay.shown().unwrap_or_default();
        let message = format!("must be at most {path}.max_delay, {most}");
        report.problem(&format!("{path}.min_delay"), retry.min_delay.shown(), message);
    }
}

fn check_provider(provider: &Provider, report: &mut Report) {
    let path = format!("providers.{}", provider.name);
    let Provider { base_url, headers, limits, timeouts, retry, lanes, .. } = provider;
    if base_url.has_user() {
        let message = "must not hold a user or password: use api_key_file or headers";
        report.problem(&format!("{path}.base_url"), base_url.shown(), message);
    }
    if base_url.has_query() {
        let message = "must not hold a query: use the provider's query table";
        report.problem(&format!("{path}.base_url"), None, message);
    }
    if let Some(name) = Pairs::not_a_header(headers) {
        report.problem(
            &format!("{path}.headers"),
            None,
            format!("holds {name:?}, which can't be sent as a header"),
        );
    }
    limits::check(limits, &format!("{path}.limits"), report);
    check_timeouts(timeouts, &format!("{path}.timeouts"), report);
    check_retry(retry, &format!("{path}.retry"), report);
    for (index, lane) in lanes.iter().enumerate() {
        let path = format!("{path}.lanes[{index}]");
        limits::check(&lane.limits, &format!("{path}.limits"), report);
        if lanes[..index].iter().any(|earlier| earlier.pattern == lane.pattern) {
            report.problem(
                &format!("{path}.match"),
                lane.pattern.shown(),
                "is there already in an earlier lane",
            );
        }
    }
}

/// Two providers that both take every model would halve it between them by accident.
fn check_catch_alls(providers: &[Provider], report: &mut Report) {
    let mut seen: Vec<(&str, i32)> = Vec::new();
    for provider in providers {
        let catch_all = provider.lanes.iter().find(|lane| lane.pattern.is_any() && lane.except.is_empty());
        let Some(order) = catch_all.map(|lane| lane.order) else {
            continue;
        };
        match seen.iter().find(|(_, taken)| *taken == order) {
            Some((other, _)) => {
                let message = format!(
                    "takes every model with order {order}, and so does providers.{other}: give one of them lanes \
                     with other patterns or another order"
                );
                report.problem(&format!("providers.{}", provider.name), None, message);
            }
            None => seen.push((&provider.name, order)),
        }
    }
}

/// One account under two names would be spent twice.
fn check_shared_keys(providers: &[Provider], report: &mut Report) {
    for (index, provider) in providers.iter().enumerate() {
        let is_same = |other: &&Provider| {
            provider.key.is_some()
                && other.base_url == provider.base_url
                && other.key.as_ref().zip(provider.key.as_ref()).is_some_and(|(a, b)| a.is_same_key(b))
        };
        if let Some(other) = providers[..index].iter().find(is_same)
            && (provider.budget.is_none() || provider.budget != other.budget)
        {
            let message = format!(
                "has the same key and base_url as providers.{}: both must name the same budget, such as budget = {}",
                other.name,
                quoted(&other.name)
            );
            report.problem(&format!("providers.{}", provider.name), None, message);
        }
    }
}

/// One budget has one set of limits.
fn check_shared_budgets(providers: &[Provider], report: &mut Report) {
    for (index, provider) in providers.iter().enumerate() {
        let Some(budget) = &provider.budget else { continue };
        let key = format!("providers.{}.budget", provider.name);
        if let Some(other) = providers.iter().find(|other| other.budget.is_none() && other.name == *budget) {
            let message = format!("is the name of a provider: providers.{} must name it as well", other.name);
            report.problem(&key, Some(quoted(budget)), message);
        }
        let earlier = providers[..index].iter().find(|other| other.budget.as_ref() == Some(budget));
        if let Some(other) = earlier.filter(|other| other.limits != provider.limits) {
            let message = format!(
                "is shared with providers.{}, whose limits are others: one budget has one set of limits",
                other.name
            );
            report.problem(&key, Some(quoted(budget)), message);
        }
    }
}

/// The store that its keys mean.
pub(super) fn resolve_store(keys: StoreKeys, read_file: &ReadFile<'_>, report: &mut Report) -> Store {
    let StoreKeys { url, url_file, schema, min_free } = keys;
    let mut key = "store.url";
    let mut url = url;
    if let Some(path) = &url_file {
        if report.origins.contains_key("store.url") {
            report.problem(
                "store.url_file",
                path.shown(),
                "is given beside store.url: only one of them can be",
            );
        }
        key = "store.url_file";
        match read_file(path) {
            Ok(text) => text.trim().clone_into(&mut url),
            Err(error) => report.problem(key, path.shown(), format!("can't be read: {error}")),
        }
    }
    let mut location = locate(key, &url, schema, report);
    if let StoreLocation::Postgres { url_file: file, .. } = &mut location {
        *file = url_file;
    }
    Store { location, min_free }
}

/// The database that a URL names.
fn locate(key: &str, url: &str, schema: Option<String>, report: &mut Report) -> StoreLocation {
    // A URL may carry a password; this is all of it that is worth saying.
    let (scheme, rest) = url.split_once(':').unwrap_or(("", ""));
    match scheme {
        "postgres" | "postgresql" if rest.starts_with("//") => {
            let schema = schema.unwrap_or_else(|| DEFAULT_SCHEMA.to_owned());
            if !is_schema(&schema) {
                let message =
                    "is no name for a schema: expected at most 63 of a-z, 0-9 and _, no digit first";
                report.problem("store.schema", Some(quoted(&schema)), message);
            }
            StoreLocation::Postgres { url: Secret::new(url), schema, url_file: None }
        }
        "sqlite" if !rest.is_empty() => {
            if let Some(schema) = schema {
                report.problem(
                    "store.schema",
                    Some(quoted(&schema)),
                    "is for PostgreSQL: the store is a file",
                );
            }
            StoreLocation::Sqlite(PathBuf::from(rest))
        }
        _ => {
            let message = "expected a URL such as \"sqlite:./sluicegate-data/store.db\" or \
                           \"postgres://user:password@host/database\"";
            report.problem(key, Some(quoted(&format!("{scheme}:…"))), message);
            StoreLocation::Sqlite(PathBuf::new())
        }
    }
}

/// Whether it can be a schema's name without quotes, and is none that PostgreSQL keeps for itself.
fn is_schema(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let first = name.bytes().next().is_some_and(letter);
    let rest = name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit());
    first && rest && name.len() <= 63 && !name.starts_with("pg_")
}
