//! Several proxies one behind the other: failures are not multiplied, and what one refuses the next
//! does not blame on it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::service::{Act, Service};
use crate::support::sidecar::{Sidecar, config, config_to};

/// A chain of proxies, the last of which sends to this address; the first comes first.
fn chain(length: usize, leaf: SocketAddr, route: &str) -> Vec<Sidecar> {
    let mut chain: Vec<Sidecar> = Vec::new();
    for _ in 0..length {
        let next = chain.last().map_or(leaf, |sidecar| sidecar.address);
        chain.push(Sidecar::start(&config_to(&[next], "ejection: { mode: off }", route)));
    }
    chain.reverse();
    chain
}

#[tokio::test(flavor = "multi_thread")]
async fn four_tiers_of_retries_send_little_more_than_one() {
    let leaf = Service::always(502).await;
    // Without circuits, which would send nothing at all.
    let route = "circuit_breaker: { mode: off }, retry: { backoff: { base: 1ms, max: 5ms } }";
    let chain = chain(4, leaf.address, route);
    let load = chain[0].caller().load(200, Duration::from_secs(3)).await;
    let (offered, failed) = (load.ends.len(), load.failures().len());
    assert_eq!(failed, offered, "the leaf answers nothing else");
    // Three attempts in each of four tiers would be 81.
    let share = leaf.hits() as f64 / offered as f64;
    assert!((1.0..=1.5).contains(&share), "{} for {offered}", leaf.hits());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_behind_refuses_is_no_failure_of_it() {
    let service = Service::start(|_| Act::Hang).await;
    let limit = "concurrency: { min: 1, initial: 1, max: 1, queue: { max: 0 } }";
    let inner = Sidecar::start(&config(&[&service], limit, ""));
    let outer = Sidecar::start(&config_to(&[inner.address], "", "retry: { mode: off }"));
    let caller = outer.caller();
    let held = tokio::spawn(async move { caller.get().await });
    service.reached(1).await;
    let caller = outer.caller();
    for _ in 0..30 {
        let got = caller.get().await;
        assert_eq!((got.status, got.reason()), (503, Some("concurrency_limit")));
    }
    assert_eq!(outer.transitions("open"), 0.0, "the circuit is not opened by it");
    let failures = format!(
        "outrigger_endpoint_attempts_total{{upstream=\"u\",endpoint=\"{}\",result=\"failure\"}}",
        inner.address
    );
    assert_eq!(outer.metric(&failures), 0.0);
    let live = outer.app().proxy.live();
    let view = live.snapshot.upstreams["u"].state.gate.view(outrigger::clock::now());
    assert_eq!(view.limiter.limit, 20, "nor is it a drop to the limit in front");
    held.abort();
}
