//! A scripted upstream: a real HTTP server that answers as LLM providers do, or fails as they do.
//!
//! Tests, benchmarks and the demo run it where a provider would stand. What it does comes from a
//! [`Script`], from markers in a prompt's text (`[[500 x2]]`, see [`Act`]), or from `/script/…` while
//! it runs. It logs every call and holds the arrivals against window laws of its own.

mod answer;
mod bomb;
mod call_log;
mod chance;
mod connection;
mod control;
mod desk;
mod head;
mod latency;
mod marker;
mod occupancy;
mod oracle;
mod perform;
mod prompt;
mod refusal;
mod script;
mod span;
mod stream;
mod wire;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::net::TcpListener;

pub use self::call_log::{Ending, Entry, LogReport, Repeated};
pub use self::desk::OracleReport;
pub use self::latency::Latency;
pub use self::marker::Act;
pub use self::oracle::{LawReport, WindowReport};
pub use self::script::{Faults, Law, LawKind, LogMode, Script, Storm, Unit};
pub use self::span::Span;

use self::desk::Desk;
use crate::shutdown::Shutdown;

/// Serves a script on a listener; dropping the future cuts every connection.
///
/// # Errors
/// If the listener fails.
pub async fn run(listener: TcpListener, script: Script) -> io::Result<()> {
    let running = EndOnDrop(Shutdown::default());
    connection::accept(listener, Arc::new(Desk::open(script)), running.0.clone()).await
}

/// Starts scripted upstreams inside this process.
#[derive(Debug)]
pub struct ScriptedUpstream;

impl ScriptedUpstream {
    /// Starts one on a free port of loopback.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(script: Script) -> io::Result<Running> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// Starts one on a given address, such as that of one that was shut down before.
    ///
    /// # Errors
    /// If the address can't be had.
    pub async fn start_at(address: SocketAddr, script: Script) -> io::Result<Running> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk::open(script));
        let shutdown = Shutdown::default();
        let accepting = connection::accept(listener, Arc::clone(&desk), shutdown.clone());
        shutdown.spawn(async move {
            if let Err(error) = accepting.await {
                tracing::error!(%error, "the scripted upstream can't accept any more");
            }
        });
        Ok(Running { address, desk, running: EndOnDrop(shutdown) })
    }
}

/// A scripted upstream that runs. Dropping it ends it, without waiting.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    desk: Arc<Desk>,
    running: EndOnDrop,
}

#[derive(Debug)]
struct EndOnDrop(Shutdown);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.begin();
    }
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What a provider's `base_url` is set to: with `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Totals of the request log.
    pub fn log(&self) -> LogReport {
        self.desk.read_log(|log| log.report())
    }

    /// Calls that arrived with `[[id=…]]` of this id.
    pub fn calls(&self, id: &str) -> u32 {
        self.desk.read_log(|log| log.calls(id))
    }

    /// Ids that were called more than once, the most called first.
    pub fn repeated(&self, limit: usize) -> Vec<Repeated> {
        self.desk.read_log(|log| log.repeated(limit))
    }

    /// Rows of a full log, from a call's number on.
    pub fn entries(&self, from: u64, limit: usize) -> Vec<Entry> {
        self.desk.read_log(|log| log.entries(from, limit))
    }

    /// What the oracle has seen.
    pub fn oracle(&self) -> OracleReport {
        self.desk.oracle()
    }

    /// Changes the whole script; calls already inside keep what they were told.
    pub fn set(&self, script: Script) {
        self.desk.set_script(script);
    }

    /// Changes some keys of the script; `null` puts one back to its default.
    ///
    /// # Errors
    /// The text says which key or value is wrong; nothing has changed then.
    pub fn update(&self, changes: Map<String, Value>) -> Result<(), String> {
        control::set(&self.desk, changes)
    }

    /// Empties the request log and the oracle's books.
    pub fn reset(&self) {
        self.desk.reset();
    }

    /// Cuts every connection, frees the address, and returns when both are done.
    pub async fn shutdown(self) {
        self.running.0.begin();
        self.running.0.finished().await;
    }
}
