//! A stream whose client takes nothing of its answer is given up.
//!
//! Over HTTP/1 a client that does not read holds up its connection, and the watch over that ends
//! it. Over HTTP/2 one stream can be held up by its window while the connection goes on, for as
//! long as the client likes, and with it a connection to the upstream and its places. So each
//! stream has its own watch: a piece of its answer, of [`PIECE`] bytes at most, has to be taken
//! within the listener's idle timeout. Windows that are opened a few bytes at a time do not help
//! against that.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::clock::{self, Timer};

/// The most that is handed over in one piece, and so what a client has to take in one idle timeout:
/// 16 KiB, the usual frame.
const PIECE: usize = 16 * 1024;

/// What an answer's body did last, while its stream was polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Did {
    /// It was not asked.
    #[default]
    Nothing,
    /// It gave a piece, and was not asked for more: the client is to take that first.
    Gave,
    /// It had no piece ready, or is over.
    Waits,
}

/// What the streams of one connection have in common. Spawns them, each with its watch.
#[derive(Clone)]
pub(super) struct Streams {
    idle: Duration,
    did: Rc<Cell<Did>>,
}

impl Streams {
    /// Streams whose clients may take nothing for so long.
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, did: Rc::default() }
    }

    /// An answer's body, watched over by the stream that sends it.
    pub(super) fn watch<B>(&self, body: B) -> Paced<B> {
        Paced { body, rest: None, did: Rc::clone(&self.did) }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, stream: F) {
        let streams = self.clone();
        tokio::task::spawn_local(async move {
            let mut stream = std::pin::pin!(stream);
            let (mut timer, mut runs) = (None::<Timer>, false);
            std::future::poll_fn(|cx| {
                streams.did.set(Did::Nothing);
                if stream.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                match streams.did.get() {
                    Did::Nothing => {}
                    Did::Waits => runs = false,
                    Did::Gave => {
                        let at = clock::now() + streams.idle;
                        timer.get_or_insert_with(|| Timer::at(at)).set(at);
                        runs = true;
                    }
                }
                match &mut timer {
                    // The stream is reset when it is dropped.
                    Some(timer) if runs => timer.poll(cx),
                    _ => Poll::Pending,
                }
            })
            .await;
        });
    }
}

/// An answer's body, in pieces, that tells its stream what it does.
pub(super) struct Paced<B> {
    body: B,
    /// What is left of a piece that was larger than one.
    rest: Option<Bytes>,
    did: Rc<Cell<Did>>,
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let paced = self.get_mut();
        paced.did.set(Did::Waits);
        let mut piece = match paced.rest.take() {
            Some(rest) => rest,
            None => match std::task::ready!(Pin::new(&mut paced.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => piece,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            },
        };
        if piece.len() > PIECE {
            paced.rest = Some(piece.split_off(PIECE));
        }
        paced.did.set(Did::Gave);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len() as u64);
        if rest > 0 {
            let upper = hint.upper().map(|upper| upper.saturating_add(rest));
            let lower = hint.lower().saturating_add(rest);
            hint = SizeHint::new();
            hint.set_lower(lower);
            if let Some(upper) = upper {
                hint.set_upper(upper);
            }
        }
        hint
    }
}

#[cfg(test)]
mod tests;
