//! Who is chosen, over what each attempt sees.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

mod latency;
mod ring;

/// Endpoints as a test sets them, and how often their availability was asked for.
#[derive(Clone, Debug, Default)]
struct Set {
    unavailable: Vec<usize>,
    tried: Vec<usize>,
    in_flight: Vec<usize>,
    costs: Vec<Option<f64>>,
    ramps: Vec<f64>,
    asked: Cell<usize>,
}

impl Endpoints for Set {
    fn available(&self, index: usize) -> bool {
        self.asked.set(self.asked.get() + 1);
        !self.unavailable.contains(&index)
    }
    fn tried(&self, index: usize) -> bool {
        self.tried.contains(&index)
    }
    fn in_flight(&self, index: usize) -> usize {
        self.in_flight.get(index).copied().unwrap_or(0)
    }
    fn cost(&self, index: usize) -> Option<f64> {
        self.costs.get(index).copied().unwrap_or(Some(1e6))
    }
    fn ramp(&self, index: usize) -> f64 {
        self.ramps.get(index).copied().unwrap_or(1.0)
    }
}

const ALL: [Policy; 4] =
    [Policy::PeakEwma, Policy::LeastRequest, Policy::RoundRobin, Policy::RingHash];

fn settings(policy: Policy) -> Settings {
    Settings { policy, ..Settings::default() }
}

/// A plan of endpoints by weight; those whose index is in `local` are in the own zone.
fn plan(policy: Policy, weights: &[u32], local: &[usize]) -> Plan {
    let names: Vec<String> = (0..weights.len()).map(|i| format!("10.0.0.{i}:80")).collect();
    let member = |(i, weight): (usize, &u32)| Member {
        name: &names[i],
        weight: *weight,
        local: local.contains(&i),
    };
    let members: Vec<Member<'_>> = weights.iter().enumerate().map(member).collect();
    Plan::build(&settings(policy), &members)
}

/// The n-th of some random-looking numbers, the same in every run.
fn chance(n: usize) -> Chance {
    let word = super::ring::mix(n as u64);
    Chance { random: (word >> 11) as f64 / (1_u64 << 53) as f64, turn: n, hash: None }
}

/// The share of each endpoint in 20,000 choices.
fn shares(policy: Policy, weights: &[u32], local: &[usize], set: &Set) -> Vec<f64> {
    const CHOICES: usize = 20_000;
    let plan = plan(policy, weights, local);
    let mut counts = vec![0.0; weights.len()];
    for n in 0..CHOICES {
        let index = plan.choose(&settings(policy), set, chance(n)).unwrap();
        counts[index] += 1.0;
    }
    counts.iter().map(|count| count / CHOICES as f64).collect()
}

fn assert_near(shares: &[f64], expected: &[f64], within: f64, what: &str) {
    let near = shares.iter().zip(expected).all(|(a, b)| (a - b).abs() <= within);
    assert!(near, "{what}: {shares:.3?} is not {expected:.3?}");
}

#[test]
fn idle_and_equal_endpoints_share_equally() {
    for policy in ALL {
        let within = if policy == Policy::RingHash { 0.06 } else { 0.02 };
        for n in [1, 2, 3, 4] {
            let expected = vec![1.0 / n as f64; n];
            let shares = shares(policy, &vec![7; n], &[], &Set::default());
            assert_near(&shares, &expected, within, &format!("{policy:?}"));
        }
    }
}

#[test]
fn idle_endpoints_share_by_weight_except_that_latency_decides_between_two() {
    for (policy, within) in
        [(Policy::LeastRequest, 0.02), (Policy::RoundRobin, 0.001), (Policy::RingHash, 0.08)]
    {
        let shares = shares(policy, &[1, 2, 5], &[], &Set::default());
        assert_near(&shares, &[0.125, 0.25, 0.625], within, &format!("{policy:?}"));
    }
}

