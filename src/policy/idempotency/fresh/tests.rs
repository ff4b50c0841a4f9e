use proptest::prelude::*;

use super::*;

#[test]
fn the_vector_of_the_rfc_is_made() {
    // RFC 9562, A.6.
    let random = [0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f];
    assert_eq!(&uuid_v7(0x017F_22E2_79B0, random), b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
}

proptest! {
    #[test]
    fn version_and_variant_are_right_whatever_was_drawn(time: u64, random: [u8; RANDOM]) {
        let text = uuid_v7(time, random);
        prop_assert_eq!(text[14], b'7');
        prop_assert!(b"89ab".contains(&text[19]));
        let fits = text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => DIGITS.contains(byte),
        });
        prop_assert!(fits);
    }

    #[test]
    fn later_keys_come_later(time in 0_u64..(1 << 47), a: [u8; RANDOM], b: [u8; RANDOM]) {
        prop_assert!(uuid_v7(time, a) < uuid_v7(time + 1, b));
    }
}
