use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "an origin for made-up times; nothing is measured")]
fn origin() -> Instant {
    Instant::now()
}

fn settings(ratio_percent: u32, min_per_second: u32, burst_ms: u64) -> Settings {
    Settings {
        ratio: Factor::percent(ratio_percent),
        min_per_second,
        burst: Period::from_millis(burst_ms),
    }
}

/// Retries granted in each second of a total outage that follows 20 healthy seconds at `rps`, when
/// every failed attempt asks for a retry at once, up to `max_retries` a request.
fn outage(s: &Settings, rps: u64, max_retries: u32, seconds: usize) -> Vec<u32> {
    let t0 = origin();
    let mut budget = Budget::new(t0);
    let mut granted = vec![0; seconds];
    for request in 0..rps * (20 + seconds as u64) {
        let now = t0 + Duration::from_nanos(1_000_000_000 / rps) * request as u32;
        budget.deposit(s, now);
        if let Some(second) = (request / rps).checked_sub(20) {
            for _ in 0..max_retries {
                granted[second as usize] += u32::from(budget.withdraw(s, now, Cost::Whole));
            }
        }
    }
    granted
}

#[test]
fn an_outage_costs_the_savings_once_and_then_a_flat_rate() {
    for max_retries in [1, 2, 3, 9] {
        let granted = outage(&Settings::default(), 100, max_retries, 30);
        assert_eq!(granted[0], 64, "{max_retries}");
        assert_eq!(granted[1..], [23; 29], "{max_retries}");
    }
}

#[test]
fn a_floor_of_nothing_leaves_the_share_alone() {
    // 40 saved and 20 earned, less what the first deposit added to the full bucket.
    assert_eq!(outage(&settings(20, 0, 2000), 100, 3, 5), [59, 20, 20, 20, 20]);
    assert_eq!(outage(&settings(0, 0, 2000), 100, 3, 3), [0, 0, 0]);
}

#[test]
fn without_a_share_only_the_floor_pays() {
    let s = settings(0, 3, 2000);
    let t0 = origin();
    let mut budget = Budget::new(t0);
    for _ in 0..1000 {
        budget.deposit(&s, t0);
    }
    let mut at = |ms| budget.withdraw(&s, t0 + Duration::from_millis(ms), Cost::Whole);
    assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
    assert_eq!([at(333), at(334), at(334)], [false, true, false]);
    // A pause saves no more than one second's worth.
    assert_eq!([at(99_000), at(99_000), at(99_000), at(99_000)], [true, true, true, false]);
}

#[test]
fn half_the_cost_buys_twice_as_much_and_a_refusal_takes_nothing() {
    let s = settings(0, 1, 0);
    let t0 = origin();
    let mut budget = Budget::new(t0);
    assert!(budget.withdraw(&s, t0, Cost::Half));
    assert!(!budget.withdraw(&s, t0, Cost::Whole));
    assert_eq!(budget.balance(&s, t0).floor_millis, 500);
    assert!(budget.withdraw(&s, t0, Cost::Half));
    assert!(!budget.withdraw(&s, t0, Cost::Half));
}

#[test]
fn a_cold_start_saves_from_its_first_request_on() {
    let s = settings(20, 0, 2000);
    let t0 = origin();
    let mut budget = Budget::new(t0);
    for _ in 0..50 {
        budget.deposit(&s, t0);
    }
    assert_eq!(
        budget.balance(&s, t0),
        Balance { ratio_millis: 10_000, floor_millis: 0, cap: 20_000 }
    );
}

#[test]
fn a_lull_keeps_most_of_the_cap_and_a_long_pause_none() {
    let s = settings(20, 0, 2000);
    let t0 = origin();
    let mut budget = Budget::new(t0);
    for ms in 0..10_000 {
        budget.deposit(&s, t0 + Duration::from_millis(ms));
    }
    let cap = |s: u64, budget: &Budget, settings| {
        budget.balance(settings, t0 + Duration::from_secs(s)).cap
    };
    assert_eq!(cap(10, &budget, &s), 400_000);
    assert_eq!(cap(13, &budget, &s), 267_968, "three seconds of silence: 400 * (7/8)^3");
    assert_eq!(cap(10_000, &budget, &s), 1200, "one retry and one request's share are left");
    assert_eq!(cap(u64::from(u32::MAX), &budget, &s), 1200);
}

#[test]
fn a_changed_setting_acts_on_what_is_saved() {
    let s = settings(100, 10, 2000);
    let t0 = origin();
    let mut budget = Budget::new(t0);
    for _ in 0..100 {
        budget.deposit(&s, t0);
    }
    assert_eq!(budget.balance(&s, t0).ratio_millis, 100_000);
    let less = settings(10, 1, 1000);
    let balance = budget.balance(&less, t0);
    assert_eq!(balance, Balance { ratio_millis: 10_000, floor_millis: 1000, cap: 10_000 });
    assert!(budget.withdraw(&less, t0, Cost::Whole));
    assert_eq!(budget.balance(&s, t0).ratio_millis, 10_000, "what was given up stays given up");
}

