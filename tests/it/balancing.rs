//! The choice among endpoints.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{Sidecar, config, config_with};

const ALONE: &str = "retry: { mode: off }, circuit_breaker: { mode: off }";

/// Services that are all good.
async fn good(count: usize) -> Vec<Service> {
    let mut services = Vec::new();
    for _ in 0..count {
        services.push(Service::always(200).await);
    }
    services
}

fn hits(services: &[Service]) -> Vec<usize> {
    services.iter().map(Service::hits).collect()
}

/// The settings of endpoints with these additions, each such as `weight: 2`.
fn endpoints(services: &[Service], additions: &[&str]) -> String {
    let mut list = String::new();
    for (service, addition) in services.iter().zip(additions) {
        let _ = write!(list, "{{ address: \"{}\", {addition} }}, ", service.address);
    }
    format!("endpoints: [{list}]")
}

#[tokio::test]
async fn in_turn_each_gets_its_weight_exactly() {
    let services = good(3).await;
    let upstream = format!(
        "{}, load_balancing: {{ policy: round_robin }}",
        endpoints(&services, &["weight: 1", "weight: 2", "weight: 5"])
    );
    let sidecar = Sidecar::start(&config_with(1, &upstream, ALONE));
    let caller = sidecar.caller();
    for rounds in 1..=5 {
        for _ in 0..8 {
            assert_eq!(caller.get().await.status, 200);
        }
        assert_eq!(hits(&services), [rounds, 2 * rounds, 5 * rounds]);
    }
}

/// Which of the services each of these keys goes to.
async fn owners(services: &[&Service], keys: usize) -> HashMap<String, usize> {
    let upstream =
        "load_balancing: { policy: ring_hash, hash_on: \"header:x-user\", bound: 1000% }";
    let sidecar = Sidecar::start(&config(services, upstream, ALONE));
    let caller = sidecar.caller();
    let mut owners = HashMap::new();
    for key in 0..keys {
        let key = format!("user-{key}");
        let before: Vec<_> = services.iter().map(|service| service.hits()).collect();
        assert_eq!(caller.get_with("x-user", &key).await.status, 200);
        let owner = services.iter().zip(before).position(|(s, before)| s.hits() > before).unwrap();
        owners.insert(key, owner);
    }
    owners
}

#[tokio::test]
async fn a_key_stays_with_its_endpoint_and_few_move_when_one_goes() {
    const KEYS: usize = 200;
    let services = good(5).await;
    let all: Vec<&Service> = services.iter().collect();
    let first = owners(&all, KEYS).await;
    assert_eq!(owners(&all, KEYS).await, first, "another process chooses the same");
    let fewer = owners(&all[..4], KEYS).await;
    let of_last = first.values().filter(|owner| **owner == 4).count();
    let moved = first.iter().filter(|(key, owner)| fewer[*key] != **owner).count();
    assert_eq!(moved, of_last, "only what the one that went had");
    // A fifth is 40; the ring is uneven by some tenths of that.
    assert!((15..=75).contains(&moved), "{moved}");
}

#[tokio::test]
async fn a_cookie_can_be_the_key() {
    let services = good(4).await;
    let all: Vec<&Service> = services.iter().collect();
    let upstream = "load_balancing: { policy: ring_hash, hash_on: \"cookie:sid\", bound: 1000% }";
    let sidecar = Sidecar::start(&config(&all, upstream, ALONE));
    let caller = sidecar.caller();
    for number in 0..20 {
        caller.get_with("cookie", &format!("n={number}; sid=abc; last=1")).await;
    }
    let mut hits = hits(&services);
    hits.sort_unstable();
    assert_eq!(hits, [0, 0, 0, 20]);
}

