use super::*;

#[test]
fn the_checksum_is_that_of_the_specification() {
    assert_eq!(crc(b"123456789"), 0x31c3);
    assert_eq!(slot(b"foo"), 12_182);
}

#[test]
fn braces_choose_the_slot() {
    assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
    assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
    for whole in [&b"foo{}{bar}"[..], b"foo{bar", b"}{"] {
        assert_eq!(slot(whole), crc(whole) % SLOTS);
    }
}

#[test]
fn runs_are_read_with_their_primaries() {
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
    let run = |from, to, primary| {
        Value::Array(vec![Value::Int(from), Value::Int(to), primary, node(text("r"), 9)])
    };
    let said = Value::Array(vec![
        run(0, 100, node(text("10.0.0.1"), 7001)),
        run(101, 16_383, node(Value::Nil, 7002)),
    ]);
    let asked = Address::Tcp { host: "here".into(), port: 7009 };
    let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
    assert_eq!(
        runs(&said, &asked),
        Some(vec![(0, 100, tcp("10.0.0.1", 7001)), (101, 16_383, tcp("here", 7002))])
    );
    assert_eq!(runs(&Value::Nil, &asked), None);
}
