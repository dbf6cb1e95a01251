//! A way to the database's server that ends after so many bytes, or when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::postgres;

/// What becomes of the connections once so many bytes went to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// They stay, and nothing gets through any more.
    Stall,
    /// They are closed, and so is every further one.
    Cut,
}

/// A way to the server; its connections are closed when it is dropped.
pub(crate) struct Relay {
    port: u16,
    is_over: watch::Receiver<bool>,
    over: Arc<watch::Sender<bool>>,
    sent: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Lets so many bytes pass to the server.
    pub(crate) async fn start(bytes: usize, then: Then) -> Self {
        let url = postgres::url();
        let (_, port) = url.strip_suffix("/postgres").unwrap().rsplit_once(':').unwrap();
        let server = format!("127.0.0.1:{port}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (over, is_over) = watch::channel(false);
        let sent = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(over);
        let way = Way { limit: bytes, then, sent: Arc::clone(&sent), over: Arc::clone(&over) };
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                connections.spawn(way.clone().carry(client, server));
            }
        });
        Self { port, is_over, over, sent, task }
    }

    /// How it is reached.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Bytes that went to the server so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Lets nothing through from now on.
    pub(crate) fn cut(&self) {
        self.over.send_replace(true);
    }

    /// Waits until nothing gets through any more.
    pub(crate) async fn over(&mut self) {
        self.is_over.wait_for(|is_over| *is_over).await.unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Way {
    limit: usize,
    then: Then,
    sent: Arc<AtomicUsize>,
    over: Arc<watch::Sender<bool>>,
}

impl Way {
    async fn carry(self, client: TcpStream, server: TcpStream) {
        let mut is_over = self.over.subscribe();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let ended = async {
            let _ = is_over.wait_for(|is_over| *is_over && self.then == Then::Cut).await;
        };
        let forth = async {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let read = from_client.read(&mut buffer).await.unwrap_or(0);
                if read == 0 {
                    return;
                }
                if self.sent.fetch_add(read, Ordering::Relaxed) + read > self.limit {
                    self.over.send_replace(true);
                    std::future::pending::<()>().await;
                }
                if to_server.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = forth => {}
            _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
            () = ended => {}
        }
    }
}
