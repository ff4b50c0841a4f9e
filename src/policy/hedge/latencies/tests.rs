use proptest::prelude::*;

use super::*;
use crate::policy::hedge::tests::origin;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn nothing_is_known_before_a_hundred_and_three_seconds() {
    let t0 = origin();
    let mut latencies = Latencies::new(t0);
    for _ in 0..SAMPLES_MIN * 2 {
        latencies.record(950, ms(10), t0 + ms(2999));
    }
    assert_eq!(latencies.median(), None);
    latencies.record(950, ms(10), t0 + ms(3000));
    assert!(latencies.median().is_some());
    let mut few = Latencies::new(t0);
    for i in 1..u64::from(SAMPLES_MIN) {
        few.record(950, ms(10), t0 + ms(10_000 * i));
    }
    assert_eq!(few.median(), None);
    few.record(950, ms(10), t0 + ms(10_000_000));
    assert!(few.median().is_some());
}

#[test]
fn another_percentile_is_known_after_the_next_refresh() {
    let t0 = origin();
    let mut latencies = Latencies::new(t0);
    for i in 0..1000 {
        latencies.record(950, ms(1 + i % 100), t0 + ms(3000 + i));
    }
    assert!(latencies.quantile(950).is_some());
    assert_eq!(latencies.quantile(990), None);
    latencies.record(990, ms(1), t0 + ms(6500));
    assert!(latencies.quantile(990) > Some(ms(90)));
}

#[test]
fn a_shift_is_followed_within_a_few_refreshes() {
    let t0 = origin();
    let mut latencies = Latencies::new(t0);
    for second in 0..60_u64 {
        let latency = if second < 30 { ms(10) } else { ms(100) };
        for i in 0..100 {
            latencies.record(950, latency, t0 + ms(second * 1000 + i * 10));
        }
        let p95 = latencies.quantile(950).unwrap_or_default();
        match second {
            4..30 => assert!((ms(10)..ms(11)).contains(&p95), "{second} {p95:?}"),
            34.. => assert!((ms(100)..ms(110)).contains(&p95), "{second} {p95:?}"),
            _ => {}
        }
        if second > 40 {
            assert!(latencies.median() > Some(ms(90)), "{second}");
        }
    }
}

#[test]
fn the_shortest_and_the_longest_have_a_place() {
    assert_eq!(place(Duration::ZERO), 0);
    assert_eq!(place(Duration::MAX), BUCKETS - 1);
    for place_of in 0..BUCKETS - 1 {
        assert_eq!(place(end(place_of)), place_of + 1);
        assert_eq!(place(end(place_of) - Duration::from_nanos(1)), place_of);
    }
}

proptest! {
    /// A percentile is at least the exact one, and at most 7 % above it.
    #[test]
    fn percentiles_are_exact_to_the_width_of_a_bucket(
        micros in prop::collection::vec(1_u64..60_000_000, 100..500), permille in 500_u16..=999,
    ) {
        let t0 = origin();
        let mut latencies = Latencies::new(t0);
        let (last, rest) = micros.split_last().unwrap();
        for micros in rest {
            latencies.record(permille, Duration::from_micros(*micros), t0);
        }
        latencies.record(permille, Duration::from_micros(*last), t0 + REFRESH);
        let mut sorted = micros.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * usize::from(permille)).div_ceil(1000);
        let exact = (sorted[rank - 1] * 1000) as f64;
        let found = latencies.quantile(permille).unwrap().as_nanos() as f64;
        prop_assert!(found > exact && found <= exact.max(1024.0) * 1.07, "{found} for {exact}");
    }
}
