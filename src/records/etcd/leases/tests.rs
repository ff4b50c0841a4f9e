use proptest::prelude::*;

use super::*;

proptest! {
    /// A lease has the length that was asked for, and not much more; and there are few lengths.
    #[test]
    fn lengths_are_rounded_up_a_little(millis in 0..200_000_000_000_u64) {
        let seconds = class_of(millis);
        prop_assert!(seconds * 1_000 >= millis);
        let asked = millis.div_ceil(1_000).max(1);
        prop_assert!(seconds - asked <= asked / PARTS);
        prop_assert_eq!(class_of(seconds * 1_000), seconds, "a length of its own");
        prop_assert!(slot_of(seconds) >= 1 && slot_of(seconds) <= seconds / PARTS + 1);
    }
}

#[test]
fn there_are_few_lengths() {
    let year = 366 * 24 * 3_600_u64;
    let lengths: std::collections::BTreeSet<_> =
        (0..year).step_by(60).chain(0..4_000).map(|seconds| class_of(seconds * 1_000)).collect();
    assert!(lengths.len() <= 32 * 21, "{}", lengths.len());
    assert!(class_of(u64::MAX) <= SECONDS_MAX);
}

fn slot(keys: u32) -> Slot {
    Slot {
        lease: Lease { id: 1, granted: 2 },
        keys,
        began: clock::now(),
        began_wall: clock::wall_now(),
        lasts: Duration::from_secs(1),
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_ends_by_its_keys_and_by_either_clock() {
    assert!(slot(0).used().is_some());
    assert!(slot(KEYS_MAX).used().is_none());
    let old = slot(0);
    clock::sleep(Duration::from_millis(999)).await;
    assert!(old.used().is_some());
    clock::sleep(Duration::from_millis(1)).await;
    assert!(old.used().is_none());
    // The machine was suspended, which only the wall clock knows.
    let suspended = Slot { began_wall: clock::wall_now() - Duration::from_secs(1), ..slot(0) };
    assert!(suspended.used().is_none());
    // The wall clock was set back: nothing is known of what passed.
    let back = Slot { began_wall: clock::wall_now() + Duration::from_secs(5), ..slot(0) };
    assert!(back.used().is_none());
}
