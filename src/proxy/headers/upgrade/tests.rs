use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::proxy::headers::hop::strip_hop_by_hop;
use crate::proxy::headers::seen::Seen;

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn offered(lines: &[(&'static str, &'static str)], allowed: &[&str]) -> Option<String> {
    let headers = fields(lines);
    let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
    let value = offer(&headers, Seen::of(&headers).fields, &allowed)?;
    Some(value.to_str().unwrap().to_owned())
}

#[test]
fn what_is_allowed_and_named_passes() {
    let websocket = [("connection", "Upgrade"), ("upgrade", "websocket")];
    assert_eq!(offered(&websocket, &["websocket"]).as_deref(), Some("websocket"));
    let capitals = [("connection", "keep-alive, UPGRADE"), ("upgrade", "WebSocket")];
    assert_eq!(offered(&capitals, &["websocket"]).as_deref(), Some("WebSocket"));
    let lines = [("connection", "x"), ("connection", "upgrade"), ("upgrade", "websocket")];
    assert_eq!(offered(&lines, &["websocket"]).as_deref(), Some("websocket"));
}

#[test]
fn of_several_protocols_only_those_that_are_allowed_pass() {
    let lines = [("connection", "upgrade"), ("upgrade", "h2c, a/1, websocket"), ("upgrade", "b")];
    let allowed = |names: &[&str]| offered(&lines, names);
    assert_eq!(allowed(&["websocket", "b"]).as_deref(), Some("websocket, b"));
    assert_eq!(allowed(&["A/1"]).as_deref(), Some("a/1"));
    assert_eq!(allowed(&["a"]), None, "another version of a protocol is another protocol");
    assert_eq!(allowed(&[]), None);
}

#[test]
fn an_upgrade_that_is_not_named_is_no_offer() {
    for connection in ["keep-alive", "close", "x-upgrade", "upgraded", "te"] {
        let lines = [("connection", connection), ("upgrade", "websocket")];
        assert_eq!(offered(&lines, &["websocket"]), None, "{connection}");
    }
    assert_eq!(offered(&[("upgrade", "websocket")], &["websocket"]), None);
    assert_eq!(offered(&[("connection", "upgrade")], &["websocket"]), None);
}

#[test]
fn what_java_sends_with_every_request_is_no_offer() {
    let lines = [
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"),
    ];
    assert_eq!(offered(&lines, &["websocket"]), None);
}

#[test]
fn the_offer_stands_alone_behind_what_was_stripped() {
    let mut headers =
        fields(&[("connection", "upgrade, x-own"), ("upgrade", "websocket"), ("x-own", "1")]);
    let seen = Seen::of(&headers).fields;
    let value = offer(&headers, seen, &["websocket".to_owned()]).unwrap();
    strip_hop_by_hop(&mut headers, seen);
    assert!(headers.is_empty(), "{headers:?}");
    write_offer(&mut headers, value);
    assert_eq!(headers.get(CONNECTION).unwrap(), "upgrade");
    assert_eq!(headers.get(UPGRADE).unwrap(), "websocket");
}
