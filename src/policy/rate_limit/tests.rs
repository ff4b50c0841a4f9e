use std::time::Instant;

use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings(rate: &str, burst: Option<u32>) -> Settings {
    Settings {
        mode: Mode::Enforce,
        rate: Some(rate.parse().unwrap()),
        burst,
        key: None,
        on_limit: OnLimit::Reject,
        max_wait: Period::default(),
        learn_from_429: false,
    }
}

fn keyed(rate: &str, burst: u32) -> Settings {
    Settings { key: Some(HashOn::ClientIp), ..settings(rate, Some(burst)) }
}

fn waiting(s: Settings, max_wait_ms: u64) -> Settings {
    Settings { on_limit: OnLimit::Wait, max_wait: Period::from_millis(max_wait_ms), ..s }
}

fn limiter(s: &Settings) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    // A limiter does not start at the clock's zero.
    clock.advance(Duration::from_secs(1_000_000));
    (Limiter::new(s, s.rate.unwrap(), clock.clone()), clock)
}

const fn pass(remaining: u32) -> Verdict {
    Verdict::Pass { remaining }
}

const fn refused(after: Duration) -> Verdict {
    Verdict::Refused { retry_after: after }
}

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Pass { .. })
}

#[test]
fn the_burst_passes_at_once_and_then_the_rate() {
    let s = settings("10/s", Some(3));
    let (limiter, clock) = limiter(&s);
    assert_eq!([0, 0, 0].map(|_| limiter.check(&s, None)), [pass(2), pass(1), pass(0)]);
    assert_eq!(limiter.check(&s, None), refused(ms(100)));
    clock.advance(ms(99));
    assert_eq!(limiter.check(&s, None), refused(ms(1)));
    clock.advance(ms(1));
    assert_eq!(limiter.check(&s, None), pass(0));
    clock.advance(ms(200));
    assert_eq!(limiter.check(&s, None), pass(1));
    clock.advance(Duration::from_secs(3600));
    assert_eq!(limiter.check(&s, None), pass(2), "a pause saves no more than the burst");
}

#[test]
fn a_refused_request_uses_nothing() {
    let s = settings("1/s", Some(1));
    let (limiter, clock) = limiter(&s);
    assert_eq!(limiter.check(&s, None), pass(0));
    for _ in 0..100 {
        assert_eq!(limiter.check(&s, None), refused(ms(1000)));
    }
    clock.advance(ms(1000));
    assert_eq!(limiter.check(&s, None), pass(0));
}

#[test]
fn the_burst_is_one_seconds_worth_unless_it_is_written() {
    for (rate, burst, wanted, window) in [
        ("100/s", None, 100, 1),
        ("6000/min", None, 100, 60),
        ("90/min", None, 1, 60),
        ("10/h", None, 1, 3600),
        ("7200/h", None, 2, 3600),
        ("10/h", Some(7), 7, 3600),
        ("10/s", Some(0), 1, 1),
    ] {
        let (limiter, _) = limiter(&settings(rate, burst));
        let policy = limiter.policy();
        assert_eq!(policy.burst, wanted, "{rate}");
        assert_eq!(policy.window, Duration::from_secs(window));
        assert_eq!(policy.limit, rate.split('/').next().unwrap().parse::<u32>().unwrap());
    }
}

#[test]
fn rates_by_the_minute_and_hour_are_kept_whole() {
    // (rate, what passes in how many seconds, beyond the burst of one)
    for (rate, seconds, wanted) in
        [("7/min", 6000, 700), ("7/h", 36_000, 70), ("3/s", 1000, 3000), ("1/h", 7200, 2)]
    {
        let s = settings(rate, Some(1));
        let (limiter, clock) = limiter(&s);
        assert!(passes(limiter.check(&s, None)));
        let mut passed = 0;
        // The interval is rounded up to a whole nanosecond: a microsecond makes up for it.
        let end = clock.now() + ms(seconds * 1000) + Duration::from_micros(3);
        while let Verdict::Refused { retry_after } = limiter.check(&s, None) {
            if clock.now() + retry_after > end {
                break;
            }
            clock.advance(retry_after);
            assert!(passes(limiter.check(&s, None)));
            passed += 1;
        }
        assert_eq!(passed, wanted, "{rate}");
    }
}

