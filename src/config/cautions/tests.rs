use super::*;
use crate::config::testing::{file, good};

fn of(store: &str, settings: &str) -> Vec<String> {
    let route = format!("idempotency: {{ {settings} }}");
    cautions(&good(&format!("{}stores: {{ s: {store} }}\n", file("", &route))).config)
}

const DISK: &str = "{ embedded: { path: /x/records.redb } }";

#[test]
fn what_gives_nothing_up_is_not_spoken_of() {
    assert_eq!(of(DISK, "store: s, scope: [mtls.san]"), Vec::<String>::new());
    assert_eq!(of("{ memory: {} }", "role: originate"), Vec::<String>::new());
    assert_eq!(cautions(&Config::default()), Vec::<String>::new());
}

#[test]
fn what_gives_something_up_is_named_with_its_route() {
    for (settings, start) in [
        ("scope: [none]", "route `r`: idempotency.scope is `none`"),
        ("scope: [authorization]", "route `r`: idempotency.scope has `authorization`"),
        ("scope: [mtls.san], on_5xx: release", "route `r`: idempotency.on_5xx is `release`"),
        ("scope: [mtls.san], release_statuses: [409]", "route `r`: idempotency.release_statuses"),
        ("scope: [mtls.san], on_store_error: open", "route `r`: idempotency.on_store_error"),
    ] {
        let found = of(DISK, &format!("store: s, {settings}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(start), "{found:?}");
    }
    let found = of("{ memory: {} }", "store: s, scope: [mtls.san]");
    assert!(found[0].starts_with("route `r`: idempotency.store is in memory"), "{found:?}");
}
