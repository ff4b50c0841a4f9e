use super::*;
use crate::records::etcd::wire::{PutRequest, RangeRequest};

#[test]
fn a_message_is_taken_when_it_is_there_as_a_whole() {
    let message = RangeRequest::of(b"key".to_vec());
    let whole = framed(&message);
    for end in 0..whole.len() {
        let mut part = BytesMut::from(&whole[..end]);
        assert_eq!(take_message(&mut part), None);
        assert_eq!(part.len(), end, "nothing was taken of a part");
    }
    let mut twice = BytesMut::from(&[&whole[..], &whole[..]].concat()[..]);
    for _ in 0..2 {
        let taken = take_message(&mut twice).unwrap();
        assert_eq!(RangeRequest::decode(taken).unwrap(), message);
    }
    assert_eq!(take_message(&mut twice), None);
    // Compressed, which we did not ask for.
    assert_eq!(take_message(&mut BytesMut::from(&[1, 0, 0, 0, 0][..])), None);
}

#[test]
fn messages_are_as_etcd_numbers_their_fields() {
    let put = PutRequest { key: b"k".to_vec(), value: b"v".to_vec(), lease: 3, ignore_lease: true };
    assert_eq!(put.encode_to_vec(), [10, 1, b'k', 18, 1, b'v', 24, 3, 48, 1]);
    let compare = crate::records::etcd::wire::Compare::unchanged(b"k".to_vec(), 0);
    // The 0 is sent: without it the key would be compared with nothing.
    assert_eq!(compare.encode_to_vec(), [16, 2, 26, 1, b'k', 48, 0]);
}

#[test]
fn a_status_is_read_from_fields() {
    let mut fields = HeaderMap::new();
    assert!(refusal(&fields).is_ok());
    fields.insert(STATUS, HeaderValue::from_static("0"));
    assert!(refusal(&fields).is_ok());
    fields.insert(STATUS, HeaderValue::from_static("14"));
    fields.insert(WORDS, HeaderValue::from_static("etcdserver: no leader"));
    let Err(Failure::Status { code, words }) = refusal(&fields) else { panic!("a refusal") };
    assert_eq!((code, &*words), (14, "etcdserver: no leader"));
    fields.insert(STATUS, HeaderValue::from_static("many"));
    assert!(matches!(refusal(&fields), Err(Failure::Status { code: 2, .. })));
}

#[test]
fn a_timeout_has_eight_digits_at_most() {
    assert_eq!(timeout(Duration::from_millis(250)), "250m");
    assert_eq!(timeout(Duration::from_micros(1)), "1m");
    assert_eq!(timeout(Duration::MAX), "99999999m");
}
