use proptest::prelude::*;
use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};

use super::*;

/// Passes on until the end, and never holds more than one piece.
async fn pass(direction: &mut Direction, from: &mut DuplexStream, to: &mut DuplexStream) -> bool {
    poll_fn(|cx| {
        let polled = direction.poll(from, to, cx);
        assert!(direction.buffer.len() <= PIECE_BYTES, "{} bytes", direction.buffer.len());
        polled
    })
    .await
    .is_ok()
}

/// Sends pieces through a direction between pipes of this size, behind what came early; what comes
/// out, and how many bytes were counted.
fn through(early: &[u8], pieces: Vec<Vec<u8>>, size: usize) -> (Vec<u8>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move {
        let ((mut client, mut from), (mut to, mut endpoint)) = (duplex(size), duplex(size));
        let mut direction = Direction::new(early.into());
        let sending = async move {
            for piece in pieces {
                client.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let mut all = Vec::new();
        let passing = async {
            assert!(pass(&mut direction, &mut from, &mut to).await);
            // At the end nothing is to be read, and nothing changes.
            assert!(pass(&mut direction, &mut from, &mut to).await);
        };
        tokio::join!(sending, passing, async { endpoint.read_to_end(&mut all).await.unwrap() });
        (all, direction.passed)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_byte_passes_once_in_order_and_the_end_behind_them(
        early in prop::collection::vec(any::<u8>(), 0..3000),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50_000), 0..8),
        size in prop::sample::select(vec![1_usize, 7, 1000, 70_000]),
    ) {
        let pieces = if size == 1 { Vec::new() } else { pieces };
        let all: Vec<u8> = early.iter().copied().chain(pieces.concat()).collect();
        let (came, counted) = through(&early, pieces, size);
        prop_assert_eq!(counted, all.len() as u64);
        prop_assert!(came == all);
    }
}

/// A stream that keeps back what is written to it until it is flushed.
#[derive(Default)]
struct Hoarding {
    kept: Vec<u8>,
    sent: Vec<u8>,
    over: bool,
}

impl AsyncWrite for Hoarding {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.kept.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let kept = std::mem::take(&mut self.kept);
        self.sent.extend(kept);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.over = true;
        self.poll_flush(cx)
    }
}

/// A stream of one piece, after which it waits, ends or breaks.
struct Saying(Option<&'static [u8]>, Poll<std::io::Result<()>>);

impl AsyncRead for Saying {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.0.take() {
            Some(word) => {
                buffer.put_slice(word);
                Poll::Ready(Ok(()))
            }
            None => match &self.1 {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.kind().into())),
            },
        }
    }
}

fn poll(direction: &mut Direction, from: &mut Saying, to: &mut Hoarding) -> Poll<bool> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    direction.poll(from, to, &mut cx).map(|passed| passed.is_ok())
}

#[test]
fn what_a_stream_keeps_back_is_sent_on_when_nothing_follows() {
    let mut direction = Direction::new(BytesMut::new());
    let (mut from, mut to) = (Saying(Some(b"hello"), Poll::Pending), Hoarding::default());
    assert_eq!(poll(&mut direction, &mut from, &mut to), Poll::Pending);
    assert_eq!((to.sent.as_slice(), to.over), (&b"hello"[..], false));
    assert_eq!(direction.buffer.capacity(), 0, "an idle direction keeps memory");
    from.1 = Poll::Ready(Ok(()));
    assert_eq!(poll(&mut direction, &mut from, &mut to), Poll::Ready(true));
    assert!(to.over && direction.is_over());
}

#[test]
fn a_stream_that_breaks_is_not_taken_for_one_that_ends() {
    let mut direction = Direction::new(BytesMut::new());
    let broken = Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
    let (mut from, mut to) = (Saying(Some(b"hello"), broken), Hoarding::default());
    assert_eq!(poll(&mut direction, &mut from, &mut to), Poll::Ready(false));
    assert!(!to.over && !direction.is_over());
}
