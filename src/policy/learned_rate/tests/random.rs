use proptest::prelude::*;

use super::model::origin;
use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    Again,
    Leave(usize),
    End { ago: u64, throttled: bool, retry_after: Option<u64>, advice: Option<Advice> },
}

fn step() -> impl Strategy<Value = Step> {
    let pair =
        || prop::option::of((0_u64..u64::MAX, (0_u64..100_000).prop_map(Duration::from_secs)));
    let advice = (pair(), pair()).prop_map(|(quota, left)| Advice { quota, left });
    let end = (
        0_u64..5000,
        any::<bool>(),
        prop::option::of(0_u64..u64::MAX / 4),
        prop::option::of(advice),
    );
    let end = end.prop_map(|(ago, throttled, retry_after, advice)| Step::End {
        ago,
        throttled,
        retry_after,
        advice,
    });
    prop_oneof![
        4 => Just(Step::Ask),
        1 => Just(Step::Again),
        1 => (0_usize..50).prop_map(Step::Leave),
        4 => end,
    ]
}

proptest! {
    /// Whatever is said and asked, the rate is between its bounds, no pause is longer than the
    /// longest, and the line is no longer than those who stand in it.
    #[test]
    fn the_rate_stays_within_its_bounds(
        rate in prop::option::of(0.01_f64..1e6), burst in prop::option::of(0_u32..1000),
        observed in any::<bool>(),
        steps in prop::collection::vec((0_u64..20_000, step()), 1..300),
    ) {
        let t0 = origin() + Duration::from_secs(10);
        let b = Bounds { rate, burst, observed };
        let mut machine = LearnedRate::new(t0);
        let mut now = t0;
        let mut tickets = Vec::new();
        for (gap, step) in steps {
            // Most events come close together.
            now += ms(gap.saturating_sub(15_000));
            match step {
                Step::Ask => {
                    if let Answer::Wait(ticket, wait) = machine.ask(&b, Duration::MAX, now) {
                        prop_assert!(wait >= ms(1) && wait <= ms(1000));
                        tickets.push(ticket);
                    }
                }
                Step::Again => drop(machine.again(&b, now)),
                Step::Leave(place) if place < tickets.len() => machine.leave(tickets.remove(place)),
                Step::Leave(_) => {}
                Step::End { ago, throttled, retry_after, advice } => {
                    let retry_after = retry_after.map(Duration::from_secs);
                    let end = End { began: now - ms(ago), throttled, retry_after, advice };
                    machine.ended(&b, &end, now);
                }
            }
            let view = machine.view(&b, now);
            if let Some(now) = view.rate {
                prop_assert!(now.is_finite() && now >= rate.map_or(MIN_RATE, |r| r.min(MIN_RATE)));
                prop_assert!(rate.is_none_or(|most| now <= most));
            }
            prop_assert!(view.paused.is_none_or(|left| left <= PAUSE_MAX));
            prop_assert_eq!(view.waiting, tickets.len());
        }
    }

    /// In no stretch of time does more pass than the bound and its burst, whoever waits.
    #[test]
    fn no_window_holds_more_than_burst_and_rate(
        rate in 1_u32..200, burst in 1_u32..20, patience in 0_u64..500,
        gaps in prop::collection::vec(0_u64..200, 1..150),
    ) {
        let t0 = origin();
        let b = Bounds { rate: Some(f64::from(rate)), burst: Some(burst), observed: false };
        let mut machine = LearnedRate::new(t0);
        let mut waiting: Vec<(Instant, Ticket)> = Vec::new();
        let mut passed: Vec<Instant> = Vec::new();
        let mut now = t0;
        for gap in gaps {
            let next = now + ms(gap.saturating_sub(150));
            while let Some((at, ticket)) = waiting.iter().copied().filter(|w| w.0 <= next).min() {
                waiting.retain(|known| known.1 != ticket);
                match machine.turn(&b, ticket, Duration::MAX, at) {
                    Answer::Pass => passed.push(at),
                    Answer::Wait(ticket, more) => waiting.push((at + more, ticket)),
                    Answer::Refused(_) => prop_assert!(false, "patience has no end"),
                }
            }
            now = next;
            match machine.ask(&b, ms(patience), now) {
                Answer::Pass => passed.push(now),
                Answer::Wait(ticket, wait) => waiting.push((now + wait, ticket)),
                Answer::Refused(wait) => prop_assert!(wait > ms(patience)),
            }
        }
        for (i, from) in passed.iter().enumerate() {
            for (n, to) in passed[i..].iter().enumerate() {
                let time = to.duration_since(*from).as_secs_f64();
                // The first may have slept a millisecond longer than it had to.
                let allowed = f64::from(burst) + f64::from(rate) * (time + 1.1e-3);
                prop_assert!((n + 1) as f64 <= allowed, "{} in {time}", n + 1);
            }
        }
    }
}
