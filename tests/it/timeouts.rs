//! When things end: connections, attempts, requests and bodies; and the caller's deadline.

use std::time::Duration;

use http_body_util::BodyExt;

use crate::support::PATIENCE;
use crate::support::caller::request;
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{Sidecar, config, config_to};

const ONCE: &str = "circuit_breaker: { mode: off }, retry: { mode: off }";

/// A socket that listens and whose queue of connections is full: the next one gets no answer.
struct BlackHole {
    address: std::net::SocketAddr,
    _socket: socket2::Socket,
    _queued: Vec<std::net::TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        // The kernel takes one or two more than it was told; the first refused one proves it full.
        let connect = || std::net::TcpStream::connect_timeout(&address, PROOF);
        let queued: Vec<_> = std::iter::from_fn(|| connect().ok()).take(64).collect();
        assert!(queued.len() < 64, "the queue never fills");
        Self { address, _socket: socket, _queued: queued }
    }
}

/// How long a connection over loopback may hang before its queue counts as full.
const PROOF: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_given_up() {
    let hole = BlackHole::new();
    let route = format!("{ONCE}, timeouts: {{ connect: 50ms }}");
    let sidecar = Sidecar::start(&config_to(&[hole.address], "", &route));
    let got = sidecar.caller().get().await;
    assert_eq!((got.status, got.reason()), (504, Some("connect_timeout")));
}

#[tokio::test]
async fn a_post_goes_elsewhere_when_no_connection_is_made_in_time() {
    let (hole, good) = (BlackHole::new(), Service::always(200).await);
    let upstream = "load_balancing: { policy: round_robin }, ejection: { mode: off }";
    let route = "timeouts: { connect: 50ms }, retry: { backoff: { base: 1ms, max: 1ms } }";
    let sidecar = Sidecar::start(&config_to(&[hole.address, good.address], upstream, route));
    let caller = sidecar.caller();
    for _ in 0..2 {
        assert_eq!(caller.send(request("POST", "/")).await.status, 200);
    }
    assert_eq!(good.hits(), 2);
    assert!(sidecar.retries() >= 1.0);
}

