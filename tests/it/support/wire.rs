//! One end of a connection, byte by byte: for what a well-behaved library would never send, and for
//! what it would hide of what it read.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::within;

/// How much is read at once.
const PIECE: usize = 16 * 1024;

trait Ends: AsyncRead + AsyncWrite + Send + Unpin {
    /// Makes the close that follows a reset.
    fn reset_on_close(&self) {}
}

impl Ends for UnixStream {}

impl Ends for TcpStream {
    fn reset_on_close(&self) {
        let socket = socket2::SockRef::from(self);
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("a socket can linger");
    }
}

/// One end of a connection.
pub(crate) struct Wire {
    stream: Box<dyn Ends>,
    read: Vec<u8>,
}

impl Wire {
    /// Connects over TCP.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        Self::of(stream)
    }

    /// Connects to a socket in the file system.
    pub(crate) async fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).await.expect("somebody listens");
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    /// The end of an accepted connection.
    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP has no delay");
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    /// Writes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let written = within("the other side to read", self.stream.write_all(bytes)).await;
        written.expect("the other side is there");
    }

    /// Says that nothing more is sent.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.expect("the other side is there");
    }

    /// Writes as much as goes; `false` when the other side is gone.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("the other side to read", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Reads the next piece; `false` at the end.
    async fn more(&mut self) -> bool {
        let mut piece = vec![0; PIECE];
        match within("bytes", self.stream.read(&mut piece)).await {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.read.extend_from_slice(&piece[..length]);
                true
            }
        }
    }

    /// Reads up to and with these bytes.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            let found = self.read.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                return text(self.read.drain(..at + end.len()).collect());
            }
            let so_far = self.read.clone();
            assert!(self.more().await, "it ended before {end:?}: {:?}", text(so_far));
        }
    }

    /// Reads up to and with these bytes; `None` when it ends before.
    pub(crate) async fn try_until(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self.read.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                return Some(text(self.read.drain(..at + end.len()).collect()));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads the head of a message.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Reads the head of the next request; `None` when the other side closes instead.
    pub(crate) async fn next_head(&mut self) -> Option<String> {
        if self.read.is_empty() && !self.more().await {
            return None;
        }
        Some(self.head().await)
    }

    /// Reads so many bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.more().await, "it ended after {} of {count} bytes", self.read.len());
        }
        self.read.drain(..count).collect()
    }

    /// Reads so many bytes; `None` when it ends before.
    pub(crate) async fn try_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
    }

    /// Reads what comes next, a byte at least; `None` at the end.
    pub(crate) async fn try_piece(&mut self) -> Option<Vec<u8>> {
        if self.read.is_empty() && !self.more().await {
            return None;
        }
        Some(std::mem::take(&mut self.read))
    }

    /// Reads a message with `Content-Length` or without a body: its head, and its body.
    pub(crate) async fn message(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = field(&head, "content-length").map_or(0, |n| n.parse().expect("a number"));
        (head, text(self.bytes(length).await))
    }

    /// Reads until the other side closes or resets.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        text(std::mem::take(&mut self.read))
    }

    /// Waits until the other side closes, which must happen without another byte.
    pub(crate) async fn closed(&mut self) {
        let rest = self.rest().await;
        assert_eq!(rest, "", "bytes came instead of the close");
    }

    /// Whether nothing comes for this long.
    pub(crate) async fn silent(&mut self, time: std::time::Duration) -> bool {
        let mut byte = [0];
        self.read.is_empty()
            && tokio::time::timeout(time, self.stream.read(&mut byte)).await.is_err()
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        self.stream.reset_on_close();
    }
}

/// The bytes as text, each byte a character, so that no byte is lost.
fn text(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => error.into_bytes().into_iter().map(char::from).collect(),
    }
}

/// All values of a field in a head.
pub(crate) fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

/// The only value of a field in a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let all = fields(head, name);
    assert!(all.len() < 2, "{name} is there {} times in\n{head}", all.len());
    all.first().copied()
}
