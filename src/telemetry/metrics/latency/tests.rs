use proptest::prelude::*;

use super::*;

/// The definition of a bucket: the first whose bound is not below the value.
fn by_search<const N: usize>(buckets: &Buckets<N>, nanos: u64) -> usize {
    buckets.bounds.iter().position(|bound| nanos <= *bound).unwrap_or(N)
}

fn edges<const N: usize>(buckets: &Buckets<N>) {
    for bound in buckets.bounds {
        for nanos in [bound - 1, bound, bound + 1] {
            assert_eq!(buckets.place(nanos), by_search(buckets, nanos), "{nanos} ns");
        }
    }
    for bits in 0..64 {
        for nanos in [(1 << bits) - 1, 1 << bits, (1 << bits) + 1] {
            assert_eq!(buckets.place(nanos), by_search(buckets, nanos), "{nanos} ns");
        }
    }
    assert_eq!(buckets.place(u64::MAX), N);
}

#[test]
fn each_side_of_each_bound_falls_where_a_search_would_put_it() {
    edges(&WIDE);
    edges(&NARROW);
    const DOUBLING: Buckets<4> = Buckets::from_micros([1, 2, 4, 8]);
    edges(&DOUBLING);
}

proptest! {
    #[test]
    fn any_duration_falls_where_a_search_would_put_it(bits in 0_u32..64, low in any::<u64>()) {
        let nanos = low >> bits;
        prop_assert_eq!(WIDE.place(nanos), by_search(&WIDE, nanos));
        prop_assert_eq!(NARROW.place(nanos), by_search(&NARROW, nanos));
    }

    #[test]
    fn nothing_observed_is_lost(micros in prop::collection::vec(0_u64..100_000_000, 0..50)) {
        let latency = Latency::new(&WIDE);
        for m in &micros {
            latency.observe(Duration::from_micros(*m));
        }
        let reading = latency.read();
        prop_assert_eq!(reading.count, micros.len() as u64);
        prop_assert!((reading.sum - micros.iter().sum::<u64>() as f64 / 1e6).abs() < 1e-6);
        for (bound, count) in reading.buckets {
            let expected = micros.iter().filter(|m| **m as f64 <= bound * 1e6).count();
            prop_assert_eq!(count, expected as u64, "at or below {} s", bound);
        }
    }
}

#[test]
fn two_threads_lose_no_observation() {
    let latency = Latency::new(&NARROW);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..10_000).for_each(|_| latency.observe(Duration::from_millis(20))));
        }
    });
    let reading = latency.read();
    assert_eq!(reading.count, 20_000);
    assert!((reading.sum - 400.0).abs() < 1e-9);
    assert_eq!(reading.buckets[1], (0.01, 0));
    assert_eq!(reading.buckets[2], (0.1, 20_000));
}

#[test]
fn the_longest_duration_is_counted_above_every_bound() {
    let latency = Latency::new(&NARROW);
    latency.observe(Duration::MAX);
    let reading = latency.read();
    assert_eq!(reading.count, 1);
    assert!(reading.buckets.iter().all(|(_, count)| *count == 0));
}
