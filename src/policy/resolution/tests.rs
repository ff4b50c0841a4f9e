use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds {
    min: Duration::from_secs(1),
    max: Duration::from_secs(30),
    keep_last_good: Duration::from_secs(60),
};

#[expect(clippy::disallowed_methods, reason = "any instant will do as the first")]
fn begin() -> Instant {
    Instant::now()
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn ips(last: &[u8]) -> Vec<IpAddr> {
    last.iter().copied().map(ip).collect()
}

fn good(last: &[u8]) -> Result<Answer, Failure> {
    Ok(Answer { addresses: ips(last), ttl: Duration::from_secs(5) })
}

/// Feeds answers one second apart and returns what each led to.
fn run(bounds: Bounds, answers: Vec<Result<Answer, Failure>>) -> Vec<Update> {
    let mut state = Resolution::default();
    let start = begin();
    answers
        .into_iter()
        .zip(0..)
        .map(|(answer, s)| state.on_answer(&bounds, answer, start + Duration::from_secs(s), 0.0))
        .collect()
}

fn sets(updates: &[Update]) -> Vec<Option<Vec<IpAddr>>> {
    updates.iter().map(|update| update.addresses.clone()).collect()
}

#[test]
fn an_address_leaves_after_two_good_answers_without_it() {
    let updates = run(BOUNDS, vec![good(&[1, 2]), good(&[2]), good(&[2]), good(&[2])]);
    assert_eq!(sets(&updates), [Some(ips(&[1, 2])), None, Some(ips(&[2])), None]);
    let told: Vec<_> = updates.iter().map(|update| update.transition).collect();
    assert_eq!(told, [Some(Transition::Resolved), None, Some(Transition::Changed), None]);
}

#[test]
fn answers_that_alternate_between_parts_of_a_set_give_the_whole_set() {
    let updates = run(BOUNDS, vec![good(&[1, 2]), good(&[3, 4]), good(&[2, 1]), good(&[4, 3])]);
    assert_eq!(sets(&updates), [Some(ips(&[1, 2])), Some(ips(&[1, 2, 3, 4])), None, None]);
}

#[test]
fn a_new_address_is_used_at_once_and_order_and_repeats_decide_nothing() {
    let updates = run(BOUNDS, vec![good(&[2, 1, 2]), good(&[1, 2]), good(&[1, 3, 2])]);
    assert_eq!(sets(&updates), [Some(ips(&[1, 2])), None, Some(ips(&[1, 2, 3]))]);
}

#[test]
fn failures_between_good_answers_do_not_count_as_absence() {
    let answers = vec![good(&[1, 2]), good(&[1]), Err(Failure::Timeout), good(&[1, 2])];
    let updates = run(BOUNDS, answers);
    assert_eq!(sets(&updates), [Some(ips(&[1, 2])), None, None, None]);
    assert_eq!(updates[2].transition, Some(Transition::Failing));
    assert_eq!(updates[3].transition, Some(Transition::Recovered));
}

#[test]
fn the_last_good_set_outlives_every_kind_of_failure_for_its_time_and_then_ends() {
    let kinds = [
        Err(Failure::NoSuchName),
        Err(Failure::Empty),
        Err(Failure::Timeout),
        Err(Failure::Rejected("SERVFAIL".to_owned())),
        Err(Failure::Unreachable("no route".to_owned())),
        good(&[]),
    ];
    for kind in kinds {
        let mut state = Resolution::default();
        let start = begin();
        state.on_answer(&BOUNDS, good(&[1]), start, 0.0);
        let failed = start + Duration::from_secs(1000);
        let update = state.on_answer(&BOUNDS, kind.clone(), failed, 0.0);
        assert_eq!((update.addresses, update.transition), (None, Some(Transition::Failing)));
        let late = failed + BOUNDS.keep_last_good - Duration::from_millis(1);
        let update = state.on_answer(&BOUNDS, kind.clone(), late, 0.0);
        assert_eq!((update.addresses, update.transition), (None, None), "{kind:?}");
        assert_eq!(update.next_in, BOUNDS.min, "asked again when the time is up");
        let end = failed + BOUNDS.keep_last_good;
        let update = state.on_answer(&BOUNDS, kind.clone(), end, 0.0);
        assert_eq!(update.addresses, Some(Vec::new()), "{kind:?}");
        assert_eq!(update.transition, Some(Transition::Expired));
        let update = state.on_answer(&BOUNDS, kind, end + BOUNDS.max, 0.0);
        assert_eq!((update.addresses, update.transition), (None, None));
        let update = state.on_answer(&BOUNDS, good(&[1]), end + BOUNDS.max * 2, 0.0);
        assert_eq!(update.addresses, Some(ips(&[1])));
        assert_eq!(update.transition, Some(Transition::Recovered));
    }
}

#[test]
fn a_name_that_never_resolved_gives_an_empty_set_once() {
    let fail = || Err(Failure::NoSuchName);
    let updates = run(BOUNDS, vec![fail(), fail(), good(&[7])]);
    assert_eq!(sets(&updates), [Some(vec![]), None, Some(ips(&[7]))]);
    let told: Vec<_> = updates.iter().map(|update| update.transition).collect();
    assert_eq!(told, [Some(Transition::Failing), None, Some(Transition::Resolved)]);
}

#[test]
fn nothing_is_kept_when_the_settings_say_so() {
    let updates =
        run(Bounds { keep_last_good: Duration::ZERO, ..BOUNDS }, vec![good(&[1]), good(&[])]);
    assert_eq!(updates[1].addresses, Some(vec![]));
    assert_eq!(updates[1].transition, Some(Transition::Expired));
}

#[test]
fn failures_back_off_from_the_shortest_to_the_longest_wait() {
    let updates = run(BOUNDS, vec![Err(Failure::Timeout); 40]);
    let waits: Vec<u64> = updates.iter().map(|update| update.next_in.as_secs()).collect();
    assert_eq!(waits[..7], [1, 2, 4, 8, 16, 30, 30]);
    assert!(waits[7..].iter().all(|wait| *wait == 30));
}

#[test]
fn the_ttl_is_honoured_within_the_bounds_and_shortened_by_chance() {
    for (ttl_ms, random, wait_ms) in [
        (0, 0.0, 1000),
        (5000, 0.0, 5000),
        (5000, 0.5, 4750),
        (3_600_000, 0.0, 30_000),
        (3_600_000, 1.0, 27_000),
        (1000, 0.9, 1000),
    ] {
        let answer = Answer { addresses: ips(&[1]), ttl: Duration::from_millis(ttl_ms) };
        let update = Resolution::default().on_answer(&BOUNDS, Ok(answer), begin(), random);
        assert_eq!(update.next_in, Duration::from_millis(wait_ms), "{ttl_ms} {random}");
    }
}

#[test]
fn an_answer_that_is_too_large_keeps_the_addresses_that_are_in_use() {
    let many = |from: u32, count: u32| Answer {
        addresses: (from..from + count).rev().map(|n| Ipv4Addr::from(n).into()).collect(),
        ttl: Duration::ZERO,
    };
    let mut state = Resolution::default();
    let now = begin();
    state.on_answer(&BOUNDS, Ok(many(1000, 300)), now, 0.0);
    let first: Vec<_> = state.addresses().collect();
    assert_eq!(first.len(), MAX_ADDRESSES);
    assert_eq!(first[0], IpAddr::from(Ipv4Addr::from(1000)));
    let update = state.on_answer(&BOUNDS, Ok(many(900, 400)), now, 0.0);
    assert_eq!(update.addresses, None, "smaller addresses do not push out those in use");
}

fn any_answer() -> impl Strategy<Value = Result<Answer, Failure>> {
    let answer = (prop::collection::vec(0u8..8, 0..8), 0u64..100).prop_map(|(last, ttl)| {
        Ok(Answer { addresses: ips(&last), ttl: Duration::from_secs(ttl) })
    });
    prop_oneof![4 => answer, 1 => Just(Err(Failure::Timeout)), 1 => Just(Err(Failure::NoSuchName))]
}

proptest! {
    /// Replaying the updates gives the state's own set; waits stay in bounds; every address of the
    /// latest good answer is in the set; none is there that two good answers in a row lacked.
    #[test]
    fn the_set_is_what_recent_answers_say(
        steps in prop::collection::vec((any_answer(), 0u64..40, 0.0f64..1.0), 1..60),
        keep in 0u64..100,
    ) {
        let bounds = Bounds { keep_last_good: Duration::from_secs(keep), ..BOUNDS };
        let mut state = Resolution::default();
        let mut now = begin();
        let mut replayed: Option<Vec<IpAddr>> = None;
        let mut goods: Vec<Vec<IpAddr>> = vec![vec![]];
        let mut failing: Option<Instant> = None;
        for (answer, pause, random) in steps {
            now += Duration::from_secs(pause);
            match &answer {
                Ok(good) if !good.addresses.is_empty() => {
                    goods.push(good.addresses.clone());
                    failing = None;
                }
                _ => failing = failing.or(Some(now)),
            }
            let update = state.on_answer(&bounds, answer, now, random);
            prop_assert!(update.next_in >= bounds.min && update.next_in <= bounds.max);
            if let Some(set) = update.addresses {
                prop_assert_ne!(replayed.as_ref(), Some(&set), "published without a change");
                replayed = Some(set);
            }
            let set: Vec<IpAddr> = state.addresses().collect();
            prop_assert_eq!(replayed.as_ref(), Some(&set));
            let recent = &goods[goods.len().saturating_sub(2)..];
            prop_assert!(set.iter().all(|one| recent.iter().flatten().any(|other| other == one)));
            match failing {
                None => prop_assert!(goods.last().unwrap().iter().all(|one| set.contains(one))),
                Some(since) if now - since >= bounds.keep_last_good => {
                    prop_assert!(set.is_empty());
                }
                Some(_) => {}
            }
        }
    }
}