#[test]
fn those_that_wait_reserve_their_turn_in_order() {
    let s = waiting(settings("10/s", Some(1)), 350);
    let (limiter, clock) = limiter(&s);
    assert_eq!(limiter.check(&s, None), pass(0));
    for turn in [100, 200, 300] {
        assert_eq!(limiter.check(&s, None), Verdict::Wait(ms(turn)));
    }
    assert_eq!(limiter.check(&s, None), refused(ms(400)));
    assert_eq!(limiter.check(&s, None), refused(ms(400)), "a refusal reserves nothing");
    clock.advance(ms(150));
    assert_eq!(limiter.check(&s, None), Verdict::Wait(ms(250)), "behind those that came before");
    clock.advance(ms(350));
    assert_eq!(limiter.check(&s, None), pass(0), "all have had their turn");
}

#[test]
fn one_that_does_not_wait_cannot_overtake_one_that_does() {
    let patient = waiting(settings("10/s", Some(2)), 1000);
    let hasty = Settings { on_limit: OnLimit::Reject, ..patient.clone() };
    let (limiter, clock) = limiter(&patient);
    assert_eq!([0, 0].map(|_| limiter.check(&patient, None)), [pass(1), pass(0)]);
    assert_eq!(limiter.check(&patient, None), Verdict::Wait(ms(100)));
    assert_eq!(limiter.check(&hasty, None), refused(ms(200)));
    clock.advance(ms(100));
    assert_eq!(limiter.check(&hasty, None), refused(ms(100)));
}

#[test]
fn no_wait_at_all_is_a_refusal() {
    let s = waiting(settings("10/s", Some(1)), 0);
    let (limiter, _) = limiter(&s);
    assert_eq!(limiter.check(&s, None), pass(0));
    assert_eq!(limiter.check(&s, None), refused(ms(100)));
}

#[test]
fn every_key_has_a_limit_of_its_own_and_those_without_share_one() {
    let s = keyed("1/s", 1);
    let (limiter, _) = limiter(&s);
    for key in [Some("a"), Some("b"), Some(""), None] {
        assert_eq!(limiter.check(&s, key), pass(0), "{key:?}");
        assert_eq!(limiter.check(&s, key), refused(ms(1000)), "{key:?}");
    }
    let whole = settings("1/s", Some(1));
    let (whole_limiter, _) = self::limiter(&whole);
    assert_eq!(whole_limiter.check(&whole, Some("a")), pass(0));
    assert_eq!(whole_limiter.check(&whole, Some("b")), refused(ms(1000)));
}

fn remembered<C: Clock>(limiter: &Limiter<C>) -> usize {
    match &*limiter.arrivals.0 {
        Slots::One(_) => 1,
        Slots::PerKey(slots) => slots.lock().unwrap().len(),
    }
}

#[test]
fn keys_are_bounded_and_the_least_recent_is_forgotten() {
    let s = keyed("1/h", 1);
    let (limiter, _) = limiter(&s);
    assert_eq!(limiter.check(&s, Some("busy")), pass(0));
    assert_eq!(limiter.check(&s, Some("idle")), pass(0));
    for i in 0..2 * MAX_KEYS.get() {
        assert_eq!(limiter.check(&s, Some(&i.to_string())), pass(0));
        if i % 1000 == 0 {
            assert!(!passes(limiter.check(&s, Some("busy"))), "being refused counts as use");
        }
        assert!(remembered(&limiter) <= MAX_KEYS.get());
    }
    assert_eq!(limiter.check(&s, Some("idle")), pass(0), "forgotten, so its burst is full");
}

#[test]
fn the_state_is_read_without_using_it() {
    let s = keyed("10/s", 4);
    let (limiter, clock) = limiter(&s);
    let full = State { remaining: 4, reset: Duration::ZERO };
    assert_eq!(limiter.state(Some("a")), full);
    assert_eq!(remembered(&limiter), 0);
    for left in [3, 2, 1] {
        assert_eq!(limiter.check(&s, Some("a")), pass(left));
        let state = State { remaining: left, reset: ms(u64::from(4 - left) * 100) };
        assert_eq!([0, 0].map(|_| limiter.state(Some("a"))), [state; 2]);
    }
    clock.advance(ms(50));
    assert_eq!(limiter.state(Some("a")), State { remaining: 1, reset: ms(250) });
    clock.advance(ms(50));
    assert_eq!(limiter.state(Some("a")), State { remaining: 2, reset: ms(200) });
    clock.advance(ms(9999));
    assert_eq!(limiter.state(Some("a")), full);
}