#[test]
fn the_order_of_round_robin_is_even_and_exact() {
    let plan = plan(Policy::RoundRobin, &[20, 10, 10], &[]);
    let settings = settings(Policy::RoundRobin);
    let set = Set::default();
    let choose = |turn| plan.choose(&settings, &set, Chance { turn, ..chance(turn) }).unwrap();
    let order: Vec<usize> = (0..8).map(choose).collect();
    assert_eq!(order, [0, 1, 2, 0, 0, 1, 2, 0]);
}

#[test]
fn an_order_stays_bounded_with_large_weights_that_share_no_factor() {
    let weights: Vec<u32> = (0..200).map(|n| 1000 - n % 2).collect();
    let plan = plan(Policy::RoundRobin, &weights, &[]);
    let settings = settings(Policy::RoundRobin);
    let set = Set::default();
    let mut counts = vec![0_u32; 200];
    for turn in 0..65_536 {
        counts[plan.choose(&settings, &set, Chance { turn, ..chance(turn) }).unwrap()] += 1;
    }
    let (low, high) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*low > 300 && high - low < 30, "{low} {high}");
}

#[test]
fn the_less_loaded_of_two_is_taken() {
    for (policy, weights, set, expected) in [
        (
            Policy::PeakEwma,
            [1, 1],
            Set { costs: vec![Some(2e6), Some(1e6)], in_flight: vec![0, 0], ..Set::default() },
            1,
        ),
        (
            Policy::PeakEwma,
            [1, 1],
            Set { costs: vec![Some(2e6), Some(1e6)], in_flight: vec![1, 4], ..Set::default() },
            0,
        ),
        (Policy::LeastRequest, [1, 1], Set { in_flight: vec![3, 2], ..Set::default() }, 1),
        (Policy::LeastRequest, [4, 1], Set { in_flight: vec![7, 2], ..Set::default() }, 0),
        (
            Policy::LeastRequest,
            [1, 1],
            Set { costs: vec![Some(1.0), Some(9e9)], in_flight: vec![1, 0], ..Set::default() },
            1,
        ),
    ] {
        let shares = shares(policy, &weights, &[], &set);
        assert_near(&[shares[expected]], &[1.0], 0.0, &format!("{policy:?} {set:?}"));
    }
}

#[test]
fn one_request_measures_a_new_endpoint_and_more_wait_for_it() {
    let costs = vec![Some(1e6), None];
    let idle = Set { costs: costs.clone(), ..Set::default() };
    assert_near(&shares(Policy::PeakEwma, &[1, 1], &[], &idle), &[0.0, 1.0], 0.0, "idle");
    let measuring = Set { costs, in_flight: vec![500, 1], ..Set::default() };
    assert_near(&shares(Policy::PeakEwma, &[1, 1], &[], &measuring), &[1.0, 0.0], 0.0, "probing");
}

#[test]
fn one_that_has_not_answered_yet_is_no_better_than_one_that_fails() {
    let costs = vec![Some(5e9), None];
    let measuring = Set { costs, in_flight: vec![0, 1], ..Set::default() };
    assert_near(&shares(Policy::PeakEwma, &[1, 1], &[], &measuring), &[1.0, 0.0], 0.0, "probing");
}

#[test]
fn a_choice_looks_at_two_of_any_number_of_endpoints() {
    for policy in [Policy::PeakEwma, Policy::LeastRequest, Policy::RoundRobin, Policy::RingHash] {
        for weight in [1, 3] {
            let mut weights = vec![1; 10_000];
            weights[0] = weight;
            let plan = plan(policy, &weights, &[]);
            let set = Set::default();
            for n in 0..100 {
                set.asked.set(0);
                plan.choose(&settings(policy), &set, chance(n)).unwrap();
                assert!(set.asked.get() <= 2, "{policy:?}: {}", set.asked.get());
            }
        }
    }
}

