//! What holds after any sequence of events.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Admit,
    /// Tell the outcome of one of the permits held, old or new.
    Record(usize, bool, bool),
    Cancel(usize),
    /// Lose a permit without a word.
    Lose(usize),
    Isolate,
    Close,
    Trials(u32),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => prop_oneof![0u64..50, 0u64..3000, 0u64..60_000].prop_map(Event::Pass),
        8 => Just(Event::Admit),
        6 => (any::<usize>(), prop::bool::weighted(0.3), prop::bool::weighted(0.2))
            .prop_map(|(i, failure, slow)| Event::Record(i, failure, slow)),
        1 => any::<usize>().prop_map(Event::Cancel),
        1 => any::<usize>().prop_map(Event::Lose),
        1 => prop_oneof![
            1 => Just(Event::Isolate),
            3 => Just(Event::Close),
            4 => (0u32..14).prop_map(Event::Trials),
        ],
    ];
    prop::collection::vec(event, 1..400)
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (
        (0u32..=100, 0u32..=100, 0u32..6, prop::option::of(0u32..6)),
        (0u64..20, 0u64..80, 0u32..14, 0u64..20, 0u64..15),
    )
        .prop_map(
            |((failure, slow, min_requests, consecutive), (open, max, trials, ramp, w))| Settings {
                failure_ratio: Ratio::percent(failure),
                slow: Slow { over: None, ratio: Ratio::percent(slow) },
                window: secs(w),
                min_requests,
                consecutive,
                open: secs(open),
                open_max: secs(max),
                trials,
                ramp: secs(ramp),
                ..Settings::default()
            },
        )
}

/// A trial as the outside sees it: the epoch and when it was let through.
struct Held {
    permit: Permit,
    trial: Option<(u64, u64)>,
}

struct World {
    bench: Bench,
    held: Vec<Held>,
    /// Trials lost without a word.
    lost: Vec<(u64, u64)>,
}

impl World {
    fn take(&mut self, i: usize) -> Option<Held> {
        let len = self.held.len();
        (len > 0).then(|| self.held.swap_remove(i % len))
    }

    /// Trials of this half-open spell that may still come back, counted from outside.
    fn trials_out(&self) -> usize {
        let lease = self.bench.settings.open.get().max(LEASE_MIN).as_millis() as u64;
        let held = self.held.iter().filter_map(|held| held.trial);
        held.chain(self.lost.iter().copied())
            .filter(|(epoch, at)| *epoch == self.bench.breaker.epoch && self.bench.ms - at < lease)
            .count()
    }

    fn admit(&mut self, random: f64) -> Result<(), TestCaseError> {
        let b = &mut self.bench;
        let (state, now, cap) = (b.state(), b.now(), b.settings.open_max.get().max(WAIT_MIN));
        match b.breaker.admit(&b.settings, now, random) {
            Ok(permit) => {
                prop_assert!(state != State::Open && state != State::Isolated);
                if let Some(t) = permit.transition() {
                    check_transition(t)?;
                }
                let trial = permit.is_trial().then_some((b.breaker.epoch, b.ms));
                prop_assert_eq!(trial.is_some(), b.state() == State::HalfOpen);
                self.held.push(Held { permit, trial });
                let wanted = b.settings.trials.clamp(1, MAX_TRIALS) as usize;
                prop_assert!(trial.is_none() || self.trials_out() <= wanted);
            }
            Err(open) => {
                prop_assert!(state != State::Closed);
                prop_assert!(open.retry_after > Duration::ZERO);
                prop_assert!(open.retry_after <= cap.mul_f64(1.1), "{:?}", open);
            }
        }
        Ok(())
    }

    fn record(&mut self, held: Held, verdict: Verdict, random: f64) -> Result<(), TestCaseError> {
        let b = &mut self.bench;
        let before = b.breaker.clone();
        let stale = held.permit.epoch != before.epoch;
        let now = b.now();
        let transition = b.breaker.record(&b.settings, held.permit, verdict, now, random);
        if stale {
            prop_assert_eq!(&b.breaker, &before);
        }
        prop_assert_eq!(b.breaker.epoch, before.epoch + u64::from(transition.is_some()));
        if let Some(t) = transition {
            check_transition(t)?;
            prop_assert_eq!(t.from, before.phase.state());
            prop_assert_eq!(t.to, b.breaker.phase.state());
            prop_assert!(t.to != State::Open || b.breaker.opened == before.opened + 1);
        }
        Ok(())
    }

