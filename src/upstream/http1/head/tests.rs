use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Option<Head>, Fault> {
    take(&mut BytesMut::from(text), 0, false)
}

fn head(text: &str) -> Head {
    parse(text).expect("a valid head").expect("a whole head")
}

fn fault(text: &str) -> String {
    parse(text).expect_err("a broken head").to_string()
}

#[test]
fn a_head_is_taken_and_what_follows_it_stays() {
    let mut buffer =
        BytesMut::from("HTTP/1.1 201 Made\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 3\r\n\r\nabc");
    let head = take(&mut buffer, 0, false).expect("valid").expect("whole");
    assert_eq!(head.response.status(), 201);
    assert_eq!(head.response.version(), Version::HTTP_11);
    let values: Vec<_> = head.response.headers().get_all("x-a").iter().collect();
    assert_eq!(values, ["1", "2"]);
    assert_eq!((head.framing, head.keep_alive), (Framing::Length(3), true));
    assert_eq!(&buffer[..], b"abc");
}

#[test]
fn the_body_is_delimited_as_rfc_9112_section_6_3_says() {
    let ok = "HTTP/1.1 200 OK\r\n";
    assert_eq!(head(&format!("{ok}\r\n")).framing, Framing::Close);
    assert_eq!(head(&format!("{ok}Content-Length: 0\r\n\r\n")).framing, Framing::Length(0));
    assert_eq!(head(&format!("{ok}Transfer-Encoding: Chunked\r\n\r\n")).framing, Framing::Chunked);
    for status in [100, 103, 204, 304] {
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(head(&text).framing, Framing::Length(0), "{status}");
    }
    let mut to_head = BytesMut::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = take(&mut to_head, 0, true).expect("valid").expect("whole");
    assert_eq!(answer.framing, Framing::Length(0));
}

#[test]
fn one_length_said_twice_is_one_and_two_lengths_are_none() {
    let answer = head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(answer.framing, Framing::Length(5));
    assert_eq!(answer.response.headers().get_all("content-length").iter().count(), 1);
    for lengths in ["5\r\nContent-Length: 6", "5, 6", "5, 5", "+5", "-1", "0x5", "", "5 5"] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {lengths}\r\n\r\n");
        assert!(fault(&text).contains("length") || fault(&text).contains("Length"), "{lengths:?}");
    }
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: {}0\r\n\r\n", u64::MAX);
    assert!(fault(&large).contains("not a number"));
}

#[test]
fn codings_that_we_do_not_undo_are_refused() {
    for coding in ["gzip", "gzip, chunked", "chunked, chunked", "identity", "x"] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert!(fault(&text).contains("not `chunked`"), "{coding}");
    }
    let twice =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(fault(twice).contains("not `chunked`"));
}

#[test]
fn chunks_win_over_a_length_and_end_the_connection() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        let answer = head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
        assert_eq!((answer.framing, answer.keep_alive), (Framing::Chunked, false));
        assert!(!answer.response.headers().contains_key("content-length"));
    }
}

#[test]
fn the_connection_stays_open_when_both_sides_say_so() {
    let cases = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: foo, Close\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, fields, keep_alive) in cases {
        let text = format!("HTTP/{version} 200 OK\r\n{fields}Content-Length: 1\r\n\r\n");
        assert_eq!(head(&text).keep_alive, keep_alive, "{text}");
    }
}

#[test]
fn what_is_not_a_head_is_refused() {
    for text in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA b\r\n\r\n",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_fields() {
    let fields = |count: usize| {
        let fields: String = (0..count).map(|at| format!("X-{at}: y\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
    };
    assert_eq!(head(&fields(FIELDS_MAX)).response.headers().len(), FIELDS_MAX);
    assert!(fault(&fields(FIELDS_MAX + 1)).contains("100 fields"));
    let long = |bytes: usize| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(bytes));
    assert!(parse(&long(HEAD_BYTES_MAX - 64)).is_ok());
    assert!(fault(&long(HEAD_BYTES_MAX)).contains("64 KiB"));
    // Refused before its end has come, too.
    let endless = long(HEAD_BYTES_MAX);
    assert!(fault(&endless[..HEAD_BYTES_MAX]).contains("64 KiB"));
    let again = take(&mut BytesMut::from(&endless[..HEAD_BYTES_MAX]), 100, false);
    assert!(again.expect_err("too large").to_string().contains("64 KiB"));
}

proptest! {
    /// However the bytes are cut into reads, the same head comes out, and not before its end.
    #[test]
    fn a_head_in_pieces_is_the_same_head(cuts in prop::collection::vec(1_usize..90, 0..8)) {
        let text = "HTTP/1.1 200 OK\r\nServer: x\r\nX-Empty:\r\nContent-Length: 12\r\n\r\n";
        let (mut buffer, mut scanned, mut at) = (BytesMut::new(), 0, 0);
        for cut in cuts {
            let to = (at + cut).min(text.len());
            buffer.extend_from_slice(&text.as_bytes()[at..to]);
            at = to;
            if at == text.len() {
                break;
            }
            prop_assert!(take(&mut buffer, scanned, false).expect("valid").is_none());
            scanned = buffer.len();
        }
        buffer.extend_from_slice(&text.as_bytes()[at..]);
        let head = take(&mut buffer, scanned, false).expect("valid").expect("whole");
        prop_assert_eq!(head.framing, Framing::Length(12));
        prop_assert_eq!(head.response.headers().len(), 3);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        scanned in 0_usize..300,
    ) {
        let mut buffer = BytesMut::from("HTTP/1.1 200 OK\r\n");
        buffer.extend_from_slice(&bytes);
        let _ = take(&mut buffer.clone(), scanned.min(buffer.len()), false);
        let _ = take(&mut BytesMut::from(&bytes[..]), 0, true);
    }
}
