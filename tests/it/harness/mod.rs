//! What the tests drive the service with.

mod client;
mod command;
mod lines;
pub(crate) mod pooler;
pub(crate) mod postgres;
mod process;
mod recording;
mod relay;
mod service;
mod settings;
mod terminal;
mod whole;

pub(crate) use client::{Answer, Client, Metrics, id_of};
pub(crate) use command::{check_store, command};
pub(crate) use lines::{chat, chats, jsonl, line, sized};
pub(crate) use process::Process;
pub(crate) use recording::Recording;
pub(crate) use relay::{Relay, Then};
pub(crate) use service::Service;
pub(crate) use settings::Settings;
pub(crate) use terminal::Terminal;
pub(crate) use whole::check_whole;

use std::time::Duration;

use sluicegate::demo::upstream::{Running, Script, ScriptedUpstream};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A scripted upstream; the script is TOML.
pub(crate) async fn upstream(script: &str) -> Running {
    let script: Script = toml::from_str(script).unwrap();
    ScriptedUpstream::start(script).await.unwrap()
}

/// Waits for what only the upstream's counters or a file can tell of: neither rings when it changes, so it is asked
/// again and again. How often changes no outcome. The service itself is waited for by its own means.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < until, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
