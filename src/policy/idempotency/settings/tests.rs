use super::*;

#[test]
fn a_lease_outlasts_its_request_within_bounds() {
    let s = Settings::default();
    let seconds = Duration::from_secs;
    assert_eq!(s.lease(Some(seconds(15))), seconds(17));
    assert_eq!(s.lease(Some(seconds(1))), seconds(5));
    assert_eq!(s.lease(Some(seconds(599))), seconds(600));
    assert_eq!(s.lease(Some(Duration::MAX)), seconds(600));
    assert_eq!(s.lease(None), seconds(600));
    let own = Settings { lease: Some(Period::from_secs(30)), ..s };
    assert_eq!(own.lease(Some(seconds(1))), seconds(30));
}

#[test]
fn the_late_window_is_the_route_s_time_unless_it_is_set() {
    let s = Settings::default();
    let seconds = Duration::from_secs;
    assert_eq!(s.late_result_window(Some(seconds(15))), seconds(15));
    assert_eq!(s.late_result_window(None), seconds(600));
    assert_eq!(s.late_result_window(Some(seconds(6000))), seconds(600));
    let none = Settings { late_result_window: Some(Period::from_millis(0)), ..s };
    assert_eq!(none.late_result_window(Some(seconds(15))), Duration::ZERO);
}

#[test]
fn retention_is_in_milliseconds() {
    let day = 24 * 3600 * 1000;
    let s = Settings::default();
    assert_eq!(s.retention(), Retention { body: day, key: 3 * day, unknown: 7 * day });
    let never = Settings { unknown_ttl: Forget::Never, ..s };
    assert_eq!(never.retention().unknown, NEVER);
}

#[test]
fn methods_are_covered_by_their_exact_name() {
    let s = Settings::default();
    assert!(s.covers("POST") && s.covers("PATCH"));
    assert!(!s.covers("PUT") && !s.covers("post") && !s.covers("GET"));
}

#[test]
fn sources_and_retention_print_as_they_are_written() {
    for text in ["header:x-tenant", "authorization", "mtls.san", "none"] {
        assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
    }
    assert_eq!("header:X-Tenant".parse(), Ok(Source::Header("x-tenant".to_owned())));
    for bad in ["header:", "jwt:sub", "mtls", "", "None", "authorization:x"] {
        assert!(bad.parse::<Source>().is_err(), "{bad}");
    }
    for text in ["never", "168h"] {
        assert_eq!(text.parse::<Forget>().unwrap().to_string(), text);
    }
}