#[test]
fn the_unavailable_are_never_chosen_and_their_share_falls_to_all_others() {
    for policy in ALL {
        let set = Set { unavailable: vec![1, 2], ..Set::default() };
        let within = if policy == Policy::RingHash { 0.06 } else { 0.02 };
        let expected = [0.25, 0.0, 0.0, 0.25, 0.25, 0.25];
        let shares = shares(policy, &[1; 6], &[], &set);
        assert_near(&shares, &expected, within, &format!("{policy:?}"));
        assert_near(&shares[1..3], &[0.0, 0.0], 0.0, &format!("{policy:?}"));
    }
}

#[test]
fn the_unavailable_do_not_spare_an_endpoint_the_comparison() {
    // Four draws of two out of three meet the unavailable one each time once in 81 choices.
    for (policy, unavailable, tried) in [
        (Policy::PeakEwma, vec![0], vec![]),
        (Policy::PeakEwma, vec![], vec![0]),
        (Policy::LeastRequest, vec![0], vec![]),
    ] {
        let costs = vec![None, Some(1e6), Some(5e9)];
        let set = Set { unavailable, tried, costs, in_flight: vec![0, 0, 9], ..Set::default() };
        let shares = shares(policy, &[1, 1, 1], &[], &set);
        assert_near(&shares, &[0.0, 1.0, 0.0], 0.0, &format!("{policy:?}"));
    }
}

#[test]
fn the_comparison_keeps_to_slow_start_when_only_two_are_available() {
    let set = Set { unavailable: vec![0], ramps: vec![1.0, 1.0, 0.1], ..Set::default() };
    let shares = shares(Policy::PeakEwma, &[1, 1, 1], &[], &set);
    assert_near(&shares, &[0.0, 0.95, 0.05], 0.01, "half of a tenth");
}

#[test]
fn the_few_available_of_many_share_equally() {
    let set = Set { unavailable: (0..18).collect(), ..Set::default() };
    for policy in [Policy::PeakEwma, Policy::LeastRequest, Policy::RoundRobin] {
        let shares = shares(policy, &[1; 20], &[], &set);
        assert_near(&shares[18..], &[0.5, 0.5], 0.02, &format!("{policy:?}"));
    }
}

#[test]
fn nobody_is_chosen_when_nobody_is_available_or_there() {
    for policy in ALL {
        let set = Set { unavailable: vec![0, 1, 2], ..Set::default() };
        let plan = plan(policy, &[1, 2, 1], &[0]);
        assert_eq!(plan.choose(&settings(policy), &set, chance(1)), None);
        let none = Plan::build(&settings(policy), &[]);
        assert_eq!(none.choose(&settings(policy), &Set::default(), chance(1)), None);
    }
}

#[test]
fn the_tried_are_chosen_only_when_nobody_else_is_available() {
    for policy in ALL {
        let mut set = Set { tried: vec![0, 2], in_flight: vec![0, 90, 0], ..Set::default() };
        let others = shares(policy, &[1, 1, 1], &[], &set);
        assert_near(&others, &[0.0, 1.0, 0.0], 0.0, &format!("{policy:?}"));
        set.unavailable = vec![1];
        let again = shares(policy, &[1, 1, 1], &[], &set);
        assert_near(&again, &[0.5, 0.0, 0.5], 0.1, &format!("{policy:?}"));
    }
}

