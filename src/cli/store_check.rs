//! `store check`: whether a store is whole.

use serde_json::json;

use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use super::store_arguments::StoreCheck;
use super::{Global, load, print, tell};
use crate::config::Environment;
use crate::logs;
use crate::store::check::{self, CheckReport};

/// Checks the store: what is wrong goes to standard output, a line each.
pub(super) fn store_check(
    command: &StoreCheck,
    global: &Global,
    environment: Environment,
) -> Result<Exit, CliError> {
    let config = load(global, &command.place.overrides()?, environment)?;
    logs::start(&config.log)?;
    let silent = Global { quiet: global.quiet || global.json, ..global.clone() };
    let told = move |part| tell(&silent, &format!("checking {part}"));
    let location = config.store.location;
    let checked = Runtimes::start()?.block_on(async {
        tokio::select! {
            checked = check::check(&location, told) => Some(checked),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // It only reads: the process ends in the middle of it.
    let Some(report) = checked else { std::process::exit(Exit::Interrupted.code().into()) };
    let CheckReport { wrong, looked_at, left_out } = report?;
    if global.json {
        let looked_at: serde_json::Map<_, _> =
            looked_at.iter().map(|(kind, count)| ((*kind).to_owned(), json!(count))).collect();
        let told =
            json!({ "ok": wrong.is_empty(), "wrong": wrong, "looked_at": looked_at, "left_out": left_out });
        print(&format!("{told:#}\n"))?;
    } else {
        print(&wrong.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    }
    for left_out in left_out {
        tell(global, &format!("not checked: {left_out}"));
    }
    let counts: Vec<_> = looked_at.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let counts = counts.join(", ");
    if wrong.is_empty() {
        tell(global, &format!("nothing is wrong: {counts}"));
        return Ok(Exit::Success);
    }
    tell(global, &format!("something is wrong, see above: {counts}. Restore a backup, or report it"));
    Ok(Exit::SomeFailed)
}
