use crate::config::testing::{file, good, problems};

/// A file with the store `s` and this in the `idempotency` of its route.
fn with(settings: &str) -> String {
    let route = format!("idempotency: {{ {settings} }}");
    format!("{}stores: {{ s: {{ memory: {{}} }} }}\n", file("", &route))
}

/// A route that keeps records, with more keys.
fn keeps(more: &str) -> String {
    with(&format!(
        "store: s, scope: ['header:x-tenant']{}{more}",
        if more.is_empty() { "" } else { ", " }
    ))
}

fn one(text: &str, problem: &str) {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert!(found[0].contains(problem), "{found:#?}");
}

#[test]
fn a_route_names_a_store_that_there_is() {
    assert!(problems(&keeps("")).is_empty());
    one(&with("scope: [none]"), "idempotency.store: is missing; write the name of one of `stores`");
    one(&file("", "idempotency: { scope: [none] }"), "is missing, and there are no `stores`");
    one(&with("store: t, scope: [none]"), "there is no store `t`; did you mean `s`?");
}

#[test]
fn a_store_that_cannot_be_read_is_not_missing_besides() {
    one(&keeps("").replace("memory: {}", "memry: {}"), "did you mean `memory`?");
}

#[test]
fn whose_a_key_is_must_be_said() {
    one(&with("store: s"), "idempotency.scope: is missing");
    for scope in ["none", "mtls.san", "authorization", "'header:x-tenant', mtls.san"] {
        assert!(problems(&with(&format!("store: s, scope: [{scope}]"))).is_empty(), "{scope}");
    }
    let scope = |list: &str| with(&format!("store: s, scope: [{list}]"));
    one(&scope("mtls.san, none"), "scope[1]: stands beside others");
    one(&scope("mtls.san, mtls.san"), "scope[1]: `mtls.san` is in this list already");
    one(&scope("'header:x y'"), "cannot be the name of a header field");
    one(&scope("'header:Idempotency-Key'"), "scope[0]: is the field of the key itself");
    one(&scope("'jwt:iss,sub'"), "this proxy verifies no tokens");
    one(&scope("tenant"), "is not header:<name>, authorization, mtls.san or none");
}

#[test]
fn an_operation_of_unknown_outcome_is_sent_again_only_where_that_is_safe() {
    one(&keeps("unknown: redispatch"), "is `redispatch` without `upstream_idempotent: true`");
    assert!(problems(&keeps("unknown: redispatch, upstream_idempotent: true")).is_empty());
    one(&keeps("upstream_idempotent: true, strip_key: true"), "strip_key: takes away the key");
    let beside = |more: &str| keeps("").replace("idempotency:", &format!("{more}, idempotency:"));
    one(&beside("retry: { unsafe_methods: always }"), "retry.unsafe_methods: is `always`");
    one(&beside("hedge: {}"), "routes[0].hedge: cannot stand beside `idempotency`");
    let other = beside("fallback: [{ upstream: b }]")
        .replace("upstreams:\n", "upstreams:\n  b: { endpoints: ['b:1'] }\n");
    one(&other, "fallback[0].upstream: sends what may have been executed to another upstream");
    // Beside the caller, these are not about records.
    let originate = with("role: originate").replace("idempotency:", "hedge: {}, idempotency:");
    assert!(problems(&originate).is_empty());
}

#[test]
fn cookies_are_stored_encrypted_or_not_at_all() {
    one(&keeps("allow_set_cookie: true"), "allow_set_cookie: needs `stores.s.aead_key`");
}

#[test]
fn what_is_known_outlives_what_can_be_asked() {
    one(&keeps("ttl: 72h"), "key_ttl: is 72h; it must be longer than `ttl`, 72h, by 10m");
    assert!(problems(&keeps("ttl: 72h, key_ttl: 4330m")).is_empty());
    one(&keeps("unknown_ttl: 71h"), "unknown_ttl: is 71h, shorter than `key_ttl`, 72h");
    assert!(problems(&keeps("unknown_ttl: never")).is_empty());
    one(&keeps("unknown_ttl: soon"), "or never");
}

#[test]
fn numbers_have_their_ranges() {
    for (bad, range) in [
        ("ttl: 59s", "ttl: is 59s; it must be from 1m to 744h"),
        ("lease: 4s", "lease: is 4s; it must be from 5s to 10m"),
        ("late_result_window: 11m", "it must be from 0s to 10m"),
        ("claim_deadline: 19ms", "it must be from 20ms to 5s"),
        ("commit_deadline: 6s", "it must be from 20ms to 5s"),
        ("stored_body: 5MiB", "it must be from 0B to 4MiB"),
        ("stored_headers: 65KiB", "it must be from 0B to 64KiB"),
        ("fingerprint_body: 17MiB", "it must be from 0B to 16MiB"),
        ("on_concurrent: wait, max_waiters: 0", "it must be from 1 to 1024"),
        ("on_concurrent: wait, max_wait: 11m", "it must be from 0s to 10m"),
        ("on_concurrent: wait, max_wait: 0s", "max_wait: is 0, so that nobody could wait"),
        ("namespace: ''", "namespace: must be 1 to 255 bytes long"),
    ] {
        one(&keeps(bad), range);
    }
    for good in [
        "ttl: 60s",
        "lease: 10m",
        "late_result_window: 0s",
        "stored_body: 0",
        "fingerprint_body: 0",
    ] {
        assert!(problems(&keeps(good)).is_empty(), "{good}");
    }
}

