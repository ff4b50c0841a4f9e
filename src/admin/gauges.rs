//! Brings the gauges up to the moment of a scrape: what only time changes, and what is counted
//! elsewhere anyway and need not be written twice on the way of a request.

use std::time::{Duration, Instant};

use crate::clock;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;

/// Sets every gauge that nothing else keeps.
pub(super) fn refresh(snapshot: &Snapshot, proxy: &Proxy, now: Instant) {
    proxy.stores.measure();
    snapshot.measure_tls(&proxy.metrics, clock::wall_now());
    for route in &snapshot.routes {
        for (_, circuit) in route.circuits() {
            circuit.measure(&route.settings.circuit_breaker, now);
        }
        if let (Some(learning), Some(settings)) = (&route.learning, &route.settings.rate_limit) {
            learning.measure(settings, now);
        }
        if let (Some(hedging), Some(settings)) = (&route.hedging, &route.settings.hedge) {
            hedging.measure(settings);
        }
        let (metrics, bulkhead) = (&route.metrics.bulkhead, route.bulkhead.as_ref());
        let (in_flight, limit) = bulkhead.map_or((0, 0), |bulkhead| bulkhead.filled());
        metrics.in_flight.set(in_flight as usize);
        metrics.limit.set(limit as usize);
        metrics.waiting.set(bulkhead.map_or(0, |bulkhead| bulkhead.waiting()));
    }
    for upstream in snapshot.upstreams.values() {
        measure(upstream, now);
    }
}

fn measure(upstream: &Upstream, now: Instant) {
    let metrics = &upstream.state.metrics;
    let balance = upstream.budget(now);
    metrics.retry_budget.set((balance.ratio_millis + balance.floor_millis) as f64 / 1000.0);
    metrics.connections.set(upstream.state.connections.open());
    let places = upstream.state.gate.view(now);
    metrics.places.limit.set(places.limiter.limit as usize);
    metrics.places.in_flight.set(places.limiter.in_flight as usize);
    metrics.places.waiting.set(places.waiting);
    let baseline = places.limiter.baseline.unwrap_or_default();
    metrics.places.baseline.set(baseline.as_secs_f64());
    metrics.places.ratio.set(places.limiter.ratio);
    metrics.places.refused.set(places.refused_share);
    metrics.places.threshold.set(places.threshold_height);
    let (mut available, mut ejected, mut unhealthy, mut in_flight) = (0, 0, 0, 0);
    for endpoint in &upstream.state.endpoints.load().endpoints {
        let out = endpoint.ejected_until(now).is_some();
        match (endpoint.healthy(), out) {
            (true, false) => available += 1,
            (true, true) => ejected += 1,
            // Each endpoint counts once; the checks know more than the attempts.
            (false, _) => unhealthy += 1,
        }
        in_flight += endpoint.in_flight();
        endpoint.metrics.ejected.set(usize::from(out));
        if let Some(nanos) = endpoint.cost(now) {
            let mean = Duration::from_nanos(nanos as u64);
            endpoint.metrics.ewma.set(mean.as_secs_f64());
        }
    }
    metrics.in_flight.set(in_flight);
    metrics.endpoints_available.set(available);
    metrics.endpoints_ejected.set(ejected);
    metrics.endpoints_unhealthy.set(unhealthy);
}
