use crate::config::fallback::{Link, Respond};
use crate::config::testing::{file, good, problems};
use crate::units::{ByteSize, Period};

fn one(route: &str, problem: &str) {
    let text =
        file("", route).replace("routes:", "  spare: { endpoints: ['10.0.0.2:80'] }\nroutes:");
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert!(found[0].contains(problem), "{found:#?}");
}

#[test]
fn a_chain_is_read_as_it_is_written_and_printed_back() {
    let text = file(
        "",
        "cache: { stale_if_error: 2m }, fallback: [stale, { upstream: spare }, \
         { respond: { status: 203, body: '[]', content_type: application/json } }]",
    )
    .replace("routes:", "  spare: { endpoints: ['10.0.0.2:80'] }\nroutes:");
    let loaded = good(&text);
    let route = &loaded.config.routes[0];
    let respond = Respond {
        status: 203,
        body: "[]".to_owned(),
        content_type: Some("application/json".to_owned()),
    };
    let chain = [Link::Stale, Link::Upstream("spare".to_owned()), Link::Respond(respond)];
    assert_eq!(route.fallback, chain);
    let cache = route.cache.as_ref().unwrap();
    assert_eq!(
        (cache.stale_if_error, cache.max_bytes),
        (Period::from_secs(120), ByteSize::kib(16384))
    );
    assert!(!cache.coalesce && cache.vary.is_empty());
    let printed = crate::config::to_yaml(&loaded.config, &loaded.secrets).unwrap();
    assert_eq!(good(&printed).config.routes[0], *route);
    let bare = good(&file("", "fallback: [{ respond: { body: x } }]"));
    let Link::Respond(respond) = &bare.config.routes[0].fallback[0] else { panic!("respond") };
    assert_eq!((respond.status, &respond.content_type), (200, &None));
}

#[test]
fn what_a_chain_cannot_do_is_told_at_its_link() {
    one("fallback: [stal]", "routes[0].fallback[0]");
    one("fallback: [stale]", "routes[0].fallback[0]: needs `cache`");
    one("fallback: [{ upstream: spar }]", "there is no upstream `spar`; did you mean `spare`?");
    one("fallback: [{ upstream: a }]", "`a` is the upstream that has failed by then");
    one("fallback: [{ upstream: spare }, { upstream: spare }]", "`upstream:spare` is in this list");
    one("fallback: [{ respond: {} }, { upstream: spare }]", "[1]: stands after `respond`, link 0");
    one("fallback: [{ upstream: spare, respond: {} }]", "is two links in one");
    one("fallback: [{}]", "write `upstream` or `respond`");
    one("fallback: [{ responds: {} }]", "did you mean `respond`?");
    one("fallback: [{ respond: { state: 200 } }]", "routes[0].fallback[0].respond");
    one("fallback: [{ respond: { status: 199 } }]", "respond.status: is 199; it must be from 200");
    one("fallback: [{ respond: { status: 600 } }]", "respond.status: is 600");
    one("fallback: [{ respond: { status: 204, body: x } }]", "respond.body: stands beside status");
    one("fallback: [{ respond: { content_type: '' } }]", "respond.content_type");
    let long = "x".repeat(super::MOST_RESPONSE + 1);
    one(&format!("fallback: [{{ respond: {{ body: {long} }} }}]"), "is longer than 65536 bytes");
}

#[test]
fn a_chain_has_an_end() {
    let names = |count: usize| {
        let links: Vec<_> = (0..count).map(|n| format!("{{ upstream: u{n} }}")).collect();
        let more: String =
            (0..count).map(|n| format!("  u{n}: {{ endpoints: ['10.0.0.2:80'] }}\n")).collect();
        let route = format!("fallback: [{}]", links.join(", "));
        problems(&file("", &route).replace("routes:", &format!("{more}routes:")))
    };
    assert!(names(super::MOST_LINKS).is_empty());
    let found = names(super::MOST_LINKS + 1);
    assert!(found.len() == 1 && found[0].contains("has 9 links; 8 is the most"), "{found:#?}");
}

#[test]
fn a_cache_keeps_something_for_somebody() {
    assert!(problems(&file("", "cache: {}")).is_empty(), "it is a chain of its own");
    assert!(problems(&file("", "cache: { max_bytes: 64KiB }")).is_empty());
    let coalesced = "cache: { coalesce: true, stale_if_error: 0s }, fallback: [{ respond: {} }]";
    assert!(problems(&file("", coalesced)).is_empty());
    one("cache: {}, fallback: [{ respond: {} }]", "routes[0].cache: keeps what nothing uses");
    one("cache: { stale_if_error: 0s }", "cache.stale_if_error: is 0");
    one("cache: { max_bytes: 1KiB }", "cache.max_bytes: is 1KiB, less than one answer needs, 4KiB");
    one("cache: { max_body: 0B }", "cache.max_body: is 0");
    one(
        "cache: { max_bytes: 64KiB, max_body: 65KiB }",
        "max_body: is 65KiB, more than `max_bytes`",
    );
    one("cache: { vary: ['x y'] }", "cache.vary[0]: `x y` cannot be the name");
    one("cache: { coalesced: true }", "did you mean `coalesce`?");
    let many: Vec<_> = (0..=super::MOST_VARY).map(|n| format!("x-{n}")).collect();
    one(&format!("cache: {{ vary: [{}] }}", many.join(", ")), "has 17 entries; 16 is the most");
}
