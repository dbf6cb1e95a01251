//! The least that a proxy can be, in a process of its own: what the second connection costs by itself.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;

use super::process::Process;
use super::say;

/// The variable through which a benchmark's executable is told to be a proxy, and in front of what.
const ROOT_VARIABLE: &str = "BENCH_BARE_PROXY";
/// The longest body.
const LONGEST: usize = 1 << 20;

/// If this process was started as a proxy: is one, until it is killed.
pub(crate) fn serve_if_asked() -> anyhow::Result<bool> {
    let Ok(root) = std::env::var(ROOT_VARIABLE) else { return Ok(false) };
    let client = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).build()?;
    // As many threads as the service has.
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        say(format!("http://{}", listener.local_addr()?));
        let router = Router::new().fallback(pass).with_state((client, root));
        use axum::serve::ListenerExt as _;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        anyhow::Ok(axum::serve(listener, router).await?)
    })?;
    Ok(true)
}

async fn pass(State((client, root)): State<(reqwest::Client, String)>, request: Request) -> Response {
    passed(client, root, request).await.unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(error.to_string()));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

async fn passed(client: reqwest::Client, root: String, request: Request) -> anyhow::Result<Response> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, LONGEST).await?;
    let content_type = head.headers.get("content-type").cloned().context("a content type")?;
    let request =
        client.request(head.method, format!("{root}{}", head.uri)).header("content-type", content_type);
    let answer = http::Response::<reqwest::Body>::from(request.body(body).send().await?);
    Ok(answer.map(Body::new))
}

/// A proxy that runs.
#[derive(Debug)]
pub(crate) struct BareProxy {
    _process: Process,
    root: String,
}

impl BareProxy {
    /// Starts one in front of a server; `root` without a path.
    pub(crate) fn start(root: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = Process::start(command.env(ROOT_VARIABLE, root).stdout(Stdio::piped()))?;
        let output = process.take_output().context("the proxy's output")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        anyhow::ensure!(address.starts_with("http://"), "the proxy did not start");
        Ok(Self { _process: process, root: address.trim().to_owned() })
    }

    /// Where it listens.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }
}
