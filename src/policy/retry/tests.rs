use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::outcome::Hint;

mod spread;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn ended(end: End) -> Outcome {
    Outcome { end, unsent: false, latency: ms(5), hint: None, peer_shed: false }
}

const fn answer(status: u16) -> Outcome {
    ended(End::Answer { status, grpc: None })
}

const fn unsent(end: End) -> Outcome {
    Outcome { unsent: true, ..ended(end) }
}

const GET: Request = Request { safe: true, replayable: true, keyed: false, inbound_attempt: 0 };
const POST: Request = Request { safe: false, ..GET };

const fn first(outcome: &Outcome) -> Attempt<'_> {
    Attempt {
        number: 1,
        outcome,
        has_header: &|_| false,
        previous_wait: Duration::ZERO,
        trial: false,
        shed_before: false,
        tried_there: false,
    }
}

/// The decision on a first attempt, with all the time there is.
fn on(s: &Settings, request: &Request, outcome: &Outcome) -> Decision {
    decide(s, request, &first(outcome), None, 0.5)
}

fn is_retry(decision: Decision) -> bool {
    matches!(decision, Decision::Retry { .. })
}

fn stop(reason: Suppressed) -> Decision {
    Decision::Stop(Some(reason))
}

#[test]
fn conditions_match_their_ends_and_no_others() {
    let grpc = |code| ended(End::Answer { status: 200, grpc: Some(code) });
    let ends = [
        ended(End::ConnectFailure),
        ended(End::ConnectTimeout),
        ended(End::Refused),
        ended(End::Reset),
        ended(End::PerTryTimeout),
        ended(End::DeadlineExceeded),
        answer(200),
        answer(429),
        answer(503),
        answer(599),
        grpc(0),
        grpc(14),
    ];
    for (condition, matching) in [
        ("connect_failure", &[0, 1][..]),
        ("refused", &[2]),
        ("reset", &[3]),
        ("timeout", &[1, 4, 5]),
        ("per_try_timeout", &[4]),
        ("503", &[8]),
        ("5xx", &[8, 9]),
        ("4xx", &[7]),
        ("2xx", &[6, 10, 11]),
        ("grpc:unavailable", &[11]),
        ("grpc:ok", &[10]),
        ("header:x-other", &[]),
        ("header:X-Again", &[6, 7, 8, 9, 10, 11]),
    ] {
        let parsed: Condition = condition.parse().unwrap();
        for (i, end) in ends.iter().enumerate() {
            let matched = parsed.matches(end, &|name| name == "x-again");
            assert_eq!(matched, matching.contains(&i), "{condition} {:?}", end.end);
        }
    }
}

#[test]
fn the_schema_accepts_what_the_parser_does() {
    let schema = schemars::schema_for!(Condition);
    let pattern = schema.get("pattern").and_then(|pattern| pattern.as_str()).unwrap();
    let pattern = regex::Regex::new(pattern).unwrap();
    for text in ["connect_failure", "refused", "reset", "timeout", "per_try_timeout", "503", "5xx"]
    {
        assert!(pattern.is_match(text) && text.parse::<Condition>().is_ok(), "{text}");
    }
    for text in ["grpc:unavailable", "grpc:14", "header:x-again"] {
        assert!(pattern.is_match(text) && text.parse::<Condition>().is_ok(), "{text}");
    }
    for text in ["", "timeouts", "600", "6xx", "per_try_", " 503", "grpc:", "header:"] {
        assert!(!pattern.is_match(text) && text.parse::<Condition>().is_err(), "{text}");
    }
}

#[test]
fn an_end_that_is_not_listed_is_final_without_a_reason() {
    let s = Settings::default();
    for outcome in [answer(200), answer(404), answer(500), ended(End::PerTryTimeout)] {
        assert_eq!(on(&s, &GET, &outcome), Decision::Stop(None));
    }
    for status in [502, 503, 504] {
        assert!(is_retry(on(&s, &GET, &answer(status))));
    }
    assert!(is_retry(on(&s, &GET, &ended(End::Answer { status: 200, grpc: Some(14) }))));
}

#[test]
fn off_decides_nothing_and_observe_decides_like_enforce() {
    let with = |mode| Settings { mode, ..Settings::default() };
    assert_eq!(on(&with(Mode::Off), &GET, &answer(503)), Decision::Stop(None));
    let enforced = on(&with(Mode::Enforce), &GET, &answer(503));
    assert!(is_retry(enforced));
    assert_eq!(on(&with(Mode::Observe), &GET, &answer(503)), enforced);
}

#[test]
fn a_header_of_the_answer_can_ask_for_a_retry() {
    let s = Settings { on: vec![Condition::Header("x-again".into())], ..Settings::default() };
    let outcome = answer(200);
    let attempt = Attempt { has_header: &|name| name == "x-again", ..first(&outcome) };
    assert!(is_retry(decide(&s, &GET, &attempt, None, 0.5)));
    assert_eq!(on(&s, &GET, &outcome), Decision::Stop(None));
}

