use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn level(tier: usize, cohort: usize) -> Level {
    Level::new(tier, cohort)
}

/// A threshold that has seen each cohort of so many tiers alike.
fn uniform(tiers: usize) -> Threshold {
    let mut threshold = Threshold::new();
    for n in 0..5000 {
        threshold.note(level(n % tiers, n / tiers % COHORTS));
    }
    threshold
}

#[test]
fn the_settings_are_those_of_the_contract() {
    let settings: Settings = serde_json::from_str("{}").expect("all have a default");
    assert_eq!(settings.tiers, ["critical", "default", "degraded", "sheddable"]);
    assert_eq!(settings.from.header, "x-priority");
    assert_eq!(settings.fairness, None);
    let text = r#"{ "fairness": { "key": "header:X-Client-Id" } }"#;
    let fair: Settings = serde_json::from_str(text).expect("valid settings");
    let key = fair.fairness.map(|fairness| fairness.key);
    assert_eq!(key, Some(HashOn::Header("x-client-id".to_owned())));
}

#[test]
fn the_tier_is_the_named_one_or_the_default() {
    let settings = Settings::default();
    let tiers = [Some("critical"), Some(" Sheddable "), Some("urgent"), None];
    assert_eq!(tiers.map(|name| settings.tier_of(name)), [0, 3, 1, 1]);
    let wrong = Settings {
        from: Source { otherwise: "none of them".to_owned(), ..Source::default() },
        ..Settings::default()
    };
    assert_eq!(wrong.tier_of(None), 3, "the lowest takes nothing from anyone");
}

#[test]
fn levels_are_ordered_by_tier_and_then_by_cohort() {
    assert!(level(0, 0) > level(1, 127));
    assert!(level(1, 1) > level(1, 0));
    assert_eq!((level(2, 77).tier(), level(2, 77).cohort()), (2, 77));
    assert_eq!(level(99, 999), level(MAX_TIERS - 1, COHORTS - 1));
    assert_eq!(Level::LOWEST, level(MAX_TIERS - 1, 0));
}

#[test]
fn hashes_are_spread_over_the_cohorts() {
    let mut counts = [0u32; COHORTS];
    for hash in 0..128_000 {
        counts[Level::hashed(1, hash).cohort()] += 1;
    }
    assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
}

#[test]
fn the_threshold_refuses_the_asked_share_from_below() {
    for (share, lowest) in [(0.25, level(3, 127)), (0.5, level(2, 127)), (0.9, level(0, 76))] {
        let mut threshold = uniform(4);
        let set = threshold.tick(4, share);
        assert!(set.0.abs_diff(lowest.0) <= 2, "{set:?} for {share}");
        let refused =
            (0..4 * COHORTS).filter(|n| !threshold.admits(level(n % 4, n / 4))).count() as f64;
        assert!((refused / 512.0 - share).abs() < 0.01, "{refused} of 512 for {share}");
    }
}

#[test]
fn with_nothing_seen_or_asked_all_are_admitted() {
    let mut threshold = Threshold::new();
    threshold.tick(4, 1.0);
    assert!(threshold.admits_all());
    let mut threshold = uniform(4);
    threshold.tick(4, 0.0);
    assert!(threshold.admits_all() && threshold.admits(Level::LOWEST));
}

#[test]
fn the_highest_that_arrives_is_always_admitted() {
    let mut threshold = Threshold::new();
    for _ in 0..2000 {
        threshold.note(level(3, 5));
    }
    threshold.tick(4, 1.0);
    assert!(threshold.admits(level(3, 5)));
    assert!(!threshold.admits(level(3, 4)));
}

#[test]
fn it_rises_at_once_and_falls_by_a_twentieth_a_tick() {
    let mut threshold = uniform(4);
    let up = threshold.tick(4, 0.9);
    let mut ticks = 0;
    let mut before = up;
    while !threshold.admits_all() {
        let now = threshold.tick(4, 0.0);
        assert!(now == Level::LOWEST || before.0 - now.0 == 25, "25 of 512 levels");
        before = now;
        ticks += 1;
    }
    assert!((18..=19).contains(&ticks), "{ticks} ticks from 90 %");
}

