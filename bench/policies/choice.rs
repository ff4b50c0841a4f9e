//! The choice among endpoints, by policy and by number.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use fastrand::Rng;
use outrigger::policy::load_balancing::{
    Chance, Endpoints, HashOn, Member, PeakEwma, Plan, Policy, Settings, hash,
};

use super::{BUSY, Moving};

/// Endpoints as plain numbers.
pub(crate) struct Set {
    pub(crate) now: Instant,
    pub(crate) latencies: Vec<PeakEwma>,
    in_flight: Vec<usize>,
    out: Vec<bool>,
}

impl Endpoints for Set {
    fn available(&self, index: usize) -> bool {
        !self.out[index]
    }
    fn tried(&self, _: usize) -> bool {
        false
    }
    fn in_flight(&self, index: usize) -> usize {
        self.in_flight[index]
    }
    fn cost(&self, index: usize) -> Option<f64> {
        self.latencies[index].cost(self.now)
    }
    fn ramp(&self, _: usize) -> f64 {
        1.0
    }
}

impl Set {
    /// `n` endpoints that have answered, of which a share is out.
    pub(crate) fn of(n: usize, out: f64, now: Instant) -> Self {
        let mut rng = Rng::with_seed(1);
        let latencies = (0..n).map(|_| {
            let mut latency = PeakEwma::default();
            latency.observe(Duration::from_micros(rng.u64(500..5000)), now);
            latency
        });
        Self {
            now,
            latencies: latencies.collect(),
            in_flight: (0..n).map(|_| rng.usize(0..8)).collect(),
            out: (0..n).map(|at| (at as f64) < out * n as f64).collect(),
        }
    }
}

pub(crate) fn plan(settings: &Settings, n: usize, weighted: bool) -> Plan {
    let names: Vec<String> = (0..n).map(|n| format!("10.0.{}.{}:80", n / 250, n % 250)).collect();
    let member = |(at, name)| {
        let weight = if weighted { 1 + u32::try_from(at % 3).unwrap_or(0) } else { 1 };
        Member { name, weight, local: false }
    };
    let members: Vec<Member<'_>> =
        names.iter().map(String::as_str).enumerate().map(member).collect();
    Plan::build(settings, &members)
}

pub(crate) fn benches(c: &mut Criterion) {
    let policies = [
        ("peak_ewma", Policy::PeakEwma),
        ("least_request", Policy::LeastRequest),
        ("round_robin", Policy::RoundRobin),
        ("ring_hash", Policy::RingHash),
    ];
    for (name, policy) in policies {
        let hash_on = (policy == Policy::RingHash).then_some(HashOn::ClientIp);
        let settings = Settings { policy, hash_on, ..Settings::default() };
        for n in [3, 10, 100] {
            bench(c, &format!("choose/{name}, {n}"), &settings, n, 0.0, false);
        }
        bench(c, &format!("choose/{name}, 100 of which half are out"), &settings, 100, 0.5, false);
        bench(c, &format!("choose/{name}, 100 with weights"), &settings, 100, 0.0, true);
    }
}

fn bench(c: &mut Criterion, name: &str, s: &Settings, n: usize, out: f64, weighted: bool) {
    c.bench_function(name, |b| {
        let mut time = Moving::by(BUSY);
        let mut set = Set::of(n, out, time.read());
        let (plan, mut rng, mut turn) = (plan(s, n, weighted), Rng::with_seed(2), 0_usize);
        b.iter(|| {
            set.now = time.read();
            turn += 1;
            let key = (s.policy == Policy::RingHash).then(|| hash(&turn.to_ne_bytes()));
            plan.choose(s, black_box(&set), Chance { random: rng.f64(), turn, hash: key })
        });
    });
}
