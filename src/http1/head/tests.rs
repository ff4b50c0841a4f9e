use http::header::HOST;
use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, fields: 20 };

fn take(text: impl AsRef<[u8]>) -> Result<Option<Head>, Refused> {
    let mut buffer = BytesMut::from(text.as_ref());
    take_head(&mut buffer, &mut 0, LIMITS)
}

fn whole(text: &str) -> Head {
    take(text).expect("one clear head").expect("all of it")
}

/// A head with these fields beside the host.
fn with(fields: &str) -> Result<Option<Head>, Refused> {
    take(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

#[test]
fn a_head_is_taken_apart_and_what_follows_stays() {
    let mut buffer =
        BytesMut::from("\r\nGET /a?b HTTP/1.1\r\nHost: a\r\nX-A:\t1 \r\nx-a:\r\n\r\nrest");
    let head = take_head(&mut buffer, &mut 0, LIMITS).expect("clear").expect("whole");
    assert_eq!(buffer.as_ref(), b"rest");
    let request = &head.request;
    assert_eq!((request.method(), request.uri()), (&Method::GET, &Uri::from_static("/a?b")));
    assert_eq!(request.version(), Version::HTTP_11);
    assert_eq!(request.headers()[HOST], "a");
    assert_eq!(request.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", ""]);
    assert_eq!(head.framing, Framing::Length(0));
    assert!(head.asked.keep_alive && !head.asked.http10 && !head.asked.head);
}

#[test]
fn the_body_is_delimited_in_one_way() {
    for (fields, framing) in [
        ("", Framing::Length(0)),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("Content-Length: 007\r\n", Framing::Length(7)),
        ("Content-Length: 18446744073709551615\r\n", Framing::Length(u64::MAX)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("transfer-encoding: Chunked\r\n", Framing::Chunked),
    ] {
        let head = with(fields).expect(fields).expect("whole");
        assert_eq!(head.framing, framing, "{fields}");
    }
}

/// What no two recipients must be given to read.
const BROKEN: &[&str] = &[
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 5.0\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 1e2\r\n",
    "Content-Length: \r\n",
    "Content-Length: \"5\"\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: \r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\t: chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    " Transfer-Encoding: chunked\r\n",
    "X: a\r\n b\r\n",
    "X: a\nTransfer-Encoding: chunked\r\n",
    "X: a\n",
    "X: a\rb\r\n",
    "X: a\u{0}b\r\n",
    "X: a\u{7f}b\r\n",
    "X\u{0}: a\r\n",
    "X y: a\r\n",
    "X\u{e9}: a\r\n",
    ": a\r\n",
    "X\r\n",
    "X(: a\r\n",
    "X: a\r\r\n",
];

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for fields in BROKEN {
        assert!(matches!(with(fields), Err(Refused::Broken(_))), "{fields:?}");
    }
}

#[test]
fn request_lines_are_strict() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET /",
        "GET /a b HTTP/1.1",
        "GET /#a HTTP/1.1",
        "GET a.test HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ?a HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        let taken = take(format!("{line}\r\nHost: a\r\n\r\n"));
        assert!(matches!(taken, Err(Refused::Broken(_))), "{line:?}");
    }
    for text in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(matches!(take(text), Err(Refused::Broken(_))), "{text:?}");
    }
    for line in ["OPTIONS * HTTP/1.1", "GET http://b/ HTTP/1.1", "CONNECT b:1 HTTP/1.1"] {
        whole(&format!("{line}\r\nHost: a\r\n\r\n"));
    }
}

#[test]
fn what_follows_a_connect_is_no_request() {
    for fields in ["", "Connection: keep-alive\r\n"] {
        for version in ["1.0", "1.1"] {
            let head = take(format!("CONNECT b:1 HTTP/{version}\r\nHost: a\r\n{fields}\r\n"));
            let head = head.expect("clear").expect("whole");
            assert!(!head.asked.keep_alive, "{version} {fields}");
        }
    }
}

#[test]
fn http10_has_no_chunks_and_closes_unless_it_says_otherwise() {
    let http10 = |fields: &str| take(format!("GET / HTTP/1.0\r\n{fields}\r\n"));
    assert!(matches!(http10("Transfer-Encoding: chunked\r\n"), Err(Refused::Broken(_))));
    for (fields, keeps) in [
        ("", false),
        ("Connection: keep-alive\r\n", true),
        ("Connection: x, Keep-Alive\r\n", true),
        ("Connection: keep-alive, close\r\n", false),
    ] {
        let head = http10(fields).expect("clear").expect("whole");
        assert!(head.asked.http10);
        assert_eq!(head.asked.keep_alive, keeps, "{fields}");
    }
    for (fields, keeps) in [("", true), ("Connection: a\r\nConnection: CLOSE\r\n", false)] {
        let head = with(fields).expect("clear").expect("whole");
        assert_eq!(head.asked.keep_alive, keeps, "{fields}");
    }
}