#[test]
fn a_constant_share_keeps_the_threshold_steady() {
    let mut threshold = Threshold::new();
    let mut state = 1u64;
    let mut set = Vec::new();
    for n in 0..100_000u32 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        threshold.note(level((state >> 62) as usize, (state >> 40) as usize % COHORTS));
        if n % 500 == 499 {
            set.push(threshold.tick(4, 0.5).0);
        }
    }
    let steady = set.get(10..).unwrap_or_default();
    let (low, high) = (steady.iter().min(), steady.iter().max());
    let swing = high.zip(low).map(|(high, low)| high - low);
    assert!(swing.is_some_and(|swing| swing < 51), "{swing:?} of 512 levels is a tenth");
}

#[test]
fn only_the_recent_thousand_count() {
    let mut threshold = Threshold::new();
    (0..5000).for_each(|_| threshold.note(level(0, 0)));
    (0..1000).for_each(|_| threshold.note(level(3, 0)));
    threshold.tick(4, 1.0);
    assert!(threshold.admits(level(3, 0)), "of those there are none above any more");
}

struct Bench {
    usage: Usage,
    now: Instant,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "the fixed point that time is counted from")]
    fn new() -> Self {
        let now = Instant::now();
        Self { usage: Usage::new(now), now }
    }

    fn second(&mut self, uses: &[(u64, u64)]) {
        for (key, ms) in uses {
            self.usage.add(*key, Duration::from_millis(*ms));
        }
        self.now += Duration::from_secs(1);
        self.usage.tick(self.now);
    }
}

#[test]
fn the_heaviest_user_is_shed_first_and_the_lightest_last() {
    let mut bench = Bench::new();
    bench.second(&[(1, 20), (2, 400), (3, 100)]);
    assert_eq!([1, 2, 3, 4].map(|key| bench.usage.cohort(key)), [127, 0, 63, 127]);
}

#[test]
fn those_who_use_the_same_are_treated_the_same() {
    let mut bench = Bench::new();
    bench.second(&[(1, 100), (2, 105), (3, 95)]);
    assert_eq!([1, 2, 3].map(|key| bench.usage.cohort(key)), [127; 3]);
    bench.second(&[(9, 5000)]);
    assert_eq!(bench.usage.cohort(9), 0);
    assert_eq!([1, 2, 3].map(|key| bench.usage.cohort(key)), [42; 3], "one of three uses more");
}

#[test]
fn use_fades_by_half_in_ten_seconds() {
    let mut bench = Bench::new();
    bench.second(&[(1, 1000)]);
    for _ in 0..20 {
        bench.second(&[]);
    }
    // A quarter is left of the first, less than what the second has used just now.
    bench.second(&[(2, 500)]);
    assert_eq!((bench.usage.cohort(1), bench.usage.cohort(2)), (127, 0));
    for _ in 0..400 {
        bench.second(&[]);
    }
    assert!(bench.usage.is_empty(), "in the end they are forgotten");
}

#[test]
fn the_number_of_users_is_bounded_and_the_heavy_are_kept() {
    let mut bench = Bench::new();
    bench.second(&[(1_000_000, 60_000)]);
    for key in 0..3 * MAX_KEYS as u64 {
        bench.usage.add(key, Duration::from_millis(1));
        assert!(bench.usage.len() <= MAX_KEYS);
    }
    bench.second(&[]);
    assert_eq!(bench.usage.cohort(1_000_000), 0);
}

proptest! {
    /// Within one tick nobody is refused who is above somebody admitted; the counts stay right.
    #[test]
    fn the_threshold_is_one_line(
        arrivals in prop::collection::vec((0usize..4, 0usize..128), 0..1500),
        shares in prop::collection::vec(0.0f64..=1.0, 1..20),
    ) {
        let mut threshold = Threshold::new();
        for (tier, cohort) in &arrivals {
            threshold.note(level(*tier, *cohort));
        }
        let mut before = Level::LOWEST;
        for share in shares {
            let lowest = threshold.tick(4, share);
            let verdicts: Vec<bool> = (0..LEVELS)
                .map(|n| threshold.admits(Level(n as u16)))
                .collect();
            prop_assert!(verdicts.is_sorted(), "refused below, admitted above");
            prop_assert_eq!(lowest, threshold.lowest());
            prop_assert!(lowest >= before || before.0 - lowest.0 <= 25 || lowest.0 == 0);
            before = lowest;
            let highest = arrivals.iter().rev().take(1000).map(|(t, c)| level(*t, *c)).max();
            prop_assert!(highest.is_none_or(|highest| threshold.admits(highest)));
        }
        let counted: u32 = threshold.counts.iter().map(|count| u32::from(*count)).sum();
        prop_assert_eq!(counted as usize, arrivals.len().min(1000));
    }
}
