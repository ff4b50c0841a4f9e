//! The circuit between a route and its upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use outrigger::clock;
use outrigger::policy::circuit_breaker::State;

use crate::support::caller::request;
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{Sidecar, config, eventually};

/// A service whose status the test changes.
async fn switched(first: u16) -> (Service, Arc<AtomicU16>) {
    let code = Arc::new(AtomicU16::new(first));
    let now = Arc::clone(&code);
    (Service::start(move |_| status(now.load(Ordering::SeqCst))).await, code)
}

fn route(settings: &str) -> String {
    format!("retry: {{ mode: off }}, circuit_breaker: {{ {settings} }}")
}

/// The endpoint stays in the choice, so that the circuit alone acts.
const STAYS: &str = "ejection: { mode: off }";

#[tokio::test]
async fn it_opens_on_the_share_of_failures_and_sends_nothing_more() {
    let service = Service::start(|seen| status(if seen.number % 2 == 0 { 500 } else { 200 })).await;
    let route = route("failure_ratio: 50%, min_requests: 10, open: 60s");
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    for _ in 0..9 {
        assert_eq!(caller.get().await.reason(), None, "too few to judge");
    }
    assert_eq!(sidecar.circuit_state(), State::Closed);
    caller.get().await;
    assert_eq!(sidecar.circuit_state(), State::Open);
    for _ in 0..10 {
        let got = caller.get().await;
        assert_eq!((got.status, got.reason()), (503, Some("circuit_open")));
        let seconds: u64 = got.header("retry-after").unwrap().parse().unwrap();
        // 60 s, jittered by a tenth, rounded up and spread by a quarter.
        assert!((1..=84).contains(&seconds), "{seconds}");
        assert_eq!(got.header("x-outrigger-shed"), Some("1"));
    }
    assert_eq!((service.hits(), sidecar.transitions("open")), (10, 1.0));
    let gauge = "outrigger_breaker_state{route=\"r\",upstream=\"u\"}";
    assert_eq!(sidecar.metric(gauge), 1.0);
    let refused = "outrigger_route_reasons_total{route=\"r\",reason=\"circuit_open\"}";
    assert_eq!(sidecar.metric(refused), 10.0);
}

#[tokio::test]
async fn fewer_failures_than_the_share_leave_it_closed() {
    let service = Service::start(|seen| status(if seen.number % 3 == 0 { 500 } else { 200 })).await;
    let route = route("failure_ratio: 50%, min_requests: 10");
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    for _ in 0..60 {
        caller.get().await;
    }
    assert_eq!((service.hits(), sidecar.circuit_state()), (60, State::Closed));
}

#[tokio::test]
async fn it_opens_on_timeouts_resets_and_slow_answers() {
    let cases = [
        (Act::Hang, "consecutive: 3", "timeouts: { per_try: 20ms }"),
        (Act::Drop, "consecutive: 3", ""),
        (status(429), "consecutive: 3", ""),
        (Act::Late(Duration::from_millis(30), 200), "min_requests: 3, slow: { over: 20ms }", ""),
    ];
    for (act, settings, rest) in cases {
        let told = format!("{act:?}");
        let service = Service::start(move |_| act.clone()).await;
        let route = format!("{}, {rest}", route(&format!("{settings}, open: 60s")));
        let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
        let caller = sidecar.caller();
        for _ in 0..3 {
            assert_ne!(caller.get().await.reason(), Some("circuit_open"), "{told}");
        }
        assert_eq!(caller.get().await.reason(), Some("circuit_open"), "{told}");
        assert_eq!(service.hits(), 3, "{told}");
    }
}

#[tokio::test]
async fn it_comes_back_by_trials_and_a_ramp() {
    let (service, code) = switched(500).await;
    let route = route("consecutive: 3, open: 50ms, trials: 2, ramp: 400ms");
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    for _ in 0..3 {
        caller.get().await;
    }
    assert_eq!(sidecar.circuit_state(), State::Open);
    code.store(200, Ordering::SeqCst);
    let (mut passed, mut refused) = (0, 0);
    eventually("the circuit closes", async || {
        match caller.get().await.reason() {
            None => passed += 1,
            Some(_) => refused += 1,
        }
        sidecar.circuit_state() == State::Closed
    })
    .await;
    assert!(passed >= 2 && refused > 0, "{passed} passed, {refused} refused");
    assert_eq!(service.hits(), 3 + passed);
    assert_eq!(caller.get().await.status, 200);
    for state in ["open", "half_open", "ramping", "closed"] {
        assert_eq!(sidecar.transitions(state), 1.0, "{state}");
    }
}

