use proptest::prelude::*;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[expect(clippy::disallowed_methods, reason = "an origin for made-up times; nothing is measured")]
pub(super) fn origin() -> Instant {
    Instant::now()
}

fn settings(after: &str, percent: u32) -> Settings {
    Settings {
        mode: Mode::Enforce,
        after: after.parse().unwrap(),
        max_extra: Ratio::percent(percent),
    }
}

const FINE: Facts = Facts {
    repeatable: true,
    replayable: true,
    remaining: Some(Duration::from_secs(1)),
    fullness: 0.5,
    closed: true,
    trial: false,
    other_endpoint: true,
};

/// One that knows latencies of 1 to 100 ms, and has saved all that it can.
fn knowing(s: &Settings) -> Hedge {
    let t0 = origin();
    let mut hedge = Hedge::new(t0);
    for i in 0..1000 {
        hedge.first(s);
        hedge.record(s, ms(1 + i % 100), t0 + ms(i * 10));
    }
    hedge
}

#[test]
fn delays_are_percentiles_or_times() {
    for (text, after) in [
        ("p50", After::Permille(500)),
        ("p95", After::Permille(950)),
        (" p99.9 ", After::Permille(999)),
        ("30ms", After::Time(Period::from_millis(30))),
        ("1ms", After::Time(Period::from_millis(1))),
    ] {
        assert_eq!(text.parse(), Ok(after), "{text}");
        assert_eq!(after.to_string(), text.trim());
    }
    for text in
        ["", "p", "p9", "p49.9", "p100", "p99.99", "p99.", "p.5", "p+9", "95%", "0", "999us", "30"]
    {
        assert!(text.parse::<After>().is_err(), "{text}");
    }
    let s: Settings = serde_json::from_str("{}").unwrap();
    assert_eq!((s.after.to_string().as_str(), s.max_extra), ("p95", Ratio::percent(5)));
    assert_eq!(s.mode, Mode::Enforce);
}

#[test]
fn the_delay_is_the_percentile_and_no_less_than_a_millisecond() {
    let s = settings("p95", 5);
    let delay = knowing(&s).delay(&s, &FINE).unwrap();
    assert!((ms(95)..=ms(103)).contains(&delay), "{delay:?}");
    let t0 = origin();
    let mut quick = Hedge::new(t0);
    for i in 0..1000 {
        quick.record(&s, Duration::from_micros(20), t0 + ms(i * 10));
    }
    assert_eq!(quick.delay(&s, &FINE), Ok(DELAY_MIN));
    let fixed = settings("30ms", 5);
    assert_eq!(Hedge::new(t0).delay(&fixed, &FINE), Ok(ms(30)), "it needs no samples");
    assert_eq!(Hedge::new(t0).delay(&s, &FINE), Err(Why::Unknown));
}

#[test]
fn each_condition_alone_keeps_a_copy_from_being_sent() {
    let s = settings("p95", 5);
    let both = [
        (Facts { repeatable: false, ..FINE }, Why::MethodUnsafe),
        (Facts { replayable: false, ..FINE }, Why::BodyTooLarge),
        (Facts { trial: true, ..FINE }, Why::Trial),
        (Facts { closed: false, ..FINE }, Why::CircuitOpen),
        (Facts { other_endpoint: false, ..FINE }, Why::NoEndpoint),
        (Facts { remaining: Some(ms(40)), ..FINE }, Why::Deadline),
    ];
    for (facts, why) in both {
        let mut hedge = knowing(&s);
        assert_eq!(hedge.delay(&s, &facts), Err(why));
        assert_eq!(hedge.send(&s, &facts), Err(why));
        assert!((hedge.available() - f64::from(SAVED_MAX)).abs() < 1e-9, "nothing was taken");
    }
    let mut hedge = knowing(&s);
    // What is full may be less so when the time has come.
    let full = Facts { fullness: 0.8, ..FINE };
    assert!(hedge.delay(&s, &full).is_ok());
    assert_eq!(hedge.send(&s, &full), Err(Why::Limit));
    // Half of all take about 50 ms: with 60 it may help, though the delay alone is longer.
    assert_eq!(hedge.send(&s, &Facts { remaining: Some(ms(60)), ..FINE }), Ok(()));
    assert_eq!(hedge.send(&s, &Facts { remaining: None, ..FINE }), Ok(()));
    let off = Settings { mode: Mode::Off, ..s };
    assert_eq!(hedge.delay(&off, &FINE), Err(Why::Off));
    assert_eq!(hedge.send(&off, &FINE), Err(Why::Off));
}

