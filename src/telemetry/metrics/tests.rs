use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::policy::flood::Flood;
use crate::policy::idempotency::record::{Doubt, State};
use crate::policy::idempotency::response::{Bypassed, Status};
use crate::policy::mirror::Copied;
use crate::policy::outcome::{End, Outcome};
use crate::proxy_protocol::Fault;
use crate::telemetry::reason::Reason;

const CAUSES: &[&str] = &["budget", "deadline", "not_safe"];

const PROCESS: Process = Process {
    cpu: Some(1.5),
    resident: Some(1_048_576.0),
    virtual_size: Some(4_194_304.0),
    open_fds: Some(12.0),
    max_fds: Some(1024.0),
    threads: Some(3.0),
    start: Some(1_700_000_000.25),
};

fn outcome(end: End, millis: u64) -> Outcome {
    let latency = Duration::from_millis(millis);
    Outcome { end, unsent: false, latency, hint: None, peer_shed: false }
}

fn learned(metrics: &Metrics) {
    let learned = metrics.learned("orders");
    learned.rate.set(48.5);
    learned.waiting.set(2);
    learned.throttles.inc();
}

fn keyed(metrics: &Metrics) {
    let keyed = metrics.keyed("orders");
    keyed.ended(&Status::Bypassed(Bypassed::StoreUnavailable));
    keyed.doubted(Doubt::ConnectionLost);
    keyed.late.inc();
    let store = metrics.store("keys", &["unreachable", "timeout"]);
    store.ready.set(1);
    store.bytes.set(4096);
    store.entries[State::Unknown.index()].set(2);
    store.own[0].set(3);
    store.spooled.set(1);
    store.leases_lost.inc();
    store.asked(Operation::Claim, Duration::from_micros(300), None);
    store.asked(Operation::Complete, Duration::from_millis(250), Some(1));
    store.fenced(Operation::Complete);
    store.said(Word::NotExecuted);
}

fn tls(metrics: &Metrics) {
    metrics.upstream("stock").handshakes.count(HandshakeOut::Resumed);
    metrics.listener("http").handshakes.count(HandshakeIn::NotTls);
    metrics.listener("http").flood(Flood::Resets);
    metrics.tls().swapped(true);
    let (side, name, file) = ("listener", "secure".to_owned(), "/tls/a.crt".to_owned());
    let expiry = Expiry { side, name: name.clone(), file, seconds: 86_400.5 };
    metrics.tls().show(vec![expiry], vec![(side, name, true)]);
}

/// Two tunnels, of which one has ended.
fn tunnels(route: &RouteMetrics) {
    let tunnels = &route.tunnels;
    tunnels.opened();
    tunnels.opened();
    tunnels.up.add(12);
    tunnels.down.add(5000);
    tunnels.ended(TunnelEnd::Idle);
}

/// A listener, and two workers.
fn accepting(metrics: &Metrics) {
    let listener = metrics.listener("http");
    listener.connections.inc();
    listener.accepted.add(2);
    listener.connection_limit.set(1000);
    listener.reason(Reason::NoRoute);
    listener.proxy_headers.count(HeaderIn::Bad(Fault::Absent));
    let worker = metrics.worker(0);
    worker.busy.add(Duration::from_millis(1250));
    worker.connections.inc();
    worker.delay.set(0.0005);
    metrics.worker(10);
}

