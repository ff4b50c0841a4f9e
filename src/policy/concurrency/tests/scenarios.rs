//! What the limiter and its queue do together, over the model of an upstream. Each number that is
//! asserted has some room to what the seeds give; none of it is tuned to one seed.

use super::super::*;
use super::model::*;

/// Half of the capacity for five seconds, then this factor of it.
fn step(capacity: f64, factor: f64) -> impl Fn(f64) -> f64 {
    move |t| capacity * if t < 5.0 { 0.5 } else { factor }
}

fn exponential(mean: f64) -> impl Fn(f64, &mut Rng) -> Work {
    move |_, rng| Work::of(rng.exponential(mean))
}

/// The same story with other dice.
fn seeds(scenario: &mut Scenario<'_>, check: impl Fn(&Report)) {
    for seed in 1..=3 {
        scenario.seed = seed;
        check(&scenario.run());
    }
}

#[test]
fn overload_costs_no_goodput_and_little_latency() {
    for factor in [3.0, 10.0] {
        let mut scenario = Scenario::new(4, 0.01).rate(step(400.0, factor)).lasting(12.0);
        seeds(&mut scenario, |report| {
            assert!(report.used(400.0, 5.0, 7.0) >= 0.95, "while it finds the limit");
            assert!(report.used(400.0, 7.0, 12.0) >= 0.97, "afterwards");
            let p99 = report.quantile(0.99, 7.0, 12.0);
            assert!(p99 <= 0.03, "10 ms unloaded, {p99} s at {factor} times the capacity");
            assert!(report.count(Fate::Bad, 5.0, 12.0) == 0, "nothing is begun and then too late");
        });
    }
}

#[test]
fn without_the_limiter_the_same_overload_is_a_collapse() {
    let mut scenario = Scenario::new(4, 0.01).rate(step(400.0, 3.0)).lasting(12.0);
    scenario.settings = None;
    let report = scenario.run();
    assert!(report.used(400.0, 0.0, 5.0) > 0.45, "half of it goes well");
    let used = report.used(400.0, 7.0, 12.0);
    assert!(used < 0.05, "with {used} of its capacity it answers in time");
}

#[test]
fn random_service_times_are_no_reason_to_lose_goodput() {
    for (slots, mean) in [(4, 0.01), (40, 0.01)] {
        let capacity = slots as f64 / mean;
        let rate = step(capacity, 3.0);
        let mut scenario =
            Scenario::new(slots, mean).rate(rate).work(exponential(mean)).lasting(9.0);
        seeds(&mut scenario, |report| {
            let used = report.used(capacity, 7.0, 9.0);
            assert!(used >= 0.9, "{used} of {slots} workers");
            // Exponential latencies alone have a p99 of 46 ms.
            let p99 = report.quantile(0.99, 7.0, 9.0);
            assert!(p99 <= 0.138, "p99 of {p99} s");
        });
    }
}

#[test]
fn half_of_the_capacity_for_a_minute_meets_no_refusal() {
    for work in [0.0, 1.0] {
        let mut scenario = Scenario::new(4, 0.01)
            .rate(|_| 200.0)
            .work(move |_, rng| Work::of(0.01 * (1.0 - work) + work * rng.exponential(0.01)))
            .lasting(60.0);
        seeds(&mut scenario, |report| {
            assert_eq!(report.count(Fate::Rejected, 0.0, 60.0), 0);
        });
    }
}

#[test]
fn half_of_a_large_capacity_is_found_without_a_refusal_after_the_first_moment() {
    let mut scenario = Scenario::new(100, 0.01).rate(|_| 5000.0).lasting(8.0);
    seeds(&mut scenario, |report| {
        assert!(report.count(Fate::Rejected, 0.0, 0.1) < 100, "from 20 to the 50 that it takes");
        assert_eq!(report.count(Fate::Rejected, 0.1, 8.0), 0);
    });
}

#[test]
fn a_cold_start_works_at_5_and_at_20_000_requests_a_second() {
    let quiet = Scenario::new(4, 0.001).rate(|_| 5.0).lasting(60.0).run();
    assert_eq!(quiet.count(Fate::Rejected, 0.0, 60.0), 0);
    assert_eq!(quiet.count(Fate::Bad, 0.0, 60.0), 0);

    let quick = Scenario::new(40, 0.001).rate(|_| 20_000.0).lasting(1.0).run();
    assert!(quick.share(|_| true, 0.0, 0.1) > 0.98);
    assert_eq!(quick.count(Fate::Rejected, 0.1, 1.0), 0);

    // 200 at once, ten times the initial limit.
    let wide = Scenario::new(400, 0.01).rate(|_| 20_000.0).lasting(1.0).run();
    assert!(wide.share(|_| true, 0.0, 0.1) > 0.8, "{}", wide.share(|_| true, 0.0, 0.1));
    assert_eq!(wide.count(Fate::Rejected, 0.2, 1.0), 0);
}

