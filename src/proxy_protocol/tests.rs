use proptest::prelude::*;

use super::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads as a socket is read: never more at once than is wanted. Gives what came of it, and how
/// many bytes were taken.
fn read(bytes: &[u8]) -> (Result<Option<Said>, Fault>, usize) {
    let mut reader = Reader::default();
    let mut taken = 0;
    while taken < bytes.len() {
        let wanted = reader.wants().min(bytes.len() - taken);
        let piece = &bytes[taken..taken + wanted];
        taken += wanted;
        for byte in piece {
            match reader.push(*byte) {
                Ok(None) => {}
                ended => return (ended, taken),
            }
        }
    }
    (Ok(None), taken)
}

fn ends(source: &str, destination: &str) -> Origin {
    let [source, destination] = [source, destination].map(|text| text.parse().unwrap());
    Origin::Client(Ends { source, destination })
}

fn binary(command: u8, family: u8, tail: &[u8]) -> Vec<u8> {
    let length = u16::try_from(tail.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, tail].concat()
}

const INET: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x1f, 0x90, 0x01, 0xbb];

fn inet(extensions: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[&INET, extensions].concat())
}

#[test]
fn headers_are_read_to_their_last_byte_and_no_further() {
    let v6: Vec<u8> = {
        let [one, two] = ["2001:db8::1", "2001:db8::2"].map(|ip| ip.parse::<Ipv6Addr>().unwrap());
        [&one.octets()[..], &two.octets(), &[0, 80, 0, 81]].concat()
    };
    let inet4 = ends("192.0.2.1:8080", "192.0.2.2:443");
    let inet6 = ends("[2001:db8::1]:80", "[2001:db8::2]:81");
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    let text = |line: &str| line.as_bytes().to_vec();
    let cases = vec![
        (text("PROXY TCP4 192.0.2.1 192.0.2.2 8080 443\r\n"), Version::V1, inet4),
        (text("PROXY TCP6 2001:db8::1 2001:db8::2 80 81\r\n"), Version::V1, inet6),
        (text("PROXY TCP6 :: ::1 0 1\r\n"), Version::V1, ends("[::]:0", "[::1]:1")),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 0 65535\r\n"), Version::V1, {
            ends("1.1.1.1:0", "2.2.2.2:65535")
        }),
        (text("PROXY UNKNOWN\r\n"), Version::V1, Origin::Sender),
        (text("PROXY UNKNOWN what ever\r\n"), Version::V1, Origin::Sender),
        (text(&longest), Version::V1, Origin::Sender),
        (inet(&[]), Version::V2, inet4),
        (inet(&[4, 0, 0]), Version::V2, inet4),
        (inet(&[0xe0, 0, 2, 1, 2, 4, 0, 1, 0]), Version::V2, inet4),
        (binary(0x21, 0x21, &v6), Version::V2, inet6),
        (binary(0x21, 0x31, &[b'x'; 216]), Version::V2, Origin::Nameless),
        (binary(0x20, 0x00, &[]), Version::V2, Origin::Sender),
        // What is behind LOCAL and UNSPEC is skipped, whatever it is.
        (binary(0x20, 0x11, &INET), Version::V2, Origin::Sender),
        (binary(0x20, 0xff, &[9; 3]), Version::V2, Origin::Sender),
        (binary(0x21, 0x00, &[9; 3]), Version::V2, Origin::Sender),
        (inet(&[&[0xe0, 0x0f, 0xf1][..], &[7; 0x0ff1]].concat()), Version::V2, inet4),
    ];
    for (header, version, origin) in cases {
        for after in ["", "\r\n", "GET / HTTP/1.1\r\n\r\n"] {
            let bytes = [&header, after.as_bytes()].concat();
            let read = read(&bytes);
            assert_eq!(read, (Ok(Some((version, origin))), header.len()), "{header:?}");
        }
        for cut in 0..header.len() {
            assert_eq!(read(&header[..cut]), (Ok(None), cut), "{cut} of {header:?}");
        }
    }
}

