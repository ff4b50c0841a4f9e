use super::*;

#[test]
fn is_what_protobuf_writes() {
    // As google.rpc.Status of grpcio-status writes the same facts.
    let text = status(Code::InProgress, "wait", "in_progress", Some(Duration::from_secs(2)));
    let bytes = STANDARD_NO_PAD.decode(text).unwrap();
    // code = 10, message = "wait"
    assert_eq!(&bytes[..8], &[0x08, 10, 0x12, 4, b'w', b'a', b'i', b't']);
    // The last detail is RetryInfo { retry_delay { seconds: 2 } }.
    assert_eq!(&bytes[bytes.len() - 6..], &[0x12, 4, 0x0a, 2, 0x08, 2]);
}

#[test]
fn long_fields_have_long_lengths() {
    let mut message = Message::default();
    message.bytes(1, &[0; 300]);
    assert_eq!(&message.0[..3], &[0x0a, 0xac, 0x02]);
}
