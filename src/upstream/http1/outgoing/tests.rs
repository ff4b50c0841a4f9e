use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::Waker;

use http::{HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use proptest::prelude::*;

use super::*;

static LEFT: HeaderName = HeaderName::from_static("x-left");

type Piece = Result<Frame<Bytes>, ()>;

/// A body of prepared frames; `None` among them is a wait.
struct Frames {
    frames: VecDeque<Option<Piece>>,
    length: Option<u64>,
}

impl Frames {
    fn of(pieces: &[&'static str]) -> Self {
        let frame =
            |piece: &&'static str| Some(Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        Self { frames: pieces.iter().map(frame).collect(), length: None }
    }

    fn long(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = ();

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        match self.frames.pop_front() {
            None => Poll::Ready(None),
            Some(None) => Poll::Pending,
            Some(frame) => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A peer that takes at most so many bytes at once, and sometimes none.
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    at_once: usize,
    writes: usize,
    refuses: bool,
    waits: bool,
}

impl AsyncWrite for Sink {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refuses {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.waits && self.writes % 2 == 1 {
            self.writes += 1;
            return Poll::Pending;
        }
        self.writes += 1;
        let length = if self.at_once == 0 { bytes.len() } else { self.at_once.min(bytes.len()) };
        self.bytes.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.poll_write(cx, &all)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn poll(outgoing: &mut Outgoing<Frames>, sink: &mut Sink) -> Poll<Result<(), Fault>> {
    outgoing.poll_write(sink, &mut Context::from_waker(Waker::noop()))
}

fn request(
    method: &str,
    fields: &[(&'static str, &'static str)],
    body: Frames,
) -> Outgoing<Frames> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    message(method, &headers, &OwnFields::default(), body)
}

fn message(method: &str, headers: &HeaderMap, own: &OwnFields, body: Frames) -> Outgoing<Frames> {
    let method = method.parse().expect("a method");
    let uri = http::Uri::from_static("/a?b");
    let (idle_max, informed) = (None, None);
    let (method, uri, origin) = (&method, &uri, Origin::Sender);
    Outgoing::new(Message { method, uri, headers, own, body, idle_max, informed, origin })
}

fn written(mut outgoing: Outgoing<Frames>) -> String {
    let mut sink = Sink::default();
    while poll(&mut outgoing, &mut sink).map(|done| done.expect("written")).is_pending() {}
    String::from_utf8(sink.bytes).expect("text")
}

#[test]
fn a_request_without_a_body_is_one_write() {
    let mut outgoing = request("GET", &[("host", "x"), ("a", "1"), ("a", "2")], Frames::of(&[]));
    let mut sink = Sink::default();
    assert!(!outgoing.started());
    assert!(matches!(poll(&mut outgoing, &mut sink), Poll::Ready(Ok(()))));
    assert!(outgoing.started());
    assert_eq!(sink.writes, 1);
    assert_eq!(sink.bytes, b"GET /a?b HTTP/1.1\r\nhost: x\r\na: 1\r\na: 2\r\n\r\n");
}

#[test]
fn an_attempts_own_fields_replace_those_of_the_same_name() {
    let (mut headers, mut own) = (HeaderMap::new(), OwnFields::default());
    headers.append("x-left", HeaderValue::from_static("9"));
    headers.append("a", HeaderValue::from_static("b"));
    own.set(&LEFT, HeaderValue::from_static("5"));
    let text = written(message("GET", &headers, &own, Frames::of(&[])));
    assert_eq!(text, "GET /a?b HTTP/1.1\r\na: b\r\nx-left: 5\r\n\r\n");
}

#[test]
fn te_is_named_in_connection() {
    let text = written(request("GET", &[("te", "trailers")], Frames::of(&[])));
    assert!(text.contains("\r\nconnection: te\r\nte: trailers\r\n"), "{text}");
}

#[test]
fn no_body_is_said_where_one_is_expected() {
    let end = |method, fields| written(request(method, fields, Frames::of(&[])));
    assert!(end("POST", &[]).ends_with("content-length: 0\r\n\r\n"));
    assert!(end("GET", &[("content-length", "0")]).ends_with("content-length: 0\r\n\r\n"));
    assert!(!end("DELETE", &[]).contains("content-length"));
}

#[test]
fn a_known_length_frames_the_body_and_goes_with_the_head() {
    let body = Frames::of(&["hello"]).long(5);
    let mut outgoing = request("PUT", &[("content-length", "99")], body);
    let mut sink = Sink::default();
    assert!(matches!(poll(&mut outgoing, &mut sink), Poll::Ready(Ok(()))));
    assert_eq!(sink.writes, 1);
    assert_eq!(sink.bytes, b"PUT /a?b HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello");
}

#[test]
fn an_unknown_length_goes_in_chunks_with_its_trailers() {
    let mut body = Frames::of(&["hello", "", "0123456789abcdef"]);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    trailers.insert("content-length", HeaderValue::from_static("7"));
    body.frames.push_back(Some(Ok(Frame::trailers(trailers))));
    let text = written(request("GET", &[("transfer-encoding", "chunked")], body));
    assert_eq!(
        text,
        "GET /a?b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n"
    );
}

#[test]
fn a_body_that_is_not_there_yet_does_not_hold_the_head_back() {
    let mut body = Frames::of(&[]);
    body.frames.extend([None, None, Some(Ok(Frame::data(Bytes::from_static(b"late")))), None]);
    let mut outgoing = request("POST", &[], body);
    let mut sink = Sink::default();
    assert!(poll(&mut outgoing, &mut sink).is_pending());
    assert!(sink.bytes.ends_with(b"chunked\r\n\r\n"));
    assert!(poll(&mut outgoing, &mut sink).is_pending());
    assert!(sink.bytes.ends_with(b"\r\n\r\n4\r\nlate\r\n"));
    assert!(matches!(poll(&mut outgoing, &mut sink), Poll::Ready(Ok(()))));
    assert!(sink.bytes.ends_with(b"late\r\n0\r\n\r\n"));
}

#[test]
fn a_body_that_breaks_its_promise_breaks_the_exchange() {
    for body in [Frames::of(&["hello"]).long(6), Frames::of(&["hel", "lo"]).long(4)] {
        let mut outgoing = request("PUT", &[], body);
        assert!(matches!(
            poll(&mut outgoing, &mut Sink::default()),
            Poll::Ready(Err(Fault::Request))
        ));
    }
    let mut body = Frames::of(&["hello"]);
    body.frames.push_back(Some(Err(())));
    let outcome = poll(&mut request("PUT", &[], body), &mut Sink::default());
    assert!(matches!(outcome, Poll::Ready(Err(Fault::Request))));
}

#[test]
fn a_refused_request_goes_whole_over_another_connection() {
    let mut outgoing = request("PUT", &[], Frames::of(&["hel", "lo"]).long(5));
    let mut dead = Sink { refuses: true, ..Sink::default() };
    assert!(matches!(poll(&mut outgoing, &mut dead), Poll::Ready(Err(Fault::Io(_)))));
    assert!(!outgoing.started());
    assert!(written(outgoing).ends_with("\r\n\r\nhello"));
}

proptest! {
    /// However the peer takes the bytes, it gets the same ones.
    #[test]
    fn short_writes_change_nothing(
        at_once in 1_usize..40,
        waits in any::<bool>(),
        known in any::<bool>(),
    ) {
        let body = || {
            let body = Frames::of(&["hello", ", ", "world"]);
            if known { body.long(12) } else { body }
        };
        let expected = written(request("POST", &[("a", "b")], body()));
        let mut outgoing = request("POST", &[("a", "b")], body());
        let mut sink = Sink { at_once, waits, ..Sink::default() };
        while poll(&mut outgoing, &mut sink).map(|done| done.expect("written")).is_pending() {}
        prop_assert_eq!(String::from_utf8(sink.bytes).expect("text"), expected);
    }
}