#[test]
fn what_is_not_a_header_is_told_by_why() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 15));
    let text = [
        ("GET / HTTP/1.1\r\n\r\n", Fault::Absent),
        ("POST / HTTP/1.1\r\n\r\n", Fault::Absent),
        ("PUT", Fault::Absent),
        ("PROXYTCP4 1.1.1.1", Fault::Absent),
        ("proxy UNKNOWN\r\n", Fault::Absent),
        ("\u{16}\u{3}\u{1}", Fault::Absent),
        ("\r\nGET / HTTP/1.1\r\n", Fault::Absent),
        (" PROXY UNKNOWN\r\n", Fault::Absent),
        ("PROXY UNKNOWNS\r\n", Fault::Malformed),
        ("PROXY UNKNOWN\n", Fault::Malformed),
        ("PROXY UNKNOWN\rx", Fault::Malformed),
        ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Fault::Malformed),
        ("PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n", Fault::Malformed),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", Fault::Malformed),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", Fault::Malformed),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", Fault::Malformed),
        ("PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", Fault::Malformed),
        ("PROXY TCP4 1.1.1 2.2.2.2 111 222\r\n", Fault::Malformed),
        ("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", Fault::Malformed),
        ("PROXY TCP4 ::1 ::2 11111 22222\r\n", Fault::Malformed),
        ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", Fault::Malformed),
        ("PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", Fault::Malformed),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", Fault::Malformed),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 +2\r\n", Fault::Malformed),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", Fault::Malformed),
        ("PROXY TCP4 1.1.1.1 2.2.2.2  2\r\n", Fault::Malformed),
        ("PROXY TCP4\t1.1.1.1 2.2.2.2 1 2\r\n", Fault::Malformed),
        ("PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", Fault::Malformed),
        ("PROXY \r\n          ", Fault::Malformed),
        (long.as_str(), Fault::TooLong),
    ];
    let text = text.map(|(text, fault)| (text.as_bytes().to_vec(), fault));
    let binary = [
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Fault::Absent),
        (binary(0x11, 0x11, &INET), Fault::Malformed),
        (binary(0x22, 0x11, &INET), Fault::Unsupported),
        (binary(0x21, 0x12, &INET), Fault::Unsupported),
        (binary(0x21, 0x41, &INET), Fault::Unsupported),
        (binary(0x21, 0x11, &INET[..11]), Fault::Malformed),
        (binary(0x21, 0x21, &INET), Fault::Malformed),
        (binary(0x21, 0x31, &INET), Fault::Malformed),
        (binary(0x20, 0x00, &[0; 4097]), Fault::TooLong),
        // An extension that runs out of the header.
        (inet(&[4]), Fault::Malformed),
        (inet(&[4, 0, 2, 0]), Fault::Malformed),
        (inet(&[3, 0, 4, 0, 0, 0, 0]), Fault::Checksum),
        (inet(&[3, 0, 3, 0, 0, 0]), Fault::Malformed),
    ];
    for (bytes, fault) in text.into_iter().chain(binary) {
        let read = read(&bytes);
        assert_eq!(read.0, Err(fault), "{:?}", String::from_utf8_lossy(&bytes));
        assert!(read.1 <= 16 + MAX_TAIL);
    }
}

#[test]
fn a_checksum_must_fit_the_whole_header() {
    // The check value of CRC-32C for "123456789", as every catalogue of checksums has it.
    let mut sum = checksum::Checksum::default();
    b"123456789".iter().for_each(|byte| sum.push(*byte));
    assert_eq!(sum.value(), 0xe306_9283);
    let mut header = inet(&[4, 0, 1, 9, 3, 0, 4, 0, 0, 0, 0, 4, 0, 0]);
    let mut sum = checksum::Checksum::default();
    header.iter().for_each(|byte| sum.push(*byte));
    let at = header.len() - 7;
    header[at..at + 4].copy_from_slice(&sum.value().to_be_bytes());
    assert!(matches!(read(&header).0, Ok(Some((Version::V2, Origin::Client(_))))));
    for changed in 16..header.len() - 10 {
        let mut header = header.clone();
        header[changed] ^= 0x10;
        assert!(read(&header).0.is_err(), "byte {changed}");
    }
    // Two of them are one too many.
    let twice = inet(&[3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0]);
    assert_eq!(read(&twice).0, Err(Fault::Malformed));
}

#[test]
fn what_version_1_cannot_say_is_unknown() {
    for origin in [Origin::Sender, Origin::Nameless] {
        assert_eq!(Header::of(Version::V1, origin).as_bytes(), b"PROXY UNKNOWN\r\n");
    }
    let binary = Header::of(Version::V2, Origin::Nameless);
    assert_eq!(read(binary.as_bytes()).0, Ok(Some((Version::V2, Origin::Sender))));
}

#[test]
fn ends_of_two_families_are_written_in_one() {
    let mapped = Header::of(Version::V1, ends("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2"));
    assert_eq!(mapped.as_bytes(), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    let mixed = Header::of(Version::V1, ends("192.0.2.1:1", "[2001:db8::2]:2"));
    assert_eq!(mixed.as_bytes(), b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        source in address(),
        destination in address(),
        after in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let ends = Ends { source, destination };
        for version in [Version::V1, Version::V2] {
            let header = Header::of(version, Origin::Client(ends));
            let header = header.as_bytes();
            let read = read(&[header, &after].concat());
            let origin = Origin::Client(ends.alike());
            prop_assert_eq!(read, (Ok(Some((version, origin))), header.len()));
        }
    }

    #[test]
    fn any_bytes_come_to_an_end_within_the_bound(
        head in prop_oneof![
            Just(SIGNATURE.to_vec()), Just(b"PROXY ".to_vec()), Just(b"PROXY TCP4 ".to_vec()),
            Just(inet(&[])), Just(Vec::new()),
        ],
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [head, tail, vec![0; 16 + MAX_TAIL]].concat();
        let (ended, taken) = read(&bytes);
        prop_assert!(taken <= 16 + MAX_TAIL);
        prop_assert_ne!(ended, Ok(None));
    }
}
