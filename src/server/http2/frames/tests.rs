use proptest::prelude::*;

use super::*;

fn wire(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn frames_of(frames: &mut Frames, bytes: &[u8]) -> Vec<Frame> {
    let mut all = Vec::new();
    frames.pass(bytes, |frame| all.push(*frame));
    all
}

#[test]
fn the_preface_is_passed_over() {
    let mut frames = Frames::of_client();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert!(!frames.is_between());
    assert_eq!(frames_of(&mut frames, &preface[..23]), []);
    assert!(!frames.is_between());
    assert_eq!(frames_of(&mut frames, &preface[23..]), []);
    assert!(frames.is_between());
    let ping = frames_of(&mut frames, &wire(kind::PING, 0, 0, &[7; 8]));
    assert_eq!(ping.len(), 1);
    assert_eq!((ping[0].kind, ping[0].acknowledges()), (kind::PING, false));
}

#[test]
fn a_reset_tells_its_code() {
    let mut frames = Frames::of_server();
    let bytes = wire(kind::RST_STREAM, 0, 0x8000_0005, &[0, 0, 0, 0xb]);
    let seen = frames_of(&mut frames, &bytes);
    assert_eq!((seen[0].stream, seen[0].code()), (5, 11));
    // One of a wrong length tells what there is, and the next frame is still found.
    let mut bytes = wire(kind::RST_STREAM, 0, 7, &[0xff; 2]);
    bytes.extend(wire(kind::RST_STREAM, 0, 9, &[0, 0, 0, 1, 0xff, 0xff]));
    bytes.extend(wire(kind::PING, 1, 0, &[0; 8]));
    let seen = frames_of(&mut frames, &bytes);
    assert_eq!(seen.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [3, 3, 6]);
    assert_eq!(seen[1].code(), 1);
    assert!(seen[2].acknowledges());
}

#[test]
fn data_that_is_only_padding_is_empty() {
    let table = [
        (0, &[][..], true),
        (0, &[1], false),
        (8, &[], true),
        (8, &[0], true),
        (8, &[2, 0, 0], true),
        (8, &[2, b'x', 0, 0], false),
        (8, &[9, 0], true),
    ];
    for (flags, payload, empty) in table {
        let seen = frames_of(&mut Frames::of_server(), &wire(kind::DATA, flags, 1, payload));
        assert_eq!(seen[0].is_empty(), empty, "{flags} {payload:?}");
    }
}

#[test]
fn a_head_is_whole_with_its_last_continuation() {
    let mut frames = Frames::of_server();
    frames_of(&mut frames, &wire(kind::HEADERS, 1, 3, b"one"));
    assert!(!frames.is_between());
    assert_eq!((frames.last_stream(), frames.to_end()), (0, 0));
    frames_of(&mut frames, &wire(kind::CONTINUATION, 0, 3, b"two"));
    assert!(!frames.is_between());
    frames_of(&mut frames, &wire(kind::CONTINUATION, 4, 3, b"three"));
    assert!(frames.is_between());
    assert_eq!((frames.last_stream(), frames.whole()), (3, 1));
    frames_of(&mut frames, &wire(kind::HEADERS, 5, 1, b"late"));
    assert_eq!((frames.last_stream(), frames.whole()), (3, 2));
}

#[test]
fn the_way_to_the_end_of_a_frame_is_known() {
    let mut frames = Frames::of_server();
    let bytes = wire(kind::DATA, 0, 1, &[0; 10]);
    frames_of(&mut frames, &bytes[..4]);
    assert_eq!(frames.to_end(), 5);
    frames_of(&mut frames, &bytes[4..9]);
    assert_eq!(frames.to_end(), 10);
    frames_of(&mut frames, &bytes[9..]);
    assert_eq!(frames.to_end(), 0);
}

proptest! {
    /// However the bytes are cut, the same frames are found.
    #[test]
    fn pieces_make_no_difference(
        sent in prop::collection::vec(
            (0_u8..12, any::<u8>(), 0_u32..9, prop::collection::vec(any::<u8>(), 0..40)),
            0..20,
        ),
        cuts in prop::collection::vec(1_usize..30, 1..60),
    ) {
        let bytes: Vec<u8> = sent
            .iter()
            .flat_map(|(kind, flags, stream, payload)| wire(*kind, *flags, *stream, payload))
            .collect();
        let mut whole = Frames::of_server();
        let at_once = frames_of(&mut whole, &bytes);
        prop_assert_eq!(at_once.len(), sent.len());
        prop_assert_eq!(whole.to_end(), 0);
        let (mut pieces, mut rest, mut in_pieces) = (Frames::of_server(), &bytes[..], Vec::new());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            in_pieces.extend(frames_of(&mut pieces, piece));
            rest = after;
        }
        prop_assert_eq!(at_once, in_pieces);
        prop_assert_eq!(whole.last_stream(), pieces.last_stream());
        prop_assert_eq!(whole.is_between(), pieces.is_between());
    }

    /// Whatever comes, nothing panics, and the way to the end is never longer than a frame.
    #[test]
    fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut frames = Frames::of_client();
        for piece in bytes.chunks(7) {
            frames.pass(piece, |_| {});
            prop_assert!(frames.to_end() < 1 << 24);
        }
    }
}
