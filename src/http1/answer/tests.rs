use http::Response;

use super::*;

const DATE_NOW: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const ASKED: Asked = Asked { http10: false, head: false, keep_alive: true, trailers: false };

fn written(
    status: u16,
    fields: &[(&'static str, &str)],
    asked: Asked,
    length: Option<u64>,
) -> (String, Sent) {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let (parts, ()) = response.body(()).expect("a response").into_parts();
    let mut lead = Vec::new();
    let sent = write_head(&mut lead, &parts, asked, length, DATE_NOW);
    (String::from_utf8(lead).expect("text"), sent)
}

#[test]
fn a_known_length_frames_the_body_whatever_the_fields_say() {
    let fields = [("content-length", "9"), ("transfer-encoding", "chunked"), ("x", "y")];
    let (head, sent) = written(200, &fields, ASKED, Some(5));
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\nx: y\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         content-length: 5\r\n\r\n"
    );
    assert_eq!(sent, Sent { body: Some(Delimited::Length(5)), keep_alive: true });
}

#[test]
fn an_unknown_length_goes_in_chunks_or_until_the_close() {
    let (head, sent) = written(200, &[], ASKED, None);
    assert!(head.ends_with("\r\ntransfer-encoding: chunked\r\n\r\n"), "{head}");
    assert_eq!(sent, Sent { body: Some(Delimited::Chunked), keep_alive: true });
    let (head, sent) = written(200, &[], Asked { http10: true, ..ASKED }, None);
    assert!(!head.contains("chunked") && head.ends_with("connection: close\r\n\r\n"), "{head}");
    assert_eq!(sent, Sent { body: Some(Delimited::Close), keep_alive: false });
}

#[test]
fn a_connection_that_stays_or_not_is_said_where_it_is_not_the_rule() {
    for (http10, keep_alive, said) in [
        (false, true, None),
        (false, false, Some("close")),
        (true, true, Some("keep-alive")),
        (true, false, Some("close")),
    ] {
        let asked = Asked { http10, keep_alive, ..ASKED };
        let (head, sent) = written(200, &[], asked, Some(0));
        let found = head.lines().find_map(|line| line.strip_prefix("connection: "));
        assert_eq!((found, sent.keep_alive), (said, keep_alive));
    }
    let (head, sent) = written(200, &[("connection", "close")], ASKED, Some(0));
    assert!(head.matches("connection: close\r\n").count() == 1 && !sent.keep_alive, "{head}");
}

#[test]
fn answers_without_a_body_have_none() {
    for (status, head_asked, length) in
        [(204, false, None), (304, false, None), (304, true, None), (200, true, Some("7"))]
    {
        let asked = Asked { head: head_asked, ..ASKED };
        let (head, sent) = written(status, &[("content-length", "7")], asked, Some(3));
        let found = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!((sent.body, found), (None, length), "{status}");
        assert!(!head.contains("transfer-encoding"), "{head}");
    }
    let (head, sent) = written(200, &[], ASKED, Some(0));
    assert!(head.ends_with("content-length: 0\r\n\r\n") && sent.body.is_none(), "{head}");
}

#[test]
fn a_date_that_is_there_stays_the_only_one() {
    let (head, _) = written(200, &[("date", "then")], ASKED, Some(0));
    assert_eq!(head.matches("date: ").count(), 1);
    assert!(head.contains("date: then\r\n"));
}

#[test]
fn a_status_of_no_name_has_none() {
    assert!(written(299, &[], ASKED, Some(0)).0.starts_with("HTTP/1.1 299 \r\n"));
    let mut lead = Vec::new();
    let mut headers = HeaderMap::new();
    headers.insert("link", http::HeaderValue::from_static("</a>"));
    headers.insert("content-length", http::HeaderValue::from_static("1"));
    put_interim(&mut lead, StatusCode::EARLY_HINTS, &headers);
    assert_eq!(lead, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
}

#[test]
fn a_head_before_another_protocol_frames_no_body() {
    let fields = [("upgrade", "websocket"), ("connection", "x"), ("content-length", "5")];
    let mut response = Response::builder().status(101);
    for (name, value) in fields {
        response = response.header(name, value);
    }
    let (parts, ()) = response.body(()).expect("a response").into_parts();
    let mut lead = Vec::new();
    write_switch(&mut lead, &parts);
    assert_eq!(
        String::from_utf8(lead).expect("text"),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    );
    let (parts, ()) = Response::new(()).into_parts();
    let mut lead = Vec::new();
    write_switch(&mut lead, &parts);
    assert_eq!(lead, b"HTTP/1.1 200 OK\r\n\r\n");
}
