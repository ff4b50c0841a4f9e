use proptest::prelude::*;

use super::*;
use crate::policy::idempotency::fresh::{RANDOM, uuid_v7 as fresh};

/// 21 November 2026.
const NOW: Millis = 1_795_219_200_000;

#[test]
fn a_uuid_of_version_7_tells_its_time() {
    // RFC 9562, A.6: 22 February 2022, 19:22:22 UTC.
    let time = Some(0x017F_22E2_79B0);
    assert_eq!(minted(b"017F22E2-79B0-7CC3-98C4-DC0C0C07398F", NOW), time);
    assert_eq!(minted(b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f", NOW), time);
}

#[test]
fn a_ulid_tells_its_time() {
    // The example of its specification: 30 July 2016, 23:54:10.259 UTC.
    assert_eq!(minted(b"01ARZ3NDEKTSV4RRFFQ69G5FAV", NOW), Some(1_469_922_850_259));
    assert_eq!(minted(b"01arz3ndektsv4rrffq69g5fav", NOW), Some(1_469_922_850_259));
}

#[test]
fn other_keys_tell_nothing() {
    for key in [
        &b""[..],
        b"order-1",
        // Versions 4 and 6, and a wrong variant.
        b"919108f7-52d1-4320-9bac-f847db4148a8",
        b"1ec9414c-232a-6b00-b3c8-9f6bdeced846",
        b"017f22e2-79b0-7cc3-c8c4-dc0c0c07398f",
        b"017f22e279b07cc398c4dc0c0c07398f",
        b"017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        b"017f22e2_79b0_7cc3_98c4_dc0c0c07398f",
        // No digit of base 32, too large, too short.
        b"01ARZ3NDEKTSV4RRFFQ69G5FAU",
        b"81ARZ3NDEKTSV4RRFFQ69G5FAV",
        b"01ARZ3NDEKTSV4RRFFQ69G5FA",
    ] {
        assert_eq!(minted(key, NOW), None, "{}", key.escape_ascii());
    }
}

#[test]
fn a_time_that_no_key_can_have_is_chance() {
    let at = |time| minted(&fresh(time, [0; RANDOM]), NOW);
    assert_eq!(at(EARLIEST - 1), None);
    assert_eq!(at(EARLIEST), Some(EARLIEST));
    assert_eq!(at(NOW + AHEAD), Some(NOW + AHEAD));
    assert_eq!(at(NOW + AHEAD + 1), None);
}

proptest! {
    #[test]
    fn any_bytes_are_looked_at(key in prop::collection::vec(any::<u8>(), 0..40), now: u64) {
        let time = minted(&key, now);
        prop_assert!(time.is_none_or(|time| time >= EARLIEST && time <= now.saturating_add(AHEAD)));
    }

    #[test]
    fn a_fresh_key_tells_when_it_was_made(time in EARLIEST..NOW, random: [u8; RANDOM]) {
        prop_assert_eq!(minted(&fresh(time, random), NOW), Some(time));
    }
}
