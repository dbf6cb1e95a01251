//! `doctor`: what keeps requests from being answered, found before it does, with what to do about it.

mod database;
mod here;
mod providers;
mod service;

use serde_json::json;

use super::arguments::Global;
use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use super::{print, server};
use crate::config::{Environment, StoreLocation};

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
struct Finding {
    state: State,
    about: String,
    found: String,
    /// What to do; empty if nothing.
    advice: String,
    /// How the process ends because of it, if it failed.
    exit: Exit,
}

impl Finding {
    fn ok(about: impl Into<String>, found: impl Into<String>) -> Self {
        let (about, found) = (about.into(), found.into());
        Self { state: State::Ok, about, found, advice: String::new(), exit: Exit::Success }
    }

    fn warn(about: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Warn, advice: advice.into(), ..Self::ok(about, found) }
    }

    fn fail(
        about: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
        exit: Exit,
    ) -> Self {
        Self { state: State::Fail, exit, ..Self::warn(about, found, advice) }
    }

    fn line(&self) -> String {
        let state = match self.state {
            State::Ok => "ok  ",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        let advice = if self.advice.is_empty() { String::new() } else { format!("\n      {}", self.advice) };
        format!("{state}  {}: {}{advice}\n", self.about, self.found)
    }
}

/// Looks at everything that a service, or a `run`, needs. The exit code is that of the first thing that fails.
pub(super) fn doctor(global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let named = server::named(global, &environment)?;
    let findings = Runtimes::start()?.block_on(async {
        match named {
            Some(client) => service::look(&client).await,
            None => here(global, environment).await,
        }
    });
    for finding in &findings {
        if global.json {
            let Finding { state, about, found, advice, .. } = finding;
            let state = format!("{state:?}").to_lowercase();
            print(&format!(
                "{}\n",
                json!({"state": state, "about": about, "found": found, "advice": advice})
            ))?;
        } else if !global.quiet || finding.state > State::Ok {
            print(&finding.line())?;
        }
    }
    let failed = findings.iter().find(|finding| finding.state == State::Fail);
    Ok(failed.map_or(Exit::Success, |finding| finding.exit))
}

async fn here(global: &Global, environment: Environment) -> Vec<Finding> {
    let config = match super::load(global, &[], environment) {
        Ok(config) => config,
        Err(error) => {
            let advice =
                "`sluicegate config reference` has every key, `sluicegate config show` what is in force";
            return vec![Finding::fail("configuration", error.to_string(), advice, Exit::Usage)];
        }
    };
    let mut findings = here::configuration(&config);
    findings.extend(providers::look(&config).await);
    match &config.store.location {
        StoreLocation::Sqlite(database) => findings.push(here::disk(database, config.store.min_free.0)),
        StoreLocation::Postgres { url, schema, .. } => findings.extend(database::look(url, schema).await),
    }
    findings.push(here::open_files());
    findings.push(here::address(&config));
    findings
}
