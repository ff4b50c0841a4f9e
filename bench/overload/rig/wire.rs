//! Connections of the load: written and read as bytes, since a full client would take a good part
//! of the core that it shares with the upstream.
//!
//! A connection whose request was given up is reset, so that the other side learns of it at once
//! and no port is left waiting.

use std::net::SocketAddr;
use std::time::Duration;

use outrigger::shared::Shared;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// As many fields of an answer are read.
const FIELDS: usize = 64;
/// Idle connections that are kept; more than were ever in flight in a scenario.
const IDLE: usize = 4096;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Why the proxy itself answered, where it says so.
    pub(crate) reason: Option<String>,
}

/// Why nothing came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection was made.
    Connect,
    /// The connection ended before the answer did.
    Closed,
    /// The answer is not HTTP/1.1 with a length.
    Unreadable,
}

impl Failure {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Idle connections to one address; the one used last is used next.
pub(crate) struct Pool {
    address: SocketAddr,
    idle: Shared<Vec<Connection>>,
}

impl Pool {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Shared::default() }
    }

    /// Sends one request. When an idle connection turns out to be closed before a byte of an answer
    /// came, the request goes out once more on a new one, as usual clients do.
    pub(crate) async fn send(&self, request: &[u8]) -> Result<Answer, Failure> {
        let idle = self.idle.lock().pop();
        if let Some(mut connection) = idle {
            match connection.exchange(request).await {
                Err(Failure::Closed) if connection.buffer.is_empty() => {}
                ended => return self.end(connection, ended),
            }
        }
        let stream = TcpStream::connect(self.address).await.map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let mut connection = Connection { stream, buffer: Vec::new(), busy: false };
        let ended = connection.exchange(request).await;
        self.end(connection, ended)
    }

    fn end(&self, connection: Connection, ended: Result<Head, Failure>) -> Result<Answer, Failure> {
        let head = ended?;
        let mut idle = self.idle.lock();
        if head.keep && idle.len() < IDLE {
            idle.push(connection);
        }
        Ok(head.answer)
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// A request was sent, and its answer is not complete.
    busy: bool,
}

impl Connection {
    /// One request and its answer, read to the end.
    async fn exchange(&mut self, request: &[u8]) -> Result<Head, Failure> {
        self.busy = true;
        self.buffer.clear();
        self.stream.write_all(request).await.map_err(|_| Failure::Closed)?;
        let head = loop {
            self.read().await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        while self.buffer.len() < head.end {
            self.read().await?;
        }
        self.busy = false;
        Ok(head)
    }

    async fn read(&mut self) -> Result<(), Failure> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(Failure::Closed),
            Ok(_) => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.busy {
            // Where this fails the connection closes in the usual way, which is as good.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// The head of an answer.
pub(crate) struct Head {
    pub(crate) answer: Answer,
    /// The connection can be used again.
    pub(crate) keep: bool,
    /// Where the body ends.
    pub(crate) end: usize,
}

impl Head {
    /// Reads it; nothing while it is not complete.
    pub(crate) fn parse(buffer: &[u8]) -> Result<Option<Self>, Failure> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(buffer).map_err(|_| Failure::Unreadable)?;
        let httparse::Status::Complete(length) = parsed else { return Ok(None) };
        let status = response.code.unwrap_or_default();
        let (mut reason, mut keep, mut body) = (None, response.version == Some(1), None);
        for field in response.headers.iter() {
            let value = std::str::from_utf8(field.value).unwrap_or_default();
            if field.name.eq_ignore_ascii_case("content-length") {
                body = value.parse::<usize>().ok();
            } else if field.name.eq_ignore_ascii_case("connection") {
                keep &= !value.eq_ignore_ascii_case("close");
            } else if field.name.eq_ignore_ascii_case("x-outrigger-reason") {
                reason = Some(value.to_owned());
            }
        }
        let end = length + body.ok_or(Failure::Unreadable)?;
        Ok(Some(Self { answer: Answer { status, reason }, keep, end }))
    }
}