#[test]
fn a_cold_start_into_overload_still_finds_the_limit() {
    let mut scenario = Scenario::new(4, 0.01).rate(|_| 4000.0).lasting(4.0);
    seeds(&mut scenario, |report| {
        assert!(report.used(400.0, 0.0, 2.0) >= 0.95);
        let p99 = report.quantile(0.99, 2.0, 4.0);
        assert!(p99 <= 0.03, "p99 of {p99} s");
    });
}

#[test]
fn a_quick_upstream_and_a_slow_one_keep_their_own_time() {
    let quick = Scenario::new(4, 0.001).rate(step(4000.0, 3.0)).lasting(7.0).run();
    assert!(quick.used(4000.0, 5.0, 7.0) >= 0.97);
    assert!(quick.quantile(0.99, 6.0, 7.0) <= 0.003);

    // Two answers a second: the first full round trip alone takes ten seconds.
    let rate = |t| if t < 60.0 { 1.0 } else { 6.0 };
    let slow = Scenario::new(4, 2.0).rate(rate).lasting(300.0).run();
    assert!(slow.used(2.0, 60.0, 300.0) >= 0.95);
    assert!(slow.quantile(0.99, 140.0, 300.0) <= 6.0, "{}", slow.quantile(0.99, 140.0, 300.0));
    assert_eq!(slow.count(Fate::Bad, 0.0, 300.0), 0);
}

#[test]
fn overload_does_not_creep_into_the_baseline() {
    let constant = Scenario::new(4, 0.01).rate(|_| 800.0).lasting(120.0).run();
    assert!(constant.used(400.0, 0.0, 120.0) >= 0.98);
    assert!(constant.quantile(0.99, 90.0, 120.0) <= 0.03);
    assert!(constant.limit(120.0) <= 6);

    let random =
        Scenario::new(4, 0.01).rate(|_| 800.0).work(exponential(0.01)).lasting(120.0).run();
    assert!(random.used(400.0, 0.0, 120.0) >= 0.95);
    assert!(random.quantile(0.99, 90.0, 120.0) <= 0.138);
}

#[test]
fn a_load_that_grows_slowly_into_overload_is_recognised() {
    let report = Scenario::new(4, 0.01).rate(|t| 200.0 + 10.0 * t).lasting(60.0).run();
    assert_eq!(report.count(Fate::Rejected, 0.0, 8.0), 0, "up to 70 % of the capacity");
    assert!(report.used(400.0, 30.0, 60.0) >= 0.95);
    assert!(report.quantile(0.99, 50.0, 60.0) <= 0.03);
}

/// Each request takes four times as long from the tenth second on, and still ten workers or less
/// would do.
#[test]
fn an_upstream_that_becomes_slower_for_good_keeps_its_requests() {
    let work = |t: f64, _: &mut Rng| Work::of(if t < 10.0 { 0.01 } else { 0.04 });
    let report = Scenario::new(40, 0.01).rate(|_| 800.0).work(work).lasting(40.0).run();
    let before = report.count(Fate::Rejected, 0.0, 10.0);
    let refused = report.count(Fate::Rejected, 10.0, 40.0);
    assert_eq!(before, 0);
    // The proof takes two cuts: its own, and one with all other proxies on the beat.
    assert!(refused < 24_000 / 50, "{refused} of 24,000 for the proof that it is not the load");
    assert!(report.share(|_| true, 30.0, 40.0) > 0.99);
}

#[test]
fn an_upstream_that_loses_three_quarters_of_its_capacity_is_used_to_the_full() {
    let work = |t: f64, _: &mut Rng| Work::of(if t < 5.0 { 0.01 } else { 0.04 });
    let mut scenario = Scenario::new(40, 0.01).rate(|_| 2000.0).work(work).lasting(15.0);
    seeds(&mut scenario, |report| {
        let used = report.used(1000.0, 7.0, 15.0);
        assert!(used > 0.9, "{used} of what is left");
    });
}

/// A route of 1 ms and one of 100 ms.
fn two_routes(t: f64, rng: &mut Rng) -> Work {
    let slow = rng.unit() < if t < 5.0 { 0.05 } else { 0.9 };
    let (route, service) = if slow { (1, 0.1) } else { (0, 0.001) };
    Work { route, ..Work::of(service) }
}

#[test]
fn a_mix_of_routes_that_flips_is_not_overload() {
    let rate = |t| if t < 5.0 { 2000.0 } else { 220.0 };
    let mut scenario = Scenario::new(40, 0.01).rate(rate).work(two_routes).lasting(15.0);
    scenario.deadline = 1.0;
    seeds(&mut scenario, |report| {
        assert_eq!(report.count(Fate::Rejected, 0.0, 15.0), 0);
        assert!(report.quantile(0.5, 6.0, 15.0) < 0.101);
    });
}

