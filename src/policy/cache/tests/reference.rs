use proptest::prelude::*;

use crate::policy::cache::reference::on_same_host;

/// The examples of RFC 3986, 5.4, as far as they are of one host, and what is not.
#[test]
fn references_are_resolved_against_the_target() {
    for (reference, wanted) in [
        ("/g", "/g"),
        ("g", "/b/c/g"),
        ("./g", "/b/c/g"),
        ("g/", "/b/c/g/"),
        ("?y", "/b/c/d?y"),
        ("g?y", "/b/c/g?y"),
        ("g?y/../x", "/b/c/g?y/../x"),
        ("#s", "/b/c/d?q"),
        ("g#s/../x", "/b/c/g"),
        ("", "/b/c/d?q"),
        (".", "/b/c/"),
        ("..", "/b/"),
        ("../g", "/b/g"),
        ("../..", "/"),
        ("../../../g", "/g"),
        ("/./g", "/g"),
        ("/../g", "/g"),
        ("g/../h", "/b/c/h"),
        ("/a:b", "/a:b"),
        ("http://a/x?y", "/x?y"),
        ("HTTPS://A:443/x", "/x"),
        ("//a:80", "/"),
        ("//a?x", "/?x"),
    ] {
        let found = on_same_host("a", "/b/c/d?q", reference);
        assert_eq!(found.as_deref(), Some(wanted), "{reference}");
    }
    for other in ["http://b/x", "//a:8080/x", "https://a.b/x", "mailto:a", "g:h", "ftp://a/x"] {
        assert_eq!(on_same_host("a", "/b/c/d?q", other), None, "{other}");
    }
    assert_eq!(on_same_host("a:8080", "/", "http://A:8080/x").as_deref(), Some("/x"));
}

proptest! {
    #[test]
    fn no_reference_leads_out_of_the_root(reference in "[a-z./?#:%é]{0,24}") {
        if let Some(found) = on_same_host("a", "/b/c", &reference) {
            prop_assert!(found.starts_with('/'));
            let path = found.split('?').next().unwrap();
            prop_assert!(!path.split('/').any(|part| part == ".."), "{}", found);
        }
    }
}
