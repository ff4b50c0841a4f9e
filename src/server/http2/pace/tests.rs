use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::Waker;

use http::HeaderMap;

use super::*;

/// A body of these pieces, then trailers.
struct Pieces(VecDeque<Bytes>, Option<HeaderMap>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.0.pop_front().map(Frame::data);
        Poll::Ready(piece.or_else(|| self.1.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty() && self.1.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[test]
fn pieces_are_cut_and_nothing_is_lost() {
    let streams = Streams::new(Duration::from_secs(1));
    let whole: Vec<u8> = (0..100_000_u32).map(|at| at.to_be_bytes()[3]).collect();
    let (first, rest) = whole.split_at(40_000);
    let pieces = [Bytes::copy_from_slice(first), Bytes::new(), Bytes::copy_from_slice(rest)];
    let mut body = streams.watch(Pieces(pieces.into(), Some(HeaderMap::new())));
    let mut cx = Context::from_waker(Waker::noop());
    let (mut read, mut trailers) = (Vec::new(), 0);
    loop {
        let left = (whole.len() - read.len()) as u64;
        assert_eq!(body.size_hint().exact(), Some(left));
        streams.did.set(Did::Nothing);
        let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(&mut cx) else { panic!("ready") };
        let Some(frame) = frame else { break };
        match frame.unwrap().into_data() {
            Ok(piece) => {
                assert!(piece.len() <= PIECE);
                assert_eq!(streams.did.get(), Did::Gave);
                read.extend_from_slice(&piece);
                assert!(!body.is_end_stream());
            }
            Err(_) => {
                assert_eq!(streams.did.get(), Did::Waits);
                trailers += 1;
            }
        }
    }
    assert!(body.is_end_stream());
    assert_eq!((read, trailers), (whole, 1));
}

#[test]
fn a_large_last_piece_is_not_the_end_before_its_end() {
    let streams = Streams::new(Duration::from_secs(1));
    let piece = Bytes::from(vec![0; 2 * PIECE]);
    let mut body = streams.watch(Pieces([piece].into(), None));
    let mut cx = Context::from_waker(Waker::noop());
    for end in [false, true] {
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(Some(Ok(_)))));
        assert_eq!(body.is_end_stream(), end);
    }
}
