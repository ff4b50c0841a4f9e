//! One end of an HTTP/2 connection that sends whatever frames a test likes.

use std::net::SocketAddr;

use crate::support::Wire;

/// What a client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Also an acknowledgement.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const CALM: u32 = 0xb;

/// The last stream that a first GOAWAY names: none is excluded.
pub(super) const ANY_STREAM: u32 = 0x7fff_ffff;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// Whether it is the last of its stream.
    pub(super) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The code of a reset, or of a GOAWAY.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The last stream of a GOAWAY.
    pub(super) fn last(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    /// What a GOAWAY says in words.
    pub(super) fn words(&self) -> String {
        String::from_utf8_lossy(&self.payload[8..]).into_owned()
    }

    /// The status of an answer's head. Libraries write it as one of the seven that have a number of
    /// their own, or as three digits in Huffman's code or plain.
    pub(super) fn status(&self) -> u16 {
        assert_eq!(self.kind, HEADERS, "{self:?}");
        let table = [200, 204, 206, 304, 400, 404, 500];
        let mut block = &self.payload[..];
        // Changes of the size of the table come first.
        while block[0] & 0xe0 == 0x20 {
            block = &block[1..];
        }
        if (0x88..=0x8e).contains(&block[0]) {
            return table[usize::from(block[0] - 0x88)];
        }
        assert!(matches!(block[0], 0x08 | 0x18 | 0x48), "no status in {block:?}");
        let length = usize::from(block[1] & 0x7f);
        let value = &block[2..2 + length];
        if block[1] & 0x80 == 0 {
            return std::str::from_utf8(value).unwrap().parse().unwrap();
        }
        digits(value)
    }
}

/// Three digits in Huffman's code: 0 to 2 have five bits, the others six.
fn digits(value: &[u8]) -> u16 {
    let bits = value.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut left = value.len() * 8;
    let mut number = 0;
    for _ in 0..3 {
        let five = (bits >> (left - 5)) & 0x1f;
        if five < 3 {
            left -= 5;
            number = number * 10 + u16::try_from(five).unwrap();
        } else {
            left -= 6;
            number = number * 10 + u16::try_from((bits >> left) & 0x3f).unwrap() - 0x16;
        }
    }
    number
}

/// The bytes of a frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A setting's entry.
pub(super) fn setting(number: u16, value: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
}

/// A block of fields, each a literal that is not indexed, in plain bytes (RFC 7541, 6.2.2).
pub(super) fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name.as_ref());
        text(&mut block, value.as_ref());
    }
    block
}

fn text(block: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < 127 {
        block.push(u8::try_from(bytes.len()).unwrap());
    } else {
        block.push(127);
        let mut rest = bytes.len() - 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap() | 0x80);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap());
    }
    block.extend(bytes);
}

/// The fields that every request has, for this method, and those that follow.
pub(super) fn fields<'a>(method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields =
        vec![(":method", method), (":scheme", "http"), (":authority", "svc.test"), (":path", "/")];
    fields.extend(more);
    fields
}

/// A whole request without a body.
pub(super) fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, block(&fields("GET", &[])))
}

/// The head of a request whose body follows.
pub(super) fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block(&fields("POST", &[])))
}

/// One end of a connection.
pub(super) struct Peer {
    wire: Wire,
    /// Whether pings are answered.
    answers: bool,
}

impl Peer {
    /// A client that has said its preface, with these settings.
    pub(super) async fn connect_with(address: SocketAddr, settings: &[u8]) -> Self {
        let mut peer = Self { wire: Wire::connect(address).await, answers: true };
        peer.send(PREFACE).await;
        // Without a table of fields, each head can be read by itself.
        peer.send(frame(SETTINGS, 0, 0, [&setting(1, 0), settings].concat())).await;
        peer
    }

    /// A client that has said its preface.
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[]).await
    }

    /// A server that has heard its client's preface; `None` when the client has gone already.
    pub(super) async fn accept(mut wire: Wire) -> Option<Self> {
        assert_eq!(wire.try_bytes(PREFACE.len()).await?, PREFACE);
        wire.send(frame(SETTINGS, 0, 0, [])).await;
        Some(Self { wire, answers: true })
    }

    /// Answers no pings any more.
    pub(super) fn mute(&mut self) {
        self.answers = false;
    }

    /// Sends bytes.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes).await;
    }

    /// Sends bytes as far as the other side takes them.
    pub(super) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.try_send(bytes).await;
    }

    /// Sends bytes; `false` when the other side is gone.
    pub(super) async fn pour(&mut self, bytes: &[u8]) -> bool {
        self.wire.try_send(bytes).await
    }

    /// The next frame; `None` at the end. Settings are acknowledged, and pings answered.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let head = self.wire.try_bytes(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = self.wire.try_bytes(length as usize).await?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let read = Frame { kind: head[3], flags: head[4], stream, payload };
        match (read.kind, read.flags) {
            (SETTINGS, 0) => self.try_send(frame(SETTINGS, 1, 0, [])).await,
            (PING, 0) if self.answers => self.try_send(frame(PING, 1, 0, &read.payload)).await,
            _ => {}
        }
        Some(read)
    }

    /// The next frame of one of these types.
    pub(super) async fn next_of(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let next = self.next().await;
            let next = next.unwrap_or_else(|| panic!("it ended before any of {kinds:?}"));
            if kinds.contains(&next.kind) {
                return next;
            }
        }
    }

    /// How a stream ends: its last frame, or its reset. `None` when the connection ends before.
    pub(super) async fn end_of(&mut self, stream: u32) -> Option<Frame> {
        loop {
            let next = self.next().await?;
            if next.stream == stream && (next.ends() || next.kind == RST_STREAM) {
                return Some(next);
            }
        }
    }

    /// The head of a stream's answer.
    pub(super) async fn head_of(&mut self, stream: u32) -> Frame {
        loop {
            let next = self.next_of(&[HEADERS, RST_STREAM, GOAWAY]).await;
            assert!(next.kind != GOAWAY, "{} {}", next.code(), next.words());
            if next.stream == stream {
                return next;
            }
        }
    }

    /// What the other side says when it goes away for good.
    pub(super) async fn goaway(&mut self) -> Frame {
        self.next_of(&[GOAWAY]).await
    }

    /// Waits for the end of the connection, whatever comes before.
    pub(super) async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }
}
