use super::super::line::{Line, Ticket, nap};
use super::model::origin;
use super::*;

/// A machine whose rate is this bound, with its only token gone.
fn limited(rate: f64) -> (LearnedRate, Bounds, Instant) {
    let (b, t0) = (Bounds { rate: Some(rate), burst: Some(1), observed: false }, origin());
    let mut machine = LearnedRate::new(t0);
    assert_eq!(machine.ask(&b, ms(0), t0), Answer::Pass);
    (machine, b, t0)
}

fn wait(answer: Answer) -> (Ticket, Duration) {
    let Answer::Wait(ticket, wait) = answer else { panic!("{answer:?}") };
    (ticket, wait)
}

#[test]
fn turns_go_in_order_of_arrival() {
    let (mut machine, b, t0) = limited(10.0);
    let patience = ms(1000);
    let (first, one) = wait(machine.ask(&b, patience, t0));
    let (second, two) = wait(machine.ask(&b, patience, t0));
    assert_eq!([one, two], [ms(75), ms(150)], "three quarters of the way");
    let t1 = t0 + ms(100);
    // A token is there, and it is the first one's: not the second's, and not a newcomer's.
    let (second, rest) = wait(machine.turn(&b, second, patience, t1));
    assert_eq!(rest, ms(75));
    assert_eq!(machine.ask(&b, ms(0), t1), Answer::Refused(ms(200)));
    assert_eq!(machine.turn(&b, first, patience, t1), Answer::Pass);
    assert_eq!(machine.turn(&b, second, patience, t0 + ms(200)), Answer::Pass);
    assert_eq!(machine.view(&b, t0 + ms(200)).waiting, 0);
}

#[test]
fn who_leaves_gives_the_place_back() {
    let (mut machine, b, t0) = limited(10.0);
    let patience = ms(1000);
    let tickets: Vec<Ticket> = (0..3).map(|_| wait(machine.ask(&b, patience, t0)).0).collect();
    machine.leave(tickets[0]);
    machine.leave(tickets[0]);
    assert_eq!(machine.turn(&b, tickets[1], patience, t0 + ms(100)), Answer::Pass);
    machine.leave(tickets[2]);
    assert_eq!(machine.ask(&b, patience, t0 + ms(200)), Answer::Pass);
}

#[test]
fn who_cannot_wait_long_enough_is_refused_at_once_and_takes_nothing() {
    let (mut machine, b, t0) = limited(10.0);
    assert_eq!(machine.ask(&b, ms(99), t0), Answer::Refused(ms(100)));
    assert_eq!(machine.view(&b, t0).waiting, 0);
    let (ticket, _) = wait(machine.ask(&b, ms(100), t0));
    // The third party asks for a pause meanwhile, which is longer than the one that waits can.
    let end = End { retry_after: Some(Duration::from_secs(2)), ..throttle(t0) };
    machine.ended(&b, &end, t0 + ms(50));
    assert!(matches!(machine.turn(&b, ticket, ms(50), t0 + ms(100)), Answer::Refused(_)));
    assert_eq!(machine.view(&b, t0 + ms(100)).waiting, 0);
}

/// A rate that grows brings tokens earlier than those in the line were told. If they overslept
/// that, two would go at once, and a third party that allows no burst would refuse the second.
#[test]
fn a_rate_that_grows_does_not_make_two_go_at_once() {
    let (t0, mut line) = (origin(), Line::new(origin()));
    assert!(line.pass());
    let rate = |at: u64| 20.0 + at as f64 / 100.0;
    let mut waiting: Vec<(u64, Ticket)> = Vec::new();
    let (mut went, mut last) = (0, 0);
    for at in 1..=3000 {
        line.fill(rate(at), None, t0 + ms(at));
        for (wakes, ticket) in waiting.clone().into_iter().filter(|(wakes, _)| *wakes <= at) {
            waiting.retain(|known| *known != (wakes, ticket));
            if line.take(ticket) {
                // Two thirds of what is due at the rate.
                let least = (1000.0 / rate(at) * 0.66) as u64;
                assert!(went == 0 || at - last >= least, "{} ms apart at {at}", at - last);
                (went, last) = (went + 1, at);
            } else {
                waiting.push((at + nap(line.wait_of(ticket, rate(at))).as_millis() as u64, ticket));
            }
        }
        if waiting.len() < 15 && at % 10 == 0 {
            let wait = nap(line.wait_of_next(rate(at))).as_millis() as u64;
            waiting.push((at + wait, line.enter().unwrap()));
        }
    }
    assert!((95..=105).contains(&went), "{went}");
}

/// A process that was not run for a second does not send a second's worth at once.
#[test]
fn a_standstill_is_not_made_up_for() {
    let (t0, mut line) = (origin(), Line::new(origin()));
    assert!(line.pass());
    let tickets: Vec<Ticket> = (0..50).map(|_| line.enter().unwrap()).collect();
    line.fill(50.0, None, t0 + ms(1000));
    let went = tickets.iter().filter(|ticket| line.take(**ticket)).count();
    assert_eq!(went, 3, "50 ms at 50 a second, and one");
    // One that is late by a little is not late for ever.
    line.fill(50.0, None, t0 + ms(1030));
    assert!(line.take(tickets[3]) && line.take(tickets[4]) && !line.take(tickets[5]));
}

#[test]
fn the_line_is_bounded() {
    let (mut machine, b, t0) = limited(1000.0);
    for _ in 0..MAX_WAITING {
        let _ = wait(machine.ask(&b, Duration::MAX, t0));
    }
    assert!(matches!(machine.ask(&b, Duration::MAX, t0), Answer::Refused(_)));
    assert_eq!(machine.view(&b, t0).waiting, MAX_WAITING);
}

#[test]
fn further_attempts_go_first_and_owe_a_second_at_most() {
    let (mut machine, b, t0) = limited(5.0);
    let (ticket, _) = wait(machine.ask(&b, Duration::MAX, t0));
    let sent = (0..100).filter(|_| machine.again(&b, t0)).count();
    assert_eq!(sent, 5);
    let (_, rest) = wait(machine.turn(&b, ticket, Duration::MAX, t0 + ms(200)));
    assert_eq!(rest, ms(750), "those who wait pay for it: a whole second");
}

#[test]
fn a_nap_is_neither_a_spin_nor_a_sleep() {
    assert_eq!(nap(Duration::ZERO), ms(1));
    assert_eq!(nap(Duration::from_nanos(1)), ms(1));
    assert_eq!(nap(ms(10)), ms(10));
    assert_eq!(nap(ms(80)), ms(60), "a long wait is asked about again before its end");
    assert_eq!(nap(Duration::MAX), ms(1000));
}

proptest::proptest! {
    /// One that sleeps as long as it is told needs to be told twice at most, at any rate: rounding
    /// does not make it ask again and again for the last billionth of a token.
    #[test]
    fn who_sleeps_as_told_goes(
        rate in 0.5_f64..1e5, steps in proptest::collection::vec(0_u64..5_000_000, 1..20),
    ) {
        let t0 = origin();
        let mut line = Line::new(t0);
        let mut now = t0;
        for step in steps {
            now += Duration::from_nanos(step);
            line.fill(rate, Some(1), now);
            if line.pass() {
                continue;
            }
            let ticket = line.enter().unwrap();
            let mut told = 0;
            while !line.take(ticket) {
                told += 1;
                now += nap(line.wait_of(ticket, rate));
                line.fill(rate, Some(1), now);
            }
            // A rate of half a request a second takes a nap of a second, then four that leave a
            // quarter each, and one for the rest.
            proptest::prop_assert!(told <= 6);
        }
    }
}
