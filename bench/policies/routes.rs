//! Finding a route among many, and reading and compiling many.

use outrigger::records::registry::Registry;
use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use http::{HeaderMap, Method};
use outrigger::config::{self, Loaded, ProcessEnvironment};
use outrigger::snapshot::Snapshot;
use outrigger::snapshot::matcher::{Matcher, Target};
use outrigger::telemetry::metrics::Metrics;

/// A quarter of the routes each: exact paths, prefixes, templates, and hosts with a prefix.
fn file(routes: usize) -> String {
    let mut text = String::from(
        "listeners: [{ name: l, bind: '127.0.0.1:1' }]\n\
         upstreams: { u: { endpoints: ['127.0.0.1:1'] } }\nroutes:\n",
    );
    for n in 0..routes {
        let matches = match n % 4 {
            0 => format!("path: /exact/{n}/item"),
            1 => format!("path_prefix: /prefix/{n}"),
            2 => format!("path_template: '/template/{n}/{{id}}/detail'"),
            _ => format!("host: h{n}.example.org, path_prefix: /"),
        };
        let _ = writeln!(text, "  - {{ name: r{n}, match: {{ {matches} }}, upstream: u }}");
    }
    text
}

fn read(text: &str) -> Loaded {
    config::read(text, &ProcessEnvironment).expect("a configuration")
}

pub(crate) fn benches(c: &mut Criterion) {
    for routes in [10, 1_000, 10_000] {
        find(c, routes, &read(&file(routes)));
    }
    let text = file(10_000);
    let loaded = read(&text);
    let mut group = c.benchmark_group("compile");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.bench_function("config::read, 10000 routes", |b| b.iter(|| read(&text)));
    group.bench_function("Matcher::compile, 10000 routes", |b| b.iter(|| matcher(&loaded)));
    let compile = |loaded| {
        Snapshot::compile(loaded, None, &Metrics::new(&[]), &Registry::default())
            .expect("a snapshot")
    };
    group.bench_function("Snapshot::compile, 10000 routes", |b| {
        b.iter_batched(|| loaded.clone(), compile, BatchSize::PerIteration);
    });
    group.bench_function("read and compile, 10000 routes", |b| {
        b.iter_with_large_drop(|| compile(read(&text)));
    });
    let metrics = Metrics::new(&[]);
    let first = Snapshot::compile(loaded.clone(), None, &metrics, &Registry::default())
        .expect("a snapshot");
    group.bench_function("reload, 10000 routes that are known", |b| {
        let reload =
            || Snapshot::compile(read(&text), Some(&first), &metrics, &Registry::default());
        b.iter_with_large_drop(|| reload().expect("a snapshot"));
    });
    group.finish();
}

fn matcher(loaded: &Loaded) -> Matcher {
    let matches: Vec<_> = loaded.config.routes.iter().map(|route| &route.matches).collect();
    Matcher::compile(&matches, &["l".to_owned()]).expect("a matcher")
}

fn find(c: &mut Criterion, routes: usize, loaded: &Loaded) {
    let matcher = matcher(loaded);
    let (method, headers) = (Method::GET, HeaderMap::new());
    // The last of each kind.
    let last = |kind: usize| (0..routes).rev().find(|n| n % 4 == kind).expect("one of each kind");
    let cases = [
        ("exact", "example.org", format!("/exact/{}/item", last(0))),
        ("prefix", "example.org", format!("/prefix/{}/a/b/c", last(1))),
        ("template", "example.org", format!("/template/{}/4711/detail", last(2))),
        ("host", &*format!("h{}.example.org", last(3)), "/a/b/c".to_owned()),
        ("none", "example.org", "/nothing/of/this/kind".to_owned()),
    ];
    for (name, host, path) in &cases {
        let target =
            Target { listener: 0, host, path, query: None, method: &method, headers: &headers };
        let found = matcher.find(&target).map(|found| found.index);
        assert_eq!(found.is_some(), *name != "none", "{name}");
        c.bench_function(&format!("find/{name}, {routes} routes"), |b| {
            b.iter(|| matcher.find(black_box(&target)));
        });
    }
}
