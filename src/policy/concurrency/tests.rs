use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

mod model;
mod scenarios;

const MS: Duration = Duration::from_millis(1);

/// A limiter with one route, and a clock that is moved by hand.
struct Bench {
    settings: Settings,
    limiter: Limiter,
    route: RouteSlot,
    open: VecDeque<Attempt>,
    began: Instant,
    now: Instant,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "the fixed point that time is counted from")]
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut limiter = Limiter::new(&settings, now);
        let route = limiter.route(1);
        Self { settings, limiter, route, open: VecDeque::new(), began: now, now }
    }

    fn limit(&self) -> u32 {
        self.limiter.limit(&self.settings)
    }

    fn start(&mut self) -> Option<Attempt> {
        let got = self.limiter.try_acquire(&self.settings, self.now);
        got.then(|| self.limiter.start(&self.settings))
    }

    fn end(&mut self, attempt: Attempt, sample: Sample) -> Option<Change> {
        self.limiter.release();
        self.limiter.record(&self.settings, attempt, self.route, sample, self.now)
    }

    /// One request at a time, so that nothing queues.
    fn quiet(&mut self, latency: Duration, times: u32) {
        for _ in 0..times {
            let attempt = self.start().expect("a free place");
            self.now += latency;
            assert_eq!(self.end(attempt, Sample::Answered(latency)), None);
        }
    }

    /// Keeps the limit full, with answers that take so long at each limit, until it changes.
    fn full(&mut self, latency: impl Fn(u32) -> Duration) -> Option<Change> {
        for _ in 0..2000 {
            while let Some(attempt) = self.start() {
                self.open.push_back(attempt);
            }
            let took = latency(self.limit());
            self.now += took / self.limit();
            let oldest = self.open.pop_front()?;
            let change = self.end(oldest, Sample::Answered(took));
            if change.is_some() {
                return change;
            }
        }
        None
    }
}

