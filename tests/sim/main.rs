//! The policies together, in virtual time: seeded scenarios, a model upstream and model clients.
//!
//! Each scenario of `scenarios/` runs under many seeds; at every step the rules of [`invariants`]
//! must hold, and at the end the scenario's own expectations. `SIM_SEED=n` replays one seed and
//! prints what was seen, `SIM_SEEDS=n` runs that many.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a replayed seed prints what was seen")]

mod events;
mod gates;
mod invariants;
mod model;
mod places;
mod proxy;
mod scenario;
mod sidecar;
mod tally;
mod world;

use std::time::Duration;

use outrigger::units::Period;
use scenario::Scenario;
use world::{Mutation, run};

/// How many seeds each scenario runs under.
const SEEDS: u64 = 8;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn seeds() -> std::ops::Range<u64> {
    seeds_or(SEEDS)
}

/// The seeds that were asked for, or so many.
fn seeds_or(usual: u64) -> std::ops::Range<u64> {
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(usual),
    }
}

fn holds(name: &str) {
    let scenario = Scenario::load(name);
    for seed in seeds_or(scenario.seeds.unwrap_or(SEEDS)) {
        let replay = format!("SIM_SEED={seed} cargo test --test sim {name} -- --nocapture");
        let tally = run(&scenario, seed, None).unwrap_or_else(|failure| {
            let (rule, what) = (failure.broken.rule, &failure.broken.what);
            let (step, at) = (failure.step, failure.at);
            panic!("{name}, seed {seed}, step {step}, {at:?}: rule {rule}: {what}\n{replay}")
        });
        let wrong = tally.judge(&scenario.expect).join("\n");
        let table = || tally.table(*scenario.length, 2);
        if number("SIM_SEED").is_some() {
            println!("{name}, seed {seed}, {} steps\n{}", tally.steps, table());
        }
        assert!(wrong.is_empty(), "{name}, seed {seed}:\n{wrong}\n{}{replay}", table());
    }
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test] fn $name() { holds(stringify!($name)); })*

        #[test]
        fn every_scenario_file_is_run() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/scenarios");
            for file in std::fs::read_dir(folder).expect("the folder") {
                let path = file.expect("a file").path();
                let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
                assert!([$(stringify!($name)),*].contains(&name), "{name} is not run");
            }
        }
    };
}

scenarios! {
    calm
    budget_alone
    full_outage
    one_fails_fast
    one_hangs
    recovery_herd
    latency_shift
    flapping_endpoint
    cold_start
    reload_storm
    half_capacity
    rate_limited
    rolling_restart
    step_overload
    slow_ramp
    error_burst
    overload_cold_start
    mixed_routes
    sidecars_1
    sidecars_10
    sidecars_50
    total_timeout
    four_tiers
    bulkhead
    self_protection
    heavy_caller
    half_load
    gc_pauses
    knee
    chaos
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    let scenario = Scenario::load("chaos");
    let once = run(&scenario, 7, None).expect("the rules hold");
    assert_eq!(once, run(&scenario, 7, None).expect("the rules hold"));
    assert_ne!(once, run(&scenario, 8, None).expect("the rules hold"));
}

#[test]
fn without_the_policies_an_outage_at_half_capacity_never_ends() {
    let scenario = Scenario::load("half_capacity");
    let naive = scenario.clone().without_policies();
    let (from, until) = (*scenario.length - Duration::from_secs(15), *scenario.length);
    for seed in seeds().take(4) {
        let with = run(&scenario, seed, None).expect("the rules hold").sums(from, until);
        let without = run(&naive, seed, None).expect("the rules hold").sums(from, until);
        assert!(with.success() > 0.9, "seed {seed}: {:.3} with policies", with.success());
        assert!(without.success() < 0.1, "seed {seed}: {:.3} without", without.success());
        assert!(with.amplification() < 1.25, "seed {seed}: {:.3}", with.amplification());
        assert!(without.amplification() > 2.0, "seed {seed}: {:.3}", without.amplification());
    }
}