#[test]
fn the_own_zone_is_used_alone_while_half_of_it_is_available() {
    for policy in ALL {
        let what = format!("{policy:?}");
        let of = |unavailable: &[usize], tried: &[usize]| {
            let (unavailable, tried) = (unavailable.to_vec(), tried.to_vec());
            let set = Set { unavailable, tried, ..Set::default() };
            shares(policy, &[1; 6], &[0, 1, 2], &set)
        };
        let third = 1.0 / 3.0;
        assert_near(&of(&[], &[]), &[third, third, third, 0.0, 0.0, 0.0], 0.1, &what);
        assert_near(&of(&[], &[])[3..], &[0.0; 3], 0.0, &what);
        assert_near(&of(&[0], &[])[3..], &[0.0; 3], 0.0, &what);
        let spread = of(&[0, 1], &[]);
        assert_near(&spread, &[0.0, 0.0, 0.25, 0.25, 0.25, 0.25], 0.1, &what);
        // One that was not tried elsewhere goes before one of the zone that was.
        assert_near(&of(&[], &[0, 1, 2])[..3], &[0.0; 3], 0.0, &what);
        assert_near(&of(&[], &[0, 1, 2, 3, 4, 5])[3..], &[0.0; 3], 0.0, &what);
    }
}

#[test]
fn slow_start_holds_a_share_in_proportion() {
    for policy in [Policy::PeakEwma, Policy::LeastRequest, Policy::RoundRobin] {
        for ramp in [0.1, 0.5] {
            let set = Set { ramps: vec![1.0, 1.0, 1.0, ramp], ..Set::default() };
            let fair = ramp / (3.0 + ramp);
            let share = shares(policy, &[1; 4], &[], &set)[3];
            // A draw of two that is settled by lot among equals gives a little less.
            assert!((0.75 * fair..=1.25 * fair).contains(&share), "{policy:?} {ramp}: {share}");
        }
        let alone = Set { ramps: vec![0.1, 1.0], unavailable: vec![1], ..Set::default() };
        assert_near(&shares(policy, &[1, 1], &[], &alone), &[1.0, 0.0], 0.0, "alone");
    }
}

#[test]
fn pick_two_gives_all_pairs_equally_often() {
    let mut counts = [[0; 5]; 5];
    for n in 0..2000 {
        let (a, b) = pick_two(f64::from(n) / 2000.0, 5);
        counts[a][b] += 1;
    }
    for (a, row) in counts.iter().enumerate() {
        for (b, count) in row.iter().enumerate() {
            assert_eq!(*count, if a == b { 0 } else { 100 }, "{a} {b}");
        }
    }
    assert_eq!(pick_two(0.9, 1), (0, 0));
    assert_eq!(pick_two(0.9, 0), (0, 0));
}

proptest! {
    /// Whatever the state, an available endpoint is chosen if there is one, and never another; one
    /// that was not tried, if there is one.
    #[test]
    fn a_choice_is_always_one_that_may_be_chosen(
        policy in proptest::sample::select(&ALL[..]),
        endpoints in proptest::collection::vec(
            (1_u32..=1000, any::<bool>(), any::<bool>(), any::<bool>(), 0_usize..50, 0.01..1.0),
            0..12,
        ),
        random in 0.0..1.0_f64,
        turn in any::<usize>(),
        hash in any::<Option<u64>>(),
    ) {
        let which = |keep: &dyn Fn(usize) -> bool| -> Vec<usize> {
            (0..endpoints.len()).filter(|i| keep(*i)).collect()
        };
        let set = Set {
            unavailable: which(&|i| endpoints[i].1),
            tried: which(&|i| endpoints[i].2),
            in_flight: endpoints.iter().map(|e| e.4).collect(),
            ramps: endpoints.iter().map(|e| e.5).collect(),
            ..Set::default()
        };
        let weights: Vec<u32> = endpoints.iter().map(|e| e.0).collect();
        let plan = plan(policy, &weights, &which(&|i| endpoints[i].3));
        let chosen = plan.choose(&settings(policy), &set, Chance { random, turn, hash });
        let available = which(&|i| !endpoints[i].1);
        let untried = which(&|i| !endpoints[i].1 && !endpoints[i].2);
        let wanted = if untried.is_empty() { available } else { untried };
        match chosen {
            None => prop_assert!(wanted.is_empty()),
            Some(index) => prop_assert!(wanted.contains(&index)),
        }
    }
}