    fn step(&mut self, event: Event, random: f64) -> Result<(), TestCaseError> {
        match event {
            Event::Pass(ms) => self.bench.pass(ms),
            Event::Admit => self.admit(random)?,
            Event::Record(i, failure, slow) => {
                if let Some(held) = self.take(i) {
                    self.record(held, Verdict { failure, slow }, random)?;
                }
            }
            Event::Cancel(i) => {
                if let Some(held) = self.take(i) {
                    let before = self.bench.breaker.clone();
                    let trial = held.trial.is_some_and(|(epoch, _)| epoch == before.epoch);
                    self.bench.breaker.cancel(held.permit);
                    prop_assert!(trial || self.bench.breaker == before);
                    prop_assert_eq!(self.bench.breaker.phase.state(), before.phase.state());
                }
            }
            Event::Lose(i) => {
                let trial = self.take(i).and_then(|held| held.trial);
                self.lost.extend(trial);
            }
            Event::Isolate => drop(self.bench.breaker.isolate()),
            Event::Close => drop(self.bench.breaker.close()),
            // In between, more may be out than the new number allows; that is tested by itself.
            Event::Trials(n) if self.bench.state() != State::HalfOpen => {
                self.bench.settings.trials = n;
            }
            Event::Trials(_) => {}
        }
        Ok(())
    }
}

fn check_transition(t: Transition) -> Result<(), TestCaseError> {
    use Cause as C;
    use State as S;
    let judged = [C::FailureRatio, C::SlowRatio, C::Consecutive];
    let legal = match (t.from, t.to) {
        (S::Closed | S::Ramping, S::Open) => judged.contains(&t.cause),
        (S::Open, S::HalfOpen) => t.cause == C::WaitOver,
        (S::HalfOpen, S::Open) => [C::TrialFailed, C::SlowRatio].contains(&t.cause),
        (S::HalfOpen, S::Ramping | S::Closed) => t.cause == C::TrialsPassed,
        (S::Ramping, S::Closed) => t.cause == C::RampOver,
        _ => false,
    };
    prop_assert!(legal, "{t:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_sequence_keeps_the_rules_and_good_outcomes_close(
        settings in any_settings(),
        events in events(),
        randoms in prop::collection::vec(0.0..1.0f64, 16),
    ) {
        let mut world = World { bench: Bench::new(settings), held: Vec::new(), lost: Vec::new() };
        for (i, event) in events.into_iter().enumerate() {
            world.step(event, randoms[i % randoms.len()])?;
        }
        let mut b = world.bench;
        if b.state() == State::Isolated {
            b.breaker.close();
        }
        // At the very most: a wait, lost leases, the trials, the ramp, with a request each second;
        // twice, as old failures may still open a closed circuit.
        let wait = (80.0 * 1.1) as u64 + 2;
        let bound = 2 * (wait + LEASE_MIN.as_secs() + 2 + u64::from(MAX_TRIALS) + wait + 20);
        for _ in 0..bound {
            b.pass(1000);
            if let Ok(permit) = b.admit() {
                b.record(permit, GOOD);
            }
        }
        prop_assert_eq!(b.state(), State::Closed);
        prop_assert_eq!(b.view().opened, 0);
    }

    /// However requests arrive, the ramp never lets more pass than half of the time's share allows,
    /// but for the first; and at its end half of a steady stream has passed.
    #[test]
    fn the_ramp_holds_its_line(rate in 20u64..2000, length in 1u64..120) {
        let b = Bench::new(Settings::default());
        let (mut ramp, length) = (Ramp::new(b.start), Duration::from_secs(length));
        let total = rate * length.as_secs();
        let mut admitted = 0.0;
        for i in 0..total {
            let t = length.mul_f64(i as f64 / total as f64);
            admitted += f64::from(u8::from(ramp.admit(length, b.start + t)));
            let most = 0.5 * t.as_secs_f64() / length.as_secs_f64() * (i + 1) as f64;
            prop_assert!(admitted <= most.max(1.0), "{admitted} of {i}");
        }
        let half = total as f64 / 2.0;
        prop_assert!((admitted - half).abs() <= 0.05 * half + 2.0, "{admitted} of {total}");
    }
}
