use super::*;
use crate::policy::idempotency::fresh::{RANDOM, uuid_v7};

const HOUR: u64 = 3_600_000;
const NOW: Millis = 1_795_219_200_000;
const KEY_TTL: u64 = 72 * HOUR;

fn of(time: Millis, birth: Millis) -> Standing {
    let key = uuid_v7(time, [7; RANDOM]);
    standing(&key, StaleKeys::TreatAsNew, birth, NOW, KEY_TTL)
}

#[test]
fn the_memory_of_an_old_store_goes_back_as_far_as_keys_are_kept() {
    let birth = NOW - 1_000 * HOUR;
    assert_eq!(horizon(birth, NOW, KEY_TTL), NOW - KEY_TTL + SKEW);
    assert_eq!(of(NOW, birth), Standing::Fresh);
    assert_eq!(of(NOW - KEY_TTL + SKEW, birth), Standing::Fresh);
    assert_eq!(of(NOW - KEY_TTL + SKEW - 1, birth), Standing::TooOld);
}

#[test]
fn the_memory_of_a_new_store_goes_back_to_its_birth() {
    let birth = NOW - HOUR;
    assert_eq!(horizon(birth, NOW, KEY_TTL), birth + SKEW);
    assert_eq!(of(birth + SKEW, birth), Standing::Fresh);
    assert_eq!(of(birth + SKEW - 1, birth), Standing::TooOld);
    assert_eq!(of(NOW - 2 * HOUR, birth), Standing::TooOld);
}

#[test]
fn a_clock_near_its_ends_stays_in_range() {
    assert_eq!(horizon(0, 5, u64::MAX), SKEW);
    assert_eq!(horizon(u64::MAX, 5, 0), u64::MAX);
}

#[test]
fn keys_that_do_not_tell_are_new_or_refused() {
    let birth = NOW - HOUR;
    for key in [&b"order-1"[..], b"919108f7-52d1-4320-9bac-f847db4148a8"] {
        let stands = |stale_keys| standing(key, stale_keys, birth, NOW, KEY_TTL);
        assert_eq!(stands(StaleKeys::TreatAsNew), Standing::Fresh);
        assert_eq!(stands(StaleKeys::RequireTimeBased), Standing::NotTimeBased);
    }
    let young = uuid_v7(NOW, [0; RANDOM]);
    let stands = standing(&young, StaleKeys::RequireTimeBased, birth, NOW, KEY_TTL);
    assert_eq!(stands, Standing::Fresh);
}