/// Two routes, one of them idle, two upstreams, and at least one sample of every metric.
fn scenario() -> Metrics {
    let metrics = Metrics::new(CAUSES);
    metrics.route("idle");
    let route = metrics.route("orders");
    for _ in 0..3 {
        route.in_flight.inc();
    }
    route.in_flight.dec();
    route.bulkhead.limit.set(8);
    route.hedge.delay.set(0.03);
    route.hedge.won.inc();
    route.hedge.suppressed(crate::policy::hedge::Why::Budget);
    tunnels(&route);
    let duration = Duration::from_millis(4);
    route.calls.ended(&Call { path: "/pay.Payments/Charge", code: 0, answered: true, duration });
    learned(&metrics);
    keyed(&metrics);
    route.ended(Some(200), Duration::from_micros(700));
    route.ended(Some(503), Duration::from_micros(40));
    route.ended(None, Duration::from_secs(61));
    route.reason(Reason::CircuitOpen);
    route.reason(Reason::ClientGone);
    route.retries.inc();
    route.retry_suppressed(1);
    route.retry_suppressed(CAUSES.len());
    route.would(Would::RateLimit);
    route.copied(Copied::Sent);
    route.fallback.answered(FallbackLink::Stale);
    route.fallback.cache(CacheEvent::Kept, 2);
    route.fallback.cache_bytes.set(1300);
    route.fallback.cache_answers.set(2);
    let breaker = metrics.breaker("orders", "stock");
    breaker.entered(BreakerState::Open);
    breaker.entered(BreakerState::HalfOpen);
    metrics.upstream("pay");
    let upstream = metrics.upstream("stock");
    upstream.in_flight.inc();
    upstream.connections.set(4);
    upstream.connections_opened.add(9);
    upstream.connection_limit.set(64);
    upstream.retry_budget.set(2.5);
    upstream.endpoints_available.set(2);
    upstream.endpoints_ejected.set(1);
    upstream.ejections.inc();
    upstream.places.limit.set(20);
    upstream.places.in_flight.set(3);
    upstream.places.baseline.set(0.01);
    upstream.places.ratio.set(1.0);
    upstream.ended(&outcome(End::Answer { status: 200, grpc: None }, 3));
    upstream.ended(&outcome(End::PerTryTimeout, 250));
    upstream.cancelled();
    let endpoint = metrics.endpoint("stock", "127.0.0.1:9000");
    endpoint.ended(true, Duration::from_millis(3));
    endpoint.ended(false, Duration::from_millis(250));
    endpoint.ejected.set(1);
    endpoint.ewma.set(0.125);
    tls(&metrics);
    accepting(&metrics);
    metrics.reload(Reload::Applied);
    metrics.reload(Reload::Rejected);
    let since = UNIX_EPOCH + Duration::from_secs(1_700_000_100);
    metrics.config_in_force("9f86d081", 1, since);
    metrics.access_log_dropped().add(7);
    metrics
}

#[test]
fn the_exposition_of_a_fixed_scenario_is_the_golden_one() {
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let text = scenario().render_with(&PROCESS).replace(&version, "version=\"VERSION\"");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (got, want) in text.lines().zip(golden.lines()) {
        assert_eq!(got, want, "run with UPDATE_GOLDEN=1 if the change is meant");
    }
    assert_eq!(text, golden);
}

