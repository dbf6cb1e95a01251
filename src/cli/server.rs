//! Which service the commands speak to, and with which key.

use super::arguments::Global;
use super::client::Client;
use super::error::CliError;
use crate::config::Environment;

/// Where a service listens that nobody named another place for.
const USUAL: &str = "http://127.0.0.1:8080";

/// Variables that put a proxy between, the first that is set being the one that is told of.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The service that `--url` or `SLUICEGATE_URL` names, if one does.
pub(super) fn named(global: &Global, environment: &Environment) -> Result<Option<Client>, CliError> {
    let url = global.url.as_deref().or_else(|| environment.get("SLUICEGATE_URL"));
    url.map(|url| client(url, global, environment)).transpose()
}

/// The service that is named, or the one that would be on this machine.
pub(super) fn named_or_usual(global: &Global, environment: &Environment) -> Result<Client, CliError> {
    named(global, environment)?.map_or_else(|| client(USUAL, global, environment), Ok)
}

fn client(url: &str, global: &Global, environment: &Environment) -> Result<Client, CliError> {
    let parsed = reqwest::Url::parse(url).ok();
    if parsed.is_none_or(|parsed| !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host()) {
        let message = format!("{url:?} is no URL of a service: expected one such as {USUAL}");
        return Err(CliError::Use(message));
    }
    let proxy = PROXIES.into_iter().find(|name| environment.get(name).is_some());
    Ok(Client::new(url, key(global, environment)?)?.behind(proxy.map(str::to_owned)))
}

fn key(global: &Global, environment: &Environment) -> Result<Option<String>, CliError> {
    let Some(path) = &global.api_key_file else {
        return environment
            .get("SLUICEGATE_API_KEY")
            .map(|key| one_key(key, "SLUICEGATE_API_KEY"))
            .transpose();
    };
    let key = std::fs::read_to_string(path).map_err(|error| CliError::Local { path: path.clone(), error })?;
    one_key(&key, &path.display().to_string()).map(Some)
}

/// The key alone. What no header can carry is told of here: the connection would be blamed for it.
fn one_key(text: &str, place: &str) -> Result<String, CliError> {
    let key = text.trim();
    if key.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(CliError::Use(format!(
            "{place} must hold one key and nothing else: there is a line break or the like in it"
        )));
    }
    Ok(key.to_owned())
}
