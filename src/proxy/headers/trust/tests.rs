use super::super::names::PRIORITY;
use super::super::tests::{lines, map};
use super::*;

#[test]
fn what_steers_us_is_removed_and_the_rest_stays() {
    let mut headers = map(&[
        ("x-outrigger-shed", "1"),
        ("X-Outrigger-Anything", "1"),
        ("x-retry-attempt", "2"),
        ("x-request-timeout-ms", "1"),
        ("x-request-timeout-ms", "2"),
        ("x-envoy-expected-rq-timeout-ms", "1"),
        ("x-priority", "critical"),
        ("x-request-id", "r"),
        ("x-outriggerx", "kept"),
        ("grpc-timeout", "1S"),
        ("grpc-previous-rpc-attempts", "1"),
        ("host", "a"),
    ]);
    strip_untrusted(&mut headers, &PRIORITY);
    assert_eq!(
        lines(&headers),
        [
            ("grpc-previous-rpc-attempts", "1"),
            ("grpc-timeout", "1S"),
            ("host", "a"),
            ("x-outriggerx", "kept"),
            ("x-request-id", "r"),
        ]
    );
}

#[test]
fn the_list_spells_the_names_as_the_table_does() {
    use super::super::names;
    for name in [
        &names::RETRY_ATTEMPT,
        &names::REQUEST_TIMEOUT_MS,
        &names::ENVOY_EXPECTED_TIMEOUT_MS,
        &names::PRIORITY,
        &names::REASON,
        &names::SHED,
    ] {
        assert!(steers(name.as_str()), "{name}");
    }
}