fn change(from: u32, to: u32, cause: Cause) -> Option<Change> {
    Some(Change { from, to, cause })
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings: Settings = serde_json::from_str("{}").expect("all have a default");
    assert_eq!((settings.min, settings.max, settings.initial), (4, 1000, 20));
    assert_eq!(settings.mode, Mode::Enforce);
    assert_eq!(settings.queue.max.of(20), 40);
    assert!(serde_json::from_str::<Settings>(r#"{ "maximum": 5 }"#).is_err());
}

#[test]
fn the_first_requests_find_the_initial_limit() {
    let mut bench = Bench::new(Settings::default());
    for _ in 0..20 {
        assert!(bench.start().is_some());
    }
    assert_eq!(bench.start(), None, "nothing is known, so nothing can grow");
    assert_eq!(bench.limiter.in_flight(), 20);
}

#[test]
fn a_refusal_makes_the_limit_grow_while_answers_are_quick() {
    let mut bench = Bench::new(Settings::default());
    bench.quiet(10 * MS, 10);
    let held: Vec<_> = (0..20).map(|_| bench.start()).collect();
    assert!(held.iter().all(Option::is_some));
    assert!(bench.start().is_some(), "the 21st");
    assert_eq!(bench.limit(), 25);
    let more = (0..100).filter(|_| bench.start().is_some()).count();
    assert_eq!(more, 4, "not again before a round trip's worth of answers is in");
}

#[test]
fn requests_that_queue_in_the_upstream_halve_the_limit_and_that_proves_right() {
    let mut bench = Bench::new(Settings { max: 20, ..Settings::default() });
    bench.quiet(10 * MS, 50);
    // Four workers of 10 ms.
    let queued = |limit: u32| 10 * MS * limit / 4;
    assert_eq!(bench.full(queued), change(20, 10, Cause::Latency));
    assert_eq!(bench.full(queued), change(10, 6, Cause::Latency));
    assert_eq!(bench.full(queued), None, "a ratio of 1.5, less what the first of them learned");
}

#[test]
fn a_cut_that_makes_nothing_quicker_is_taken_back() {
    let mut bench = Bench::new(Settings::default());
    bench.quiet(10 * MS, 100);
    let slow = |_| 40 * MS;
    assert_eq!(bench.full(slow), change(25, 12, Cause::Latency), "grown to 25 when it was reached");
    assert_eq!(bench.full(slow), change(12, 25, Cause::Unproved));
    assert!(bench.limiter.view(&bench.settings, bench.now).holding);
    // Nor is it when all proxies are cut on the beat.
    assert_eq!(bench.full(slow), change(25, 12, Cause::Latency));
    let of_beat = (bench.now - bench.began).as_millis() % 1000;
    assert!(of_beat < 10, "{of_beat} ms after the beat");
    assert_eq!(bench.full(slow), change(12, 25, Cause::Unproved));
    // And a higher one makes nothing slower, so it is kept, again and again.
    assert_eq!(bench.full(slow), change(25, 37, Cause::Room));
    assert_eq!(bench.full(slow), change(37, 56, Cause::Room));
}

#[test]
fn the_baseline_at_most_doubles_in_a_minute_while_the_limit_is_reached() {
    let mut bench = Bench::new(Settings { max: 20, ..Settings::default() });
    bench.quiet(10 * MS, 100);
    // The first ones, sent before the limit was reached, count for themselves.
    bench.full(|_| 400 * MS);
    let began = bench.now;
    let before = bench.limiter.baseline_of(bench.route).expect("measured").as_secs_f64();
    while bench.now - began < Duration::from_secs(60) {
        bench.full(|_| 400 * MS);
    }
    let minutes = (bench.now - began).as_secs_f64() / 60.0;
    let baseline = bench.limiter.baseline_of(bench.route).expect("measured").as_secs_f64();
    let rise = baseline / before;
    assert!(rise > 1.1, "it follows what no cut can change: {rise}");
    assert!(rise <= 2f64.powf(minutes) * 1.001, "{rise} times after {minutes} min");
}

#[test]
fn the_baseline_follows_an_upstream_that_becomes_quicker() {
    let mut bench = Bench::new(Settings::default());
    bench.quiet(40 * MS, 100);
    for _ in 0..30 {
        bench.full(|_| 10 * MS);
    }
    let baseline = bench.limiter.baseline_of(bench.route).expect("measured");
    assert!(baseline < 13 * MS, "{baseline:?}");
}

#[test]
fn a_drop_costs_a_tenth_once_in_a_round_trip() {
    let mut bench = Bench::new(Settings::default());
    let attempts: Vec<_> = (0..20).filter_map(|_| bench.start()).collect();
    let mut changes = Vec::new();
    for attempt in attempts {
        changes.extend(bench.end(attempt, Sample::Dropped));
    }
    assert_eq!(changes, [Change { from: 20, to: 18, cause: Cause::Drop }]);
    // 16.2, 14.58, 13.1 and so on, down to the minimum and no further.
    let mut limits = Vec::new();
    for _ in 0..40 {
        let attempt = bench.start().expect("a free place");
        limits.extend(bench.end(attempt, Sample::Dropped).map(|change| change.to));
    }
    assert_eq!(limits.get(..6), Some(&[16, 14, 13, 11, 10, 9][..]));
    assert_eq!(bench.limit(), 4);
}

#[test]
fn drops_of_a_constant_share_are_not_the_limits_fault() {
    let mut bench = Bench::new(Settings::default());
    let mut lowest = bench.limit();
    let mut unproved = 0;
    for n in 0..400 {
        let attempt = bench.start().expect("a free place");
        bench.now += MS;
        let drop = n % 5 == 0;
        let sample = if drop { Sample::Dropped } else { Sample::Answered(10 * MS) };
        if let Some(change) = bench.end(attempt, sample) {
            unproved += u32::from(change.cause == Cause::Unproved);
        }
        lowest = lowest.min(bench.limit());
    }
    assert_eq!((lowest, unproved, bench.limit()), (10, 1, 20), "halved, judged, taken back");
}

#[test]
fn what_is_not_recorded_changes_nothing() {
    let mut bench = Bench::new(Settings::default());
    bench.quiet(10 * MS, 10);
    let before = bench.limiter.view(&bench.settings, bench.now);
    for _ in 0..1000 {
        assert!(bench.start().is_some());
        bench.limiter.release();
    }
    let held: Vec<_> = (0..20).filter_map(|_| bench.start()).collect();
    held.iter().for_each(|_| bench.limiter.release());
    assert_eq!(bench.limiter.view(&bench.settings, bench.now), before);
}

#[test]
fn a_limit_that_holds_nobody_back_does_not_change() {
    let mut bench = Bench::new(Settings::default());
    bench.quiet(10 * MS, 1000);
    assert_eq!(bench.limit(), 20);
    // Nor when all gets slower for other reasons.
    bench.quiet(500 * MS, 1000);
    assert_eq!(bench.limit(), 20);
}

#[test]
fn settings_that_change_act_at_once() {
    let mut bench = Bench::new(Settings::default());
    bench.settings.max = 10;
    assert_eq!(bench.limit(), 10);
    bench.settings.max = 1000;
    bench.settings.min = 50;
    assert_eq!(bench.limit(), 50);
    // A minimum above the maximum wins, and there is always one place.
    (bench.settings.min, bench.settings.max) = (7, 3);
    assert_eq!(bench.limit(), 7);
    (bench.settings.min, bench.settings.max) = (0, 0);
    assert_eq!(bench.limit(), 1);
}

#[test]
fn what_is_observed_passes_and_is_counted() {
    let mut bench = Bench::new(Settings { initial: 4, ..Settings::default() });
    for _ in 0..10 {
        bench.limiter.acquire();
    }
    assert_eq!(bench.limiter.in_flight(), 10);
    assert_eq!(bench.start(), None);
    for _ in 0..11 {
        bench.limiter.release();
    }
    assert_eq!(bench.limiter.in_flight(), 0, "one release too many is no place more");
    assert!((0..4).all(|_| bench.start().is_some()));
    assert_eq!(bench.start(), None);
}

#[test]
fn routes_keep_their_place_and_their_baselines() {
    let mut bench = Bench::new(Settings::default());
    let slow = bench.limiter.route(2);
    assert_eq!(bench.limiter.route(1), bench.route);
    assert_ne!(slow, bench.route);
    assert_eq!(bench.limiter.expected(slow), None);
    for (route, latency) in [(bench.route, MS), (slow, 100 * MS)].repeat(100) {
        let attempt = bench.start().expect("a free place");
        bench.limiter.release();
        let (settings, sample) = (&bench.settings, Sample::Answered(latency));
        bench.limiter.record(settings, attempt, route, sample, bench.now);
    }
    for (route, latency) in [(bench.route, MS), (slow, 100 * MS)] {
        let measured = bench.limiter.baseline_of(route).expect("measured").as_secs_f64();
        assert!((measured / latency.as_secs_f64() - 1.0).abs() < 1e-6);
        assert_eq!(bench.limiter.expected(route), bench.limiter.baseline_of(route));
    }
}

#[test]
fn more_routes_than_places_share_the_last_one() {
    let mut bench = Bench::new(Settings::default());
    let slots: Vec<_> = (0..2000).map(|key| bench.limiter.route(key)).collect();
    assert_eq!(slots.last(), slots.get(MAX_ROUTES - 1));
    assert_eq!(bench.limiter.route(1500), bench.limiter.route(1800));
    assert_eq!(slots.get(1), Some(&bench.route));
}

proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds_and_every_place_comes_back(
        (min, more, initial) in (1u32..10, 0u32..50, 0u32..100),
        events in prop::collection::vec((0u8..6, 0u64..400), 1..600),
    ) {
        let max = min + more;
        let mut bench = Bench::new(Settings { min, max, initial, ..Settings::default() });
        let mut open: Vec<Attempt> = Vec::new();
        for (event, number) in events {
            let before = bench.limit();
            match event {
                0..=2 => {
                    let (full, attempt) = (open.len() >= before as usize, bench.start());
                    prop_assert!(full || attempt.is_some(), "refused with a free place");
                    open.extend(attempt);
                }
                3 | 4 if !open.is_empty() => {
                    let attempt = open.swap_remove(number as usize % open.len());
                    let latency = Duration::from_millis(number);
                    let drop = event == 4 && number % 4 == 0;
                    let sample = if drop { Sample::Dropped } else { Sample::Answered(latency) };
                    if let Some(change) = bench.end(attempt, sample) {
                        prop_assert_eq!((change.from, change.to), (before, bench.limit()));
                        prop_assert_ne!(change.from, change.to);
                    }
                }
                _ => bench.now += Duration::from_millis(number * number / 10),
            }
            prop_assert!((min..=max).contains(&bench.limit()));
            prop_assert_eq!(bench.limiter.in_flight() as usize, open.len());
            let view = bench.limiter.view(&bench.settings, bench.now);
            prop_assert!(view.ratio.is_finite() && view.ratio >= 0.0);
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the fixed point that time is counted from")]
fn proxies_with_one_clock_of_day_have_one_beat() {
    let (one, other) = (Instant::now(), Instant::now() + 700 * MS);
    let second = Duration::from_secs(1);
    let beats = [Beat::new(one, 3 * second), Beat::new(other, 3 * second + (other - one))];
    for (least, period) in [(300 * MS, second), (second, second), (1001 * MS, 8 * second)] {
        assert_eq!(Beat::period(least), period);
        let [a, b] = beats.map(|beat| beat.after(other, period).expect("a time"));
        assert_eq!(a, b);
        assert!(a > other && a - other <= period);
        assert_eq!((3 * second + (a - one)).as_nanos() % period.as_nanos(), 0);
        let off = beats[0].off(other, period).expect("a time");
        assert!(off > other && off - other <= period);
        assert_eq!(
            (3 * second + (off - one)).as_nanos() % period.as_nanos(),
            period.as_nanos() / 2
        );
    }
}