#[test]
fn the_scenario_shows_every_metric_of_the_table_with_its_labels() {
    let text = scenario().render_with(&PROCESS);
    for Row { name, kind, labels, help } in Metrics::table() {
        assert!(text.contains(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")), "{name}");
        let suffix = if kind == "histogram" { "_count" } else { "" };
        let sample = match labels.first() {
            Some(label) => format!("\n{name}{suffix}{{{label}=\""),
            None => format!("\n{name} "),
        };
        assert!(text.contains(&sample), "{name}");
        let line = text.lines().find(|line| line.starts_with(&sample[1..])).unwrap();
        assert!(labels.iter().all(|label| line.contains(&format!("{label}=\""))), "{line}");
    }
}

/// The rules of `promtool check metrics` and of the conventions that it does not check.
#[test]
fn every_name_follows_the_conventions() {
    let mut names = BTreeSet::new();
    for Row { name, kind, labels, help } in Metrics::table() {
        assert!(names.insert(name), "{name} is declared twice");
        assert!(name.starts_with("outrigger_") || name.starts_with("process_"), "{name}");
        let snake = |text: &str| text.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
        assert!(snake(name) && labels.iter().all(|label| snake(label)), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert_eq!(kind == "histogram", name.ends_with("_duration_seconds"), "{name}");
        for word in name.split('_') {
            let wrong = ["ms", "milliseconds", "minutes", "kib", "percent", "counter", "gauge"];
            assert!(!wrong.contains(&word), "{name}");
        }
        assert!(!["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "{name}");
        assert!(!labels.contains(&"le") && !labels.contains(&"quantile"), "{name}");
        assert!(help.ends_with('.') && help.len() > 20, "{name}");
    }
}

#[test]
fn a_name_resolves_to_the_same_numbers_until_it_is_forgotten() {
    let metrics = Metrics::new(CAUSES);
    metrics.route("a").retries.inc();
    metrics.route("a").retries.inc();
    assert_eq!(metrics.route("a").retries.get(), 2);
    let held = metrics.route("a");
    metrics.forget_route("a");
    held.retries.inc();
    assert!(!metrics.render_with(&PROCESS).contains("route=\"a\""));
    assert_eq!(metrics.route("a").retries.get(), 0);
}

#[test]
fn forgetting_takes_along_everything_that_carries_the_name() {
    let metrics = scenario();
    metrics.forget_breaker("orders", "pay");
    metrics.forget_upstream("stock");
    let text = metrics.render_with(&PROCESS);
    assert!(!text.contains("stock"), "{text}");
    assert!(text.contains("upstream=\"pay\""));
    metrics.breaker("orders", "pay");
    metrics.endpoint("pay", "127.0.0.1:1");
    metrics.endpoint("pay", "127.0.0.1:2");
    metrics.forget_route("orders");
    metrics.forget_endpoint("pay", "127.0.0.1:1");
    metrics.forget_listener("http");
    let text = metrics.render_with(&PROCESS);
    assert!(
        !text.contains("orders") && !text.contains("127.0.0.1:1\"") && !text.contains("http\"")
    );
    assert!(text.contains("route=\"idle\"") && text.contains("127.0.0.1:2\""));
}

#[test]
fn an_idle_route_is_eight_lines() {
    let metrics = Metrics::new(CAUSES);
    let lines = |metrics: &Metrics| {
        metrics.render_with(&PROCESS).lines().filter(|line| line.contains("route=\"")).count()
    };
    metrics.route("a");
    metrics.breaker("a", "u");
    assert_eq!(lines(&metrics), 8);
}

#[test]
fn every_end_of_an_attempt_has_a_result_of_its_own() {
    let metrics = Metrics::new(CAUSES);
    let upstream = metrics.upstream("u");
    let answer = |status| End::Answer { status, grpc: None };
    let ends = [
        (answer(101), "1xx"),
        (answer(299), "2xx"),
        (answer(304), "3xx"),
        (answer(499), "4xx"),
        (answer(599), "5xx"),
        (answer(600), "other"),
        (End::ConnectFailure, "connect_failure"),
        (End::ConnectTimeout, "connect_timeout"),
        (End::Refused, "refused"),
        (End::Reset, "reset"),
        (End::PerTryTimeout, "per_try_timeout"),
        (End::DeadlineExceeded, "deadline"),
    ];
    for (end, result) in ends {
        let sample =
            format!("outrigger_upstream_attempts_total{{upstream=\"u\",result=\"{result}\"}} 1\n");
        assert!(!metrics.render_with(&PROCESS).contains(&sample), "{result}");
        upstream.ended(&outcome(end, 1));
        assert!(metrics.render_with(&PROCESS).contains(&sample), "{result}");
    }
}

#[test]
fn every_reason_is_counted_at_its_own_place() {
    let metrics = Metrics::new(CAUSES);
    let (route, listener) = (metrics.route("r"), metrics.listener("l"));
    for reason in Reason::ALL {
        route.reason(*reason);
        listener.reason(*reason);
    }
    let text = metrics.render_with(&PROCESS);
    for reason in Reason::ALL {
        assert!(text.contains(&format!("{{route=\"r\",reason=\"{}\"}} 1\n", reason.as_str())));
        assert!(text.contains(&format!("{{listener=\"l\",reason=\"{}\"}} 1\n", reason.as_str())));
    }
}

#[test]
fn the_value_of_a_state_is_its_place() {
    let metrics = Metrics::new(CAUSES);
    let breaker = metrics.breaker("r", "u");
    for (value, state) in BreakerState::ALL.into_iter().enumerate() {
        breaker.show(state);
        let sample = format!("outrigger_breaker_state{{route=\"r\",upstream=\"u\"}} {value}\n");
        assert!(metrics.render_with(&PROCESS).contains(&sample), "{}", state.as_str());
    }
    assert!(!metrics.render_with(&PROCESS).contains("transitions_total{"));
}

#[test]
fn a_name_cannot_forge_a_sample() {
    let metrics = Metrics::new(CAUSES);
    metrics.route("a\"} 1\nforged{x=\"\\");
    let text = metrics.render_with(&PROCESS);
    assert!(text.contains("{route=\"a\\\"} 1\\nforged{x=\\\"\\\\\"} 0\n"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("forged")));
}