#[tokio::test]
async fn an_address_can_be_the_key() {
    let services = good(4).await;
    let all: Vec<&Service> = services.iter().collect();
    let upstream = "load_balancing: { policy: ring_hash, hash_on: client_ip, bound: 1000% }";
    let sidecar = Sidecar::start(&config(&all, upstream, ALONE));
    for _ in 0..10 {
        // Another connection, and so another port, each time.
        sidecar.caller().get().await;
    }
    let mut hits = hits(&services);
    hits.sort_unstable();
    assert_eq!(hits, [0, 0, 0, 10]);
}

#[tokio::test]
async fn requests_without_the_key_are_spread() {
    let services = good(4).await;
    let all: Vec<&Service> = services.iter().collect();
    let upstream = "load_balancing: { policy: ring_hash, hash_on: \"header:x-user\" }";
    let sidecar = Sidecar::start(&config(&all, upstream, ALONE));
    let caller = sidecar.caller();
    for _ in 0..200 {
        caller.get().await;
    }
    assert!(hits(&services).iter().all(|hits| *hits > 5), "{:?}", hits(&services));
}

#[tokio::test]
async fn the_slow_endpoint_gets_little() {
    for policy in ["least_request", "peak_ewma"] {
        let slow = Service::start(|_| Act::Late(Duration::from_millis(300), 200)).await;
        let fast = Service::always(200).await;
        let upstream = format!("load_balancing: {{ policy: {policy} }}");
        let sidecar = Sidecar::start(&config(&[&slow, &fast], &upstream, ALONE));
        let load = sidecar.caller().load(100, Duration::from_secs(2)).await;
        assert_eq!(load.after(Duration::ZERO), (200, 200));
        // In turn it would be a hundred.
        assert!(slow.hits() < 50, "{policy}: {} of 200", slow.hits());
        assert!(slow.hits() > 0, "{policy}: it is looked at");
    }
}

#[tokio::test]
async fn endpoints_of_the_own_zone_are_preferred_while_enough_of_them_live() {
    let mut services = good(2).await;
    for _ in 0..2 {
        services.push(
            Service::start(|seen| status(if seen.path == "/fail" { 500 } else { 200 })).await,
        );
    }
    let zones = ["zone: a", "zone: a", "zone: b", "zone: b"];
    let upstream = format!(
        "{}, zone: b, load_balancing: {{ policy: round_robin }}, slow_start: 0s, \
         ejection: {{ consecutive_failures: 2, base: 60s, max_ejected: 100% }}",
        endpoints(&services, &zones)
    );
    let sidecar = Sidecar::start(&config_with(1, &upstream, ALONE));
    let caller = sidecar.caller();
    for _ in 0..10 {
        caller.get().await;
    }
    assert_eq!(hits(&services), [0, 0, 5, 5]);
    let fail = || crate::support::caller::request("GET", "/fail");
    // One of two is ejected: half of the zone is left, which is enough.
    while services[2].hits() + services[3].hits() < 13 {
        caller.send(fail()).await;
    }
    for _ in 0..10 {
        assert_eq!(caller.get().await.status, 200);
    }
    assert_eq!(hits(&services)[..2], [0, 0]);
    // The other follows: all of the zone is gone, and the others take over.
    while sidecar.metric("outrigger_upstream_ejections_total{upstream=\"u\"}") < 2.0 {
        caller.send(fail()).await;
    }
    for _ in 0..10 {
        assert_eq!(caller.get().await.status, 200);
    }
    assert_eq!(hits(&services)[0] + hits(&services)[1], 10);
}

#[tokio::test]
async fn the_upstreams_of_a_route_get_their_weights() {
    let services = good(2).await;
    let text = format!(
        "{}upstreams:\n  a: {{ endpoints: [\"{}\"] }}\n  b: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  - name: r\n    upstreams:\n\
         \x20     - {{ name: a, weight: 9 }}\n      - {{ name: b, weight: 1 }}\n",
        crate::support::sidecar::HEAD,
        services[0].address,
        services[1].address
    );
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    for _ in 0..300 {
        caller.get().await;
    }
    // Thirty are expected; below 8 or above 62 chance is out of the question.
    assert!((8..=62).contains(&services[1].hits()), "{:?}", hits(&services));
}
