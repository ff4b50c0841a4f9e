//! One policy at a time, without the lock that the proxy puts around it.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use governor::clock::Clock;
use outrigger::clock;
use outrigger::policy::circuit_breaker::{self, Breaker, Verdict};
use outrigger::policy::ejection::{self, Ejection};
use outrigger::policy::load_balancing::{self, HashOn, PeakEwma};
use outrigger::policy::outcome::{End, Outcome};
use outrigger::policy::rate_limit::{self, Limiter};
use outrigger::policy::retry::{self, Attempt, Jitter, backoff};
use outrigger::policy::retry_budget::{self, Budget, Cost};
use outrigger::policy::{slow_start, timeout};

use super::{BUSY, Moving};

/// The clock of the proxy, as its limiters read it.
#[derive(Clone)]
pub(crate) struct Process;

impl Clock for Process {
    type Instant = std::time::Instant;
    fn now(&self) -> Self::Instant {
        clock::now()
    }
}

pub(crate) const fn answer(status: u16) -> Outcome {
    Outcome {
        end: End::Answer { status, grpc: None },
        unsent: false,
        latency: Duration::from_millis(3),
        hint: None,
        peer_shed: false,
    }
}

pub(crate) const SAFE: retry::Request =
    retry::Request { safe: true, replayable: true, keyed: false, inbound_attempt: 0 };

pub(crate) fn attempt(outcome: &Outcome) -> Attempt<'_> {
    Attempt {
        number: 1,
        outcome,
        has_header: &|_| false,
        previous_wait: Duration::ZERO,
        trial: false,
        shed_before: false,
        tried_there: false,
    }
}

pub(crate) fn benches(c: &mut Criterion) {
    c.bench_function("clock/now", |b| b.iter(clock::now));
    breaker(c);
    endpoint(c);
    budget(c);
    decision(c);
    limiter(c);
    times(c);
}

fn breaker(c: &mut Criterion) {
    let s = circuit_breaker::Settings::default();
    let good = Verdict::default();
    c.bench_function("circuit_breaker/closed: admit + record", |b| {
        let (mut breaker, mut time) = (Breaker::new(), Moving::by(BUSY));
        b.iter(|| {
            let now = time.read();
            let permit = breaker.admit(&s, now, 0.5).expect("it is closed");
            breaker.record(&s, permit, black_box(good), now, 0.5)
        });
    });
    c.bench_function("circuit_breaker/isolated: refuse", |b| {
        let (mut breaker, mut time) = (Breaker::new(), Moving::by(BUSY));
        breaker.isolate();
        b.iter(|| breaker.admit(&s, time.read(), 0.5).is_err());
    });
}

fn endpoint(c: &mut Criterion) {
    let s = ejection::Settings::default();
    c.bench_function("ejection/counts + record", |b| {
        let (mut ejection, mut time) = (Ejection::new(), Moving::by(BUSY));
        b.iter(|| {
            let now = time.read();
            ejection.counts(now).then(|| ejection.record(&s, black_box(false), now))
        });
    });
    let rtt = Duration::from_millis(3);
    c.bench_function("peak_ewma/observe", |b| {
        let (mut latency, mut time) = (PeakEwma::default(), Moving::by(BUSY));
        latency.observe(4 * rtt, time.read());
        b.iter(|| latency.observe(black_box(rtt), time.read()));
    });
    c.bench_function("peak_ewma/observe_failure", |b| {
        let s = load_balancing::Settings::default();
        let (mut latency, mut time) = (PeakEwma::default(), Moving::by(BUSY));
        b.iter(|| latency.observe_failure(&s, black_box(rtt), None, time.read()));
    });
    c.bench_function("peak_ewma/cost", |b| {
        let (mut latency, mut time) = (PeakEwma::default(), Moving::by(BUSY));
        latency.observe(rtt, time.read());
        b.iter(|| latency.cost(time.read()));
    });
    c.bench_function("slow_start/factor", |b| {
        b.iter(|| slow_start::factor(Duration::from_secs(10), black_box(rtt)));
    });
}

fn budget(c: &mut Criterion) {
    let s = retry_budget::Settings::default();
    c.bench_function("retry_budget/deposit", |b| {
        let mut time = Moving::by(BUSY);
        let mut budget = Budget::new(time.read());
        b.iter(|| budget.deposit(&s, time.read()));
    });
    c.bench_function("retry_budget/withdraw, paid", |b| {
        let mut time = Moving::by(BUSY);
        let mut budget = Budget::new(time.read());
        let s = retry_budget::Settings { min_per_second: 100_000, ..s.clone() };
        b.iter(|| budget.withdraw(&s, time.read(), Cost::Whole));
    });
    c.bench_function("retry_budget/withdraw, not paid", |b| {
        let mut time = Moving::by(Duration::from_nanos(1));
        let mut budget = Budget::new(time.read());
        b.iter(|| budget.withdraw(&s, time.read(), Cost::Whole));
    });
}

fn decision(c: &mut Criterion) {
    let s = retry::Settings::default();
    let left = Some(Duration::from_secs(10));
    for (name, outcome) in [("200, stop", answer(200)), ("503, retry", answer(503))] {
        c.bench_function(&format!("retry/decide: {name}"), |b| {
            b.iter(|| retry::decide(&s, &SAFE, &attempt(black_box(&outcome)), left, 0.5));
        });
    }
    for (name, jitter) in
        [("full", Jitter::Full), ("equal", Jitter::Equal), ("decorrelated", Jitter::Decorrelated)]
    {
        let s = retry::Backoff { jitter, ..retry::Backoff::default() };
        c.bench_function(&format!("retry/backoff: {name}"), |b| {
            b.iter(|| backoff::wait(&s, black_box(2), Duration::from_millis(30), black_box(0.4)));
        });
    }
}

pub(crate) fn limit(rate: &str, key: Option<HashOn>) -> rate_limit::Settings {
    rate_limit::Settings {
        mode: outrigger::policy::Mode::Enforce,
        rate: Some(rate.parse().expect("a rate")),
        burst: None,
        key,
        on_limit: rate_limit::OnLimit::Reject,
        max_wait: outrigger::units::Period::default(),
        learn_from_429: false,
    }
}

fn limiter(c: &mut Criterion) {
    let key = || Some(HashOn::Header("x-user".to_owned()));
    for (name, s) in [
        ("whole, passes", limit("100000000/s", None)),
        ("whole, refused", limit("1/h", None)),
        ("keyed, passes", limit("100000000/s", key())),
        ("keyed, refused", limit("1/h", key())),
    ] {
        let Some(rate) = s.rate else { continue };
        let limiter = Limiter::new(&s, rate, Process);
        // Enough keys to be seen as a table, few enough to be remembered.
        let keys: Vec<String> = (0..1024).map(|n| format!("user-{n}")).collect();
        let mut at = 0;
        c.bench_function(&format!("rate_limit/{name} (reads the clock)"), |b| {
            b.iter(|| {
                at = (at + 1) % keys.len();
                limiter.check(&s, Some(&keys[at]))
            });
        });
    }
}

fn times(c: &mut Criterion) {
    let s = timeout::Settings::default();
    c.bench_function("timeout/deadline + try_deadline + remaining + connect", |b| {
        let mut time = Moving::by(BUSY);
        b.iter(|| {
            let now = time.read();
            let deadline = timeout::deadline(&s, now, None);
            let end = timeout::try_deadline(&s, black_box(3), now, deadline);
            (timeout::remaining(now, end, deadline), timeout::connect_deadline(&s, now, end))
        });
    });
}
