//! `upstream`: the scripted provider by itself, for tests and benchmarks.

use std::path::Path;

use super::arguments::Upstream;
use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use crate::demo::upstream::{Script, run};

/// Answers as scripted until it is ended.
pub(super) fn upstream(upstream: &Upstream) -> Result<Exit, CliError> {
    let script = match &upstream.script {
        Some(path) => read(path)?,
        None => Script::default(),
    };
    Runtimes::start()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(upstream.listen).await.map_err(CliError::Output)?;
        let address = listener.local_addr().map_err(CliError::Output)?;
        // The first line on standard output is what scripts wait for.
        super::print(&format!("http://{address}/v1\n"))?;
        run(listener, script).await.map_err(CliError::Output)
    })?;
    Ok(Exit::Success)
}

fn read(path: &Path) -> Result<Script, CliError> {
    let local = |error| CliError::Local { path: path.to_owned(), error };
    let text = std::fs::read_to_string(path).map_err(local)?;
    toml::from_str(&text).map_err(|error| local(std::io::Error::other(error)))
}