#[test]
fn settings_without_effect_are_refused() {
    one(&keeps("max_wait: 1s"), "max_wait: has no effect without `on_concurrent: wait`");
    one(&keeps("takeover_grace: 3s"), "has no effect without `unknown: redispatch`");
    one(&keeps("fingerprint: none, fingerprint_body: 1KiB"), "no effect with `fingerprint: none`");
    one(&keeps("peer: enforcing"), "peer: has no effect without `role: originate`");
    one(
        &with("role: originate, required: true"),
        "required: has no effect with `role: originate`, which keeps no records",
    );
    assert!(problems(&with("role: originate, peer: enforcing, store: null")).is_empty());
}

#[test]
fn only_operations_are_covered() {
    assert!(problems(&keeps("methods: [POST, PUT, DELETE, MOVE]")).is_empty());
    one(&keeps("methods: []"), "is empty, so that nothing would be covered");
    one(&keeps("methods: [GET]"), "`GET` cannot be covered");
    one(&keeps("methods: [post]"), "did you mean `POST`?");
    one(&keeps("methods: [POST, POST]"), "`POST` is in this list already");
    one(&keeps("methods: ['P T']"), "cannot be a method");
}

#[test]
fn fields_have_one_meaning() {
    one(&keeps("key_header: 'a b'"), "cannot be the name of a header field");
    one(&keeps("fence_header: host"), "`host` says something else already");
    one(&keeps("fence_header: x-outrigger-fence"), "says something else already");
    one(&keeps("status_header: idempotency-key"), "is the field of `key_header` as well");
}

#[test]
fn a_status_means_one_thing() {
    let two = "store_statuses: [404], unknown_statuses: [409], release_statuses: [420-430]";
    assert!(problems(&keeps(two)).is_empty());
    one(
        &keeps("store_statuses: [404], release_statuses: [400-410]"),
        "release_statuses[0]: `400-410` is in `store_statuses` already, in part or all",
    );
    one(&keeps("release_statuses: [101]"), "a final answer has a status of 200 to 599");
}

#[test]
fn a_probe_asks_for_one_key_and_knows_both_answers() {
    let probe = |text: &str| keeps(&format!("probe: {{ {text} }}"));
    assert!(problems(&probe("path: '/by/{key}?x=1'")).is_empty());
    assert!(problems(&probe("path: '/by?key={key}'")).is_empty());
    one(&probe("path: '/by'"), "must have `{key}` once");
    one(&probe("path: 'by/{key}'"), "is not a path");
    one(&probe("path: '/{key}', settle_delay: 1ms"), "it must be 1s or more");
    one(&probe("path: '/{key}', not_executed: 200-404"), "says the opposite");
}

#[test]
fn routes_of_different_services_have_namespaces_of_their_own() {
    let routes = |first: &str, second: &str| {
        let settings = |more: &str| format!("{{ store: s, scope: [none]{more} }}");
        format!(
            "listeners: [{{ name: in, bind: '127.0.0.1:15001' }}]\n\
             stores: {{ s: {{ memory: {{}} }} }}\n\
             upstreams: {{ a: {{ endpoints: ['a:1'] }}, b: {{ endpoints: ['b:1'] }} }}\n\
             routes:\n  - {{ name: x, upstream: a, idempotency: {} }}\n  \
             - {{ name: y, {second} }}\n",
            settings(first)
        )
        .replace("KEEP", &settings(""))
        .replace("OWN", &settings(", namespace: y"))
    };
    one(
        &routes("", "upstream: b, idempotency: KEEP"),
        "routes[1].idempotency: shares the keys of route `x`, which goes to another upstream",
    );
    assert!(problems(&routes("", "upstream: a, idempotency: KEEP")).is_empty());
    assert!(problems(&routes("", "upstream: b, idempotency: OWN")).is_empty());
    assert!(problems(&routes(", namespace: x", "upstream: b, idempotency: KEEP")).is_empty());
    let both = "upstreams: [{ name: a, weight: 9 }, { name: b, weight: 1 }], idempotency: KEEP";
    assert!(problems(&routes("", both)).is_empty());
}

#[test]
fn a_default_is_completed_by_its_routes() {
    let text = format!(
        "{}stores: {{ s: {{ memory: {{}} }} }}\n\
         defaults: {{ route: {{ idempotency: {{ scope: [mtls.san], ttl: 1h }} }} }}\n",
        file("", "idempotency: { store: s }")
    );
    let loaded = good(&text);
    let settings = loaded.config.routes[0].idempotency.as_ref().unwrap();
    assert_eq!(settings.ttl.as_secs(), 3600);
    assert_eq!(settings.scope.len(), 1);
}
