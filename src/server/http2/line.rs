//! The byte stream of a client's HTTP/2 connection, with an eye on its frames.
//!
//! The protocol library reads and writes here. What it reads is looked at first: a piece with a
//! frame in it that is one too many is not shown to it any more, and nothing is read after that.
//! What it writes is looked at too, for the streams that a client makes us reset (CVE-2025-8671)
//! and for the place where a frame ends: there alone can [`Line::farewell`] stand.

use std::cell::RefCell;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::frames::{Frame, Frames, kind};
use crate::clock;
use crate::policy::flood::{self, Flood, Sign};
use crate::proxy::peer::Peer;
use crate::server::stream::Watched;

/// ENHANCE_YOUR_CALM (RFC 9113, 7).
pub(super) const CALM: u32 = 0xb;
/// NO_ERROR.
pub(super) const NO_ERROR: u32 = 0;
/// The codes of resets for which the client has given cause: PROTOCOL_ERROR, FLOW_CONTROL_ERROR,
/// STREAM_CLOSED, FRAME_SIZE_ERROR, and REFUSED_STREAM, which says that there were too many.
const ITS_FAULT: [u32; 5] = [0x1, 0x3, 0x5, 0x6, 0x7];

/// A client's byte stream, between its socket and the protocol library.
pub(super) struct Line {
    stream: Watched,
    peer: Rc<Peer>,
    settings: flood::Settings,
    counted: flood::Frames,
    inbound: Frames,
    outbound: Frames,
    flood: Option<Flood>,
    /// Bytes written.
    sent: u64,
    /// When bytes last went either way.
    moved: Instant,
}

/// The line as the protocol library holds it. It can be taken away from it.
#[derive(Clone)]
pub(super) struct Held(Rc<RefCell<Option<Line>>>);

impl Held {
    pub(super) fn new(stream: Watched, peer: Rc<Peer>, settings: flood::Settings) -> Self {
        Self(Rc::new(RefCell::new(Some(Line {
            stream,
            peer,
            settings,
            counted: flood::Frames::new(),
            inbound: Frames::of_client(),
            outbound: Frames::of_server(),
            flood: None,
            sent: 0,
            moved: clock::now(),
        }))))
    }

    /// Takes the line away: whoever still reads or writes waits for ever.
    pub(super) fn take(&self) -> Option<Line> {
        self.0.borrow_mut().take()
    }

    /// What the client floods us with, and whether a frame of ours is unfinished meanwhile.
    pub(super) fn flooded(&self) -> Option<(Flood, bool)> {
        let line = self.0.borrow();
        let line = line.as_ref()?;
        Some((line.flood?, line.outbound.to_end() > 0))
    }

    /// Bytes written so far.
    pub(super) fn sent(&self) -> u64 {
        self.0.borrow().as_ref().map_or(0, |line| line.sent)
    }

    /// When bytes last went either way; now, once the line is taken away.
    pub(super) fn moved(&self) -> Instant {
        self.0.borrow().as_ref().map_or_else(clock::now, |line| line.moved)
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Line) -> Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        match &mut *self.0.borrow_mut() {
            Some(line) => act(line),
            None => Poll::Pending,
        }
    }
}

impl Line {
    /// Looks at bytes of the client's.
    fn heard(&mut self, bytes: &[u8]) {
        let Self { counted, settings, flood, inbound, .. } = self;
        let before = inbound.whole();
        self.moved = clock::now();
        inbound.pass(bytes, |frame| {
            if let Some(sign) = of_client(frame)
                && let Some(one_too_many) = counted.count(settings, sign, clock::now())
            {
                flood.get_or_insert(one_too_many);
            }
        });
        // The time for a head runs while a frame is unfinished, and anew for each.
        let activity = &self.peer.activity;
        if self.inbound.is_between() {
            activity.no_head();
        } else if self.inbound.whole() != before {
            activity.no_head();
            activity.read(clock::now);
        }
    }

