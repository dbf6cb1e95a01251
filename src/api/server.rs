//! Accepting connections.
//!
//! Not `axum::serve`: it gives hyper no timer, so that its limit on reading a request's head never
//! fires, and it knows no cap on connections.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::Version;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::shutdown::Shutdown;

/// Longest wait for a request's head, on a new connection and on one kept alive.
const HEAD: Duration = Duration::from_secs(10);
/// Most header lines; the SDKs send about 20.
const MAX_HEADERS: usize = 64;
/// Bytes hyper reads at once, and most of a request's head.
const READ_BUFFER: usize = 64 << 10;
/// Calls of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 64;
/// How often a silent HTTP/2 or TCP peer is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pause after accepting failed: out of file descriptors, most likely, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the server treats connections.
#[derive(Clone, Copy, Debug)]
pub struct ServerSettings {
    /// Most connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// How long calls may go on after the end was asked for, before their connections are cut.
    pub grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { max_connections: 4_096, grace: Duration::from_secs(10) }
    }
}

/// Serves until `stop` begins, then ends connections as their calls end, and returns.
///
/// `stop` may be another one than the API's own `shutdown`: between the two, reads are answered
/// while creates are refused, and `/readyz` is red.
pub async fn serve(listener: TcpListener, routes: Router, settings: ServerSettings, stop: Shutdown) {
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let connections = Shutdown::default();
    loop {
        let place = tokio::select! {
            () = stop.begun() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = stop.begun() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = Connection { place, stop: stop.clone(), grace: settings.grace };
                connections.spawn(connection.run(stream, routes.clone()));
            }
            Err(error) if is_one_connections(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting connections failed; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.finished().await;
}

/// Errors that `accept` reports of a connection that is gone already.
fn is_one_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

struct Connection {
    place: OwnedSemaphorePermit,
    stop: Shutdown,
    grace: Duration,
}

impl Connection {
    async fn run(self, stream: TcpStream, routes: Router) {
        let Self { place, stop, grace } = self;
        prepare(&stream);
        let (called, cut) = (Arc::new(AtomicBool::new(false)), Cut::default());
        let service = Calls { routes, called: Arc::clone(&called), cut: cut.clone() };
        let builder = builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        // hyper's own limit starts once it knows the protocol: who sends not even that waits here.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(HEAD) => if !called.load(Ordering::Relaxed) { return },
            () = stop.begun() => {}
        }
        tokio::select! {
            _ = connection.as_mut() => return,
            () = cut.asked_for() => return,
            () = stop.begun() => {}
        }
        connection.as_mut().graceful_shutdown();
        // Either it ended or it had its time; what is cut is the client's to ask again.
        let _ = tokio::time::timeout(grace, connection).await;
        drop(place);
    }
}

/// Small writes leave at once; a peer that vanished without a word is noticed.
fn prepare(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
    let set = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keep_alive));
    if let Err(error) = set {
        tracing::debug!(%error, "a connection's options could not be set");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(READ_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(READ_BUFFER as u32);
    builder
}

/// The way to end a connection from within a call: what hyper has to write to a client that does not
/// read has no time limit of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut(CancellationToken);

impl Cut {
    /// Ends the connection.
    pub(super) fn now(&self) {
        self.0.cancel();
    }

    /// Returns once that was asked for.
    pub(super) async fn asked_for(&self) {
        self.0.cancelled().await;
    }
}

/// The routes as hyper calls them.
struct Calls {
    routes: Router,
    called: Arc<AtomicBool>,
    cut: Cut,
}

impl hyper::service::Service<Request<hyper::body::Incoming>> for Calls {
    type Response = Response;
    type Error = Infallible;
    type Future = tower::util::Oneshot<Router, Request>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        self.called.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        // A connection of HTTP/2 carries other calls, which must not end with one of them.
        if request.version() < Version::HTTP_2 {
            request.extensions_mut().insert(self.cut.clone());
        }
        self.routes.clone().oneshot(request)
    }
}
