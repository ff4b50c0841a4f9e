//! The rate limit of a route.

use std::sync::Arc;
use std::time::Duration;

use crate::support::caller::Got;
use crate::support::service::Service;
use crate::support::sidecar::{Sidecar, config, eventually};

fn route(limit: &str) -> String {
    format!("rate_limit: {{ {limit} }}")
}

/// The numbers of a field such as `"default";r=0;t=3`, by their names.
fn numbers(got: &Got, field: &str, names: [&str; 2]) -> [u64; 2] {
    let value = got.header(field).unwrap_or_else(|| panic!("no {field}: {:?}", got.headers));
    names.map(|name| {
        let parameter =
            value.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        parameter.unwrap_or_else(|| panic!("no {name}: {value}")).parse().unwrap()
    })
}

#[tokio::test]
async fn above_the_burst_requests_are_refused_and_told_when_to_return() {
    let service = Service::always(200).await;
    let sidecar = Sidecar::start(&config(&[&service], "", &route("rate: 6/min, burst: 4")));
    let caller = sidecar.caller();
    for _ in 0..4 {
        assert_eq!(caller.get().await.status, 200);
    }
    let got = caller.get().await;
    assert_eq!((got.status, got.reason()), (429, Some("rate_limited")));
    assert_eq!(numbers(&got, "ratelimit-policy", ["q", "w"]), [6, 60]);
    let [remaining, reset] = numbers(&got, "ratelimit", ["r", "t"]);
    assert_eq!(remaining, 0);
    assert!((1..=10).contains(&reset), "{reset}");
    let wait: u64 = got.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=14).contains(&wait), "{wait}");
    assert_eq!(service.hits(), 4);
    let refused = "outrigger_route_reasons_total{route=\"r\",reason=\"rate_limited\"}";
    assert_eq!(sidecar.metric(refused), 1.0);
}

#[tokio::test]
async fn nobody_is_asked_to_come_back_at_once() {
    let service = Service::always(200).await;
    let sidecar = Sidecar::start(&config(&[&service], "", &route("rate: 100/s, burst: 1")));
    let caller = sidecar.caller();
    let mut refused = 0;
    while refused < 10 {
        let got = caller.get().await;
        if got.status == 429 {
            refused += 1;
            let wait: u64 = got.header("retry-after").unwrap().parse().unwrap();
            assert!(wait >= 1);
        }
    }
}

#[tokio::test]
async fn each_key_has_a_limit_of_its_own() {
    let service = Service::always(200).await;
    let limit = route("rate: 1/min, burst: 2, key: \"header:X-Api-Key\"");
    let sidecar = Sidecar::start(&config(&[&service], "", &limit));
    let caller = sidecar.caller();
    for key in ["a", "b", "c"] {
        for expected in [200, 200, 429, 429] {
            assert_eq!(caller.get_with("x-api-key", key).await.status, expected, "{key}");
        }
    }
    // Those without a key share one.
    for expected in [200, 200, 429] {
        assert_eq!(caller.get().await.status, expected);
    }
}

#[tokio::test]
async fn each_address_has_a_limit_of_its_own() {
    let service = Service::always(200).await;
    let limit = route("rate: 1/min, burst: 1, key: client_ip");
    let sidecar = Sidecar::start(&config(&[&service], "", &limit));
    for last in [2, 3] {
        for expected in [200, 429] {
            assert_eq!(status_from(last, sidecar.address).await, expected, "127.0.0.{last}");
        }
    }
}

/// The status of a GET from this address of loopback.
async fn status_from(last: u8, to: std::net::SocketAddr) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn waiting_spaces_requests_and_refuses_what_would_wait_too_long() {
    let service = Service::always(200).await;
    let limit = route("rate: 10/s, burst: 1, on_limit: wait, max_wait: 450ms");
    let sidecar = Sidecar::start(&config(&[&service], "", &limit));
    let caller = sidecar.caller();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let caller = caller.clone();
        running.spawn(async move { caller.get().await.status });
    }
    let statuses = running.join_all().await;
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 10 - passed);
    // One at once, and one each 100 ms for 450; one more when the last came 50 ms after the first.
    assert!((5..=6).contains(&passed), "{statuses:?}");
    let times: Vec<_> = service.seen().iter().map(|seen| seen.at).collect();
    let whole = *times.last().unwrap() - times[0];
    // The first may have come late by what lies between its admission and its arrival.
    assert!(whole >= Duration::from_millis(100 * (passed as u64 - 1) - 60), "{whole:?}");
}

#[tokio::test]
async fn a_wait_that_the_deadline_does_not_allow_ends_at_once_and_takes_no_turn() {
    let service = Service::always(200).await;
    let limit = route("rate: 1/min, burst: 1, on_limit: wait, max_wait: 24h");
    let sidecar = Sidecar::start(&config(&[&service], "", &limit));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 200);
    for _ in 0..3 {
        let got = caller.get().await;
        assert_eq!((got.status, got.reason()), (504, Some("deadline")));
    }
    let live = sidecar.app().proxy.live();
    let limiter = live.snapshot.routes[0].limiter.as_ref().unwrap();
    assert!(limiter.state(None).reset <= Duration::from_secs(60), "{:?}", limiter.state(None));
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_turn_back() {
    let service = Service::always(200).await;
    let limit = route("rate: 2/min, burst: 1, on_limit: wait, max_wait: 1h");
    let limit = format!("{limit}, timeouts: {{ total: 1h }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &limit));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 200);
    let live = sidecar.app().proxy.live();
    let limiter = Arc::clone(live.snapshot.routes[0].limiter.as_ref().unwrap());
    let waiting = tokio::spawn({
        let caller = caller.clone();
        async move { caller.get().await }
    });
    eventually("it waits", async || limiter.waiting() == 1).await;
    assert!(limiter.state(None).reset > Duration::from_secs(31));
    waiting.abort();
    eventually("it left", async || limiter.waiting() == 0).await;
    assert!(limiter.state(None).reset <= Duration::from_secs(30));
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn observing_lets_all_pass_and_counts() {
    let service = Service::always(200).await;
    for on_limit in ["reject", "wait, max_wait: 1h"] {
        let limit = route(&format!("mode: observe, rate: 1/min, burst: 2, on_limit: {on_limit}"));
        let sidecar = Sidecar::start(&config(&[&service], "", &limit));
        let caller = sidecar.caller();
        for _ in 0..5 {
            assert_eq!(caller.get().await.status, 200);
        }
        assert_eq!(sidecar.would("rate_limit"), 3.0);
    }
}
