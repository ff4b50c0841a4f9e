use proptest::prelude::*;

use super::*;

fn parse(lines: &[&[u8]]) -> Result<Option<Vec<u8>>, Invalid> {
    Key::parse(lines.iter().copied()).map(|key| key.map(|key| key.as_bytes().to_vec()))
}

fn key(line: &[u8]) -> Vec<u8> {
    parse(&[line]).unwrap().unwrap()
}

#[test]
fn no_field_is_no_key_and_not_an_invalid_one() {
    assert_eq!(parse(&[]), Ok(None));
    assert_eq!(parse(&[b""]), Err(Invalid::Empty));
}

#[test]
fn a_key_is_the_same_with_quotes_and_without() {
    assert_eq!(key(b"\"abc\""), b"abc");
    assert_eq!(key(b"abc"), b"abc");
    assert_eq!(key(b" \t\"abc\"\t "), b"abc");
    assert_eq!(key(b"\t abc "), b"abc");
}

#[test]
fn quotes_and_backslashes_are_escaped_in_quotes() {
    assert_eq!(key(br#""a\"b\\c""#), br#"a"b\c"#);
    assert_eq!(key(b"\" a;b,c \""), b" a;b,c ");
    assert_eq!(parse(&[br#""a\b""#]), Err(Invalid::Character));
    assert_eq!(parse(&[br#""a\"#]), Err(Invalid::Open));
    assert_eq!(parse(&[br#""a\""#]), Err(Invalid::Open));
}

#[test]
fn what_is_not_one_key_is_refused_with_its_reason() {
    for (line, why) in [
        (&b"  "[..], Invalid::Empty),
        (b"\"\"", Invalid::Empty),
        (b"\"abc", Invalid::Open),
        (b"\"", Invalid::Open),
        (b"a,b", Invalid::List),
        (b"a, b", Invalid::List),
        (b"\"a\", \"b\"", Invalid::List),
        (b"\"a\"b", Invalid::Trailing),
        (b"\"a\";x=1", Invalid::Trailing),
        (b"a b", Invalid::Character),
        (b"a;b", Invalid::Character),
        (b"a\"b", Invalid::Character),
        (b"a\\b", Invalid::Character),
        (b"\"a\tb\"", Invalid::Character),
        (b"\"a\x7fb\"", Invalid::Character),
        (b"a\x00b", Invalid::Character),
        ("\"é\"".as_bytes(), Invalid::Character),
        ("é".as_bytes(), Invalid::Character),
    ] {
        assert_eq!(parse(&[line]), Err(why), "{:?}", line.escape_ascii().to_string());
    }
}

#[test]
fn a_field_stands_there_once() {
    assert_eq!(parse(&[b"a", b"a"]), Err(Invalid::Repeated));
    assert_eq!(parse(&[b"a", b""]), Err(Invalid::Repeated));
}

#[test]
fn a_key_is_at_most_255_bytes_when_decoded() {
    let bare = [b'k'; LONGEST + 1];
    assert_eq!(parse(&[&bare[..LONGEST]]).unwrap().unwrap().len(), LONGEST);
    assert_eq!(parse(&[&bare]), Err(Invalid::TooLong));
    // Escapes are not counted.
    let escaped = [&b"\""[..], &br"\\".repeat(LONGEST), b"\""].concat();
    assert_eq!(key(&escaped).len(), LONGEST);
    let escaped = [&b"\""[..], &br"\\".repeat(LONGEST + 1), b"\""].concat();
    assert_eq!(parse(&[&escaped]), Err(Invalid::TooLong));
}

#[test]
fn a_key_is_not_printed() {
    let key = Key::parse([&b"secret"[..]]).unwrap().unwrap();
    assert_eq!(format!("{key:?}"), "Key(6 bytes)");
}

#[test]
fn every_refusal_is_explained() {
    for invalid in Invalid::ALL {
        assert!(invalid.detail().ends_with('.'), "{invalid:?}");
    }
}

/// Bytes of which many have a meaning here.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        Just(b'"'),
        Just(b'\\'),
        Just(b','),
        Just(b';'),
        Just(b' '),
        Just(b'\t'),
        b'a'..=b'f',
        any::<u8>(),
    ];
    prop::collection::vec(byte, 0..300)
}

proptest! {
    #[test]
    fn any_bytes_are_a_key_in_bounds_or_refused(lines in prop::collection::vec(noise(), 0..3)) {
        match Key::parse(lines.iter().map(Vec::as_slice)) {
            Ok(None) => prop_assert!(lines.is_empty()),
            Err(Invalid::Repeated) => prop_assert!(lines.len() > 1),
            Err(_) => prop_assert_eq!(lines.len(), 1),
            Ok(Some(key)) => {
                prop_assert_eq!(lines.len(), 1);
                prop_assert!((1..=LONGEST).contains(&key.as_bytes().len()));
                prop_assert!(key.as_bytes().iter().all(|b| (0x20..=0x7e).contains(b)));
            }
        }
    }

    #[test]
    fn every_key_is_read_back_from_its_field(
        bytes in prop::collection::vec(0x20_u8..=0x7e, 1..=LONGEST),
    ) {
        let key = Key(bytes.clone().into());
        prop_assert_eq!(Key::parse([&key.to_field()[..]]), Ok(Some(key)));
    }

    #[test]
    fn whatever_is_a_key_without_quotes_is_the_same_with_them(line in noise()) {
        if line.first() != Some(&b'"')
            && let Ok(Some(bare)) = Key::parse([&line[..]])
        {
            let quoted = [b"\"", bare.as_bytes(), b"\""].concat();
            prop_assert_eq!(Key::parse([&quoted[..]]), Ok(Some(bare)));
        }
    }
}
