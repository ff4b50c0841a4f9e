use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    let mut map = HeaderMap::new();
    lines.iter().map(pair).for_each(|(name, value)| {
        map.append(name, value);
    });
    map
}

fn on(local: Option<&str>, bind: Bind, host: &str) -> bool {
    let admin = Admin { bind, ..Admin::default() };
    let local = local.map(|address| address.parse().unwrap());
    let client = Client { name: String::new(), local };
    check_host(&admin, &client, &fields(&[("host", host)])).is_ok()
}

#[test]
fn names_are_checked_on_the_loopback_alone() {
    let any = || Bind::Tcp("0.0.0.0:15000".to_owned());
    assert!(!on(Some("127.0.0.1"), any(), "a.example"));
    assert!(!on(Some("::1"), any(), "a.example:15000"));
    assert!(on(Some("10.0.0.1"), any(), "proxy.monitoring.svc:15000"), "a scraper's name for it");
    assert!(on(None, any(), "a.example"), "a unix socket");
}

#[test]
fn the_name_that_it_is_bound_by_is_its_own() {
    let named = || Bind::Tcp("admin.local:15000".to_owned());
    assert!(on(Some("127.0.0.1"), named(), "ADMIN.local:15000"));
    assert!(!on(Some("127.0.0.1"), named(), "other.local:15000"));
}

#[test]
fn the_host_is_told_from_its_port() {
    for (host, name) in [
        ("a.b", "a.b"),
        ("a.b:1", "a.b"),
        ("[::1]", "[::1]"),
        ("[::1]:80", "[::1]"),
        ("", ""),
        (":80", ""),
    ] {
        assert_eq!(name_of(host), name, "{host}");
    }
    assert!(!on(Some("127.0.0.1"), Bind::Unix("/a".into()), ""));
}

#[test]
fn a_token_is_compared_whole() {
    assert!(same(b"secret", b"secret"));
    for other in [&b"secreT"[..], b"Secret", b"secre", b"secretx", b"", b"xxxxxx"] {
        assert!(!same(other, b"secret"), "{other:?}");
    }
}

#[test]
fn the_scheme_has_no_letter_case_and_one_field_alone_counts() {
    let given = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|value| ("authorization", *value)).collect();
        bearer(&fields(&lines)).map(<[u8]>::to_vec)
    };
    assert_eq!(given(&["Bearer abc"]).as_deref(), Some(&b"abc"[..]));
    assert_eq!(given(&["bEARER   abc"]).as_deref(), Some(&b"abc"[..]));
    for lines in [&[][..], &["Bearer"], &["Bearer "], &["Bearerabc"], &["Bearer a", "Bearer a"]] {
        assert_eq!(given(lines), None, "{lines:?}");
    }
}

#[test]
fn a_token_file_is_trimmed_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let read = |content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        read_token(&file)
    };
    assert_eq!(read(b" \tabc def\r\n").unwrap(), b"abc def");
    assert!(read(b"\n").unwrap_err().contains("empty"));
    let longest = vec![b'a'; 4096];
    assert_eq!(read(&longest).unwrap(), longest);
    assert!(read(&vec![b'a'; 4097]).unwrap_err().contains("more than 4096"));
    assert!(read_token(folder.path()).unwrap_err().contains("cannot be read"));
}

#[test]
fn another_origin_is_known_by_what_browsers_send() {
    let elsewhere = |lines: &[(&str, &str)]| from_elsewhere(&fields(lines));
    let host = ("host", "localhost:15000");
    assert!(!elsewhere(&[host]));
    assert!(!elsewhere(&[host, ("origin", "http://localhost:15000")]));
    assert!(elsewhere(&[host, ("origin", "http://localhost:8080")]));
    assert!(elsewhere(&[("origin", "http://localhost:15000")]), "no host to compare with");
    assert!(elsewhere(&[host, ("sec-fetch-site", "cross-site")]));
    assert!(!elsewhere(&[host, ("sec-fetch-site", "none")]), "typed by the user");
}
