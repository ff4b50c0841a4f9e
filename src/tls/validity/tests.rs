use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

fn certificate(year: i32, month: u8, day: u8) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_before = date_time_ymd(1980, 1, 1);
    params.not_after = date_time_ymd(year, month, day);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

#[test]
fn the_end_of_validity_is_read_in_both_forms() {
    for (date, seconds) in [
        ((2026, 11, 21), 1_795_219_200),
        ((2024, 2, 29), 1_709_164_800),
        ((2049, 12, 31), 2_524_521_600),
        // From 2050 on, years have four digits.
        ((2050, 1, 1), 2_524_608_000),
        ((2100, 3, 1), 4_107_542_400),
        ((1999, 12, 31), 946_598_400),
    ] {
        let (year, month, day) = date;
        assert_eq!(not_after(&certificate(year, month, day)), Some(seconds), "{date:?}");
    }
}

#[test]
fn what_is_no_certificate_has_no_end() {
    let whole = certificate(2030, 1, 1);
    for length in 0..whole.len() {
        assert_eq!(not_after(&CertificateDer::from(whole[..length].to_vec())), None, "{length}");
    }
    assert_eq!(not_after(&CertificateDer::from(vec![0x30, 0x80, 0, 0])), None);
    assert_eq!(not_after(&CertificateDer::from(vec![0x30, 0x84, 255, 255, 255, 255])), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_fail_otherwise(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        at in 0_usize..300,
        with in any::<u8>(),
    ) {
        let _ = not_after(&CertificateDer::from(bytes));
        let mut changed = certificate(2030, 1, 1).to_vec();
        if let Some(byte) = changed.get_mut(at) {
            *byte = with;
        }
        let _ = not_after(&CertificateDer::from(changed));
    }
}
