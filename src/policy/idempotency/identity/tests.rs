use super::*;

type Fields = [(&'static str, &'static [u8])];

fn of(fields: &Fields) -> impl FnMut(&str) -> Vec<&'static [u8]> {
    let fields = fields.to_vec();
    move |name| fields.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value).collect()
}

fn who(sources: &[&str], fields: &Fields, san: Option<&[u8]>) -> Option<Vec<u8>> {
    let sources: Vec<Source> = sources.iter().map(|source| source.parse().unwrap()).collect();
    principal(&sources, of(fields), san)
}

#[test]
fn the_first_source_that_there_is_names_the_principal() {
    let both = ["header:x-tenant", "mtls.san"];
    let tenant = who(&both, &[("x-tenant", b"acme")], Some(b"spiffe://a"));
    assert_eq!(tenant, Some(b"header:x-tenant\0acme".to_vec()));
    let san = who(&both, &[], Some(b"spiffe://a"));
    assert_eq!(san, Some(b"mtls.san\0spiffe://a".to_vec()));
    assert_eq!(who(&both, &[], None), None);
}

#[test]
fn a_principal_of_one_kind_is_none_of_another() {
    let header = who(&["header:x-a"], &[("x-a", b"acme")], None);
    let other = who(&["header:x-b"], &[("x-b", b"acme")], None);
    let token = who(&["authorization"], &[("authorization", b"acme")], None);
    let san = who(&["mtls.san"], &[], Some(b"acme"));
    let all = [&header, &other, &token, &san, &who(&["none"], &[], None)];
    for (index, one) in all.iter().enumerate() {
        assert!(one.is_some());
        assert!(!all[..index].contains(one));
    }
}

#[test]
fn an_empty_or_doubled_field_names_nobody() {
    for fields in [
        &[("x-a", &b""[..])][..],
        &[("x-a", b"  ")],
        &[("x-a", b"acme"), ("x-a", b"evil")],
        &[("x-a", b"acme"), ("x-a", b"acme")],
    ] {
        assert_eq!(who(&["header:x-a"], fields, None), None);
    }
    assert_eq!(who(&["mtls.san"], &[], Some(b"")), None);
}

fn print(s: &Settings, method: &str, target: &str, fields: &Fields) -> Vec<Vec<u8>> {
    fingerprint(s, method, target, of(fields))
}

#[test]
fn whatever_can_change_the_meaning_changes_the_fingerprint() {
    let s = Settings::default();
    let one = print(&s, "POST", "/a?x=1", &[("content-type", b"text/plain")]);
    let same = [("content-type", &b" text/plain "[..]), ("x-other", b"1")];
    assert_eq!(print(&s, "POST", "/a?x=1", &same), one);
    for other in [
        print(&s, "PUT", "/a?x=1", &[("content-type", b"text/plain")]),
        print(&s, "POST", "/a?x=2", &[("content-type", b"text/plain")]),
        print(&s, "POST", "/a?x=1", &[("content-type", b"text/html")]),
        print(&s, "POST", "/a?x=1", &[("content-encoding", b"text/plain")]),
        print(&s, "POST", "/a?x=1", &[]),
        print(&s, "POST", "/a?x=1", &[("content-type", b"")]),
        print(&s, "POST", "/a?x=1", &[("content-type", b"text"), ("content-type", b"plain")]),
    ] {
        assert_ne!(other, one);
    }
}

#[test]
fn the_order_of_names_in_the_file_does_not_matter() {
    let fields = [("a", &b"1"[..]), ("b", b"2")];
    let named = |names: &[&str]| Settings {
        fingerprint_headers: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Settings::default()
    };
    let one = print(&named(&["a", "B"]), "POST", "/", &fields);
    assert_eq!(print(&named(&["b", "a", "A"]), "POST", "/", &fields), one);
}

#[test]
fn without_a_fingerprint_method_and_target_are_compared() {
    let s = Settings { fingerprint: Fingerprints::None, ..Settings::default() };
    let parts = print(&s, "POST", "/a", &[("content-type", b"text/plain")]);
    assert_eq!(parts, [b"POST".to_vec(), b"/a".to_vec()]);
    assert!(!covers_body(&s) && covers_body(&Settings::default()));
}
