use std::collections::HashMap;

use proptest::prelude::*;

use crate::policy::cache::store::{OVERHEAD, Selecting, Store, VARIANTS_MAX, Value};

/// A request with one language.
fn speaks(language: &str) -> impl Fn(&str) -> Value {
    move |name| (name == "accept-language").then(|| language.as_bytes().into())
}

fn keep(store: &mut Store<u32>, max: usize, key: &str, language: Option<&str>, answer: u32) {
    let selecting = match language {
        Some(language) => Selecting::of(["Accept-Language"], &speaks(language)),
        None => Selecting::default(),
    };
    store.keep(max, key, selecting, (answer, 100));
}

const ROOM: usize = 1 << 20;

#[test]
fn the_answer_found_is_the_one_that_the_request_selects() {
    let mut store = Store::default();
    keep(&mut store, ROOM, "a", Some("de"), 1);
    keep(&mut store, ROOM, "a", Some("fr"), 2);
    assert_eq!(store.find("a", &speaks("de")), Some(&1));
    assert_eq!(store.find("a", &speaks("fr")), Some(&2));
    assert_eq!(store.find("a", &speaks("it")), None);
    assert_eq!(store.find("a", &|_| None), None, "absent is not any");
    assert_eq!(store.find("b", &speaks("de")), None);
    keep(&mut store, ROOM, "a", Some("de"), 3);
    assert_eq!(store.find("a", &speaks("de")), Some(&3));
    assert_eq!(store.answers(), 2);
    keep(&mut store, ROOM, "a", None, 4);
    assert_eq!(store.find("a", &speaks("de")), Some(&4), "it does not vary any more");
    assert_eq!(store.answers(), 1);
    keep(&mut store, ROOM, "a", Some("fr"), 5);
    assert_eq!(store.find("a", &speaks("de")), None, "no older one comes to light");
}

#[test]
fn an_unsafe_method_takes_all_answers_of_its_uri() {
    let mut store = Store::default();
    keep(&mut store, ROOM, "a", Some("de"), 1);
    keep(&mut store, ROOM, "a", Some("fr"), 2);
    keep(&mut store, ROOM, "b", None, 3);
    assert_eq!((store.invalidate("a"), store.invalidate("a")), (2, 0));
    assert_eq!(store.find("b", &|_| None), Some(&3));
    assert_eq!(store.answers(), 1);
    store.invalidate("b");
    assert_eq!((store.answers(), store.bytes()), (0, 0));
}

#[test]
fn what_is_over_leaves_with_its_bytes_and_its_place_in_the_order() {
    let mut store = Store::default();
    keep(&mut store, ROOM, "a", Some("de"), 1);
    keep(&mut store, ROOM, "a", Some("fr"), 2);
    keep(&mut store, ROOM, "b", None, 3);
    let bytes = store.bytes();
    assert_eq!(store.retain(|answer| *answer != 1), 1);
    assert_eq!(store.find("a", &speaks("de")), None);
    assert_eq!(store.find("a", &speaks("fr")), Some(&2));
    assert_eq!(store.retain(|answer| *answer == 3), 1);
    assert!(store.bytes() < bytes && store.answers() == 1);
    assert_eq!(store.shrink(0), 1, "the order knows of what is left alone");
    assert_eq!((store.answers(), store.bytes()), (0, 0));
}

#[test]
fn the_one_not_used_for_the_longest_time_makes_room() {
    let cost = 100 + 2 + OVERHEAD;
    let mut store = Store::default();
    for (key, answer) in [("a", 1), ("b", 2), ("c", 3)] {
        keep(&mut store, 3 * cost, key, None, answer);
    }
    assert_eq!((store.answers(), store.bytes()), (3, 3 * cost));
    assert_eq!(store.find("a", &|_| None), Some(&1));
    let change = store.keep(3 * cost, "d", Selecting::default(), (4, 100));
    assert!(change.kept && change.evicted == 1);
    assert_eq!(store.find("b", &|_| None), None);
    assert_eq!(store.find("a", &|_| None), Some(&1));
    assert_eq!(store.shrink(cost), 2);
    assert_eq!(store.find("a", &|_| None), Some(&1));
    assert_eq!(store.shrink(0), 1);
}

