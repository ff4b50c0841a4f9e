use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn start() -> impl Fn(u64) -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start")]
    let start = Instant::now();
    move |ms| start + Duration::from_millis(ms)
}

fn totals(total: u32, failures: u32, slow: u32) -> Totals {
    Totals { total, failures, slow }
}

#[test]
fn it_counts_failures_and_slowness_apart() {
    let at = start();
    let mut window = Window::new();
    assert_eq!(window.totals(SECOND, at(0)), Totals::default());
    for (failure, slow) in [(true, false), (false, true), (true, true), (false, false)] {
        window.record(SECOND, at(0), failure, slow);
    }
    assert_eq!(window.totals(SECOND, at(0)), totals(4, 2, 2));
    assert_eq!(window.totals(SECOND, at(0)).failure_ratio(), 0.5);
    assert_eq!(Totals::default().failure_ratio(), 0.0);
    assert_eq!(totals(100, 0, 7).slow_ratio(), "7%".parse::<crate::units::Ratio>().unwrap().get());
}

#[test]
fn a_count_leaves_when_its_bucket_leaves_the_window() {
    let at = start();
    let mut window = Window::new();
    window.record(SECOND, at(0), true, false);
    window.record(SECOND, at(150), false, false);
    assert_eq!(window.totals(SECOND, at(999)), totals(2, 1, 0));
    assert_eq!(window.totals(SECOND, at(1000)), totals(1, 0, 0), "the first bucket has left");
    assert_eq!(window.totals(SECOND, at(1099)), totals(1, 0, 0));
    assert_eq!(window.totals(SECOND, at(1100)), Totals::default());
}

#[test]
fn a_pause_longer_than_the_window_empties_it() {
    let at = start();
    for pause in [1000, 1001, 5050, 86_400_000 * 365] {
        let mut window = Window::new();
        for ms in (0..1000).step_by(100) {
            window.record(SECOND, at(ms), true, true);
        }
        assert_eq!(window.totals(SECOND, at(999)), totals(10, 10, 10));
        assert_eq!(window.totals(SECOND, at(999 + pause)), Totals::default());
        window.record(SECOND, at(999 + pause), false, false);
        assert_eq!(window.totals(SECOND, at(999 + pause)), totals(1, 0, 0));
    }
}

#[test]
fn uneven_rolls_do_not_lengthen_the_window() {
    let at = start();
    let mut window = Window::new();
    window.totals(SECOND, at(0));
    // Each roll comes late in its bucket. Were the rest of it dropped, the bucket of the last
    // record would begin at 1881 and outlive its time.
    for i in 0..=9 {
        window.totals(SECOND, at(199 * i));
    }
    window.record(SECOND, at(1799), true, false);
    assert_eq!(window.totals(SECOND, at(2699)), totals(1, 1, 0));
    assert_eq!(window.totals(SECOND, at(2700)), Totals::default());
}

#[test]
fn a_changed_length_restarts_the_ring() {
    let at = start();
    let mut window = Window::new();
    window.record(SECOND, at(0), true, false);
    assert_eq!(window.totals(2 * SECOND, at(10)), Totals::default());
    window.record(2 * SECOND, at(10), false, false);
    assert_eq!(window.totals(2 * SECOND, at(2009)), totals(1, 0, 0));
    assert_eq!(window.totals(2 * SECOND, at(2010)), Totals::default());
}

#[test]
fn a_clock_that_goes_backwards_stands_still() {
    let at = start();
    let mut window = Window::new();
    window.record(SECOND, at(5000), true, false);
    window.record(SECOND, at(1000), true, false);
    assert_eq!(window.totals(SECOND, at(0)), totals(2, 2, 0));
    assert_eq!(window.totals(SECOND, at(5999)), totals(2, 2, 0));
    assert_eq!(window.totals(SECOND, at(6000)), Totals::default());
}

#[test]
fn clearing_forgets_and_an_empty_length_is_harmless() {
    let at = start();
    let mut window = Window::new();
    window.record(SECOND, at(0), true, true);
    window.clear();
    assert_eq!(window, Window::new());
    window.record(Duration::ZERO, at(0), true, true);
    window.record(Duration::ZERO, at(1), false, false);
    assert_eq!(window.totals(Duration::ZERO, at(1)), totals(1, 0, 0));
    window.record(Duration::MAX, at(2), false, false);
    assert_eq!(window.totals(Duration::MAX, at(3)), totals(1, 0, 0));
}

#[test]
fn a_full_count_keeps_its_shares() {
    let at = start();
    let mut window = Window::new();
    window.totals(SECOND, at(0));
    window.buckets[0] = totals(u32::MAX, 1 << 31, 0);
    window.sum = window.buckets[0];
    window.record(SECOND, at(1), true, true);
    assert_eq!(window.totals(SECOND, at(1)), totals(u32::MAX, 1 << 31, 0));
    window.record(SECOND, at(1500), true, true);
    assert_eq!(window.totals(SECOND, at(1500)), totals(1, 1, 1));
}

#[test]
fn it_is_small() {
    assert!(size_of::<Window>() <= 160, "{}", size_of::<Window>());
}

proptest! {
    /// Everything younger than nine tenths of the window is counted, nothing older than the window.
    #[test]
    fn the_window_is_between_nine_and_ten_tenths(
        window_ms in 10u64..5000,
        steps in prop::collection::vec((0u64..2000, any::<bool>(), any::<bool>()), 1..200),
    ) {
        let at = start();
        let len = Duration::from_millis(window_ms);
        let mut window = Window::new();
        let mut seen: Vec<(u64, bool, bool)> = Vec::new();
        let mut now = 0;
        for (step, failure, slow) in steps {
            now += step;
            window.record(len, at(now), failure, slow);
            seen.push((now, failure, slow));
            let count = |age: f64| {
                let young = |t: &&(u64, bool, bool)| ((now - t.0) as f64) < age;
                let young: Vec<_> = seen.iter().filter(young).collect();
                [
                    young.len(),
                    young.iter().filter(|e| e.1).count(),
                    young.iter().filter(|e| e.2).count(),
                ]
            };
            let (least, most) = (count(window_ms as f64 * 0.9), count(window_ms as f64));
            let got = window.totals(len, at(now));
            let got = [got.total, got.failures, got.slow].map(|n| n as usize);
            for i in 0..3 {
                prop_assert!(least[i] <= got[i] && got[i] <= most[i], "{least:?} {got:?} {most:?}");
            }
        }
    }

    /// The kept sums are the sums of the buckets, whatever the order of times and lengths.
    #[test]
    fn the_sums_are_those_of_the_buckets(
        steps in prop::collection::vec(
            (0u64..3000, prop::sample::select(vec![0u64, 7, 100, 1000]), any::<bool>()), 1..200),
    ) {
        let at = start();
        let mut window = Window::new();
        for (ms, len, failure) in steps {
            window.record(Duration::from_millis(len), at(ms), failure, !failure);
            let mut sum = [0; 3];
            for bucket in &window.buckets {
                for (sum, n) in sum.iter_mut().zip([bucket.total, bucket.failures, bucket.slow]) {
                    *sum += n;
                }
            }
            prop_assert_eq!(sum, [window.sum.total, window.sum.failures, window.sum.slow]);
            prop_assert!(window.sum.total >= 1);
        }
    }
}
