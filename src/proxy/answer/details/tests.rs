//! The bytes of a status, and its base64.

use super::*;

const BUSY: Details<'_> = Details {
    code: 10,
    message: "m",
    reason: "in-progress",
    known: &[("state", Some("in_flight")), ("operation_ref", None)],
    wait: Some(1_500),
};

#[test]
fn details_are_protocol_buffers() {
    let bytes = BUSY.status();
    let text = String::from_utf8_lossy(&bytes);
    assert!(bytes.starts_with(&[0x08, 10, 0x12, 1, b'm', 0x1a]));
    for part in [
        "\u{a}(type.googleapis.com/google.rpc.ErrorInfo",
        "\u{a}\u{b}IN_PROGRESS\u{12}\u{9}outrigger",
        "\u{1a}\u{12}\u{a}\u{5}state\u{12}\u{9}in_flight",
        "\u{a}(type.googleapis.com/google.rpc.RetryInfo",
    ] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    assert!(!text.contains("operation_ref"));
    // 1 s and 500,000,000 ns.
    let duration = [0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
    assert!(bytes.ends_with(&duration), "{bytes:x?}");
    let at_once = Details { wait: None, ..BUSY }.status();
    assert!(!String::from_utf8_lossy(&at_once).contains("RetryInfo"));
}

#[test]
fn base64_has_the_vectors_of_its_rfc() {
    // RFC 4648, 10, without the padding.
    for (plain, encoded) in [
        ("", ""),
        ("f", "Zg"),
        ("fo", "Zm8"),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg"),
        ("fooba", "Zm9vYmE"),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(plain.as_bytes()), encoded);
    }
    assert_eq!(base64(&[0xfb, 0xff]), "+/8");
}
