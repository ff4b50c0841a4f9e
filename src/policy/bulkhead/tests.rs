use super::*;

fn settings(text: &str) -> Settings {
    serde_json::from_str(text).expect("valid settings")
}

#[test]
fn places_are_taken_and_given_back() {
    let settings = settings(r#"{ "max_concurrent": 2 }"#);
    let mut bulkhead = Bulkhead::new();
    assert!(bulkhead.try_acquire(&settings));
    assert!(bulkhead.try_acquire(&settings));
    assert!(!bulkhead.try_acquire(&settings), "a third one of two");
    assert_eq!(bulkhead.in_flight(), 2, "a refusal takes nothing");
    bulkhead.release();
    assert!(bulkhead.try_acquire(&settings));
}

#[test]
fn a_smaller_setting_acts_at_once_and_loses_nobody() {
    let mut bulkhead = Bulkhead::new();
    for _ in 0..5 {
        assert!(bulkhead.try_acquire(&settings(r#"{ "max_concurrent": 5 }"#)));
    }
    let small = settings(r#"{ "max_concurrent": 2 }"#);
    for left in (2..5).rev() {
        assert!(!bulkhead.try_acquire(&small));
        bulkhead.release();
        assert_eq!(bulkhead.in_flight(), left);
    }
    bulkhead.release();
    assert!(bulkhead.try_acquire(&small));
}

#[test]
fn what_is_observed_passes_and_is_counted() {
    let settings = settings(r#"{ "max_concurrent": 1, "mode": "observe" }"#);
    let mut bulkhead = Bulkhead::new();
    assert!(bulkhead.try_acquire(&settings));
    bulkhead.acquire();
    assert_eq!(bulkhead.in_flight(), 2);
    bulkhead.release();
    assert!(!bulkhead.try_acquire(&settings));
}

#[test]
fn nobody_waits_unless_a_queue_is_given() {
    assert_eq!(settings(r#"{ "max_concurrent": 64 }"#).queue.max.of(64), 0);
    let text = r#"{ "max_concurrent": 64, "queue": { "max": 16, "max_wait": "50ms" } }"#;
    let queue = settings(text).queue;
    assert_eq!((queue.max.of(64), queue.max_wait), (16, Period::from_millis(50)));
}