    /// Looks at bytes of ours.
    fn said(&mut self, bytes: &[u8]) {
        let Self { counted, settings, flood, outbound, .. } = self;
        outbound.pass(bytes, |frame| match frame.kind {
            kind::DATA => counted.sent_data(),
            kind::RST_STREAM if ITS_FAULT.contains(&frame.code()) => {
                if let Some(many) = counted.count(settings, Sign::Reset, clock::now()) {
                    flood.get_or_insert(many);
                }
            }
            _ => {}
        });
        self.sent = self.sent.wrapping_add(bytes.len() as u64);
        self.moved = clock::now();
    }

    /// How much more may be written: all, or the rest of the frame before a farewell.
    fn may_write(&self, length: usize) -> usize {
        match self.flood {
            Some(_) => length.min(self.outbound.to_end()),
            None => length,
        }
    }

    /// Tells the client with a GOAWAY why the connection ends, where a frame can stand, and waits
    /// until it has closed too. The caller bounds the time.
    pub(super) async fn farewell(mut self, code: u32, why: &str) {
        if self.outbound.to_end() == 0 {
            let goaway = goaway(self.inbound.last_stream(), code, why);
            // The client may be gone already; there is nobody else to tell.
            let _ = self.stream.write_all(&goaway).await;
        }
        self.linger().await;
    }

    /// Waits until the client has closed too. The caller bounds the time.
    pub(super) async fn linger(mut self) {
        // As above.
        let _ = self.stream.flush().await;
        self.stream.linger().await;
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let bytes = bytes.get(..self.may_write(bytes.len())).unwrap_or_default();
        if bytes.is_empty() {
            return Poll::Pending;
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.said(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }
}

/// What a frame of a client's is counted as.
fn of_client(frame: &Frame) -> Option<Sign> {
    Some(match frame.kind {
        kind::DATA if frame.is_empty() && !frame.ends_stream() => Sign::EmptyData,
        kind::HEADERS => Sign::Head,
        kind::CONTINUATION => Sign::Continuation,
        kind::RST_STREAM => Sign::Reset,
        kind::SETTINGS if !frame.acknowledges() => Sign::Settings,
        // Answers to pings of ours are few.
        kind::PING => Sign::Ping,
        kind::WINDOW_UPDATE => Sign::WindowUpdate,
        kind::DATA | kind::SETTINGS => return None,
        _ => Sign::Idle,
    })
}

/// A GOAWAY frame (RFC 9113, 6.8).
fn goaway(last_stream: u32, code: u32, why: &str) -> Vec<u8> {
    let length = u32::try_from(8 + why.len()).unwrap_or(0).to_be_bytes();
    let mut frame = Vec::with_capacity(17 + why.len());
    frame.extend_from_slice(&length[1..]);
    frame.extend_from_slice(&[kind::GOAWAY, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(&last_stream.to_be_bytes());
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(why.as_bytes());
    frame
}

impl AsyncRead for Held {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.with(|line| {
            if line.flood.is_some() {
                return Poll::Pending;
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut line.stream).poll_read(cx, buffer))?;
            line.heard(buffer.filled().get(before..).unwrap_or_default());
            if line.flood.is_some() {
                // Who polls the connection looks for this, so nobody has to be woken.
                buffer.set_filled(before);
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.with(|line| line.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.with(|line| Pin::new(&mut line.stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.with(|line| Pin::new(&mut line.stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.with(|line| {
            if line.flood.is_some() {
                let first = slices.iter().find(|slice| !slice.is_empty());
                return line.poll_write(cx, first.map_or(&[][..], |slice| &**slice));
            }
            let written = ready!(Pin::new(&mut line.stream).poll_write_vectored(cx, slices))?;
            let mut left = written;
            for slice in slices {
                let part = slice.get(..left.min(slice.len())).unwrap_or_default();
                line.said(part);
                left -= part.len();
            }
            Poll::Ready(Ok(written))
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|line| line.stream.is_write_vectored())
    }
}
