//! Connections to an upstream: how many, which, and for how long.

use std::time::Duration;

use outrigger::clock;
use tokio::task::JoinSet;

use crate::support::PATIENCE;
use crate::support::caller::Caller;
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{Sidecar, config, config_with, eventually};

const ALONE: &str = "retry: { mode: off }, circuit_breaker: { mode: off }";

/// Sends so many GETs at once and returns how many were answered 200.
async fn at_once(caller: &Caller, count: usize) -> usize {
    let mut running = JoinSet::new();
    for _ in 0..count {
        let caller = caller.clone();
        running.spawn(async move { caller.get().await.status });
    }
    running.join_all().await.iter().filter(|status| **status == 200).count()
}

/// A configuration of so many workers with these settings of the pool.
fn pooled(workers: usize, service: &Service, pool: &str) -> String {
    let upstream = format!("endpoints: [\"{}\"], pool: {{ {pool} }}", service.address);
    config_with(workers, &upstream, &format!("{ALONE}, timeouts: {{ connect: 10s }}"))
}

#[tokio::test]
async fn no_more_connections_than_allowed_and_those_that_wait_are_served() {
    for workers in [1, 2] {
        let service = Service::start(|_| Act::Late(Duration::from_millis(20), 200)).await;
        let sidecar = Sidecar::start(&pooled(workers, &service, "max_connections: 3"));
        let caller = sidecar.caller();
        assert_eq!(at_once(&caller, 30).await, 30, "{workers} workers");
        assert!(service.peak() <= 3, "{} at once", service.peak());
        let limit = "outrigger_upstream_connection_limit{upstream=\"u\"}";
        assert_eq!(sidecar.metric(limit), 3.0);
    }
}

#[tokio::test]
async fn who_waits_too_long_for_a_connection_is_told() {
    let service = Service::start(|_| Act::Hang).await;
    let upstream = "pool: { max_connections: 1 }";
    let route = format!("{ALONE}, timeouts: {{ connect: 50ms }}");
    let sidecar = Sidecar::start(&config(&[&service], upstream, &route));
    let caller = sidecar.caller();
    let first = tokio::spawn({
        let caller = caller.clone();
        async move { caller.get().await }
    });
    service.reached(1).await;
    let got = caller.get().await;
    assert_eq!((got.status, got.reason()), (503, Some("connection_limit")));
    assert_eq!(service.hits(), 1);
    // The endpoint is not to blame.
    let failed = format!(
        "outrigger_endpoint_attempts_total{{upstream=\"u\",endpoint=\"{}\",result=\"failure\"}}",
        service.address
    );
    assert_eq!(sidecar.metric(&failed), 0.0);
    first.abort();
    eventually("the place is free again", async || {
        let caller = caller.clone();
        let next = tokio::spawn(async move { caller.get().await });
        eventually("it is sent or refused", async || service.hits() > 1 || next.is_finished())
            .await;
        next.abort();
        service.hits() > 1
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_of_one_worker_does_not_starve_the_other() {
    let service = Service::always(200).await;
    let sidecar = Sidecar::start(&pooled(2, &service, "max_connections: 1"));
    // Clients' connections are spread over both workers, and each gets its turn.
    let callers: Vec<Caller> = (0..6).map(|_| sidecar.caller()).collect();
    for round in 0..3 {
        for caller in &callers {
            let got = caller.get().await;
            assert_eq!((got.status, got.reason()), (200, None), "round {round}");
        }
    }
    assert_eq!(service.peak(), 1);
}

#[tokio::test]
async fn connections_without_work_are_closed_in_time() {
    let service = Service::start(|_| Act::Late(Duration::from_millis(30), 200)).await;
    let sidecar = Sidecar::start(&pooled(1, &service, "idle_timeout: 100ms"));
    assert_eq!(at_once(&sidecar.caller(), 5).await, 5);
    service.open(0).await;
    assert_eq!(sidecar.metric("outrigger_upstream_connections_opened_total{upstream=\"u\"}"), 5.0);
}

#[tokio::test]
async fn no_more_idle_connections_than_allowed_are_kept() {
    let service = Service::start(|_| Act::Late(Duration::from_millis(100), 200)).await;
    let sidecar = Sidecar::start(&pooled(1, &service, "max_idle_per_endpoint: 2"));
    let caller = sidecar.caller();
    assert_eq!(at_once(&caller, 6).await, 6);
    assert_eq!(service.connections(), 6);
    service.open(2).await;
}

#[tokio::test]
async fn a_connection_of_age_is_not_used_again() {
    let service = Service::always(200).await;
    let sidecar = Sidecar::start(&pooled(1, &service, "max_age: 200ms"));
    let caller = sidecar.caller();
    eventually("three connections have been used", async || {
        assert_eq!(caller.get().await.status, 200);
        service.connections() >= 3
    })
    .await;
    for seen in service.seen().windows(2) {
        assert!(seen[1].connection >= seen[0].connection, "an old one came back");
    }
    let first = service.seen().iter().filter(|seen| seen.connection == 1).map(|s| s.at).min();
    let last = service.seen().iter().filter(|seen| seen.connection == 1).map(|s| s.at).max();
    let used = last.unwrap() - first.unwrap();
    // The last request may have been on its way for a while.
    assert!(used <= Duration::from_millis(1200), "{used:?}");
}

#[tokio::test]
async fn the_last_connection_used_is_used_first() {
    let service = Service::start(|seen| match seen.number {
        // The longer they take, the later they come back.
        number @ 0..4 => Act::Late(Duration::from_millis(100 + 100 * number as u64), 200),
        _ => status(200),
    })
    .await;
    let sidecar = Sidecar::start(&pooled(1, &service, "idle_timeout: 60s"));
    let caller = sidecar.caller();
    assert_eq!(at_once(&caller, 4).await, 4);
    for _ in 0..10 {
        assert_eq!(caller.get().await.status, 200);
    }
    let seen = service.seen();
    assert_eq!(service.connections(), 4);
    assert!(seen[4..].iter().all(|after| after.connection == seen[3].connection), "{seen:?}");
}

#[tokio::test]
async fn an_endpoint_that_closes_after_each_answer_is_served_all_the_same() {
    let service = Service::start(|_| Act::Close).await;
    let sidecar = Sidecar::start(&config(&[&service], "", ALONE));
    let caller = sidecar.caller();
    for _ in 0..20 {
        assert_eq!(caller.get().await.status, 200);
    }
    assert_eq!(service.connections(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_killed_disturbs_nothing_else() {
    let behind = Service::start(|_| Act::Late(Duration::from_millis(2), 200)).await;
    let steady = Service::start(|_| Act::Late(Duration::from_millis(2), 200)).await;
    // A process of its own, which a signal can end in the middle of anything.
    let mut child = crate::support::child::Child::start(&format!(
        "upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: r, upstream: u }}]\n",
        behind.address
    ))
    .await;
    let upstream =
        format!("endpoints: [\"unix:{}\", \"{}\"]", child.socket().display(), steady.address);
    let upstream = format!("{upstream}, load_balancing: {{ policy: round_robin }}");
    let sidecar = Sidecar::start(&config_with(1, &upstream, ""));
    let caller = sidecar.caller();
    let load = tokio::spawn(async move { caller.load(150, Duration::from_secs(4)).await });
    behind.reached(100).await;
    child.kill().await;
    let killed = clock::now();
    let load = tokio::time::timeout(PATIENCE, load).await.unwrap().unwrap();
    assert!(load.ends.last().unwrap().0 > killed, "the load goes on");
    assert_eq!(load.failures(), [""; 0]);
    assert_eq!(load.ends.len(), 600);
}
