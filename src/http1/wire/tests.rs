use std::collections::VecDeque;

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, fields: 20 };

/// A client that sends prepared pieces and then waits, or closes; `None` among them is a wait.
#[derive(Debug, Default)]
struct Client {
    pieces: VecDeque<Option<Vec<u8>>>,
    closes: bool,
    written: Vec<u8>,
}

impl Client {
    fn sending(pieces: &[&str]) -> Self {
        let pieces = pieces.iter().map(|piece| Some(piece.as_bytes().to_vec())).collect();
        Self { pieces, ..Self::default() }
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.pieces.pop_front() {
            None if self.closes => Poll::Ready(Ok(())),
            None | Some(None) => Poll::Pending,
            Some(Some(mut piece)) => {
                let rest = piece.split_off(piece.len().min(buffer.remaining()));
                if !rest.is_empty() {
                    self.pieces.push_front(Some(rest));
                }
                buffer.put_slice(&piece);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn wire(client: Client) -> SharedWire<Client> {
    Wire::shared(client, Rc::new(Stock::default()))
}

fn send(wire: &SharedWire<Client>, text: &str) {
    let mut wire = wire.borrow_mut();
    wire.stream.as_mut().expect("a client").pieces.push_back(Some(text.as_bytes().to_vec()));
}

fn written(wire: &SharedWire<Client>) -> String {
    let wire = wire.borrow();
    String::from_utf8(wire.stream.as_ref().expect("a client").written.clone()).expect("text")
}

/// Reads on until a head is there; `None` when the client waits or closes.
fn next(wire: &SharedWire<Client>) -> Result<Option<Head>, Refused> {
    let mut wire = wire.borrow_mut();
    loop {
        if let Some(head) = wire.next_head(LIMITS)? {
            return Ok(Some(head));
        }
        match wire.poll_read(&mut cx()) {
            Poll::Ready(Ok(length)) if length > 0 => {}
            _ => return Ok(None),
        }
    }
}

type Collected = (Vec<u8>, Option<HeaderMap>);

/// Reads a body to its end, however often it waits.
fn collect(mut body: BodyReader<Client>) -> Result<Collected, Broken> {
    let (mut all, mut trailers) = (Vec::new(), None);
    for _ in 0..10_000 {
        match Pin::new(&mut body).poll_frame(&mut cx()) {
            Poll::Pending => {}
            Poll::Ready(None) => return Ok((all, trailers)),
            Poll::Ready(Some(frame)) => match frame?.into_data() {
                Ok(data) => all.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    panic!("it never ends");
}

fn request(wire: &SharedWire<Client>) -> BodyReader<Client> {
    next(wire).expect("clear").expect("a head");
    BodyReader::of(wire)
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";

#[test]
fn an_idle_connection_holds_no_buffer_and_the_next_takes_the_same_one() {
    let stock = Rc::new(Stock::default());
    let client = || Client::sending(&["GET / HTTP/1.1\r\nHost: a\r\n\r\n"]);
    let (first, second) =
        (Wire::shared(client(), Rc::clone(&stock)), Wire::shared(client(), Rc::clone(&stock)));
    drop(request(&first));
    let held = first.borrow().buffer.capacity();
    assert!(held > 0 && first.borrow_mut().end_request(&mut cx()));
    assert_eq!(first.borrow().buffer.capacity(), 0);
    assert!(matches!(next(&first), Ok(None)));
    assert_eq!(first.borrow().buffer.capacity(), 0, "a wait for the next takes none");
    drop(request(&second));
    assert_eq!(stock.read_buffer().capacity(), 0, "the one that there was is in use");
}

#[test]
fn bodies_are_read_to_their_end_and_no_further() {
    let wire = wire(Client::sending(&[
        POST,
        "he",
        "lloPUT /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n",
    ]));
    let body = request(&wire);
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(collect(body), Ok((b"hello".to_vec(), None)));
    assert!(wire.borrow_mut().end_request(&mut cx()));
    let body = request(&wire);
    assert!(body.size_hint().exact().is_none() && !body.is_end_stream());
    let (all, trailers) = collect(body).expect("whole");
    assert_eq!(all, b"abc");
    assert_eq!(trailers.expect("trailers").iter().count(), 1);
    assert!(wire.borrow_mut().end_request(&mut cx()));
    let body = request(&wire);
    assert!(body.is_end_stream());
}

#[test]
fn a_body_that_is_cut_off_is_no_end() {
    for text in [POST, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"] {
        let wire = wire(Client { closes: true, ..Client::sending(&[text]) });
        assert_eq!(collect(request(&wire)), Err(CUT));
        assert!(!wire.borrow_mut().end_request(&mut cx()), "nothing can follow");
    }
}

#[test]
fn what_nobody_reads_of_a_body_is_passed_over_if_it_is_here() {
    let wire = wire(Client::sending(&[POST, "he", "lloGET /b HTTP/1.1\r\nHost: a\r\n\r\n"]));
    let body = request(&wire);
    assert!(wire.borrow_mut().may_go_on(), "somebody may still read it");
    drop(body);
    assert!(!wire.borrow_mut().may_go_on(), "it is not all here");
    assert!(wire.borrow_mut().end_request(&mut cx()));
    assert_eq!(next(&wire).expect("clear").expect("a head").request.uri(), "/b");
}

#[test]
fn what_is_not_here_or_long_is_not_waited_for() {
    let wire_of = |text: &str, more: &str| {
        let wire = wire(Client::sending(&[text]));
        drop(request(&wire));
        send(&wire, more);
        wire
    };
    let slow = wire_of(POST, "he");
    assert!(!slow.borrow_mut().end_request(&mut cx()));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let long = wire_of(head, &"x".repeat(1_000_000));
    assert!(!long.borrow_mut().end_request(&mut cx()));
    let left = long.borrow().stream.as_ref().expect("a client").pieces.len();
    assert!(left > 0, "it was read to its end");
}

#[test]
fn a_reader_of_an_earlier_body_reads_no_further() {
    let wire = wire(Client::sending(&[POST, "hello", POST, "other"]));
    let mut stale = request(&wire);
    assert!(wire.borrow_mut().end_request(&mut cx()));
    let body = request(&wire);
    assert!(!stale.is_end_stream());
    assert!(matches!(Pin::new(&mut stale).poll_frame(&mut cx()), Poll::Ready(Some(Err(GONE)))));
    drop(stale);
    assert!(wire.borrow().held, "the later one is still read");
    assert_eq!(collect(body), Ok((b"other".to_vec(), None)));
}

#[test]
fn one_hundred_is_said_when_the_body_is_first_asked_for_and_once() {
    let expecting = POST.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let wire_of = |pieces: &[&str]| wire(Client::sending(pieces));
    let wire = wire_of(&[&expecting]);
    let mut body = request(&wire);
    assert!(wire.borrow_mut().poll_served(&mut cx()).is_pending());
    assert_eq!(written(&wire), "");
    for _ in 0..2 {
        assert!(Pin::new(&mut body).poll_frame(&mut cx()).is_pending());
        assert!(wire.borrow_mut().poll_served(&mut cx()).is_pending());
        assert_eq!(written(&wire), "HTTP/1.1 100 Continue\r\n\r\n");
    }
    assert!(!wire.borrow_mut().begin_answer(&mut Vec::new()), "the client was told");
    // Who sends at once needs no leave, and who gets an answer gets no leave.
    let wire = wire_of(&[&format!("{expecting}he")]);
    let mut body = request(&wire);
    assert!(Pin::new(&mut body).poll_frame(&mut cx()).is_ready());
    assert!(Pin::new(&mut body).poll_frame(&mut cx()).is_pending());
    assert!(wire.borrow().interim.is_empty());
    let wire = wire_of(&[&expecting]);
    let mut body = request(&wire);
    assert!(wire.borrow_mut().begin_answer(&mut Vec::new()), "the client still waits");
    assert!(Pin::new(&mut body).poll_frame(&mut cx()).is_pending());
    assert!(wire.borrow().interim.is_empty());
}

#[test]
fn interim_answers_come_before_the_final_one_or_not_at_all() {
    let wire = wire(Client::sending(&["GET / HTTP/1.1\r\nHost: a\r\n\r\n"]));
    drop(request(&wire));
    let hint = |wire: &SharedWire<Client>| {
        wire.borrow_mut().inform(StatusCode::EARLY_HINTS, &HeaderMap::new());
    };
    hint(&wire);
    let mut lead = Vec::new();
    wire.borrow_mut().begin_answer(&mut lead);
    assert_eq!(lead, b"HTTP/1.1 103 Early Hints\r\n\r\n");
    hint(&wire);
    assert!(wire.borrow_mut().poll_served(&mut cx()).is_pending());
    assert_eq!(written(&wire), "");
    assert!(wire.borrow_mut().end_request(&mut cx()));
    // Of those that wait for a client that does not read, the latest are dropped.
    drop(wire.borrow_mut().stream.take());
    for _ in 0..10_000 {
        hint(&wire);
    }
    assert!(wire.borrow().interim.len() < INTERIM_BYTES_MAX + 100);
}

#[test]
fn a_client_that_closes_is_missed_once_its_request_is_whole() {
    let closing = |pieces: &[&str]| wire(Client { closes: true, ..Client::sending(pieces) });
    let gone = closing(&["GET / HTTP/1.1\r\nHost: a\r\n\r\n"]);
    drop(request(&gone));
    assert!(gone.borrow_mut().poll_served(&mut cx()).is_ready());
    let sending = closing(&[POST]);
    let _body = request(&sending);
    assert!(sending.borrow_mut().poll_served(&mut cx()).is_pending(), "its reader will see");
    // Requests that come before their turn are read ahead so far and no further.
    let ahead = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let eager = closing(&["GET / HTTP/1.1\r\nHost: a\r\n\r\n", &ahead]);
    drop(request(&eager));
    assert!(eager.borrow_mut().poll_served(&mut cx()).is_pending());
    assert!(eager.borrow().buffer.len() < 3 * READ_BYTES);
}

#[test]
fn stream_and_unread_bytes_can_be_taken() {
    let wire = wire(Client::sending(&["GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"]));
    let mut body = request(&wire);
    let (_, rest) = wire.borrow_mut().take().expect("a stream");
    assert_eq!(rest.as_ref(), b"rest");
    assert!(wire.borrow_mut().take().is_none());
    assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx()), Poll::Ready(None)));
}

/// What a connection brings: each request with its body, and how it ends.
fn read_all(pieces: VecDeque<Option<Vec<u8>>>) -> Vec<String> {
    let waits = pieces.iter().filter(|piece| piece.is_none()).count();
    let wire = wire(Client { pieces, closes: true, written: Vec::new() });
    let (mut found, mut tries) = (Vec::new(), 0);
    loop {
        match next(&wire) {
            Err(_) => found.push("refused".to_owned()),
            Ok(None) if tries <= waits => {
                tries += 1;
                continue;
            }
            Ok(None) => found.push("end".to_owned()),
            Ok(Some(head)) => {
                let body = collect(BodyReader::of(&wire));
                found.push(format!("{:?} {body:?}", head.request));
                if body.is_ok() && wire.borrow_mut().end_request(&mut cx()) {
                    continue;
                }
            }
        }
        return found;
    }
}

/// Requests that can follow one another, sound and broken.
const REQUESTS: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
    "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
     5;x=y\r\nhello\r\n00b\r\n0123456789\r\r\n0\r\nX-Sum: 1\r\n\r\n",
    "POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
    "POST /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
    "GET /g HTTP/1.1\nHost: a\n\n",
    "\r\nGET /h HTTP/1.0\r\n\r\n",
];

proptest! {
    /// However the bytes come, the connection brings the same requests.
    #[test]
    fn any_split_gives_the_same_requests(
        requests in prop::collection::vec(prop::sample::select(REQUESTS), 1..5),
        sizes in prop::collection::vec((1_usize..60, any::<bool>()), 1..40),
    ) {
        let bytes = requests.concat().into_bytes();
        let mut pieces = VecDeque::new();
        let (mut rest, mut sizes) = (bytes.as_slice(), sizes.into_iter().cycle());
        while !rest.is_empty() {
            let (size, waits) = sizes.next().expect("endless");
            let (piece, more) = rest.split_at(size.min(rest.len()));
            pieces.push_back(Some(piece.to_vec()));
            if waits {
                pieces.push_back(None);
            }
            rest = more;
        }
        prop_assert_eq!(read_all(pieces), read_all([Some(bytes)].into()));
    }
}