#[test]
fn only_the_quota_needs_a_new_limiter() {
    let s = keyed("10/s", 4);
    let (limiter, _) = limiter(&s);
    assert!(limiter.same_quota(&waiting(Settings { mode: Mode::Observe, ..s.clone() }, 9)));
    for other in [
        keyed("11/s", 4),
        keyed("10/min", 4),
        keyed("10/s", 5),
        Settings { burst: None, ..s.clone() },
        Settings { key: None, ..s.clone() },
        Settings { key: Some(HashOn::Header("x-key".into())), ..s },
    ] {
        assert!(!limiter.same_quota(&other), "{other:?}");
    }
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    for rate in ["1/h", "1/s", "4294967295/s", "4294967295/h"] {
        let s = waiting(keyed(rate, u32::MAX), 366 * 24 * 3600 * 1000);
        let (limiter, clock) = limiter(&s);
        for _ in 0..1000 {
            assert!(passes(limiter.check(&s, None)));
        }
        clock.advance(Duration::from_secs(100 * 365 * 24 * 3600));
        assert!(passes(limiter.check(&s, None)));
        assert!(limiter.state(None).remaining > 0);
    }
}

/// A clock over plain instants, as the one that the data path uses.
struct At(Mutex<Instant>);

impl Clock for &At {
    type Instant = Instant;
    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an origin for made-up times; nothing is measured")]
fn a_clock_of_instants_fits_and_going_back_does_no_harm() {
    let t0 = Instant::now();
    let clock = At(Mutex::new(t0 + ms(5000)));
    let s = settings("10/s", Some(1));
    let limiter = Limiter::new(&s, s.rate.unwrap(), &clock);
    let at = |ago| {
        *clock.0.lock().unwrap() = t0 + ms(ago);
        limiter.check(&s, None)
    };
    assert_eq!([at(5000), at(5040), at(5100)], [pass(0), refused(ms(60)), pass(0)]);
    assert_eq!([at(0), at(5200)], [refused(ms(200)), pass(0)]);
}

#[test]
fn threads_together_get_no_more_than_the_limit() {
    for s in [settings("1/h", Some(1000)), keyed("1/h", 1000)] {
        let (limiter, _) = limiter(&s);
        let passed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..1000).filter(|_| passes(limiter.check(&s, None))).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(passed, 1000);
    }
}

#[test]
fn threads_that_wait_get_one_turn_each() {
    let s = waiting(settings("1000/s", Some(1)), 3_600_000);
    let (limiter, _) = limiter(&s);
    let mut turns = std::thread::scope(|scope| {
        let ask = || (0..500).map(|_| limiter.check(&s, None)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    turns.sort_by_key(|turn| match turn {
        Verdict::Pass { .. } => Duration::ZERO,
        Verdict::Wait(wait) => *wait,
        Verdict::Refused { .. } => Duration::MAX,
    });
    assert_eq!(turns[0], pass(0));
    for (i, turn) in turns.iter().enumerate().skip(1) {
        assert_eq!(*turn, Verdict::Wait(ms(i as u64)));
    }
}

proptest! {
    /// Requests start, at once or at their turn, no faster than the burst and the rate allow in any
    /// window; no wait is longer than the longest; a refusal tells when it would have been granted.
    #[test]
    fn no_window_holds_more_than_burst_and_rate(
        events in 1_u32..200, burst in 1_u32..20, max_wait in 0_u64..500, by_key in any::<bool>(),
        gaps in prop::collection::vec((0_u64..200, any::<bool>()), 1..200),
    ) {
        let key = by_key.then_some(HashOn::ClientIp);
        let hasty = Settings { key, ..settings(&format!("{events}/s"), Some(burst)) };
        let patient = waiting(hasty.clone(), max_wait);
        let (limiter, clock) = limiter(&hasty);
        let mut starts: Vec<u64> = Vec::new();
        for (gap, wait) in gaps {
            // Most requests come together, some after a pause.
            clock.advance(ms(gap.saturating_sub(150)));
            let now = clock.now().as_u64();
            let before = limiter.state(Some("k"));
            match limiter.check(if wait { &patient } else { &hasty }, Some("k")) {
                Verdict::Pass { remaining } => {
                    starts.push(now);
                    prop_assert_eq!(remaining + 1, before.remaining);
                }
                Verdict::Wait(turn) => {
                    prop_assert!(wait && turn <= ms(max_wait) && turn > Duration::ZERO);
                    prop_assert_eq!(before.remaining, 0);
                    starts.push(now + turn.as_nanos() as u64);
                }
                Verdict::Refused { retry_after } => {
                    prop_assert!(!wait || retry_after > ms(max_wait));
                    prop_assert!(retry_after > Duration::ZERO);
                    prop_assert_eq!(limiter.state(Some("k")), before);
                }
            }
        }
        prop_assert!(starts.is_sorted(), "turns go in order of arrival");
        for (i, from) in starts.iter().enumerate() {
            for (n, to) in starts[i..].iter().enumerate() {
                let allowed = f64::from(burst) + f64::from(events) * (to - from) as f64 / 1e9;
                prop_assert!((n + 1) as f64 <= allowed + 1e-6);
            }
        }
    }
}
