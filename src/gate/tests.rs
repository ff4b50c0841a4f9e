use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::policy::Mode;
use crate::policy::bulkhead::{self, Bulkhead};
use crate::policy::concurrency;
use crate::policy::queue::{Discipline, Length};
use crate::policy::shedding::Lot;
use crate::units::Period;

fn fixed(places: u32, waiting: u32) -> Arc<Gate<Fixed>> {
    let queue = queue::Settings {
        max: Length::Count(waiting),
        max_wait: Period::from_millis(50),
        discipline: Discipline::Priority,
    };
    let settings = bulkhead::Settings { mode: Mode::Enforce, max_concurrent: places, queue };
    Arc::new(Gate::fixed(&settings, clock::now()))
}

fn asking(tier: usize) -> Asking {
    let standing = Standing { tier, lot: Lot::Drawn(0) };
    Asking { standing, deadline: None, expected: Duration::ZERO, admitted: false }
}

fn enter(gate: &Arc<Gate<Fixed>>, tier: usize) -> Entry<Fixed> {
    gate.enter(asking(tier), clock::now())
}

fn wait(gate: &Arc<Gate<Fixed>>, tier: usize) -> Waiting<Fixed> {
    match enter(gate, tier) {
        Entry::Wait(waiting) => waiting,
        Entry::In(_) => panic!("there is a free place"),
        Entry::Refused(refused) => panic!("refused: {refused:?}"),
    }
}

/// Looks once whether it was called.
fn look(waiting: &mut Waiting<Fixed>) -> Poll<Result<Place<Fixed>, Refused>> {
    let called = pin!(waiting.called());
    called.poll(&mut Context::from_waker(Waker::noop()))
}

fn free(gate: &Arc<Gate<Fixed>>, places: u32) -> bool {
    let taken: Vec<_> = (0..=places).map_while(|_| gate.try_enter(clock::now())).collect();
    taken.len() == places as usize && gate.waiting() == 0
}

#[test]
fn a_place_comes_back_when_it_is_dropped() {
    let gate = fixed(2, 0);
    let (first, second) = (gate.try_enter(clock::now()), gate.try_enter(clock::now()));
    assert!(first.is_some() && second.is_some());
    assert!(gate.try_enter(clock::now()).is_none());
    assert!(matches!(enter(&gate, 1), Entry::Refused(Refused::Full)));
    drop(first);
    assert!(gate.try_enter(clock::now()).is_some());
    drop(second);
    assert!(free(&gate, 2));
}

#[test]
fn who_waits_gets_the_place_that_becomes_free_and_nobody_passes() {
    let gate = fixed(1, 4);
    let held = gate.try_enter(clock::now());
    let (mut first, mut second) = (wait(&gate, 1), wait(&gate, 1));
    assert!(look(&mut first).is_pending() && look(&mut second).is_pending());
    drop(held);
    assert!(gate.try_enter(clock::now()).is_none(), "it is kept for the first");
    let Poll::Ready(Ok(place)) = look(&mut first) else { panic!("the first is called") };
    assert!(look(&mut second).is_pending());
    drop((place, first));
    assert!(matches!(look(&mut second), Poll::Ready(Ok(_))));
    drop(second);
    assert!(free(&gate, 1));
}

#[test]
fn who_leaves_while_waiting_or_called_leaves_nothing_behind() {
    let gate = fixed(1, 4);
    let held = gate.try_enter(clock::now());
    let (called, gone, mut last) = (wait(&gate, 1), wait(&gate, 1), wait(&gate, 1));
    drop(gone);
    assert_eq!(gate.waiting(), 2);
    drop(held);
    // The first is called and never comes: its place is the next one's.
    drop(called);
    assert!(matches!(look(&mut last), Poll::Ready(Ok(_))));
    drop(last);
    assert!(free(&gate, 1));
}

#[test]
fn a_full_queue_gives_way_to_who_is_more_important() {
    let gate = fixed(1, 1);
    let held = gate.try_enter(clock::now());
    let mut low = wait(&gate, 3);
    let mut high = wait(&gate, 0);
    assert!(matches!(look(&mut low), Poll::Ready(Err(Refused::Shed))));
    assert!(matches!(enter(&gate, 3), Entry::Refused(Refused::Full)));
    drop(held);
    assert!(matches!(look(&mut high), Poll::Ready(Ok(_))));
    drop((low, high));
    assert!(free(&gate, 1));
}