#[tokio::test]
async fn an_attempt_ends_in_its_own_time() {
    let service = Service::start(|_| Act::Hang).await;
    let route = format!("{ONCE}, timeouts: {{ per_try: 50ms }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    let got = sidecar.caller().get().await;
    assert_eq!((got.status, got.reason()), (504, Some("per_try_timeout")));
    service.open(0).await;
}

#[tokio::test]
async fn a_request_ends_in_its_own_time_whatever_it_was_doing() {
    for (act, rest) in [
        (
            Act::Hang,
            "timeouts: { total: 80ms, per_try: 80ms, connect: 80ms }, retry: { mode: off }",
        ),
        (
            status(503),
            "timeouts: { total: 80ms, connect: 80ms }, \
             retry: { max_attempts: 10, backoff: { base: 20ms, max: 20ms, jitter: equal } }",
        ),
    ] {
        let service = Service::start(move |_| act.clone()).await;
        let upstream = "retry_budget: { min_per_second: 100 }";
        let sidecar = Sidecar::start(&config(&[&service], upstream, rest));
        let start = outrigger::clock::now();
        let got = sidecar.caller().get().await;
        assert!(got.status >= 503, "{rest}");
        // Not a measurement: the bound is there to tell 80 ms from 10 s.
        assert!(outrigger::clock::now() - start < Duration::from_secs(8), "{rest}");
        if got.status == 504 {
            assert_eq!(got.reason(), Some("deadline"));
        } else {
            assert_eq!(got.reason(), None, "the last real answer");
        }
    }
}

/// An answer that stops in its middle, and why it was cut off.
async fn stalled(timeouts: &str, kind: &'static str) -> &'static str {
    let service = Service::start(move |_| Act::Stall(kind)).await;
    let route = format!("timeouts: {{ {timeouts}, connect: 50ms }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    let (_sender, answer) = sidecar.caller().head(request("GET", "/")).await.unwrap();
    assert_eq!(answer.status(), 200, "the head was good");
    let body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await;
    assert!(body.expect("it ends").is_err(), "the client is not told that it is whole");
    service.open(0).await;
    let reasons = ["body_idle", "body_deadline"];
    let counted = reasons.map(|reason| {
        sidecar.metric(&format!("outrigger_route_reasons_total{{route=\"r\",reason=\"{reason}\"}}"))
    });
    assert_eq!(counted.iter().sum::<f64>(), 1.0);
    reasons[usize::from(counted[1] > 0.0)]
}

#[tokio::test]
async fn a_body_that_stands_still_is_cut_off() {
    assert_eq!(stalled("idle: 50ms", "text/plain").await, "body_idle");
    assert_eq!(stalled("total: 100ms", "text/plain").await, "body_deadline");
    assert_eq!(stalled("total: 100ms, idle: 50ms", "text/plain").await, "body_idle");
}

#[tokio::test]
async fn an_answer_that_goes_on_by_design_outlives_the_total_time() {
    assert_eq!(stalled("total: 100ms, idle: 200ms", "text/event-stream").await, "body_idle");
}

/// What a service was told of the time left, in milliseconds, with these fields sent.
async fn told(timeouts: &str, fields: &[(&'static str, &str)], name: &str) -> Option<u64> {
    let service = Service::always(200).await;
    let route = format!("{ONCE}, timeouts: {{ {timeouts} }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    let mut request = request("GET", "/");
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    assert_eq!(sidecar.caller().send(request).await.status, 200);
    let seen = &service.seen()[0];
    let value = seen.header(name)?;
    let nanos = value.strip_suffix('n').map(|nanos| nanos.parse::<u64>().unwrap() / 1_000_000);
    let micros = value.strip_suffix('u').map(|micros| micros.parse::<u64>().unwrap() / 1000);
    Some(nanos.or(micros).unwrap_or_else(|| value.parse().unwrap()))
}

#[tokio::test]
async fn the_time_left_is_told_to_the_upstream() {
    const OURS: &str = "x-request-timeout-ms";
    const ENVOYS: &str = "x-envoy-expected-rq-timeout-ms";
    let grpc = ("content-type", "application/grpc");
    // The caller's time, less the offset; never more, and never much less on the first attempt.
    type Case<'a> = (&'a str, &'a [(&'static str, &'a str)], &'static str, u64);
    let cases: [Case<'_>; 7] = [
        ("total: 30s", &[], OURS, 30_000),
        ("total: 30s, per_try: 20s", &[], OURS, 20_000),
        ("total: 60s", &[(OURS, "30000")], OURS, 29_995),
        ("total: 60s, deadline_offset: 1s", &[(OURS, "30000")], OURS, 29_000),
        ("total: 60s", &[(ENVOYS, "30000")], ENVOYS, 29_995),
        ("total: 60s", &[("grpc-timeout", "30S"), grpc], "grpc-timeout", 29_995),
        ("total: 10s", &[(OURS, "30000")], OURS, 10_000),
    ];
    for (timeouts, fields, name, most) in cases {
        let left = told(timeouts, fields, name).await.expect(name);
        assert!(left <= most && left + 4000 > most, "{timeouts} {fields:?}: {left}");
    }
    assert_eq!(told("total: null", &[], OURS).await, None);
    assert_eq!(told("total: 9s", &[], ENVOYS).await, None, "only where the caller uses it");
}

#[tokio::test]
async fn the_time_left_shrinks_with_every_attempt() {
    let service = Service::always(503).await;
    let route = "timeouts: { total: 180s, per_try: 60s }, \
                 retry: { backoff: { base: 20ms, max: 20ms, jitter: equal } }";
    let sidecar = Sidecar::start(&config(&[&service], "", route));
    sidecar.caller().get_with("x-request-timeout-ms", "30000").await;
    let left: Vec<u64> = service
        .seen()
        .iter()
        .map(|seen| seen.header("x-request-timeout-ms").unwrap().parse().unwrap())
        .collect();
    assert_eq!(left.len(), 3);
    assert!(left[0] <= 29_995);
    assert!(left[1] + 10 <= left[0] && left[2] + 10 <= left[1], "{left:?}");
}

#[tokio::test]
async fn work_that_nobody_waits_for_is_not_sent() {
    let service = Service::always(200).await;
    let sidecar = Sidecar::start(&config(&[&service], "", ONCE));
    let caller = sidecar.caller();
    // Five milliseconds are the offset: nothing is left of so little.
    for (name, value) in [
        ("x-request-timeout-ms", "5"),
        ("x-envoy-expected-rq-timeout-ms", "1"),
        ("grpc-timeout", "100u"),
        ("grpc-timeout", "0n"),
    ] {
        let got = caller.get_with(name, value).await;
        assert_eq!((got.status, got.reason()), (504, Some("deadline")), "{name}: {value}");
    }
    assert_eq!(service.hits(), 0);
}

#[tokio::test]
async fn a_caller_that_is_not_trusted_sets_no_deadline() {
    let service = Service::always(200).await;
    let text = config(&[&service], "", ONCE)
        .replace("{ name: in, bind: 127.0.0.1:0 }", "{ name: in, bind: 127.0.0.1:0, trust: none }");
    let sidecar = Sidecar::start(&text);
    let got = sidecar.caller().get_with("x-request-timeout-ms", "1").await;
    assert_eq!((got.status, service.hits()), (200, 1));
}
