//! Everything that the policies do for one request that is admitted and answered at once, with the
//! locks, counters and metrics that the proxy has around them, and the clock readings.

use outrigger::records::registry::Registry;
use std::hint::black_box;

use criterion::Criterion;
use outrigger::clock;
use outrigger::config::{self, ProcessEnvironment};
use outrigger::gate::Lesson;
use outrigger::policy::circuit_breaker::Verdict;
use outrigger::policy::concurrency::Sample;
use outrigger::policy::retry;
use outrigger::policy::timeout;
use outrigger::snapshot::Snapshot;
use outrigger::snapshot::circuit::Admission;
use outrigger::snapshot::route::Route;
use outrigger::telemetry::metrics::Metrics;

use super::machines::{SAFE, answer, attempt};

fn snapshot(rate_limit: &str) -> Snapshot {
    let text = format!(
        "listeners: [{{ name: l, bind: '127.0.0.1:1' }}]\n\
         upstreams: {{ u: {{ endpoints: ['127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3'] }} }}\n\
         routes: [{{ name: r, upstream: u, {rate_limit} }}]"
    );
    let loaded = config::read(&text, &ProcessEnvironment).expect("a configuration");
    Snapshot::compile(loaded, None, &Metrics::new(&[]), &Registry::default()).expect("a snapshot")
}

pub(crate) fn benches(c: &mut Criterion) {
    for (name, rate_limit) in [
        ("default settings", ""),
        ("and a rate limit", "rate_limit: { rate: 100000000/s }"),
        (
            "a rate limit and a bulkhead",
            "rate_limit: { rate: 100000000/s }, bulkhead: { max_concurrent: 100 }",
        ),
    ] {
        let snapshot = snapshot(rate_limit);
        let route = &*snapshot.routes[0];
        c.bench_function(&format!("request/all policies, {name}"), |b| b.iter(|| one(route)));
    }
}

/// In the order of the pipeline: three readings of the clock, as there.
fn one(route: &Route) -> Option<()> {
    let start = clock::now();
    let settings = &route.settings;
    let deadline = timeout::deadline(&settings.timeouts, start, None);
    if let (Some(limiter), Some(limit)) = (&route.limiter, &settings.rate_limit) {
        black_box(limiter.check(limit, None));
    }
    let target = route.targets.get(route.choose_target(fastrand::f64))?;
    let now = clock::now();
    let bulkhead = route.bulkhead.as_ref().map(|gate| gate.try_enter(now));
    let mut place = target.upstream.state.gate.try_enter(now)?;
    target.upstream.deposit(now);
    let end = timeout::try_deadline(&settings.timeouts, route.max_attempts, now, deadline);
    black_box(timeout::remaining(now, end, deadline));
    let breaker = &settings.circuit_breaker;
    let Admission::Pass(pass) = target.circuit.admit(breaker, now, fastrand::f64()) else {
        return None;
    };
    let endpoint = target.upstream.choose(&[], None, now)?;
    let in_flight = endpoint.enter();

    let now = clock::now();
    let outcome = black_box(answer(200));
    let sample = Sample::Answered(outcome.latency);
    place.learn(Lesson { route: target.baseline, sample, at: now });
    target.upstream.learn(&endpoint, &outcome, false, now);
    pass.record(breaker, Verdict::default(), now, fastrand::f64());
    let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
    let random = fastrand::f64();
    black_box(retry::decide(&settings.retry, &SAFE, &attempt(&outcome), left, random));
    drop((place, in_flight, bulkhead));
    Some(())
}