#[test]
fn nothing_is_given_for_nothing() {
    let s = settings("30ms", 5);
    let mut hedge = Hedge::new(origin());
    for request in 1..=100 {
        hedge.first(&s);
        let sent = hedge.send(&s, &FINE);
        assert_eq!(sent.is_ok(), request % 20 == 0, "{request}");
    }
    assert_eq!(hedge.send(&s, &FINE), Err(Why::Budget));
    hedge.give_back();
    assert_eq!(hedge.send(&s, &FINE), Ok(()));
    let none = settings("30ms", 0);
    for _ in 0..1000 {
        hedge.first(&none);
        assert_eq!(hedge.send(&none, &FINE), Err(Why::Budget));
    }
}

#[test]
fn every_reason_is_spelled_once() {
    let mut names: Vec<&str> = Why::ALL.iter().map(|why| why.as_str()).collect();
    assert!(Why::ALL.iter().all(|why| why.meaning().ends_with('.')));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Why::ALL.len());
}

/// Of an upstream that takes twenty times as long for one request in twenty, the tail is cut by
/// more than half at the price of 5 %.
#[test]
fn a_bimodal_upstream_loses_its_tail() {
    let s = settings("p90", 5);
    let (t0, mut hedge) = (origin(), Hedge::new(origin()));
    let mut seed = 7_u64;
    let mut latency = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let jitter = Duration::from_micros((seed >> 40) % 2000);
        if (seed >> 33).is_multiple_of(20) { ms(200) } else { ms(10) + jitter }
    };
    let (mut seen, mut copies) = (Vec::new(), 0);
    let requests = 20_000;
    for i in 0..requests {
        let now = t0 + ms(i * 10);
        hedge.first(&s);
        let first = latency();
        let took = match hedge.delay(&s, &FINE) {
            Ok(delay) if first > delay && hedge.send(&s, &FINE).is_ok() => {
                copies += 1;
                first.min(delay + latency())
            }
            _ => first,
        };
        hedge.record(&s, took, now);
        seen.push(took);
    }
    seen.drain(..2000);
    seen.sort_unstable();
    let p99 = seen[seen.len() * 99 / 100];
    assert!(p99 < ms(100), "{p99:?}");
    assert!(copies * 20 <= requests, "{copies} of {requests}");
}

proptest! {
    /// In no stretch of requests are more copies sent than the share of it and what can be saved.
    #[test]
    fn copies_keep_to_their_share(
        percent in 0_u32..=100, steps in prop::collection::vec((any::<bool>(), 0_usize..4), 1..400),
    ) {
        let s = settings("30ms", percent);
        let mut hedge = Hedge::new(origin());
        let mut sent: Vec<(usize, u32)> = Vec::new();
        for (at, (first, tries)) in steps.iter().enumerate() {
            if *first {
                hedge.first(&s);
            }
            let ok = (0..*tries).filter(|_| hedge.send(&s, &FINE).is_ok()).count();
            sent.push((usize::from(*first), ok as u32));
            prop_assert!(hedge.available() <= f64::from(SAVED_MAX), "{at}");
        }
        for from in 0..sent.len() {
            let (mut firsts, mut copies) = (0, 0);
            for (first, copy) in &sent[from..] {
                firsts += first;
                copies += copy;
                let share = firsts as f64 * f64::from(percent) / 100.0;
                let saved = if from == 0 { 0.0 } else { f64::from(SAVED_MAX) };
                prop_assert!(f64::from(copies) <= share + saved + 1e-6);
            }
        }
    }
}

/// Of twenty requests one is slow, which is just what p95 leaves room for.
#[test]
fn a_tail_as_large_as_the_slow_ones_does_not_hide_them() {
    let (s, t0) = (settings("p95", 5), origin());
    let mut hedge = Hedge::new(t0);
    for n in 0..4000 {
        let latency = if n % 20 == 7 { ms(200) } else { ms(10) };
        hedge.record(&s, latency, t0 + ms(3 * n));
    }
    let delay = hedge.delay(&s, &FINE).unwrap();
    assert!(delay < ms(12), "{delay:?}");
}
