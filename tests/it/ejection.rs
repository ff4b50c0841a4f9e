//! Endpoints that are taken out of the choice and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{Sidecar, config, config_with, eventually};

/// Nothing but the choice acts.
const ALONE: &str = "retry: { mode: off }, circuit_breaker: { mode: off }";

fn ejected(sidecar: &Sidecar, service: &Service) -> f64 {
    let name = "outrigger_endpoint_ejected";
    sidecar.metric(&format!("{name}{{upstream=\"u\",endpoint=\"{}\"}}", service.address))
}

fn ejections(sidecar: &Sidecar) -> f64 {
    sidecar.metric("outrigger_upstream_ejections_total{upstream=\"u\"}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_fast_and_one_that_hangs_are_hardly_noticed() {
    let failing = Service::start(|_| Act::Late(Duration::from_millis(1), 500)).await;
    let hanging = Service::start(|_| Act::Hang).await;
    let good = Service::start(|_| Act::Late(Duration::from_millis(5), 200)).await;
    let route = "timeouts: { total: 3s, per_try: 250ms, connect: 250ms }, \
                 retry: { on: [5xx, per_try_timeout, reset, connect_failure] }";
    let services = [&failing, &hanging, &good];
    let sidecar = Sidecar::start(&config(&services, "", route));
    let load = sidecar.caller().load(200, Duration::from_secs(6)).await;
    let (all, fine) = load.after(Duration::from_secs(1));
    let hits = services.map(Service::hits);
    assert!(all >= 990, "{all}");
    assert!(fine * 1000 >= all * 999, "{fine} of {all}; {hits:?}; {:?}", load.failures());
    assert!(hits[2] > 10 * (hits[0] + hits[1]), "{hits:?}");
}

#[tokio::test]
async fn the_only_endpoint_is_never_ejected() {
    let service = Service::always(500).await;
    let upstream = "ejection: { consecutive_failures: 2, failure_ratio: 1%, min_requests: 1, \
                    when_all_ejected: fail_fast }";
    let sidecar = Sidecar::start(&config(&[&service], upstream, ALONE));
    let caller = sidecar.caller();
    for _ in 0..20 {
        assert_eq!(caller.get().await.reason(), None);
    }
    assert_eq!((service.hits(), ejections(&sidecar)), (20, 0.0));
}

#[tokio::test]
async fn failures_in_a_row_eject() {
    let (bad, good) = (Service::always(500).await, Service::always(200).await);
    let upstream = "load_balancing: { policy: round_robin }, \
                    ejection: { consecutive_failures: 3, min_requests: 1000, base: 60s }";
    let sidecar = Sidecar::start(&config(&[&bad, &good], upstream, ALONE));
    let caller = sidecar.caller();
    for _ in 0..40 {
        caller.get().await;
    }
    assert_eq!((bad.hits(), good.hits()), (3, 37));
    assert_eq!((ejected(&sidecar, &bad), ejected(&sidecar, &good)), (1.0, 0.0));
    assert_eq!(ejections(&sidecar), 1.0);
    let state = |state: &str| {
        let name = "outrigger_upstream_endpoints";
        sidecar.sample(&format!("{name}{{upstream=\"u\",state=\"{state}\"}}"))
    };
    assert!(state("ejected").is_some(), "the gauge is exposed");
}

#[tokio::test]
async fn a_share_of_failures_ejects() {
    // Every second one of its answers is bad, so there is never a row of failures.
    let bad = Service::start(|seen| status(if seen.number % 2 == 0 { 200 } else { 500 })).await;
    let good = Service::always(200).await;
    let upstream = "load_balancing: { policy: round_robin }, \
                    ejection: { consecutive_failures: 3, failure_ratio: 50%, min_requests: 10, \
                    base: 60s }";
    let sidecar = Sidecar::start(&config(&[&bad, &good], upstream, ALONE));
    let caller = sidecar.caller();
    for _ in 0..60 {
        caller.get().await;
    }
    assert_eq!((bad.hits(), good.hits()), (10, 50));
}

#[tokio::test]
async fn observing_ejects_nobody_and_counts() {
    let (bad, good) = (Service::always(500).await, Service::always(200).await);
    let upstream = "load_balancing: { policy: round_robin }, \
                    ejection: { mode: observe, consecutive_failures: 3 }";
    let sidecar = Sidecar::start(&config(&[&bad, &good], upstream, ALONE));
    let caller = sidecar.caller();
    for _ in 0..20 {
        caller.get().await;
    }
    assert_eq!((bad.hits(), good.hits(), ejections(&sidecar)), (10, 10, 0.0));
    assert!(sidecar.metric("outrigger_upstream_would_eject_total{upstream=\"u\"}") >= 1.0);
}

/// A service whose status the test changes.
async fn switched(first: u16) -> (Service, Arc<AtomicU16>) {
    let code = Arc::new(AtomicU16::new(first));
    let now = Arc::clone(&code);
    (Service::start(move |_| status(now.load(Ordering::SeqCst))).await, code)
}

#[tokio::test]
async fn it_comes_back_slowly() {
    let (service, code) = switched(500).await;
    let good = Service::always(200).await;
    let upstream = "load_balancing: { policy: round_robin }, slow_start: 60s, \
                    ejection: { consecutive_failures: 2, base: 50ms, max: 50ms }";
    let sidecar = Sidecar::start(&config(&[&service, &good], upstream, ALONE));
    let caller = sidecar.caller();
    while ejected(&sidecar, &service) < 1.0 {
        caller.get().await;
    }
    code.store(200, Ordering::SeqCst);
    let before = service.hits();
    eventually("it is chosen again", async || {
        assert_eq!(caller.get().await.status, 200);
        service.hits() > before
    })
    .await;
    assert_eq!(ejected(&sidecar, &service), 0.0);
    let start = [service.hits(), good.hits()];
    for _ in 0..400 {
        assert_eq!(caller.get().await.status, 200);
    }
    // Of its half it takes a tenth at first: 20 of 400, where it would be 200 at once.
    let taken = service.hits() - start[0];
    assert!((4..=60).contains(&taken), "{taken}");
}

#[tokio::test]
async fn without_slow_start_it_comes_back_whole() {
    let (service, code) = switched(500).await;
    let good = Service::always(200).await;
    let upstream = "load_balancing: { policy: round_robin }, slow_start: 0s, \
                    ejection: { consecutive_failures: 2, base: 50ms, max: 50ms }";
    let sidecar = Sidecar::start(&config(&[&service, &good], upstream, ALONE));
    let caller = sidecar.caller();
    while ejected(&sidecar, &service) < 1.0 {
        caller.get().await;
    }
    code.store(200, Ordering::SeqCst);
    let before = service.hits();
    eventually("it is chosen again", async || {
        caller.get().await;
        service.hits() > before
    })
    .await;
    let start = service.hits();
    for _ in 0..100 {
        caller.get().await;
    }
    assert_eq!(service.hits() - start, 50);
}

/// Health checks that act fast, and yet have time enough on a busy machine.
const CHECKED: &str = "health_check: { path: /health, interval: 300ms, timeout: 300ms, \
    healthy_after: 2, unhealthy_after: 2 }";

/// A service whose health the test changes; everything else it answers with 200.
async fn checked(first: u16) -> (Service, Arc<AtomicU16>) {
    let code = Arc::new(AtomicU16::new(first));
    let now = Arc::clone(&code);
    let act = move |seen: &crate::support::service::Seen| match seen.path.as_str() {
        "/health" => status(now.load(Ordering::SeqCst)),
        _ => status(200),
    };
    (Service::start(act).await, code)
}

/// The requests that were no checks.
fn served(service: &Service) -> usize {
    service.seen().iter().filter(|seen| seen.path != "/health").count()
}

fn healthy(sidecar: &Sidecar, service: &Service) -> bool {
    let name = "outrigger_endpoint_healthy";
    let sample = format!("{name}{{upstream=\"u\",endpoint=\"{}\"}}", service.address);
    sidecar.metric(&sample) > 0.0
}

#[tokio::test]
async fn health_checks_take_an_endpoint_out_and_back() {
    let ((one, code), (two, _)) = (checked(200).await, checked(200).await);
    let upstream = format!("load_balancing: {{ policy: round_robin }}, slow_start: 0s, {CHECKED}");
    let sidecar = Sidecar::start(&config(&[&one, &two], &upstream, ALONE));
    let caller = sidecar.caller();
    one.reached(3).await;
    for _ in 0..10 {
        assert_eq!(caller.get().await.status, 200);
    }
    assert_eq!((served(&one), served(&two)), (5, 5));
    code.store(503, Ordering::SeqCst);
    eventually("it is found unhealthy", async || !healthy(&sidecar, &one)).await;
    for _ in 0..10 {
        assert_eq!(caller.get().await.status, 200);
    }
    assert_eq!((served(&one), served(&two)), (5, 15));
    code.store(200, Ordering::SeqCst);
    eventually("it is found healthy", async || healthy(&sidecar, &one)).await;
    for _ in 0..10 {
        assert_eq!(caller.get().await.status, 200);
    }
    assert_eq!((served(&one), served(&two)), (10, 20));
    let check = one.seen().into_iter().find(|seen| seen.path == "/health").unwrap();
    assert_eq!(check.header("user-agent"), Some("outrigger-health"));
}

/// What becomes of 30 requests when neither endpoint is healthy: answers by the proxy, and hits.
async fn all_out(choice: &str) -> (usize, [usize; 2]) {
    let ((one, _), (two, _)) = (checked(503).await, checked(503).await);
    let upstream = format!(
        "load_balancing: {{ policy: round_robin }}, {CHECKED}, \
         ejection: {{ when_all_ejected: {choice} }}"
    );
    let sidecar = Sidecar::start(&config(&[&one, &two], &upstream, ALONE));
    eventually("both are found unhealthy", async || {
        !healthy(&sidecar, &one) && !healthy(&sidecar, &two)
    })
    .await;
    let caller = sidecar.caller();
    let mut refused = 0;
    for _ in 0..30 {
        let got = caller.get().await;
        refused += usize::from(got.reason() == Some("no_endpoint") && got.status == 503);
    }
    (refused, [served(&one), served(&two)])
}

#[tokio::test]
async fn when_all_are_out_the_settings_decide() {
    assert_eq!(all_out("fail_fast").await, (30, [0, 0]));
    assert_eq!(all_out("panic").await, (0, [15, 15]));
    let (refused, hits) = all_out("least_bad").await;
    assert_eq!((refused, hits[0] + hits[1]), (0, 30));
}

#[tokio::test]
async fn the_one_that_was_ejected_longest_ago_is_the_least_bad() {
    let services = [Service::always(500).await, Service::always(500).await];
    let upstream = "load_balancing: { policy: round_robin }, \
                    ejection: { consecutive_failures: 2, base: 60s, max_ejected: 100% }";
    let sidecar = Sidecar::start(&config(&[&services[0], &services[1]], upstream, ALONE));
    let caller = sidecar.caller();
    for _ in 0..30 {
        assert_eq!(caller.get().await.reason(), None);
    }
    // The first of the two that fails twice goes; the last of an upstream never does.
    assert_eq!(ejections(&sidecar), 1.0);
    let hits = [services[0].hits(), services[1].hits()];
    assert_eq!((hits[0].min(hits[1]), hits[0] + hits[1]), (2, 30));
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens_is_ejected() {
    let good = Service::always(200).await;
    let nobody = crate::retry::nobody().await;
    let upstream = format!(
        "endpoints: [\"{nobody}\", \"{}\"], load_balancing: {{ policy: round_robin }}",
        good.address
    );
    let sidecar = Sidecar::start(&config_with(1, &upstream, ALONE));
    let caller = sidecar.caller();
    let mut failed = 0;
    for _ in 0..60 {
        failed += usize::from(caller.get().await.reason() == Some("connect_failure"));
    }
    assert_eq!((failed, good.hits()), (7, 53));
}
