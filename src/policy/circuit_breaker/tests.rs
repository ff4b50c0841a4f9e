use super::*;

mod properties;

const GOOD: Verdict = Verdict { failure: false, slow: false };
const BAD: Verdict = Verdict { failure: true, slow: false };
const SLOW: Verdict = Verdict { failure: false, slow: true };

/// In the middle of the spread: waits are exact.
const MIDDLE: f64 = 0.5;

/// A circuit with its settings and a clock in milliseconds.
struct Bench {
    breaker: Breaker,
    settings: Settings,
    start: Instant,
    ms: u64,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start")]
        let start = Instant::now();
        Self { breaker: Breaker::new(), settings, start, ms: 0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    fn pass(&mut self, ms: u64) {
        self.ms += ms;
    }

    fn admit(&mut self) -> Result<Permit, Open> {
        self.breaker.admit(&self.settings, self.now(), MIDDLE)
    }

    fn record(&mut self, permit: Permit, verdict: Verdict) -> Option<Transition> {
        self.breaker.record(&self.settings, permit, verdict, self.now(), MIDDLE)
    }

    fn one(&mut self, verdict: Verdict) -> Option<Transition> {
        let permit = self.admit().unwrap();
        self.record(permit, verdict)
    }

    fn state(&self) -> State {
        self.breaker.state(&self.settings, self.now())
    }

    fn view(&self) -> View {
        self.breaker.view(&self.settings, self.now())
    }

    fn refused_for(&mut self) -> Duration {
        self.admit().unwrap_err().retry_after
    }

    /// Opens the circuit from closed.
    fn trip(&mut self) {
        let last = (0..20).filter_map(|_| self.one(BAD)).last().unwrap();
        assert_eq!((last.from, last.to), (State::Closed, State::Open));
    }

    /// From open through good trials to whatever follows.
    fn heal(&mut self) -> Transition {
        let wait = self.view().next_trial_in.unwrap();
        self.ms += u64::try_from(wait.as_millis()).unwrap() + 1;
        let trials = self.settings.trials;
        (0..trials).filter_map(|_| self.one(GOOD)).last().unwrap()
    }
}

fn moved(from: State, to: State, cause: Cause) -> Option<Transition> {
    Some(Transition { from, to, cause })
}

fn secs(s: u64) -> Period {
    Period::from_secs(s)
}

#[test]
fn half_of_twenty_opens_and_fewer_do_not() {
    let mut b = Bench::new(Settings::default());
    for i in 0..19 {
        assert_eq!(b.one(if i % 2 == 0 { BAD } else { GOOD }), None, "{i}");
    }
    let transition = b.one(GOOD);
    assert_eq!(transition, moved(State::Closed, State::Open, Cause::FailureRatio));
    assert_eq!(b.view().totals.failures, 10);
    let mut b = Bench::new(Settings::default());
    for i in 0..200 {
        assert_eq!(b.one(if i % 9 >= 5 { BAD } else { GOOD }), None, "4 of 9 is less than half");
    }
}

#[test]
fn slowness_and_rows_open_with_their_own_cause() {
    let mut b = Bench::new(Settings::default());
    for _ in 0..15 {
        assert_eq!(b.one(SLOW), None);
    }
    for _ in 0..4 {
        assert_eq!(b.one(GOOD), None);
    }
    assert_eq!(b.one(SLOW), moved(State::Closed, State::Open, Cause::SlowRatio), "16 of 20");
    let mut b = Bench::new(Settings { consecutive: Some(3), ..Settings::default() });
    for verdict in [BAD, BAD, GOOD, BAD, BAD] {
        assert_eq!(b.one(verdict), None);
    }
    assert_eq!(b.one(BAD), moved(State::Closed, State::Open, Cause::Consecutive));
}

#[test]
fn ratios_of_nothing_need_something() {
    let slow = Slow { over: None, ratio: Ratio::percent(0) };
    let failure_ratio = Ratio::percent(0);
    let mut b =
        Bench::new(Settings { failure_ratio, slow, min_requests: 0, ..Settings::default() });
    for _ in 0..50 {
        assert_eq!(b.one(GOOD), None);
    }
    assert_eq!(b.one(BAD), moved(State::Closed, State::Open, Cause::FailureRatio));
}

#[test]
fn failures_that_left_the_window_do_not_count() {
    let mut b = Bench::new(Settings::default());
    for _ in 0..19 {
        b.one(BAD);
    }
    b.pass(10_000);
    assert_eq!(b.one(BAD), None);
    assert_eq!(b.view().totals.total, 1);
}

#[test]
fn an_open_circuit_refuses_until_its_wait_is_over() {
    let mut b = Bench::new(Settings::default());
    b.trip();
    assert_eq!(b.refused_for(), Duration::from_secs(5));
    b.pass(4999);
    assert_eq!(b.refused_for(), Duration::from_millis(1));
    assert_eq!(b.view().next_trial_in, Some(Duration::from_millis(1)));
    b.pass(1);
    assert_eq!(b.state(), State::HalfOpen, "the state follows time without a request");
    let permit = b.admit().unwrap();
    assert!(permit.is_trial());
    assert_eq!(permit.transition(), moved(State::Open, State::HalfOpen, Cause::WaitOver));
    let second = b.admit().unwrap();
    assert_eq!(second.transition(), None, "told once");
}

#[test]
fn each_reopening_doubles_the_wait_up_to_the_longest() {
    let mut b = Bench::new(Settings::default());
    b.trip();
    for (i, wait) in [5, 10, 20, 40, 60, 60].into_iter().enumerate() {
        assert_eq!(b.refused_for(), Duration::from_secs(wait));
        assert_eq!(b.view().opened as usize, i + 1);
        b.pass(wait * 1000);
        assert_eq!(b.one(BAD), moved(State::HalfOpen, State::Open, Cause::TrialFailed));
    }
    b.heal();
    b.pass(30_000);
    assert_eq!((b.state(), b.view().opened), (State::Closed, 0));
    b.trip();
    assert_eq!(b.refused_for(), Duration::from_secs(5), "closed in between: from the start");
}

#[test]
fn the_wait_is_spread_by_a_tenth() {
    let (base, max) = (Duration::from_secs(5), Duration::from_secs(60));
    assert_eq!(growing_wait(base, max, 1, 0.0), Duration::from_millis(4500));
    assert_eq!(growing_wait(base, max, 2, 0.5), Duration::from_secs(10));
    assert_eq!(growing_wait(base, max, u32::MAX, 0.0), Duration::from_secs(54));
    assert!(growing_wait(base, max, 9, 0.999_999) < Duration::from_secs(66));
    assert!(growing_wait(Duration::ZERO, max, 3, 0.0) > Duration::ZERO);
}

#[test]
fn only_as_many_trials_pass_as_are_wanted() {
    let mut b = Bench::new(Settings::default());
    b.trip();
    b.pass(5000);
    let mut permits: Vec<_> = (0..3).map(|_| b.admit().unwrap()).collect();
    assert_eq!(b.refused_for(), BUSY_WAIT);
    assert_eq!(b.view().trials_leased, 3);
    assert_eq!(b.record(permits.remove(0), GOOD), None);
    assert_eq!((b.view().trials_leased, b.view().trials_good), (2, 1));
    b.refused_for(); // a good trial is not made again
    b.breaker.cancel(permits.remove(0));
    let again = b.admit().unwrap();
    b.refused_for();
    assert_eq!(b.record(permits.remove(0), GOOD), None);
    let transition = b.record(again, GOOD);
    assert_eq!(transition, moved(State::HalfOpen, State::Ramping, Cause::TrialsPassed));
}

#[test]
fn more_trials_than_slots_are_as_many_as_slots() {
    let mut b = Bench::new(Settings { trials: 1000, ..Settings::default() });
    b.trip();
    b.pass(5000);
    let permits: Vec<_> = std::iter::from_fn(|| b.admit().ok()).collect();
    assert_eq!(permits.len(), MAX_TRIALS as usize);
    let last = permits.into_iter().filter_map(|p| b.record(p, GOOD)).last();
    assert_eq!(last, moved(State::HalfOpen, State::Ramping, Cause::TrialsPassed));
}

#[test]
fn lost_trials_do_not_wedge_the_circuit() {
    for (open, lease) in [(secs(5), LEASE_MIN), (secs(50), Duration::from_secs(50))] {
        let mut b = Bench::new(Settings { open, ..Settings::default() });
        b.trip();
        b.ms += u64::try_from(open.as_millis()).unwrap();
        let lost: Vec<_> = (0..3).map(|_| b.admit().unwrap()).collect();
        b.ms += u64::try_from(lease.as_millis()).unwrap();
        b.refused_for();
        b.pass(1000);
        let retried: Vec<_> = (0..3).map(|_| b.admit().unwrap()).collect();
        b.refused_for();
        // The lost ones turn up after their slots have gone to others: they change nothing.
        let before = b.breaker.clone();
        for permit in lost {
            assert_eq!(b.record(permit, BAD), None);
        }
        assert_eq!(b.breaker, before);
        let last = retried.into_iter().filter_map(|p| b.record(p, GOOD)).last();
        assert_eq!(last.unwrap().to, State::Ramping);
    }
}

#[test]
fn a_late_trial_counts_while_nobody_has_its_slot() {
    let mut b = Bench::new(Settings { trials: 1, ..Settings::default() });
    b.trip();
    b.pass(5000);
    let late = b.admit().unwrap();
    b.pass(3_600_000);
    assert_eq!(b.view().trials_leased, 0);
    assert_eq!(b.record(late, GOOD).unwrap().to, State::Ramping);
}

#[test]
fn slow_trials_open_again_when_their_share_is_too_large() {
    let mut b = Bench::new(Settings::default());
    b.trip();
    b.pass(5000);
    assert_eq!((b.one(SLOW), b.one(SLOW)), (None, None));
    assert_eq!(b.one(SLOW), moved(State::HalfOpen, State::Open, Cause::SlowRatio));
    b.pass(10_000);
    assert_eq!((b.one(SLOW), b.one(SLOW)), (None, None));
    assert_eq!(b.one(GOOD).unwrap().to, State::Ramping, "two of three are less than 80 %");
}

#[test]
fn fewer_trials_after_a_reload_do_not_wedge_the_circuit() {
    let mut b = Bench::new(Settings { trials: 5, ..Settings::default() });
    b.trip();
    b.pass(5000);
    assert_eq!((b.one(GOOD), b.one(GOOD)), (None, None));
    b.settings.trials = 2;
    let permit = b.admit().unwrap();
    assert_eq!(permit.transition(), moved(State::HalfOpen, State::Ramping, Cause::TrialsPassed));
    assert!(!permit.is_trial());
}

#[test]
fn the_ramp_admits_a_line() {
    let mut b = Bench::new(Settings::default());
    b.trip();
    b.heal();
    let shares: Vec<f64> = (0..10)
        .map(|_| {
            let mut admitted = 0;
            for _ in 0..1000 {
                admitted += u32::from(b.admit().is_ok());
                b.pass(1);
            }
            f64::from(admitted) / 1000.0
        })
        .collect();
    let expected = [0.049, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95];
    for (share, expected) in shares.iter().zip(expected) {
        assert!((share - expected).abs() < 0.0021, "{shares:?}");
    }
    assert_eq!(b.state(), State::Closed);
    let permit = b.admit().unwrap();
    assert_eq!(permit.transition(), moved(State::Ramping, State::Closed, Cause::RampOver));
}

#[test]
fn a_trickle_passes_the_ramp_and_is_told_when_to_come_back() {
    let mut b = Bench::new(Settings::default());
    b.trip();
    b.heal();
    assert!(b.admit().is_ok(), "the first always passes");
    assert_eq!(b.refused_for(), BUSY_WAIT);
    b.pass(4000);
    assert_eq!(b.view().ramp_share, Some(0.4));
    let burst = (0..100).filter(|_| b.admit().is_ok()).count();
    assert_eq!(burst, 19, "with the first one, 20 of 102: just under half of 0.4");
    b.pass(6000);
    assert_eq!(b.view().ramp_share, None);
    assert_eq!((0..100).filter(|_| b.admit().is_ok()).count(), 100);
}

#[test]
fn what_was_open_for_long_ramps_for_half_as_long() {
    let mut b = Bench::new(Settings::default());
    b.trip();
    for wait in [5, 10, 20] {
        b.pass(wait * 1000);
        b.one(BAD);
    }
    b.heal(); // after 40 s
    b.pass(19_999);
    assert_eq!(b.state(), State::Ramping);
    b.pass(1);
    assert_eq!(b.state(), State::Closed);
    let mut b = Bench::new(Settings { ramp: secs(0), ..Settings::default() });
    b.trip();
    assert_eq!(b.heal(), moved(State::HalfOpen, State::Closed, Cause::TrialsPassed).unwrap());
    assert_eq!((b.view().opened, b.view().totals.total), (0, 0));
}

#[test]
fn failing_in_the_ramp_opens_for_twice_as_long() {
    let mut b = Bench::new(Settings::default());
    b.trip();
    b.heal();
    let mut bad = 0;
    let transition = loop {
        b.pass(5);
        if let Ok(permit) = b.admit() {
            bad += 1;
            if let Some(transition) = b.record(permit, BAD) {
                break transition;
            }
        }
    };
    assert_eq!(Some(transition), moved(State::Ramping, State::Open, Cause::FailureRatio));
    assert_eq!(bad, RAMP_MIN_REQUESTS, "judged early, on the ramp's outcomes alone");
    assert_eq!(b.refused_for(), Duration::from_secs(10));
}

#[test]
fn the_ramp_scales_how_many_outcomes_it_judges_on() {
    let s = Settings::default();
    let b = Bench::new(s.clone());
    let ramp = Ramp::new(b.start);
    let needed = |s: &Settings, length, t| {
        ramp.min_requests(s, Duration::from_secs(length), b.start + Duration::from_millis(t))
    };
    // 20 in 10 s are 2 a second, of which a ramp of 10 s lets t * t / 10 pass in t seconds.
    for (t, expected) in [(0, 5), (5000, 5), (8000, 7), (9000, 9), (10_000, 10)] {
        assert_eq!(needed(&s, 10, t), expected, "{t}");
    }
    // In a ramp of 30 s the last ten let five sixths pass.
    assert_eq!(needed(&s, 30, 30_000), 17);
    assert_eq!(needed(&Settings { min_requests: 2, ..s.clone() }, 10, 0), 2);
    assert_eq!(needed(&Settings { min_requests: 0, ..s.clone() }, 10, 0), 1);
    assert_eq!(needed(&Settings { window: secs(0), ..s }, 10, 10_000), 20);
}

#[test]
fn failures_late_in_the_ramp_still_count_when_it_is_over() {
    let mut b = Bench::new(Settings { consecutive: Some(4), ..Settings::default() });
    assert_eq!((0..4).filter_map(|_| b.one(BAD)).count(), 1);
    b.heal();
    b.pass(9990);
    let mut late: Vec<_> = (0..20).filter_map(|_| b.admit().ok()).collect();
    let old = late.pop().unwrap();
    for permit in late.drain(..3) {
        assert_eq!(b.record(permit, BAD), None);
    }
    b.pass(10);
    assert_eq!(b.record(old, BAD), None, "the ramp it came from is over");
    assert_eq!(b.one(BAD), moved(State::Closed, State::Open, Cause::Consecutive));
    assert_eq!(b.refused_for(), Duration::from_secs(5), "it had closed");
}

#[test]
fn news_from_an_earlier_state_changes_nothing() {
    let mut b = Bench::new(Settings::default());
    let mut old: Vec<_> = (0..10).map(|_| b.admit().unwrap()).collect();
    let mut stale = |b: &mut Bench| {
        let before = b.breaker.clone();
        assert_eq!(b.record(old.pop().unwrap(), BAD), None);
        b.breaker.cancel(old.pop().unwrap());
        assert_eq!(b.breaker, before);
    };
    b.trip();
    stale(&mut b);
    b.pass(5000);
    let trial = b.admit().unwrap();
    stale(&mut b);
    assert_eq!((b.one(GOOD), b.one(GOOD)), (None, None));
    b.record(trial, GOOD);
    assert_eq!(b.state(), State::Ramping);
    stale(&mut b);
    b.pass(10_000);
    assert!(b.admit().is_ok());
    assert_eq!(b.state(), State::Closed);
    stale(&mut b);
}

#[test]
fn a_trial_of_an_earlier_spell_does_not_free_a_slot_of_this_one() {
    let mut b = Bench::new(Settings { trials: 2, ..Settings::default() });
    b.trip();
    b.pass(5000);
    let old = b.admit().unwrap();
    assert_eq!(b.one(BAD).unwrap().to, State::Open);
    b.pass(10_000);
    // The same slot, leased at the same time after the start of its spell.
    let _new = b.admit().unwrap();
    b.breaker.cancel(old);
    assert_eq!(b.view().trials_leased, 1);
}

#[test]
fn operators_can_isolate_and_close() {
    let mut b = Bench::new(Settings::default());
    let before = b.admit().unwrap();
    assert_eq!(b.breaker.isolate(), moved(State::Closed, State::Isolated, Cause::Operator));
    assert_eq!(b.breaker.isolate(), None);
    assert_eq!(b.record(before, BAD), None);
    b.pass(86_400_000);
    assert_eq!(b.state(), State::Isolated);
    assert_eq!(b.refused_for(), Duration::from_secs(60));
    assert_eq!(b.breaker.close(), moved(State::Isolated, State::Closed, Cause::Operator));
    assert_eq!(b.breaker.close(), None);
    b.trip();
    b.pass(5000);
    b.one(BAD);
    assert_eq!(b.breaker.close(), moved(State::Open, State::Closed, Cause::Operator));
    let view = b.view();
    assert_eq!((view.opened, view.totals.total, view.consecutive), (0, 0, 0));
    b.trip();
    assert_eq!(b.refused_for(), Duration::from_secs(5));
}

#[test]
fn it_is_small_and_its_words_are_fixed() {
    assert!(size_of::<Breaker>() <= 256, "{}", size_of::<Breaker>());
    assert!(size_of::<Permit>() <= 24, "{}", size_of::<Permit>());
    let words = State::ALL.map(State::as_str);
    assert_eq!(words, ["closed", "open", "half_open", "ramping", "isolated"]);
    assert!(State::ALL.iter().enumerate().all(|(i, state)| state.index() == i));
    assert_eq!(Cause::TrialFailed.as_str(), "trial_failed");
}
