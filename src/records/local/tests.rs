use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { entries: 100, bytes: 10_000 };

fn of(principal: u8, bytes: u64) -> Share {
    Share { principal: Principal([principal; 8]), state: State::InFlight, bytes }
}

#[test]
fn one_principal_gets_a_tenth() {
    let mut usage = Usage::new(LIMITS);
    for _ in 0..10 {
        assert_eq!(usage.room(Principal([1; 8]), 50), Room::Free);
        usage.replace(None, Some(&of(1, 50)));
    }
    assert_eq!(usage.room(Principal([1; 8]), 50), Room::Quota);
    assert_eq!(usage.room(Principal([2; 8]), 50), Room::Free);
    assert_eq!(usage.room(Principal([2; 8]), 1_001), Room::Quota);
    usage.replace(Some(&of(1, 50)), None);
    assert_eq!(usage.room(Principal([1; 8]), 50), Room::Free);
}

#[test]
fn all_together_get_the_whole() {
    let mut usage = Usage::new(LIMITS);
    for n in 0..100 {
        assert_eq!(usage.room(Principal([n; 8]), 100), Room::Free);
        usage.replace(None, Some(&of(n, 100)));
    }
    assert_eq!(usage.room(Principal([200; 8]), 0), Room::Full);
    assert_eq!((usage.bytes(), usage.over(0), usage.over(7)), (10_000, 0, 7));
}

#[test]
fn a_bell_is_heard_from_the_call_on() {
    let bells = Bells::default();
    let rid = Rid([7; 32]);
    bells.ring(&rid);
    let mut wait = bells.wait(&rid);
    let mut polled = || wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled(), Poll::Pending, "rung before anybody waited");
    let mut early = bells.wait(&rid);
    bells.ring(&rid);
    assert_eq!(polled(), Poll::Ready(()));
    assert_eq!(early.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
}

#[test]
fn time_never_starts_before_what_was_seen() {
    let future = 1 << 50;
    let time = Time::not_before(future);
    assert!(time.now() >= future && time.fence() >= future * 1_000);
    assert!(Time::not_before(0).now() > 1_600_000_000_000, "milliseconds since 1970");
}

proptest! {
    #[test]
    fn what_comes_and_goes_leaves_nothing(
        shares in proptest::collection::vec((0..4_u8, 0..500_u64, 0..5_usize), 0..50)
    ) {
        let mut usage = Usage::new(LIMITS);
        let shares: Vec<_> = shares
            .into_iter()
            .map(|(principal, bytes, n)| Share { state: State::ALL[n], ..of(principal, bytes) })
            .collect();
        let mut before = None;
        for share in &shares {
            usage.replace(None, Some(share));
            usage.replace(before, None);
            prop_assert_eq!(usage.bytes(), share.bytes);
            before = Some(share);
        }
        usage.replace(before, None);
        prop_assert_eq!((usage.bytes(), usage.states(), usage.principals.len()), (0, [0; 5], 0));
    }

    #[test]
    fn fences_rise(last in any::<u32>()) {
        let time = Time::not_before(0);
        let fences = Fences(AtomicU64::new((1 << 60) + u64::from(last)));
        let first = fences.next(&time);
        prop_assert!(first.0 > (1 << 60) + u64::from(last) && fences.next(&time) > first);
        prop_assert!(Fences::default().next(&time).0 > 1_600_000_000_000_000);
    }
}
