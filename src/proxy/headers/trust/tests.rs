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
        ("x_outrigger_shed", "1"),
        ("x-outrigger_mirror", "1"),
        ("x_priority", "critical"),
        ("X_Retry-Attempt", "2"),
        ("x_envoy_expected_rq_timeout_ms", "1"),
        ("x_forwarded_for", "10.0.0.1"),
        ("x-forwarded_proto", "https"),
        ("x-request-id", "r"),
        ("x_request_id", "r"),
        ("x-outriggerx", "kept"),
        ("x_outriggerx", "kept"),
        ("x-forwarded-for", "by its rule"),
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
            ("x-forwarded-for", "by its rule"),
            ("x-outriggerx", "kept"),
            ("x-request-id", "r"),
            ("x_outriggerx", "kept"),
            ("x_request_id", "r"),
        ]
    );
}

#[test]
fn the_priority_goes_under_the_name_that_it_has() {
    let mut headers = map(&[("tenant-class", "1"), ("tenant_class", "1"), ("tenant", "t")]);
    strip_untrusted(&mut headers, &HeaderName::from_static("tenant-class"));
    assert_eq!(lines(&headers), [("tenant", "t")]);
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
