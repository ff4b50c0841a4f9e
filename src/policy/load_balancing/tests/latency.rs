//! The measured latency, and what follows from it over time in a simulation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::*;

const MS: Duration = Duration::from_millis(1);

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn observed(rtts: &[(u64, u64)]) -> (PeakEwma, Instant) {
    let (mut latency, start) = (PeakEwma::default(), start());
    for (seconds, ms) in rtts {
        latency.observe(*ms as u32 * MS, start + Duration::from_secs(*seconds));
    }
    (latency, start + Duration::from_secs(rtts.last().map_or(0, |(seconds, _)| *seconds)))
}

#[test]
fn a_peak_counts_at_once_and_wears_off() {
    for (rtts, expected) in [
        (&[(0, 100)][..], 100.0),
        (&[(0, 100), (1, 200)], 200.0),
        (&[(0, 100), (1, 50)], 95.242),
        (&[(0, 100), (10, 50)], 68.394),
        (&[(0, 100), (0, 50)], 100.0),
        (&[(5, 100), (4, 50)], 100.0),
        (&[(5, 100), (4, 300)], 300.0),
    ] {
        let (latency, now) = observed(rtts);
        let cost = latency.cost(now).unwrap() / 1e6;
        assert!((cost - expected).abs() < 0.001, "{rtts:?}: {cost}");
    }
}

#[test]
fn the_cost_falls_while_nothing_is_heard() {
    let (latency, now) = observed(&[(0, 100)]);
    let later = latency.cost(now + Duration::from_secs(10)).unwrap() / 1e6;
    assert!((later - 36.788).abs() < 0.001, "{later}");
    assert_eq!(PeakEwma::default().cost(now), None);
}

#[test]
fn the_functions_over_plain_numbers_are_the_same() {
    let (latency, now) = observed(&[(0, 100), (1, 50), (3, 80), (4, 70)]);
    let second = 1_000_000_000;
    let mut plain = next(0.0, 0, 100e6, 0);
    for (last, rtt, at) in [(0, 50e6, 1), (1, 80e6, 3), (3, 70e6, 4)] {
        plain = next(plain, last * second, rtt, at * second);
    }
    let seen = cost(plain, 4 * second, 4 * second).unwrap();
    assert!((seen - latency.cost(now).unwrap()).abs() < 1.0);
    assert_eq!(cost(0.0, 0, 5), None);
    assert!(cost(next(0.0, 0, 0.0, 0), 0, 0).is_some(), "an answer in no time is an answer");
}

#[test]
fn a_failure_counts_as_the_longest_of_penalty_hint_and_time() {
    let settings = Settings::default();
    let s = Duration::from_secs;
    for (rtt, hint, expected) in [
        (MS, None, s(5)),
        (MS, Some(s(1)), s(5)),
        (MS, Some(s(60)), s(60)),
        (MS, Some(s(86_400)), s(300)),
        (s(15), Some(s(6)), s(15)),
    ] {
        assert_eq!(failure_latency(&settings, rtt, hint), expected);
        let (mut latency, now) = observed(&[(0, 2)]);
        latency.observe_failure(&settings, rtt, hint, now);
        let cost = latency.cost(now).unwrap();
        assert!((cost - expected.as_secs_f64() * 1e9).abs() < 1.0, "{cost}");
    }
}

#[test]
fn load_is_cost_times_what_would_be_waiting() {
    let settings = settings(Policy::PeakEwma);
    assert!((load(&settings, Some(10.0), 0, 1) - 10.0).abs() < 1e-9);
    assert!((load(&settings, Some(10.0), 3, 1) - 40.0).abs() < 1e-9);
    assert!((load(&settings, Some(10.0), 3, 3) - 20.0).abs() < 1e-9);
    assert!(load(&settings, None, 0, 1).abs() < 1e-9);
    assert!((load(&settings, None, 1, 1) - 10e9).abs() < 1e-3);
    let cheap = Settings { failure_penalty: Period::from_millis(10), ..settings };
    assert!((load(&cheap, None, 1, 1) - 2e9).abs() < 1e-3);
}

/// An endpoint of the simulation.
#[derive(Clone, Copy)]
struct Endpoint {
    answers_in: Duration,
    fails: bool,
    /// When it comes into the set that is chosen from.
    from: Duration,
}