#[test]
fn unsafe_methods_are_repeated_on_proof_alone() {
    let keyed = Request { keyed: true, ..POST };
    let (sent, not_sent) = (ended(End::Reset), unsent(End::Reset));
    for (mode, request, outcome, allowed) in [
        (UnsafeMethods::UnsentOrKeyed, POST, sent, false),
        (UnsafeMethods::UnsentOrKeyed, POST, not_sent, true),
        (UnsafeMethods::UnsentOrKeyed, keyed, sent, true),
        (UnsafeMethods::Never, POST, not_sent, false),
        (UnsafeMethods::Never, keyed, sent, false),
        (UnsafeMethods::Never, GET, sent, true),
        (UnsafeMethods::Always, POST, sent, true),
    ] {
        let s = Settings { unsafe_methods: mode, ..Settings::default() };
        let decision = on(&s, &request, &outcome);
        assert_eq!(is_retry(decision), allowed, "{mode:?} {request:?}");
        assert!(allowed || decision == stop(Suppressed::MethodUnsafe));
    }
}

#[test]
fn each_reason_is_told_apart() {
    let s = Settings::default();
    let outcome = answer(503);
    let trial = Attempt { trial: true, ..first(&outcome) };
    assert_eq!(decide(&s, &GET, &trial, None, 0.5), stop(Suppressed::TrialAttempt));
    let unkept = Request { replayable: false, ..GET };
    assert_eq!(on(&s, &unkept, &outcome), stop(Suppressed::BodyTooLarge));
    let at = |number| decide(&s, &GET, &Attempt { number, ..first(&outcome) }, None, 0.5);
    assert!(is_retry(at(2)));
    assert_eq!(at(3), stop(Suppressed::Attempts));
    assert_eq!(at(u32::MAX), stop(Suppressed::Attempts));
    let once = Settings { max_attempts: 1, ..s };
    assert_eq!(on(&once, &GET, &outcome), stop(Suppressed::Attempts));
}

#[test]
fn nothing_executed_costs_half() {
    let s = Settings::default();
    for (outcome, half) in [(unsent(End::Refused), true), (ended(End::Reset), false)] {
        match on(&s, &GET, &outcome) {
            Decision::Retry { cost_half, .. } => assert_eq!(cost_half, half),
            stopped @ Decision::Stop(_) => panic!("{stopped:?}"),
        }
    }
}

#[test]
fn a_retry_of_the_callers_gets_half_of_ours_and_a_second_none() {
    // Retries granted, by the attempts of the route and the caller's retry number.
    for (max_attempts, inbound, wanted) in [
        (3, 0, 2),
        (3, 1, 1),
        (3, 2, 0),
        (2, 1, 0),
        (5, 1, 2),
        (6, 1, 2),
        (10, 3, 0),
        (10, u32::MAX, 0),
        (1, 0, 0),
        (0, 0, 0),
    ] {
        let s = Settings { max_attempts, ..Settings::default() };
        let request = Request { inbound_attempt: inbound, ..GET };
        let granted = |outcome: Outcome| {
            let tried =
                |n| decide(&s, &request, &Attempt { number: n, ..first(&outcome) }, None, 0.0);
            (1..20).take_while(|n| is_retry(tried(*n))).count() as u32
        };
        assert_eq!(granted(answer(503)), wanted, "{max_attempts} {inbound}");
        assert_eq!(granted(unsent(End::Refused)), max_attempts.saturating_sub(1));
    }
    let request = Request { inbound_attempt: 2, ..GET };
    let decision = on(&Settings::default(), &request, &answer(503));
    assert_eq!(decision, stop(Suppressed::Amplification));
}

#[test]
fn a_shed_answer_is_retried_once() {
    let s = Settings { max_attempts: 9, ..Settings::default() };
    let shed = Outcome { peer_shed: true, ..answer(503) };
    let again = Attempt { number: 2, shed_before: true, tried_there: false, ..first(&shed) };
    assert!(is_retry(on(&s, &GET, &shed)));
    assert!(is_retry(decide(
        &s,
        &GET,
        &Attempt { shed_before: false, tried_there: false, ..again },
        None,
        0.5
    )));
    assert_eq!(decide(&s, &GET, &again, None, 0.5), stop(Suppressed::PeerShed));
    let real = answer(503);
    let other = Attempt { outcome: &real, ..again };
    assert!(is_retry(decide(&s, &GET, &other, None, 0.5)), "a real failure is judged by itself");
}

#[test]
fn the_peers_wish_to_wait_is_kept_with_up_to_a_quarter_more() {
    let s = Settings::default();
    let asking = |hint| Outcome { hint: Some(hint), ..answer(503) };
    let after = |outcome: &Outcome, left, random| decide(&s, &GET, &first(outcome), left, random);
    let second = asking(Hint::Wait(ms(1000)));
    let waits = |after| Decision::Retry { after, cost_half: false };
    assert_eq!(after(&second, None, 0.0), waits(ms(1000)));
    assert_eq!(after(&second, None, 0.5), waits(ms(1125)));
    assert_eq!(after(&second, Some(ms(1126)), 0.5), waits(ms(1125)));
    assert_eq!(after(&second, Some(ms(1125)), 0.5), stop(Suppressed::Deadline));
    assert_eq!(after(&asking(Hint::Wait(Duration::ZERO)), None, 0.9), waits(ms(0)));
    assert_eq!(after(&asking(Hint::Wait(ms(5000))), None, 0.0), waits(ms(5000)));
    let longer = asking(Hint::Wait(ms(5001)));
    assert_eq!(after(&longer, None, 0.0), stop(Suppressed::RetryAfterTooLong));
    assert_eq!(after(&asking(Hint::Stop), None, 0.0), stop(Suppressed::Pushback));
}