#[test]
fn a_mix_of_routes_that_flips_under_overload_costs_no_goodput() {
    // 5.95 ms of work in a request, then 90.1 ms.
    let (first, then) = (40.0 / 0.00595, 40.0 / 0.0901);
    let rate = move |t| 2.0 * if t < 5.0 { first } else { then };
    let mut scenario = Scenario::new(40, 0.01).rate(rate).work(two_routes).lasting(15.0);
    scenario.deadline = 1.0;
    let report = scenario.run();
    assert!(report.used(first, 1.0, 5.0) > 0.9, "{}", report.used(first, 1.0, 5.0));
    assert!(report.used(then, 7.0, 15.0) > 0.9, "{}", report.used(then, 7.0, 15.0));
}

/// A fifth of the requests is answered with 503 for two seconds, whatever the load.
#[test]
fn errors_that_do_not_depend_on_the_load_are_not_made_worse() {
    let work = |t: f64, rng: &mut Rng| {
        let refused = (5.0..7.0).contains(&t) && rng.unit() < 0.2;
        Work { refused, ..Work::of(0.01) }
    };
    let mut scenario = Scenario::new(40, 0.01).rate(|_| 2000.0).work(work).lasting(10.0);
    seeds(&mut scenario, |report| {
        let refused = report.count(Fate::Rejected, 5.0, 7.0);
        assert!(refused < 400, "{refused} of 4,000 refused on top of the errors");
        assert_eq!(report.count(Fate::Rejected, 7.5, 10.0), 0);
    });
}

#[test]
fn an_upstream_that_stops_is_left_alone_and_taken_up_again() {
    let mut scenario = Scenario::new(40, 0.01).rate(|_| 2000.0).lasting(14.0);
    scenario.stall = (5.0, 9.0);
    seeds(&mut scenario, |report| {
        let first = report.count(Fate::Bad, 5.0, 6.0);
        let last = report.count(Fate::Bad, 7.8, 8.8);
        assert!(last < first / 2 && last < 100, "{first} sent in vain at first, then {last}");
        assert!(report.used(2000.0, 10.0, 14.0) > 0.97, "a second after it goes on");
        assert_eq!(report.count(Fate::Rejected, 10.5, 14.0), 0);
    });
}

#[test]
fn the_highest_tier_does_not_notice_that_the_lowest_are_cut() {
    let work = |_: f64, rng: &mut Rng| Work { tier: (rng.unit() * 4.0) as usize, ..Work::of(0.01) };
    let mut scenario = Scenario::new(4, 0.01).rate(step(400.0, 3.0)).work(work).lasting(15.0);
    seeds(&mut scenario, |report| {
        let good = |tier| report.share(|end| end.tier == tier, 5.0, 15.0);
        assert!(good(0) >= 0.999, "critical: {}", good(0));
        assert!(good(1) < 0.6 && good(1) > good(2), "three quarters of the rest are left");
        assert!(good(2) < 0.1 && good(3) < 0.1, "{} and {}", good(2), good(3));
        assert!(report.used(400.0, 7.0, 15.0) >= 0.97);
    });
}

#[test]
fn a_heavy_caller_takes_nothing_from_a_light_one() {
    let work = |_: f64, rng: &mut Rng| Work {
        caller: Some(u64::from(rng.unit() < 1.0 / 21.0)),
        ..Work::of(0.01)
    };
    let mut scenario = Scenario::new(4, 0.01).rate(step(400.0, 3.0)).work(work).lasting(15.0);
    seeds(&mut scenario, |report| {
        let light = report.share(|end| end.caller == Some(1), 7.0, 15.0);
        assert!(light >= 0.99, "the light one: {light}");
        assert!(report.share(|end| end.caller == Some(0), 7.0, 15.0) < 0.4);
    });
}

/// Between the capacity and twice of it there is neither a gap in the goodput nor a peak of
/// latency.
#[test]
fn a_little_overload_is_no_worse_than_a_lot() {
    for (factor, used) in [(1.0, 0.9), (1.2, 0.93), (1.5, 0.96), (2.0, 0.97)] {
        let rate = move |_| 400.0 * factor;
        let report = Scenario::new(4, 0.01).rate(rate).lasting(15.0).run();
        let goodput = report.used(400.0, 5.0, 15.0);
        assert!(goodput >= used, "{goodput} at {factor} times the capacity");
        let p99 = report.quantile(0.99, 5.0, 15.0);
        assert!(p99 <= 0.06, "p99 of {p99} s at {factor} times the capacity");
    }
}

#[test]
fn every_discipline_bounds_the_wait() {
    use crate::policy::queue::Discipline;
    for discipline in [Discipline::Fifo, Discipline::LifoAdaptive, Discipline::Priority] {
        let mut settings = Settings::default();
        settings.queue.discipline = discipline;
        let mut scenario = Scenario::new(4, 0.01).rate(step(400.0, 2.0)).lasting(12.0);
        scenario.settings = Some(settings);
        let report = scenario.run();
        assert!(report.used(400.0, 7.0, 12.0) > 0.95, "{discipline:?}");
        let p99 = report.quantile(0.99, 7.0, 12.0);
        // The plain queue is as long as it may be, thirty-two places of 2.5 ms.
        let most = if discipline == Discipline::Fifo { 0.1 } else { 0.03 };
        assert!(p99 <= most, "{discipline:?}: p99 of {p99} s");
    }
}