#[test]
fn what_is_asked_of_the_answer_is_noted() {
    let expects = |fields: &str| with(fields).expect("clear").expect("whole").expects;
    assert!(expects("Content-Length: 1\r\nExpect: 100-Continue\r\n"));
    assert!(expects("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"));
    assert!(!expects("Content-Length: 0\r\nExpect: 100-continue\r\n"));
    assert!(!expects("Content-Length: 1\r\nExpect: other\r\n"));
    let trailers =
        |te: &str| with(&format!("TE: {te}\r\n")).expect("clear").expect("whole").asked.trailers;
    assert!(trailers("trailers") && trailers("gzip, Trailers;q=1") && !trailers("gzip"));
    assert!(whole("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").asked.head);
}

#[test]
fn too_much_is_told_from_broken() {
    let fields = |count: usize| "X: y\r\n".repeat(count);
    assert!(with(&fields(19)).is_ok());
    assert_eq!(with(&fields(20)).err(), Some(Refused::TooLarge));
    let long = |length: usize| with(&format!("X: {}\r\n", "y".repeat(length)));
    assert!(long(4000).is_ok());
    assert_eq!(long(6000).err(), Some(Refused::TooLarge));
    // Before its end is there, too.
    let unfinished = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(6000));
    assert_eq!(take(unfinished).err(), Some(Refused::TooLarge));
}

#[test]
fn many_fields_are_read_where_the_limit_allows_them() {
    for count in [31, 32, 33, 127, 128, 129, 1000] {
        let fields: String = (0..count).map(|at| format!("x-{at}: {at}\r\n")).collect();
        let mut buffer = BytesMut::from(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_str());
        let limits = HeadLimits { bytes: 1 << 20, fields: 1000 };
        let head = take_head(&mut buffer, &mut 0, limits).expect("clear").expect("whole");
        let headers = head.request.headers();
        assert_eq!(headers.len(), count);
        assert!((0..count).all(|at| headers[&format!("x-{at}")] == at.to_string()));
    }
}

/// What a head says, for comparing.
fn said(head: &Head) -> String {
    format!("{:?} {:?} {:?} {}", head.request, head.framing, head.asked, head.expects)
}

/// Reads a head whose bytes come in pieces.
fn in_pieces(text: &[u8], cuts: &[usize]) -> Result<Option<String>, Refused> {
    let (mut buffer, mut scanned, mut from) = (BytesMut::new(), 0, 0);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.push(text.len());
    cuts.sort_unstable();
    for cut in cuts {
        buffer.extend_from_slice(&text[from..cut]);
        from = cut;
        if let Some(head) = take_head(&mut buffer, &mut scanned, LIMITS)? {
            return Ok(Some(said(&head)));
        }
    }
    Ok(None)
}

proptest! {
    /// However its bytes come, a head is the same head, and a broken one is as broken.
    #[test]
    fn any_split_gives_the_same_head(
        fields in prop::collection::vec(
            prop::sample::select([
                BROKEN,
                &["A: b\r\n", "C: d\r\n", "Expect: 100-continue\r\n", "Content-Length: 3\r\n"],
            ].concat()),
            0..4,
        ),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
        target in "[a-z/?#*]{0,6}",
    ) {
        let text = format!("GET /{target} HTTP/1.1\r\nHost: a\r\n{}\r\n", fields.concat());
        let at_once = take(&text).map(|head| head.map(|head| said(&head)));
        let in_pieces = in_pieces(text.as_bytes(), &cuts);
        // What is wrong may be told in other words, since more of it may be there at once.
        prop_assert_eq!(at_once.clone().ok(), in_pieces.clone().ok());
    }

    /// No bytes make it fail otherwise than by refusing.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(
            prop_oneof![
                any::<u8>(),
                prop::sample::select(b"GET / HTTP/1.1\r\n\r\n: chunked,;Content-Length".to_vec()),
            ],
            0..200,
        ),
    ) {
        let _ = take(bytes);
    }
}
