use super::*;

#[test]
fn a_pattern_admits_what_it_says_and_no_more() {
    for (pattern, name, fits) in [
        ("a.test", "a.test", true),
        ("A.test", "a.test", true),
        ("a.test", "b.a.test", false),
        ("a.test", "xa.test", false),
        ("*.a.test", "b.a.test", true),
        ("*.a.test", "a.test", false),
        ("*.a.test", "c.b.a.test", false),
        ("*.a.test", ".a.test", false),
        // A certificate for all names of a domain is not one of them.
        ("*.a.test", "*.a.test", false),
        ("*.a.test", "https://x/.a.test", false),
        ("spiffe://td/ns/a/*", "spiffe://td/ns/a/sa/b", true),
        ("spiffe://td/ns/a/*", "spiffe://td/ns/a/", false),
        ("spiffe://td/ns/a/*", "spiffe://td/ns/ab/sa/b", false),
        ("spiffe://td/ns/a", "spiffe://td/ns/a", true),
        ("spiffe://td/ns/a", "spiffe://td/ns/A", false),
        ("spiffe://td/*", "spiffe://td.evil/x", false),
    ] {
        assert_eq!(Pattern::new(pattern).matches(name), fits, "{pattern} {name}");
    }
}
