//! The ring: shares, what moves when an endpoint leaves, and the bound on the load.

use super::*;

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("10.0.0.{i}:80")).collect()
}

fn equal(names: &[String]) -> Vec<(&str, u32)> {
    names.iter().map(|name| (name.as_str(), 1)).collect()
}

fn key(n: u32) -> u64 {
    hash(format!("user-{n}").as_bytes())
}

#[test]
fn the_hash_is_the_same_in_every_process_and_version() {
    assert_eq!(hash(b""), super::super::ring::mix(0xcbf2_9ce4_8422_2325));
    // FNV-1a of "a" is af63dc4c8601ec8c.
    assert_eq!(hash(b"a"), super::super::ring::mix(0xaf63_dc4c_8601_ec8c));
    // The first output of SplitMix64 from the seed 0.
    assert_eq!(super::super::ring::mix(0), 0xe220_a839_7b1d_cdaf);
}

#[test]
fn keys_follow_names_and_not_their_order() {
    let names = names(10);
    let reversed: Vec<String> = names.iter().rev().cloned().collect();
    let (a, b) = (Ring::build(&equal(&names)), Ring::build(&equal(&reversed)));
    for n in 0..1000 {
        let one: Vec<usize> = a.walk(key(n)).collect();
        let other: Vec<usize> = b.walk(key(n)).map(|index| 9 - index).collect();
        assert_eq!(one, other);
    }
}

#[test]
fn a_walk_gives_each_endpoint_once() {
    let names = names(20);
    let ring = Ring::build(&equal(&names));
    for n in 0..200 {
        let mut walk: Vec<usize> = ring.walk(key(n)).collect();
        walk.sort_unstable();
        assert_eq!(walk, (0..20).collect::<Vec<_>>());
    }
    assert_eq!(ring.walk(u64::MAX).count(), 20);
    assert_eq!(Ring::build(&[]).walk(1).next(), None);
}

/// Keys of the endpoint that left go to others; all other keys stay. About 1/n move.
#[test]
fn only_the_keys_of_an_endpoint_that_leaves_move() {
    const KEYS: u32 = 20_000;
    for n in [3, 10, 50] {
        let all = names(n);
        let (before, after) = (Ring::build(&equal(&all)), Ring::build(&equal(&all[..n - 1])));
        let mut moved = 0;
        for k in 0..KEYS {
            let owner = before.walk(key(k)).next().unwrap();
            let now = after.walk(key(k)).next().unwrap();
            if owner == n - 1 {
                moved += 1;
                // It goes to the one that was next in line.
                assert_eq!(Some(now), before.walk(key(k)).nth(1));
            } else {
                assert_eq!(owner, now, "a key moved between endpoints that stayed");
            }
        }
        let share = f64::from(moved) / f64::from(KEYS) * n as f64;
        assert!((0.6..1.5).contains(&share), "{n}: {share} of 1/n");
    }
}

#[test]
fn shares_follow_weights_and_points_stay_bounded() {
    for weights in [[1, 2, 5], [125, 250, 625]] {
        let names = names(3);
        let endpoints: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(weights).collect();
        let ring = Ring::build(&endpoints);
        let mut counts = [0.0; 3];
        for k in 0..20_000 {
            counts[ring.walk(key(k)).next().unwrap()] += 1.0 / 20_000.0;
        }
        assert_near(&counts, &[0.125, 0.25, 0.625], 0.08, "shares");
    }
    let names = names(500);
    let heavy: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1000)).collect();
    let ring = Ring::build(&heavy);
    assert!(ring.points() <= usize::try_from(POINTS_MAX).unwrap());
    assert_eq!(ring.walk(0).count(), 500);
}

#[test]
fn a_key_stays_where_it_is_while_the_load_is_even() {
    let plan = plan(Policy::RingHash, &[1; 5], &[]);
    let settings = settings(Policy::RingHash);
    let set = Set { in_flight: vec![4; 5], ..Set::default() };
    let idle = Set::default();
    for n in 0..500 {
        let chance = Chance { hash: Some(key(n)), ..chance(0) };
        assert_eq!(plan.choose(&settings, &set, chance), plan.choose(&settings, &idle, chance));
    }
}

/// Sends one request for each key, none of which ends, and checks the bound after each.
fn assert_bounded(weights: &[u32], bound: u32, keys: &[u32]) {
    let settings = Settings { bound: Factor::percent(bound), ..settings(Policy::RingHash) };
    let plan = plan(Policy::RingHash, weights, &[]);
    let mut set = Set { in_flight: vec![0; weights.len()], ..Set::default() };
    let sum: u64 = weights.iter().copied().map(u64::from).sum();
    for (sent, k) in (1_u64..).zip(keys) {
        let chance = Chance { hash: Some(key(*k)), ..chance(0) };
        let index = plan.choose(&settings, &set, chance).unwrap();
        set.in_flight[index] += 1;
        let most = (u64::from(bound) * sent * u64::from(weights[index])).div_ceil(100 * sum);
        assert!(set.in_flight[index] as u64 <= most, "{:?} of {most}", set.in_flight);
    }
}

#[test]
fn a_bound_that_is_a_whole_number_is_not_passed_by_rounding() {
    assert_bounded(&[2, 2, 1, 3, 1], 220, &[0; 45]);
}

proptest! {
    /// However skewed the keys, nobody is given more than the factor of the mean, rounded up.
    #[test]
    fn the_load_stays_within_the_bound(
        weights in proptest::collection::vec(1_u32..4, 1..8),
        bound in 100_u32..300,
        keys in proptest::collection::vec(0_u32..3, 1..200),
    ) {
        assert_bounded(&weights, bound, &keys);
    }
}