#[test]
fn times_out_of_order_fill_nothing_twice() {
    let s = settings(0, 1, 0);
    let t0 = origin();
    let at = |ms| t0 + Duration::from_millis(ms);
    let mut budget = Budget::new(at(1000));
    assert!(budget.withdraw(&s, at(1000), Cost::Whole));
    for _ in 0..10 {
        assert!(!budget.withdraw(&s, at(0), Cost::Whole));
        assert!(!budget.withdraw(&s, at(1500), Cost::Whole));
    }
    assert!(budget.withdraw(&s, at(2000), Cost::Whole));
}

#[test]
fn extreme_settings_saturate() {
    let s = Settings {
        ratio: Factor::percent(1000),
        min_per_second: u32::MAX,
        burst: Period::from_secs(366 * 24 * 3600),
    };
    let t0 = origin();
    let mut budget = Budget::new(t0);
    for day in 0..100 {
        let now = t0 + Duration::from_secs(86_400 * day);
        for _ in 0..1000 {
            budget.deposit(&s, now);
        }
        assert!(budget.withdraw(&s, now, Cost::Whole));
        assert!(budget.balance(&s, now).floor_millis <= u64::from(u32::MAX) * 1000);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pause(u64),
    First(u8),
    Retry(u8, Cost),
    Settings(u32, u32, u64),
}

fn steps(change: bool) -> impl Strategy<Value = Vec<Step>> {
    let cost = prop_oneof![Just(Cost::Whole), Just(Cost::Half)];
    let settings = (0_u32..=1000, 0_u32..6, 0_u64..5000)
        .prop_map(move |(r, m, b)| if change { Step::Settings(r, m, b) } else { Step::Pause(b) });
    let step = prop_oneof![
        3 => (0_u64..400).prop_map(Step::Pause),
        1 => (0_u64..20_000).prop_map(Step::Pause),
        6 => (1_u8..40).prop_map(Step::First),
        6 => (1_u8..60, cost).prop_map(|(n, cost)| Step::Retry(n, cost)),
        1 => settings,
    ];
    prop::collection::vec(step, 1..60)
}

/// What one call did, in thousandths of a retry.
struct Call {
    at: u64,
    first: u64,
    cost: u64,
    /// The cap after the call.
    cap: u64,
}

fn run(mut s: Settings, steps: Vec<Step>) -> Vec<Call> {
    let t0 = origin();
    let mut budget = Budget::new(t0);
    let (mut at, mut calls) = (0, Vec::new());
    for step in steps {
        let now = t0 + Duration::from_millis(at);
        let (mut first, mut cost) = (0, 0);
        match step {
            Step::Pause(ms) => at += ms,
            Step::Settings(ratio, min, burst) => s = settings(ratio, min, burst),
            Step::First(n) => {
                (0..n).for_each(|_| budget.deposit(&s, now));
                first = u64::from(n);
            }
            Step::Retry(n, price) => {
                let each = if price == Cost::Whole { 1000 } else { 500 };
                cost = (0..n).map(|_| u64::from(budget.withdraw(&s, now, price)) * each).sum();
            }
        }
        if matches!(step, Step::First(_) | Step::Retry(..)) {
            let balance = budget.balance(&s, now);
            assert!(balance.ratio_millis <= balance.cap);
            assert!(balance.floor_millis <= u64::from(s.min_per_second) * 1000);
            calls.push(Call { at, first, cost, cap: balance.cap });
        }
    }
    calls
}

proptest! {
    /// The promise of the module's doc, for every window that starts and ends at a call.
    #[test]
    fn retries_stay_within_the_promise(
        ratio in 0_u32..=1000, min in 0_u32..6, burst in 0_u64..5000, steps in steps(false),
    ) {
        let calls = run(settings(ratio, min, burst), steps);
        for start in 0..calls.len() {
            // The savings that the window starts with are within the cap of the call before it.
            let saved = if start == 0 { 0 } else { calls[start - 1].cap };
            let (mut first, mut cost) = (0, 0);
            for end in &calls[start..] {
                first += end.first;
                cost += end.cost;
                let window = (end.at - calls[start].at).max(1000);
                let floor = u64::from(min) * (window + 1000);
                // One more: the cap is reported in whole thousandths.
                prop_assert!(cost <= first * u64::from(ratio) * 10 + saved + 1 + floor);
            }
        }
    }

    /// Settings that change at any time keep both buckets within the caps (asserted in `run`).
    #[test]
    fn changing_settings_never_leaves_more_than_the_caps(steps in steps(true)) {
        run(Settings::default(), steps);
    }

    /// Any ratio is kept exactly, at any rate of requests: no integer inverse, no lost fraction.
    #[test]
    fn every_ratio_is_exact(
        ratio in 0_u32..=1000, gap_ms in 0_u64..30_000, burst in 2000_u64..9000,
    ) {
        let s = settings(ratio, 0, burst);
        let t0 = origin();
        let mut budget = Budget::new(t0);
        let mut retries = 0;
        for request in 0..500 {
            let now = t0 + Duration::from_millis(gap_ms * request);
            budget.deposit(&s, now);
            while budget.withdraw(&s, now, Cost::Whole) {
                retries += 1;
            }
        }
        prop_assert_eq!(retries, 500 * ratio / 100);
    }
}