#[tokio::test]
async fn no_more_than_the_trials_are_sent_while_they_are_out() {
    let service = Service::start(|seen| match seen.number {
        0 => status(500),
        _ => Act::Hang,
    })
    .await;
    let route = route("consecutive: 1, open: 10ms, trials: 2");
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    caller.get().await;
    let mut waiting = tokio::task::JoinSet::new();
    eventually("both trials are out", async || {
        let caller = caller.clone();
        waiting.spawn(async move { caller.try_send(request("GET", "/")).await });
        service.hits() == 3
    })
    .await;
    for _ in 0..20 {
        assert_eq!(caller.get().await.reason(), Some("circuit_open"));
    }
    assert_eq!(service.hits(), 3);
    // Clients that leave give their trials back.
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    eventually("another trial is sent", async || {
        let caller = caller.clone();
        let spawned = tokio::spawn(async move { caller.get().await });
        for _ in 0..50 {
            if service.hits() > 3 || spawned.is_finished() {
                break;
            }
            clock::sleep(Duration::from_millis(1)).await;
        }
        spawned.abort();
        service.hits() > 3
    })
    .await;
}

#[tokio::test]
async fn a_failed_trial_opens_it_again_for_longer() {
    let service = Service::always(500).await;
    let route = route("consecutive: 1, open: 40ms, open_max: 10s");
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    eventually("four trials have failed", async || {
        caller.get().await;
        service.hits() == 5
    })
    .await;
    let times: Vec<_> = service.seen().iter().map(|seen| seen.at).collect();
    // 40, 80, 160 and 320 ms, each up to a tenth shorter.
    for (pair, least) in times.windows(2).zip([36, 72, 144, 288]) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(least), "{least} ms");
    }
}

#[tokio::test]
async fn observing_lets_all_pass_and_counts() {
    let service = Service::always(500).await;
    let route = route("mode: observe, consecutive: 3, open: 60s");
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    for _ in 0..10 {
        assert_eq!(caller.get().await.reason(), None);
    }
    assert_eq!((service.hits(), sidecar.would("circuit_breaker")), (10, 7.0));
    assert_eq!(sidecar.transitions("open"), 1.0);
}

#[tokio::test]
async fn operators_isolate_it_and_close_it() {
    let service = Service::always(200).await;
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route("")));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 200);
    sidecar.circuit().isolate();
    for _ in 0..5 {
        let got = caller.get().await;
        assert_eq!((got.status, got.reason()), (503, Some("circuit_open")));
    }
    assert_eq!((service.hits(), sidecar.circuit_state()), (1, State::Isolated));
    sidecar.circuit().close();
    assert_eq!(caller.get().await.status, 200);
    assert_eq!((sidecar.transitions("isolated"), sidecar.transitions("closed")), (1.0, 1.0));
}

#[tokio::test]
async fn its_state_outlives_a_reload() {
    let service = Service::always(500).await;
    let text = config(&[&service], STAYS, &route("consecutive: 3, open: 60s"));
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    for _ in 0..3 {
        caller.get().await;
    }
    for timeout in ["9s", "8s"] {
        let changed =
            text.replace("name: r,", &format!("name: r, timeouts: {{ total: {timeout} }},"));
        assert!(sidecar.app().proxy.reload(&changed).unwrap().changed);
        assert_eq!(caller.get().await.reason(), Some("circuit_open"));
    }
    assert_eq!((service.hits(), sidecar.transitions("open")), (3, 1.0));
}

#[tokio::test]
async fn an_open_circuit_is_of_one_route_alone() {
    let service = Service::always(500).await;
    let text = config(&[&service], STAYS, &route("consecutive: 1, open: 60s"));
    let text = text.replace(
        "routes: [",
        "routes: [{ name: other, upstream: u, match: { path: /other }, retry: { mode: off } }, ",
    );
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    caller.get().await;
    assert_eq!(caller.get().await.reason(), Some("circuit_open"));
    let other = caller.send(request("GET", "/other")).await;
    assert_eq!((other.status, other.reason()), (500, None));
}
