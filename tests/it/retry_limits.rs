//! What keeps retries few: the budget, what the peer asks for, the deadline and the circuit.

use std::time::Duration;

use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{Sidecar, config};

const QUICK: &str = "circuit_breaker: { mode: off }, \
    retry: { backoff: { base: 1ms, max: 1ms }";

fn busy_for(seconds: &str) -> Act {
    Act::Answer(503, vec![("retry-after", seconds.to_owned())], "")
}

#[tokio::test]
async fn the_wait_that_the_peer_asks_for_is_kept() {
    let service = Service::start(|seen| match seen.number {
        0 => busy_for("1"),
        _ => status(200),
    })
    .await;
    let sidecar = Sidecar::start(&config(&[&service], "", &format!("{QUICK} }}")));
    assert_eq!(sidecar.caller().get().await.status, 200);
    let times: Vec<_> = service.seen().iter().map(|seen| seen.at).collect();
    assert!(times[1] - times[0] >= Duration::from_secs(1));
}

#[tokio::test]
async fn the_wait_that_the_peer_asks_for_is_not_kept_when_it_is_not_honoured() {
    let service = Service::start(|seen| match seen.number {
        0 => busy_for("3600"),
        _ => status(200),
    })
    .await;
    let route = format!("{QUICK}, retry_after: {{ honour: false }} }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    assert_eq!(sidecar.caller().get().await.status, 200);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_passed_on_instead() {
    let service = Service::start(|_| busy_for("6")).await;
    let sidecar = Sidecar::start(&config(&[&service], "", &format!("{QUICK} }}")));
    let got = sidecar.caller().get().await;
    assert_eq!((got.status, got.header("retry-after"), got.reason()), (503, Some("6"), None));
    assert_eq!((service.hits(), sidecar.suppressed("retry_after_too_long")), (1, 1.0));
}

#[tokio::test]
async fn a_wait_that_ends_after_the_deadline_is_not_begun() {
    let service = Service::start(|_| busy_for("4")).await;
    let route = format!("timeouts: {{ total: 3s }}, {QUICK} }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    assert_eq!(sidecar.caller().get().await.status, 503);
    assert_eq!((service.hits(), sidecar.suppressed("deadline")), (1, 1.0));
}

#[tokio::test]
async fn a_grpc_peer_can_refuse_retries() {
    let service = Service::start(|_| {
        let fields = vec![
            ("content-type", "application/grpc".to_owned()),
            ("grpc-status", "14".to_owned()),
            ("grpc-retry-pushback-ms", "-1".to_owned()),
        ];
        Act::Answer(200, fields, "")
    })
    .await;
    let route = format!("{QUICK}, unsafe_methods: always }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    let got = sidecar.caller().get_with("content-type", "application/grpc").await;
    assert_eq!(got.header("grpc-status"), Some("14"));
    assert_eq!((service.hits(), sidecar.suppressed("pushback")), (1, 1.0));
}

#[tokio::test]
async fn a_second_peer_that_sheds_ends_the_retries() {
    let service =
        Service::start(|_| Act::Answer(503, vec![("x-outrigger-shed", "1".to_owned())], "")).await;
    let sidecar = Sidecar::start(&config(&[&service], "", &format!("{QUICK} }}")));
    assert_eq!(sidecar.caller().get().await.status, 503);
    assert_eq!((service.hits(), sidecar.suppressed("peer_shed")), (2, 1.0));
}

#[tokio::test]
async fn a_circuit_that_opens_meanwhile_ends_the_retries() {
    let service = Service::always(503).await;
    let route = "circuit_breaker: { consecutive: 2 }, \
                 retry: { max_attempts: 5, backoff: { base: 1ms, max: 1ms } }";
    let sidecar = Sidecar::start(&config(&[&service], "", route));
    let got = sidecar.caller().get().await;
    assert_eq!((got.status, got.reason()), (503, None), "the upstream's own answer");
    assert_eq!((service.hits(), sidecar.suppressed("circuit_open")), (2, 1.0));
}

#[tokio::test]
async fn a_trial_is_not_tried_again() {
    let service = Service::always(503).await;
    let route = "circuit_breaker: { consecutive: 1, open: 10ms }, \
                 retry: { backoff: { base: 1ms, max: 1ms } }";
    let sidecar = Sidecar::start(&config(&[&service], "", route));
    let caller = sidecar.caller();
    caller.get().await;
    let mut hits = service.hits();
    assert_eq!(hits, 1);
    while sidecar.suppressed("trial") < 1.0 {
        caller.get().await;
        assert!(service.hits() <= hits + 1, "a trial was tried again");
        hits = service.hits();
    }
}

#[tokio::test]
async fn an_empty_budget_suppresses() {
    let service = Service::always(503).await;
    let upstream = "retry_budget: { ratio: 0%, min_per_second: 1 }, ejection: { mode: off }";
    let route = format!("{QUICK}, max_attempts: 10 }}");
    let sidecar = Sidecar::start(&config(&[&service], upstream, &route));
    let start = outrigger::clock::now();
    sidecar.caller().get().await;
    let seconds = (outrigger::clock::now() - start).as_secs();
    assert!(service.hits() as u64 <= 2 + seconds, "{} in {seconds} s", service.hits());
    assert_eq!(sidecar.suppressed("budget"), 1.0);
    let balance = "outrigger_upstream_retry_budget_balance{upstream=\"u\"}";
    assert!(sidecar.sample(balance).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_fails_for_a_while_gets_a_fifth_more_and_three_a_second() {
    const RATE: u32 = 100;
    let service = Service::always(503).await;
    let upstream = "ejection: { mode: off }";
    let sidecar = Sidecar::start(&config(&[&service], upstream, &format!("{QUICK} }}")));
    let load = sidecar.caller().load(RATE, Duration::from_secs(6)).await;
    let second = |at: std::time::Instant| (at - load.start).as_secs() as usize;
    let (mut requests, mut attempts) = ([0_u32; 8], [0_u32; 8]);
    load.ends.iter().for_each(|(at, _)| requests[second(*at)] += 1);
    service.seen().iter().for_each(|seen| attempts[second(seen.at).min(7)] += 1);
    let told = format!("requests {requests:?}, attempts {attempts:?}");
    for second in 2..6 {
        // A request of the end of a second is seen at the beginning of the next.
        let most = 1.2 * f64::from(requests[second]) + 3.0 + SKEW;
        assert!(f64::from(attempts[second]) <= most, "second {second}: {told}");
    }
    // And over all of them, where the edges do not matter, no more than what was saved up above it.
    let all = |of: &[u32]| f64::from(of[2..].iter().sum::<u32>());
    assert!(all(&attempts) <= 1.2 * all(&requests) + 4.0 * 3.0 + SKEW, "{told}");
    assert!(all(&attempts) >= 1.15 * all(&requests), "retries are made at all: {told}");
    assert!(sidecar.suppressed("budget") > 0.0);
}

/// Requests that a busy machine may carry from one second into the next.
const SKEW: f64 = 6.0;
