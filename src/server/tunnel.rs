//! The two byte streams of a tunnel, joined: what comes from one side goes to the other.
//!
//! Each direction has one bounded buffer, which it gives up while nothing comes. A side that stops
//! sending has that passed on, and the other may go on; when both have, the tunnel is closed. When
//! a side breaks, nothing moves for the idle timeout, or the process ends, both are broken off: the
//! end of a tunnel that was cut is not to look like the end of what was said.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::stream::{Watched, break_off};
use crate::clock::{self, Timer};
use crate::proxy::peer::{Peer, Verdict};
use crate::proxy::tunnel::{Held, Tunnel, Way};
use crate::telemetry::metrics::TunnelEnd;
use crate::upstream::connect::Stream;

/// How much is read at once, and the most that is held of a direction: enough that the calls cost
/// little beside the copying, and no more than what the kernel holds for the socket as well.
const PIECE_BYTES: usize = 32 * 1024;

/// Joins a client, with what was read of it already, and the endpoint, until the tunnel's end.
pub(super) async fn join(peer: &Peer, (client, early): (Watched, BytesMut), tunnel: Tunnel) {
    let Tunnel { stream, early: answered, idle, held } = tunnel;
    let moved = clock::now();
    let mut joined = Joined {
        client,
        endpoint: stream,
        up: Direction::new(early),
        down: Direction::new(answered),
        idle,
        moved,
        timer: Timer::at(moved + idle),
        end: None,
        held,
    };
    joined.end = Some(poll_fn(|cx| joined.poll(peer, cx)).await);
}

/// Two streams that are joined. They are closed before what the tunnel holds is free.
struct Joined {
    client: Watched,
    endpoint: Stream,
    up: Direction,
    down: Direction,
    idle: Duration,
    /// When a byte moved last.
    moved: Instant,
    timer: Timer,
    end: Option<TunnelEnd>,
    held: Held,
}

impl Drop for Joined {
    fn drop(&mut self) {
        // Its task is dropped before its end only when the process ends.
        let end = self.end.unwrap_or(TunnelEnd::Drained);
        if end != TunnelEnd::Closed {
            self.client.break_off();
            break_off(&self.endpoint);
        }
        self.held.end(end);
    }
}

impl Joined {
    fn poll(&mut self, peer: &Peer, cx: &mut Context<'_>) -> Poll<TunnelEnd> {
        let Self { client, endpoint, up, down, .. } = self;
        let before = up.passed + down.passed;
        let ups = up.poll(client, endpoint, cx);
        let downs = down.poll(endpoint, client, cx);
        self.count(before);
        let (up, down) = (self.up.is_over(), self.down.is_over());
        match (ups, downs) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(TunnelEnd::Closed),
            // Whoever has said all there was to say may leave without hearing more.
            (Poll::Ready(Err(_)), _) if down => Poll::Ready(TunnelEnd::Closed),
            (_, Poll::Ready(Err(_))) if up => Poll::Ready(TunnelEnd::Closed),
            (Poll::Ready(Err(Side::From)), _) | (_, Poll::Ready(Err(Side::To))) => {
                Poll::Ready(TunnelEnd::ClientGone)
            }
            (Poll::Ready(Err(Side::To)), _) | (_, Poll::Ready(Err(Side::From))) => {
                Poll::Ready(TunnelEnd::UpstreamCut)
            }
            // A drain lets tunnels be until its end.
            _ if peer.verdict(cx) == Verdict::Abandon => Poll::Ready(TunnelEnd::ClientGone),
            _ => self.poll_idle(cx),
        }
    }

    fn count(&mut self, before: u64) {
        if self.up.passed + self.down.passed == before {
            return;
        }
        self.moved = clock::now();
        for (way, direction) in [(Way::Up, &mut self.up), (Way::Down, &mut self.down)] {
            self.held.moved(way, direction.passed - direction.counted);
            direction.counted = direction.passed;
        }
    }

    /// Ready when no byte has moved for the idle timeout. The timer is set anew only when it rings.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<TunnelEnd> {
        loop {
            ready!(self.timer.poll(cx));
            let due = self.moved + self.idle;
            if due <= clock::now() {
                return Poll::Ready(TunnelEnd::Idle);
            }
            self.timer.set(due);
        }
    }
}

/// The side of a direction that broke.
enum Side {
    From,
    To,
}

/// One direction of a tunnel.
struct Direction {
    /// What was read and is not written yet; without memory while nothing comes.
    buffer: BytesMut,
    reading: Reading,
    /// Whether the stream that is written to may keep something back, as one that encrypts does.
    unflushed: bool,
    /// Bytes that were written.
    passed: u64,
    /// Those of them that the metrics know.
    counted: u64,
}

/// How far a direction has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// The one that reads has seen the end, and the other is to be told.
    Ended,
    /// The other has been told.
    Over,
}

impl Direction {
    fn new(early: BytesMut) -> Self {
        Self { buffer: early, reading: Reading::Open, unflushed: false, passed: 0, counted: 0 }
    }

    fn is_over(&self) -> bool {
        self.reading == Reading::Over
    }

    /// Passes bytes on, until there are none to read, or no room to write; ready at the end.
    fn poll<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Side>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_write(to, cx))?;
            if self.reading == Reading::Ended {
                // A side that has gone cannot be told, and need not be.
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.reading = Reading::Over;
            }
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            // All that was in it is written, so that this only moves back to the front.
            self.buffer.reserve(PIECE_BYTES);
            let read = pin!(from.read_buf(&mut self.buffer)).poll(cx);
            match read {
                Poll::Ready(Ok(0)) => self.reading = Reading::Ended,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Side::From)),
                Poll::Pending => {
                    self.buffer = BytesMut::new();
                    return self.poll_flush(to, cx);
                }
            }
        }
    }

    fn poll_write<W>(&mut self, to: &mut W, cx: &mut Context<'_>) -> Poll<Result<(), Side>>
    where
        W: AsyncWrite + Unpin,
    {
        while !self.buffer.is_empty() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Side::To)),
                Ok(written) => {
                    self.buffer.advance(written);
                    self.passed += written as u64;
                    self.unflushed = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the stream send what it keeps back, for nothing follows now. Never ready but broken.
    fn poll_flush<W>(&mut self, to: &mut W, cx: &mut Context<'_>) -> Poll<Result<(), Side>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.unflushed {
            if ready!(Pin::new(to).poll_flush(cx)).is_err() {
                return Poll::Ready(Err(Side::To));
            }
            self.unflushed = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