#[test]
fn who_has_waited_long_enough_leaves_unless_it_was_just_called() {
    let gate = fixed(1, 4);
    let held = gate.try_enter(clock::now());
    let (late, lucky) = (wait(&gate, 1), wait(&gate, 1));
    assert_eq!(late.leave(clock::now()).err(), Some(Refused::Waited));
    drop(held);
    assert!(lucky.leave(clock::now()).is_ok(), "its place was kept for it");
    assert!(free(&gate, 1));
}

#[test]
fn a_deadline_that_cannot_be_met_is_told_at_once() {
    let settings = concurrency::Settings { min: 1, initial: 1, ..Default::default() };
    let gate = Arc::new(Gate::adaptive(&settings, 4, clock::now()));
    let held = gate.try_enter(clock::now());
    let now = clock::now();
    let hopeless = Asking {
        deadline: Some(now + Duration::from_millis(5)),
        expected: Duration::from_millis(10),
        ..asking(0)
    };
    assert!(matches!(gate.enter(hopeless, now), Entry::Refused(Refused::Hopeless)));
    let hopeful = Asking { deadline: Some(now + Duration::from_millis(15)), ..hopeless };
    let Entry::Wait(waiting) = gate.enter(hopeful, now) else { panic!("it may wait") };
    assert_eq!(waiting.until, now + Duration::from_millis(5), "until it becomes hopeless");
    assert_eq!(waiting.leave(waiting_end(now)).err(), Some(Refused::Hopeless));
    drop(held);
}

fn waiting_end(now: Instant) -> Instant {
    now + Duration::from_millis(6)
}

#[test]
fn a_limit_that_is_lowered_or_raised_acts_on_who_comes_next() {
    let gate = fixed(1, 4);
    let held = gate.try_enter(clock::now());
    let settings = bulkhead::Settings {
        mode: Mode::Enforce,
        max_concurrent: 2,
        queue: queue::Settings { max: Length::Count(0), ..queue::Settings::default() },
    };
    gate.configure(&settings);
    assert!(gate.try_enter(clock::now()).is_some());
    assert_eq!(gate.filled(), (1, 2));
    drop(held);
}

#[test]
fn the_upstream_learns_how_full_it_is() {
    let settings = concurrency::Settings { min: 5, initial: 5, max: 5, ..Default::default() };
    let gate = Arc::new(Gate::adaptive(&settings, 4, clock::now()));
    let places: Vec<_> = (0..5).filter_map(|_| gate.try_enter(clock::now())).collect();
    let fullness: Vec<u8> = places.iter().map(|place| place.start().fullness).collect();
    assert_eq!(fullness, [0, 0, 0, 1, 2]);
    assert!((gate.taken() - 1.0).abs() < 1e-9);
}

/// Places are taken, waited for, left and given back from several threads at once, and all come
/// back.
#[test]
fn every_place_comes_back_whatever_the_threads_do() {
    let gate = fixed(3, 8);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let gate = &gate;
            scope.spawn(move || churn(gate, seed));
        }
    });
    assert!(free(&gate, 3));
    assert_eq!(gate.filled().0, 0);
}

fn churn(gate: &Arc<Gate<Fixed>>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut held: Vec<Place<Fixed>> = Vec::new();
    let mut waits: Vec<Waiting<Fixed>> = Vec::new();
    for _ in 0..20_000 {
        match random.u8(0..6) {
            0 => held.extend(gate.try_enter(clock::now())),
            1 => match enter(gate, random.usize(0..4)) {
                Entry::In(place) => held.push(place),
                Entry::Wait(waiting) => waits.push(waiting),
                Entry::Refused(_) => {}
            },
            2 if !held.is_empty() => drop(held.swap_remove(random.usize(0..held.len()))),
            3 if !waits.is_empty() => {
                let mut waiting = waits.swap_remove(random.usize(0..waits.len()));
                match look(&mut waiting) {
                    Poll::Ready(Ok(place)) => held.push(place),
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => waits.push(waiting),
                }
            }
            4 if !waits.is_empty() => {
                let waiting = waits.swap_remove(random.usize(0..waits.len()));
                held.extend(waiting.leave(clock::now()));
            }
            5 if !waits.is_empty() => drop(waits.swap_remove(random.usize(0..waits.len()))),
            _ => {}
        }
        assert!(held.len() <= 3);
    }
}

#[test]
fn a_bulkhead_counts_what_is_in() {
    let gate = fixed(1, 0);
    let forced = gate.force_enter();
    let more = gate.force_enter();
    assert_eq!(gate.filled(), (2, 1));
    drop((forced, more));
    assert_eq!(Bulkhead::new().in_flight(), gate.filled().0);
}
