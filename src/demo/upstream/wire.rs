//! One connection: requests read off it, bytes written to it, and ways to break it.

use std::io;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::head::{Framing, Head};

/// The largest body that is read.
const LARGEST_BODY: usize = 256 * 1024 * 1024;

/// What a client may send ahead of its answer before nobody watches whether it leaves.
const AHEAD: usize = 64 * 1024;

/// A connection with what was read off it and not used.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// A fresh connection.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Reads the next request's head; `None` once the client has closed.
    ///
    /// # Errors
    /// If the connection breaks, or what comes is no HTTP/1.
    pub(super) async fn next_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = Head::parse(&self.buffer).map_err(|_| io::ErrorKind::InvalidData)? {
                self.buffer.drain(..head.bytes);
                return Ok(Some(head));
            }
            if self.read_more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads the body that a head announces into `body`.
    ///
    /// # Errors
    /// If the connection breaks, the framing is wrong, or the body is above 256 MiB.
    pub(super) async fn read_body(&mut self, head: &Head, body: &mut Vec<u8>) -> io::Result<()> {
        body.clear();
        if head.expects {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        match head.framing {
            Framing::Length(length) => self.take(length, body).await,
            Framing::Chunked => self.take_chunks(body).await,
        }
    }

    async fn take_chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.take_line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if length == 0 {
                break;
            }
            self.take(length, body).await?;
            if !self.take_line().await?.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        // Trailers, up to the empty line.
        while !self.take_line().await?.is_empty() {}
        Ok(())
    }

    async fn take(&mut self, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        if body.len().saturating_add(length) > LARGEST_BODY {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let end = body.len() + length;
        loop {
            let ready = self.buffer.len().min(end - body.len());
            body.extend(self.buffer.drain(..ready));
            if body.len() == end {
                return Ok(());
            }
            self.need_more().await?;
        }
    }

    async fn take_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into());
            }
            if self.buffer.len() > AHEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.need_more().await?;
        }
    }

    async fn need_more(&mut self) -> io::Result<()> {
        if self.read_more().await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        self.buffer.reserve(16 * 1024);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// If the client has left.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Waits, and tells at once if the client leaves meanwhile.
    ///
    /// # Errors
    /// If the client has left.
    pub(super) async fn pause(&mut self, time: Duration) -> io::Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        let elapsed = sleep(time);
        tokio::pin!(elapsed);
        while self.buffer.len() < AHEAD {
            tokio::select! {
                () = &mut elapsed => return Ok(()),
                read = self.read_more() => if read? == 0 {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                },
            }
        }
        elapsed.await;
        Ok(())
    }

    /// Returns once the client has left.
    pub(super) async fn outlast(&mut self) {
        while let Ok(1..) = self.read_more().await {
            self.buffer.clear();
        }
    }

    /// Makes the end that follows an RST instead of an orderly close.
    ///
    /// # Errors
    /// If the socket refuses the option.
    pub(super) fn arm_reset(&self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    /// Closes in order, once everything written has been sent.
    ///
    /// # Errors
    /// If the client has left before.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