#[test]
fn without_the_policies_a_step_of_overload_is_a_collapse() {
    let mut scenario = Scenario::load("step_overload");
    scenario.length = Period::from_secs(15);
    let naive = scenario.clone().without_policies();
    let (from, until) = (Duration::from_secs(9), Duration::from_secs(15));
    for seed in seeds().take(2) {
        let with = run(&scenario, seed, None).expect("the rules hold").sums(from, until);
        let without = run(&naive, seed, None).expect("the rules hold").sums(from, until);
        assert!(with.good > 186.0 * 6.0, "seed {seed}: {} with policies", with.good);
        assert!(without.good < 2.0 * 6.0, "seed {seed}: {} without", without.good);
    }
}

#[test]
fn without_the_policies_a_herd_tramples_what_has_just_come_back() {
    let mut scenario = Scenario::load("recovery_herd");
    scenario.length = Period::from_secs(60);
    let naive = scenario.clone().without_policies();
    let (from, until) = (Duration::from_secs(53), Duration::from_secs(58));
    for seed in seeds().take(4) {
        let with = run(&scenario, seed, None).expect("the rules hold").sums(from, until);
        let without = run(&naive, seed, None).expect("the rules hold").sums(from, until);
        assert!(with.success() > 0.95, "seed {seed}: {:.3} with policies", with.success());
        assert!(without.success() < 0.3, "seed {seed}: {:.3} without", without.success());
    }
}

#[test]
fn without_its_bulkhead_a_slow_route_takes_the_places_of_the_others() {
    let scenario = Scenario::load("bulkhead");
    let mut open = scenario.clone();
    open.routes.iter_mut().for_each(|way| way.config.clear());
    for seed in seeds().take(2) {
        let tally = run(&open, seed, None).expect("the rules hold");
        let wrong = tally.judge(&scenario.expect);
        assert!(wrong.iter().any(|line| line.contains("quick")), "seed {seed}: {wrong:?}");
    }
}

#[test]
fn a_protection_that_comes_after_the_rate_limit_spends_the_tokens_of_others() {
    let scenario = Scenario::load("self_protection");
    let tally = run(&scenario, 0, Some(Mutation::ProtectLast)).expect("the rules hold");
    let wrong = tally.judge(&scenario.expect);
    assert!(wrong.iter().any(|line| line.contains("critical")), "{wrong:?}");
}

#[test]
fn each_rule_catches_a_proxy_that_breaks_it() {
    let broken = [
        (Mutation::NoBudget, "budget_alone", 1),
        (Mutation::StaleMoves, "chaos", 2),
        (Mutation::LosePass, "chaos", 3),
        (Mutation::LateStart, "chaos", 4),
        (Mutation::EjectAll, "full_outage", 5),
        (Mutation::BlameOurs, "chaos", 6),
        (Mutation::RetryTrial, "full_outage", 7),
        (Mutation::ForgetState, "reload_storm", 8),
        (Mutation::LongWait, "chaos", 9),
        (Mutation::SampleOurs, "chaos", 10),
        (Mutation::LosePlace, "chaos", 11),
        (Mutation::PlaceEach, "chaos", 12),
        (Mutation::UpsideDown, "four_tiers", 13),
        (Mutation::ForceIn, "step_overload", 14),
        (Mutation::NoDeadline, "total_timeout", 15),
    ];
    // Some breaks need a rare coincidence, such as a wait that ends just after the deadline.
    const MOST_SEEDS: u64 = 100;
    for (mutation, name, rule) in broken {
        let scenario = Scenario::load(name);
        let caught = (0..MOST_SEEDS).find_map(|seed| run(&scenario, seed, Some(mutation)).err());
        let caught = caught.unwrap_or_else(|| panic!("{mutation:?} in {name} is not caught"));
        assert_eq!(caught.broken.rule, rule, "{mutation:?}: {}", caught.broken.what);
    }
}
