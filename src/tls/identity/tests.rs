use std::time::{Duration, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

use super::*;

fn identity(names: &[&str]) -> Identity {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    for name in names {
        let name = (*name).to_owned();
        params.subject_alt_names.push(if name.contains("://") {
            SanType::URI(name.try_into().unwrap())
        } else {
            SanType::DnsName(name.try_into().unwrap())
        });
    }
    params.not_after = date_time_ymd(2030, 1, 1);
    let key = KeyPair::generate().unwrap();
    Identity::of(params.self_signed(&key).unwrap().der())
}

#[test]
fn a_workload_is_known_by_its_spiffe_identifier_first() {
    let all = identity(&["A.test", "https://x.test/", "spiffe://td/ns/a/sa/b", "b.test"]);
    assert_eq!(all.name(), Some("spiffe://td/ns/a/sa/b"));
    let names: Vec<_> = all.names().collect();
    assert_eq!(names, ["https://x.test/", "spiffe://td/ns/a/sa/b", "a.test", "b.test"]);
    assert_eq!(identity(&["a.test", "https://x.test/"]).name(), Some("https://x.test/"));
    assert_eq!(identity(&["a.test", "b.test"]).name(), Some("a.test"));
    assert_eq!(identity(&[]).name(), None);
}

#[test]
fn its_time_ends() {
    let end = 1_893_456_000;
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    assert!(!identity(&["a.test"]).expired(at(end)));
    assert!(identity(&["a.test"]).expired(at(end + 1)));
}