#[test]
fn a_wish_that_is_not_honoured_leaves_the_backoff() {
    let retry_after = RetryAfter { honour: false, ..RetryAfter::default() };
    let s = Settings { retry_after, ..Settings::default() };
    for hint in [Hint::Stop, Hint::Wait(ms(60_000))] {
        let outcome = Outcome { hint: Some(hint), ..answer(503) };
        assert_eq!(
            decide(&s, &GET, &first(&outcome), None, 0.5),
            Decision::Retry { after: Duration::from_micros(12_500), cost_half: false }
        );
    }
    let fine = Outcome { hint: Some(Hint::Stop), ..answer(200) };
    assert_eq!(on(&s, &GET, &fine), Decision::Stop(None));
}

#[test]
fn no_retry_starts_after_the_deadline() {
    let s = Settings { on: vec![Condition::Timeout], ..Settings::default() };
    let late = ended(End::DeadlineExceeded);
    assert_eq!(on(&s, &GET, &late), stop(Suppressed::Deadline));
    let slow = ended(End::PerTryTimeout);
    let left = |left| decide(&s, &GET, &first(&slow), Some(left), 0.0);
    assert_eq!(left(Duration::ZERO), stop(Suppressed::Deadline));
    assert!(is_retry(left(ms(1))));
}

#[test]
fn reasons_have_one_spelling_each() {
    let spellings: std::collections::BTreeSet<_> =
        Suppressed::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(spellings.len(), Suppressed::COUNT);
    for (i, reason) in Suppressed::ALL.iter().enumerate() {
        assert_eq!(reason.index(), i);
        let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
        assert!(reason.as_str().bytes().all(plain));
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let end = prop_oneof![
        Just(End::ConnectFailure),
        Just(End::ConnectTimeout),
        Just(End::Refused),
        Just(End::Reset),
        Just(End::PerTryTimeout),
        Just(End::DeadlineExceeded),
        (200_u16..600, prop::option::of(0_u16..17))
            .prop_map(|(status, grpc)| End::Answer { status, grpc }),
    ];
    let hint = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Hint::Stop)),
        3 => (0_u64..20_000).prop_map(|wait| Some(Hint::Wait(ms(wait)))),
        1 => Just(Some(Hint::Wait(Duration::MAX))),
    ];
    (end, any::<bool>(), hint, any::<bool>()).prop_map(|(end, unsent, hint, peer_shed)| Outcome {
        end,
        unsent,
        latency: ms(1),
        hint,
        peer_shed,
    })
}

proptest! {
    /// Whatever happened: a retry obeys every limit, and a stop with a reason is of a listed end.
    #[test]
    fn a_retry_obeys_every_limit(
        outcome in any_outcome(), bits in any::<[bool; 5]>(), inbound in 0_u32..4,
        number in 1_u32..12, max_attempts in 0_u32..11, left in prop::option::of(0_u64..10_000),
        jitter in 0..3_usize, previous in 0_u64..1000, random in 0.0..1.0_f64,
    ) {
        let [safe, replayable, keyed, trial, shed_before] = bits;
        let jitter = [Jitter::Full, Jitter::Equal, Jitter::Decorrelated][jitter];
        let s = Settings {
            max_attempts,
            backoff: Backoff { jitter, ..Backoff::default() },
            ..Settings::default()
        };
        let request = Request { safe, replayable, keyed, inbound_attempt: inbound };
        let previous_wait = ms(previous);
        let attempt = Attempt { number, trial, shed_before, previous_wait, ..first(&outcome) };
        let listed = s.on.iter().any(|c| c.matches(&outcome, attempt.has_header));
        match decide(&s, &request, &attempt, left.map(ms), random) {
            Decision::Stop(reason) => prop_assert_eq!(reason.is_some(), listed),
            Decision::Retry { after, cost_half } => {
                prop_assert!(listed && !trial && replayable && number < max_attempts);
                prop_assert!(safe || outcome.unsent || keyed);
                prop_assert!(left.is_none_or(|left| after < ms(left)));
                prop_assert!(inbound < 2 || outcome.unsent);
                prop_assert!(!(outcome.peer_shed && shed_before));
                prop_assert_eq!(cost_half, outcome.unsent);
                match outcome.hint {
                    Some(Hint::Stop) => prop_assert!(false, "pushed back"),
                    Some(Hint::Wait(asked)) => {
                        prop_assert!(asked <= after && after <= asked * 5 / 4);
                        prop_assert!(asked <= s.retry_after.max.get());
                    }
                    None => prop_assert!(after <= s.backoff.max.get()),
                }
            }
        }
    }
}
