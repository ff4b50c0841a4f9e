use crate::config::testing::{good, problems};

const FILE: &str = "\
listeners: [{ name: in, bind: '127.0.0.1:15001' }]
upstreams:
  a: { endpoints: ['10.0.0.1:80'], pool: { max_age: 5m } }
  b: { endpoints: ['10.0.0.2:80'], health_check: null }
defaults:
  upstream:
    pool: { max_age: 1m, max_connections: 7 }
    health_check: { path: /live }
  route:
    retry: { max_attempts: 5, on: [reset, refused], backoff: { base: 10ms } }
    rate_limit: { rate: 10/s }
routes:
  - name: plain
    upstream: a
  - name: own
    upstream: b
    retry: { on: [\"503\"], backoff: { max: 1s } }
    rate_limit: null
";

#[test]
fn mappings_are_merged_and_lists_and_null_replace() {
    let config = good(FILE).config;
    let (plain, own) = (&config.routes[0], &config.routes[1]);
    assert_eq!(plain.retry.max_attempts, 5);
    assert_eq!(plain.retry.on.len(), 2);
    assert!(plain.rate_limit.is_some());
    assert_eq!(own.retry.max_attempts, 5);
    assert_eq!(own.retry.on.len(), 1);
    assert_eq!(own.retry.backoff.base.as_millis(), 10);
    assert_eq!(own.retry.backoff.max.as_millis(), 1000);
    assert!(own.rate_limit.is_none());
    let (a, b) = (&config.upstreams["a"], &config.upstreams["b"]);
    assert_eq!(a.pool.max_age.unwrap().as_secs(), 300);
    assert_eq!(a.pool.max_connections, 7);
    assert_eq!(b.pool.max_age.unwrap().as_secs(), 60);
    assert!(a.health_check.is_some() && b.health_check.is_none());
}

#[test]
fn a_merged_setting_keeps_the_place_where_it_was_written() {
    let source = good(FILE).source;
    assert_eq!(source.position("routes[0].retry.max_attempts"), (10, 28));
    assert_eq!(source.position("routes[1].retry.backoff.max"), (17, 43));
}

#[test]
fn a_problem_in_a_default_is_reported_once_and_by_its_own_name() {
    let bad = FILE.replace("max_attempts: 5", "max_attempts: 50, onn: []");
    assert_eq!(
        problems(&bad),
        [
            "10:28: defaults.route.retry.max_attempts: is 50; it must be from 1 to 10",
            "10:32: defaults.route.retry.onn: there is no such setting; did you mean `on`?"
        ]
    );
}

#[test]
fn a_bad_default_is_found_without_anything_that_takes_it() {
    let text = "listeners: [{ name: in, bind: '127.0.0.1:15001' }]\n\
                defaults: { route: { timeouts: { total: 5 }, name: x }, \
                upstream: { dns: null, zon: z } }\n";
    let found = problems(text);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].contains("defaults.route.timeouts.total: `5` is not a length of time"));
    assert!(found[1].contains("defaults.route.name: each route has its own"));
    assert!(found[2].contains("defaults.upstream.dns: each upstream has its own"));
    assert!(
        found[3].contains("defaults.upstream.zon: there is no such setting; did you mean `zone`")
    );
}

#[test]
fn what_follows_from_a_bad_default_is_not_reported() {
    let bad = FILE
        .replace("rate_limit: { rate: 10/s }", "timeouts: { total: long }")
        .replace("rate_limit: null", "timeouts: { per_try: 20s }");
    let found = problems(&bad);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("`long` is not a length of time"), "{found:#?}");
}

#[test]
fn many_large_defaults_are_bounded() {
    let mut text = "defaults: { route: { headers: { request: { set: {".to_owned();
    for index in 0..1000 {
        text.push_str(&format!("x-{index}: v,"));
    }
    text.push_str("} } } } }\nroutes:\n");
    for index in 0..1100 {
        text.push_str(&format!("  - {{ name: r{index} }}\n"));
    }
    let found = problems(&text);
    assert!(found.iter().any(|p| p.contains("with `defaults` the file has more than")));
}