#[test]
fn what_is_larger_than_the_bound_is_not_kept_and_takes_the_place_of_nothing() {
    let mut store = Store::default();
    keep(&mut store, 2000, "a", None, 1);
    keep(&mut store, 2000, "b", None, 2);
    let change = store.keep(2000, "a", Selecting::default(), (3, 2000));
    assert!(!change.kept && change.evicted == 0);
    assert_eq!(store.find("a", &|_| None), None, "the older one is not the last good answer");
    assert_eq!(store.find("b", &|_| None), Some(&2));
    assert!(!store.keep(2000, "c", Selecting::default(), (4, usize::MAX)).kept);
}

#[test]
fn a_vary_that_tells_all_apart_does_not_grow_without_end() {
    let mut store = Store::default();
    for number in 0..VARIANTS_MAX as u32 + 5 {
        keep(&mut store, ROOM, "a", Some(&number.to_string()), number);
    }
    assert_eq!(store.answers(), VARIANTS_MAX);
    assert_eq!(store.find("a", &speaks("4")), None, "the oldest are gone");
    assert_eq!(store.find("a", &speaks("5")), Some(&5));
}

#[derive(Clone, Debug)]
enum Step {
    Keep(u8, Option<u8>, usize),
    Find(u8, u8),
    Invalidate(u8),
    Shrink(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0_u8..6, proptest::option::of(0_u8..3), 0_usize..3000)
            .prop_map(|(key, language, bytes)| Step::Keep(key, language, bytes)),
        3 => (0_u8..6, 0_u8..3).prop_map(|(key, language)| Step::Find(key, language)),
        1 => (0_u8..6).prop_map(Step::Invalidate),
        1 => (0_usize..6000).prop_map(Step::Shrink),
    ]
}

proptest! {
    /// Against a map that forgets nothing: whatever is found is the last answer that was kept for
    /// such a request, and the bound holds after every step.
    #[test]
    fn never_more_than_the_bound_and_never_an_answer_of_another_request(
        steps in proptest::collection::vec(step(), 1..120),
        max in 1000_usize..8000,
    ) {
        let mut store: Store<usize> = Store::default();
        let mut last: HashMap<(u8, u8), usize> = HashMap::new();
        let mut varies: HashMap<u8, bool> = HashMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Keep(key, language, bytes) => {
                    let said = language.map(|language| language.to_string());
                    let selecting = match &said {
                        Some(said) => Selecting::of(["accept-language"], &speaks(said)),
                        None => Selecting::default(),
                    };
                    let change =
                        store.keep(max, &key.to_string(), selecting, (number, bytes));
                    prop_assert_eq!(change.kept, bytes + 2 + said.map_or(0, |_| {
                        1 + 15 + size_of::<(Box<str>, Value)>()
                    }) + OVERHEAD <= max);
                    last.retain(|(known, _), _| change.kept || *known != key);
                    let before = varies.insert(key, language.is_some());
                    if before != Some(language.is_some()) {
                        last.retain(|(known, _), _| *known != key);
                    }
                    for any in (0..3).filter(|_| change.kept) {
                        if language.is_none_or(|language| language == any) {
                            last.insert((key, any), number);
                        }
                    }
                }
                Step::Find(key, language) => {
                    let found = store.find(&key.to_string(), &speaks(&language.to_string()));
                    if let Some(found) = found {
                        prop_assert_eq!(Some(found), last.get(&(key, language)));
                    }
                }
                Step::Invalidate(key) => {
                    store.invalidate(&key.to_string());
                    last.retain(|(known, _), _| *known != key);
                }
                Step::Shrink(bytes) => {
                    store.shrink(bytes);
                    prop_assert!(store.bytes() <= bytes);
                }
            }
            prop_assert!(store.bytes() <= max);
            prop_assert!(store.answers() * OVERHEAD <= store.bytes());
        }
        store.shrink(0);
        prop_assert_eq!((store.bytes(), store.answers()), (0, 0));
    }
}