struct Outcome {
    /// The share of each endpoint in all requests.
    shares: Vec<f64>,
    /// The most requests in flight to each at once.
    peaks: Vec<usize>,
    /// When each was first chosen.
    first: Vec<Option<Duration>>,
}

/// A request every `every` for a minute, in virtual time.
fn simulate(endpoints: &[Endpoint], every: Duration, penalty: bool) -> Outcome {
    let (settings, start, end) = (settings(Policy::PeakEwma), start(), Duration::from_secs(60));
    let n = endpoints.len();
    let plan = plan(Policy::PeakEwma, &vec![1; n], &[]);
    let mut latencies = vec![PeakEwma::default(); n];
    let mut set = Set { in_flight: vec![0; n], ..Set::default() };
    let mut out = Outcome { shares: vec![0.0; n], peaks: vec![0; n], first: vec![None; n] };
    let mut pending: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    let (mut now, mut sent) = (Duration::ZERO, 0);
    while now < end {
        while let Some(Reverse((at, i))) = pending.peek().copied().filter(|p| p.0.0 <= now) {
            pending.pop();
            set.in_flight[i] -= 1;
            let Endpoint { answers_in, fails, .. } = endpoints[i];
            if fails && penalty {
                latencies[i].observe_failure(&settings, answers_in, None, start + at);
            } else {
                latencies[i].observe(answers_in, start + at);
            }
        }
        set.costs = latencies.iter().map(|latency| latency.cost(start + now)).collect();
        set.unavailable = (0..n).filter(|i| endpoints[*i].from > now).collect();
        let i = plan.choose(&settings, &set, chance(sent)).unwrap();
        sent += 1;
        set.in_flight[i] += 1;
        out.shares[i] += 1.0;
        out.peaks[i] = out.peaks[i].max(set.in_flight[i]);
        out.first[i].get_or_insert(now);
        pending.push(Reverse((now + endpoints[i].answers_in, i)));
        now += every;
    }
    out.shares.iter_mut().for_each(|share| *share /= sent as f64);
    out
}

fn good(ms: u32) -> Endpoint {
    Endpoint { answers_in: ms * MS, fails: false, from: Duration::ZERO }
}

#[test]
fn an_endpoint_that_fails_fast_gets_little() {
    let endpoints = [good(50), good(50), Endpoint { fails: true, ..good(1) }];
    for every in [2 * MS, 10 * MS, 100 * MS] {
        let plain = simulate(&endpoints, every, false).shares;
        assert!(plain[2] > 0.6, "{every:?}: {plain:.3?}");
        let ours = simulate(&endpoints, every, true).shares;
        assert!(ours[2] < 0.05 && ours[2] > 0.0, "{every:?}: {ours:.3?}");
    }
}

#[test]
fn a_slow_endpoint_gets_less_but_not_nothing() {
    let shares = simulate(&[good(10), good(10), good(100)], 5 * MS, true).shares;
    assert!(shares[2] > 0.0 && shares[2] < 0.1, "{shares:.3?}");
}

#[test]
fn a_new_endpoint_is_neither_starved_nor_flooded() {
    let joins = Duration::from_secs(30);
    let endpoints = [good(10), good(10), Endpoint { from: joins, ..good(10) }];
    for every in [MS, 20 * MS] {
        let out = simulate(&endpoints, every, true);
        let first = out.first[2].unwrap();
        assert!(first < joins + 10 * every, "{every:?}: first at {first:?}");
        // It is there for half of the time, so a third of that is its fair share.
        assert!((0.1..0.25).contains(&out.shares[2]), "{every:?}: {:.3?}", out.shares);
        assert!(out.peaks[2] <= 3 * out.peaks[0].max(1), "{:?}", out.peaks);
    }
}

#[test]
fn a_new_endpoint_that_hangs_holds_few_requests() {
    let joins = Duration::from_secs(30);
    let hangs = Endpoint { from: joins, ..good(20_000) };
    let out = simulate(&[good(10), good(10), hangs], MS, true);
    assert!(out.peaks[2] <= 2, "{:?}", out.peaks);
}
