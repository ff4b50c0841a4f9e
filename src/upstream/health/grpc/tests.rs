//! The two messages, and what an answer says of the service.

use super::*;

fn read(message: &[u8]) -> Read {
    let code = Some(HeaderValue::from_static("0"));
    Read { status: StatusCode::OK, code, words: None, message: message.to_vec() }
}

#[test]
fn a_request_is_a_message_with_its_prefix() {
    assert_eq!(asked(""), [0, 0, 0, 0, 0]);
    assert_eq!(asked("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
    let long = "s".repeat(300);
    assert_eq!(asked(&long)[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
}

#[test]
fn only_serving_is_good() {
    let good = [
        &[0, 0, 0, 0, 2, 8, 1][..],
        // A field of each kind that we do not know, and then the status.
        &[
            0, 0, 0, 0, 23, 0x10, 0x85, 1, 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x22, 1, 7, 0x2d, 0, 0, 0,
            0, 8, 0x81, 0x00,
        ],
    ];
    for message in good {
        assert_eq!(read(message).verdict(), Ok(()), "{message:?}");
    }
    for (message, why) in [
        (&[0, 0, 0, 0, 0][..], "UNKNOWN"),
        (&[0, 0, 0, 0, 2, 8, 2][..], "NOT_SERVING"),
        (&[0, 0, 0, 0, 2, 8, 3][..], "is 3, not SERVING"),
        (&[][..], "no HealthCheckResponse"),
        (&[0, 0, 0, 0][..], "no HealthCheckResponse"),
        (&[1, 0, 0, 0, 2, 8, 1][..], "no HealthCheckResponse"),
        (&[0, 0, 0, 0, 9, 8, 1][..], "no HealthCheckResponse"),
        (&[0, 0, 0, 0, 1, 8][..], "no HealthCheckResponse"),
        (&[0, 0, 0, 0, 3, 0x12, 9, 1][..], "no HealthCheckResponse"),
        (&[0, 0, 0, 0, 2, 0x0b, 1][..], "no HealthCheckResponse"),
    ] {
        let verdict = read(message).verdict().expect_err("not good");
        assert!(verdict.contains(why), "{message:?}: {verdict}");
    }
}

#[test]
fn a_call_that_failed_says_how() {
    let serving = [0, 0, 0, 0, 2, 8, 1];
    for (code, why) in [
        ("5", "does not know the service"),
        ("12", "does not serve grpc.health.v1.Health"),
        ("14", "the call failed: 14 going away"),
    ] {
        let mut read = read(&serving);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.parse().unwrap());
        trailers.insert("grpc-message", "going away".parse().unwrap());
        read.fields(&trailers);
        let verdict = read.verdict().expect_err("not good");
        assert!(verdict.contains(why), "{verdict}");
    }
    let none = Read { code: None, ..read(&serving) };
    assert_eq!(none.verdict(), Err("the answer has no gRPC status".to_owned()));
    let unknown = Read { status: StatusCode::NOT_FOUND, ..read(&serving) };
    assert_eq!(unknown.verdict(), Err("the answer's status is 404, not 200".to_owned()));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_to_a_verdict(bytes in proptest::collection::vec(0_u8.., 0..64)) {
        let _ = read(&bytes).verdict();
        let mut framed = vec![0, 0, 0, 0, bytes.len() as u8];
        framed.extend_from_slice(&bytes);
        let _ = read(&framed).verdict();
    }
}
