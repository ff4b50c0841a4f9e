use proptest::prelude::*;

use super::*;

type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

/// Decodes bytes that come cut at the given places: the body, its trailers, and what is left over.
fn decode(pieces: &[&[u8]]) -> Result<Decoded, String> {
    let (mut decoder, mut buffer, mut body) = (Decoder::default(), BytesMut::new(), Vec::new());
    for (at, piece) in pieces.iter().enumerate() {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.step(&mut buffer).map_err(|fault| fault.to_string())? {
                Step::More => break,
                Step::Data(data) => {
                    assert!(!data.is_empty(), "a piece has bytes");
                    body.extend_from_slice(&data);
                }
                Step::End(trailers) => {
                    pieces[at + 1..].iter().for_each(|rest| buffer.extend_from_slice(rest));
                    return Ok((body, trailers, buffer.to_vec()));
                }
            }
        }
    }
    Err("unfinished".to_owned())
}

fn whole(text: &str) -> Result<Decoded, String> {
    decode(&[text.as_bytes()])
}

#[test]
fn chunks_are_joined_and_what_follows_stays() {
    let (body, trailers, rest) =
        whole("5\r\nhello\r\n00a;x=\"y\"\r\n, wide wor\r\n2 \r\nld\r\n0\r\n\r\nHTTP")
            .expect("valid");
    assert_eq!(body, b"hello, wide world");
    assert_eq!((trailers, rest.as_slice()), (None, b"HTTP".as_slice()));
}

#[test]
fn trailers_are_read_and_framing_fields_among_them_dropped() {
    let (_, trailers, _) =
        whole("0\r\nX-Sum: abc\r\nContent-Length: 9\r\nHost: x\r\nx-sum: d\r\n\r\n")
            .expect("valid");
    let trailers = trailers.expect("trailers");
    assert_eq!(trailers.len(), 2);
    assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["abc", "d"]);
}

#[test]
fn broken_chunks_are_refused() {
    for text in [
        "\r\n",
        "g\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5\r\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "10000000000000000\r\n",
        "0\r\nA b\r\n\r\n",
        "0\r\nA: \0\r\n\r\n",
    ] {
        let fault = whole(text).expect_err(text);
        assert_ne!(fault, "unfinished", "{text:?}");
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(1000));
    assert!(whole(&format!("{}0\r\n\r\n", chunk.repeat(16))).is_ok());
    let fault = whole(&format!("{}0\r\n\r\n", chunk.repeat(17))).expect_err("too much");
    assert!(fault.contains("extensions"), "{fault}");

    let endless = format!("0\r\nX: {}", "y".repeat(TRAILER_BYTES_MAX));
    assert!(whole(&endless).expect_err("too large").contains("16 KiB"));
    let many: String = (0..=TRAILERS_MAX).map(|at| format!("X-{at}: y\r\n")).collect();
    assert!(whole(&format!("0\r\n{many}\r\n")).expect_err("too many").contains("64 fields"));
}

proptest! {
    /// However the bytes are cut into reads, the same body comes out.
    #[test]
    fn cuts_change_nothing(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        trailer in any::<bool>(),
        cuts in prop::collection::vec(0_usize..400, 0..6),
    ) {
        let mut coded = Vec::new();
        for chunk in &chunks {
            coded.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            coded.extend_from_slice(chunk);
            coded.extend_from_slice(b"\r\n");
        }
        coded.extend_from_slice(if trailer { b"0\r\nx-end: 1\r\n\r\n" } else { b"0\r\n\r\n" });
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (coded.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(coded.len());
        let mut from = 0;
        let pieces: Vec<&[u8]> = cuts.iter().map(|&to| {
            let piece = &coded[from..to];
            from = to;
            piece
        }).collect();
        let (body, trailers, rest) = decode(&pieces).expect("valid");
        prop_assert_eq!(body, chunks.concat());
        prop_assert_eq!(trailers.is_some(), trailer);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&[&bytes]);
    }
}
