//! How waits are spread: bounds, shape and overflow.

use std::time::Duration;

use proptest::prelude::*;

use super::ms;
use crate::policy::retry::backoff::{decorrelated, equal, full, part, wait};
use crate::policy::retry::{Backoff, Jitter};

const BASE: Duration = Duration::from_millis(25);
const MAX: Duration = Duration::from_millis(250);

/// As near to 1 as a number from `[0, 1)` comes.
const ALMOST_ONE: f64 = 1.0 - f64::EPSILON / 2.0;

/// SplitMix64 (Steele, Lea and Flood 2014): a stream of numbers from `[0, 1)` that a seed fixes.
fn uniform(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    })
}

/// Asserts that waits made from 5000 random numbers are uniform over `low..high`: the mean within
/// three standard errors, and the Kolmogorov-Smirnov distance within its 1 % critical value, 1.63 /
/// sqrt(n).
fn assert_uniform(low: Duration, high: Duration, make: impl Fn(f64) -> Duration) {
    const N: usize = 5000;
    for seed in 1..=3 {
        let width = (high - low).as_secs_f64();
        let scaled = |wait: Duration| (wait.as_secs_f64() - low.as_secs_f64()) / width;
        let mut sample: Vec<f64> = uniform(seed).take(N).map(|u| scaled(make(u))).collect();
        let mean = sample.iter().sum::<f64>() / N as f64;
        let standard_error = (1.0 / 12.0_f64 / N as f64).sqrt();
        assert!((mean - 0.5).abs() < 3.0 * standard_error, "mean {mean} of seed {seed}");
        sample.sort_by(f64::total_cmp);
        let distance = sample
            .iter()
            .enumerate()
            .map(|(i, x)| (x - i as f64 / N as f64).max((i + 1) as f64 / N as f64 - x))
            .fold(0.0, f64::max);
        assert!(distance < 1.63 / (N as f64).sqrt(), "distance {distance} of seed {seed}");
    }
}

#[test]
fn full_jitter_is_uniform_from_nothing_to_the_doubled_base() {
    for (attempt, top) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (9, 250)] {
        assert_uniform(Duration::ZERO, ms(top), |u| full(BASE, MAX, attempt, u));
        assert_eq!(full(BASE, MAX, attempt, 0.0), Duration::ZERO);
    }
}

#[test]
fn equal_jitter_is_uniform_over_the_upper_half() {
    for (attempt, top) in [(1, 25), (3, 100), (5, 250)] {
        assert_uniform(ms(top) / 2, ms(top), |u| equal(BASE, MAX, attempt, u));
    }
}

#[test]
fn decorrelated_jitter_is_uniform_from_the_base_to_three_times_the_wait_before() {
    assert_uniform(BASE, ms(75), |u| decorrelated(BASE, MAX, Duration::ZERO, u));
    assert_uniform(BASE, ms(180), |u| decorrelated(BASE, MAX, ms(60), u));
    assert_eq!(decorrelated(BASE, MAX, ms(200), 0.9), MAX);
}

#[test]
fn the_setting_chooses_the_spread() {
    for (jitter, wanted) in [
        (Jitter::Full, ms(100).mul_f64(0.25)),
        (Jitter::Equal, ms(50) + ms(50).mul_f64(0.25)),
        (Jitter::Decorrelated, BASE + ms(95).mul_f64(0.25)),
    ] {
        let s = Backoff { jitter, ..Backoff::default() };
        assert_eq!(wait(&s, 3, ms(40), 0.25), wanted, "{jitter:?}");
    }
}

#[test]
fn different_seeds_part_ways() {
    let waits = |seed| uniform(seed).take(8).map(|u| full(BASE, MAX, 5, u)).collect::<Vec<_>>();
    assert_ne!(waits(1), waits(2));
    assert_eq!(waits(1), waits(1));
}

#[test]
fn numbers_out_of_range_are_taken_as_the_nearest_end() {
    let whole = ms(100);
    assert_eq!(part(whole, -1.0), Duration::ZERO);
    assert_eq!(part(whole, f64::NAN), Duration::ZERO);
    assert_eq!(part(whole, 2.0), whole);
    assert_eq!(part(whole, f64::INFINITY), whole);
    assert!(part(Duration::MAX, ALMOST_ONE) <= Duration::MAX);
}

proptest! {
    /// No input overflows, and no wait is longer than the longest.
    #[test]
    fn every_wait_is_within_its_bounds(
        lengths in any::<[u64; 3]>(), attempt in any::<u32>(),
        random in prop_oneof![Just(0.0), Just(ALMOST_ONE), 0.0..1.0_f64],
    ) {
        let [base, max, previous] = lengths.map(Duration::from_micros);
        prop_assert!(full(base, max, attempt, random) <= max);
        let half = equal(base, max, attempt, random);
        prop_assert!(base.min(max) / 2 <= half && half <= max);
        let free = decorrelated(base, max, previous, random);
        prop_assert!(base.min(max) <= free && free <= max);
    }
}
