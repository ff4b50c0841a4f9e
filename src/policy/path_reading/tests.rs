use proptest::prelude::*;

use super::*;

#[test]
fn a_plain_path_has_no_other_reading() {
    for path in ["/", "*", "/a/b.c/d", "/a/b/", "/a.b/c..d", "/~me/x-y_z", "/a,b=c&d+e:f@g", "/ä"]
    {
        assert_eq!(readings(path), Ok(Vec::new()), "{path}");
    }
}

#[test]
fn every_reading_that_is_known_is_there() {
    for (path, reading) in [
        ("/%61dmin", "/admin"),
        ("/%2561dmin", "/admin"),
        ("/a%2Fb", "/a/b"),
        ("/a%252fb", "/a/b"),
        ("/%61/x%2Fy", "/a/x%2Fy"),
        ("//admin", "/admin"),
        ("/a///b", "/a/b"),
        ("/./admin", "/admin"),
        ("/a/../admin", "/admin"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/../../admin", "/admin"),
        ("/a//../b", "/a/b"),
        ("/a//../b", "/b"),
        ("/a/%2e%2e/admin", "/admin"),
        ("/a/.%2E/admin", "/admin"),
        ("/a/..%2fadmin", "/admin"),
        ("/a%2f..%2fadmin", "/admin"),
        ("/a/..\\admin", "/admin"),
        ("/a/..%5cadmin", "/admin"),
        ("/a\\b", "/a/b"),
        ("/admin;x=1", "/admin"),
        ("/admin;x=1/y", "/admin/y"),
        ("/admin%3Bx=1", "/admin"),
        ("/a/..;/admin", "/admin"),
        ("/a/..;x/admin", "/admin"),
        ("/a;%2f../admin", "/a/admin"),
        ("/a;%2f../admin", "/admin"),
        ("/%c0%afadmin", "/admin"),
        ("/a/%c0%ae%c0%ae/admin", "/admin"),
        ("/%zz%2", "/%zz%2"),
    ] {
        let all = readings(path).expect("readings");
        assert!(path == reading || all.iter().any(|it| it == reading), "{path}: {all:?}");
    }
}

#[test]
fn a_zero_byte_and_a_path_without_end_are_faults() {
    for path in ["/a%00", "/a%2500b", "/%00/..", "/a;%00"] {
        assert_eq!(readings(path), Err(Fault::Zero), "{path}");
    }
    let long = format!("/{}", "a".repeat(LONGEST));
    assert_eq!(readings(&long), Ok(Vec::new()), "read alike by all, however long");
    assert_eq!(readings(&format!("{long}%20")), Err(Fault::TooLong));
    assert!(readings(&format!("/{}%20", "a".repeat(LONGEST - 4))).is_ok());
}

/// Everything that a recipient can do to a path, in one of the orders, by other means.
fn harshest(path: &str) -> String {
    let mut text = path.to_owned();
    for _ in 0..2 {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some(byte) = rest.first() {
            let escape = rest.get(1..3).and_then(|two| std::str::from_utf8(two).ok());
            let escape = escape.filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
            match escape.and_then(|two| u8::from_str_radix(two, 16).ok()) {
                Some(value) if *byte == b'%' => {
                    bytes.push(value);
                    rest = &rest[3..];
                }
                _ => {
                    bytes.push(*byte);
                    rest = &rest[1..];
                }
            }
        }
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    let text = text.replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = text.split('/').collect();
    for segment in &segments {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            bare => kept.push(bare),
        }
    }
    format!("/{}", kept.join("/"))
}

proptest! {
    #[test]
    fn the_harshest_reading_is_among_them(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "/", "/", "a", "b", "..", ".", "%2f", "%2F", "%2e", "%5c", "\\", ";", ";x=1", "%3b",
                "%25", "2f", "2e", "%61", "%", "%zz",
            ]),
            0..12,
        ),
    ) {
        let path = format!("/{}", pieces.concat());
        // A slash at the end, and nothing but it, is beyond the other way of finding it.
        let plain = |text: &str| text.trim_end_matches('/').to_owned();
        let harshest = plain(&harshest(&path));
        let all = readings(&path).expect("no zero byte");
        let found = plain(&path) == harshest || all.iter().any(|it| plain(it) == harshest);
        prop_assert!(found, "{} as {}: {:?}", path, harshest, all);
        prop_assert!(all.len() < 200, "{}", all.len());
    }
}
