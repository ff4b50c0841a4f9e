use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn field<'a>(answer: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn rfc9457_3_a_refused_request_gets_a_problem() {
    let detail = Detail {
        route: Some("charge"),
        upstream: Some("payments"),
        detail: Some("No answer in 5 s"),
        ..Detail::default()
    };
    let answer = local(Reason::PerTryTimeout, AnswerKind::Http, &detail, 0.0);
    assert_eq!(answer.status(), 504);
    assert_eq!(field(&answer, "content-type"), Some("application/problem+json"));
    assert_eq!(field(&answer, "x-outrigger-reason"), Some("per_try_timeout"));
    assert_eq!(field(&answer, "cache-control"), Some("no-store"));
    assert_eq!(field(&answer, "retry-after"), None);
    assert_eq!(field(&answer, "x-outrigger-shed"), None);
    assert_eq!(field(&answer, "connection"), None);
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    let wanted = json!({
        "type": "urn:outrigger:reason:per_try_timeout",
        "title": Reason::PerTryTimeout.title(),
        "status": 504,
        "detail": "No answer in 5 s",
        "route": "charge",
        "upstream": "payments",
    });
    assert_eq!(body, wanted);
}

#[test]
fn every_reason_has_an_answer_in_every_language() {
    for reason in Reason::ALL.iter().copied() {
        let http = local(reason, AnswerKind::Http, &Detail::default(), 0.5);
        let status = if reason.status() == 0 { 502 } else { reason.status() };
        assert_eq!(http.status(), status);
        let body: Value = serde_json::from_slice(http.body()).unwrap();
        assert_eq!(body["status"], status);
        assert_eq!(body.as_object().unwrap().len(), 3, "what is not known is left out");

        let grpc = local(reason, AnswerKind::Grpc, &Detail::default(), 0.5);
        assert_eq!(grpc.status(), 200);
        assert!(grpc.body().is_empty());
        assert_eq!(field(&grpc, "content-type"), Some("application/grpc"));
        assert_eq!(field(&grpc, "grpc-message"), Some(reason.title()));
        let web = local(reason, AnswerKind::Web, &Detail::default(), 0.5);
        assert_eq!(field(&web, "content-type"), Some("application/grpc-web+proto"));
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
            assert!(field(&grpc, name).is_some_and(|value| !value.is_empty()), "{name}");
            assert_eq!(field(&web, name), field(&grpc, name));
        }
        for answer in [&http, &grpc, &web] {
            assert_eq!(field(answer, "x-outrigger-reason"), Some(reason.as_str()));
        }
    }
}

#[test]
fn grpc_statuses_follow_its_table_for_http_and_ours_for_limits_and_time() {
    let of_status = |status| match status {
        400 | 508 => 13,
        403 => 7,
        404 | 421 | 501 => 12,
        408 => 4,
        413 | 429 | 431 => 8,
        502 | 503 => 14,
        504 => 4,
        other => panic!("{other} has no gRPC status here"),
    };
    let of_keys = |reason| {
        Some(match reason {
            Reason::KeyMissing | Reason::KeyInvalid | Reason::ScopeMissing => 3,
            Reason::KeyReused | Reason::ResultUnavailable | Reason::KeyExpired => 9,
            Reason::KeyInProgress => 10,
            Reason::OutcomeUnknown => 2,
            _ => return None,
        })
    };
    for reason in Reason::ALL.iter().copied().filter(|reason| reason.status() != 0) {
        let wanted = if reason == Reason::ConnectTimeout { 14 } else { 0 };
        let wanted = match of_keys(reason) {
            Some(code) => code,
            None if wanted > 0 => wanted,
            None => of_status(reason.status()),
        };
        let answer = local(reason, AnswerKind::Grpc, &Detail::default(), 0.0);
        assert_eq!(field(&answer, "grpc-status"), Some(wanted.to_string().as_str()), "{reason:?}");
    }
}

#[test]
fn grpc_messages_are_percent_encoded() {
    let detail = Detail { detail: Some("100 % \u{e4}\n"), ..Detail::default() };
    let answer = local(Reason::NoRoute, AnswerKind::Grpc, &detail, 0.0);
    let wanted = format!("{}: 100 %25 %C3%A4%0A", Reason::NoRoute.title());
    assert_eq!(field(&answer, "grpc-message"), Some(wanted.as_str()));
}

#[test]
fn refusals_and_only_they_are_marked_and_ask_to_wait() {
    for reason in Reason::ALL.iter().copied() {
        let refused = matches!(reason.status(), 429 | 503);
        let http = local(reason, AnswerKind::Http, &Detail::default(), 0.0);
        assert_eq!(field(&http, "x-outrigger-shed"), refused.then_some("1"), "{reason:?}");
        assert_eq!(field(&http, "retry-after"), refused.then_some("1"), "{reason:?}");
        let grpc = local(reason, AnswerKind::Grpc, &Detail::default(), 0.0);
        assert_eq!(field(&grpc, "x-outrigger-shed"), refused.then_some("1"), "{reason:?}");
        assert_eq!(field(&grpc, "grpc-retry-pushback-ms"), refused.then_some("1000"));
        assert_eq!(field(&grpc, "retry-after"), None);
    }
}

#[test]
fn waits_are_whole_seconds_spread_upwards_by_a_quarter() {
    for (wait, random, wanted) in [
        (Duration::ZERO, 0.0, "1"),
        (Duration::from_millis(1), 0.79, "1"),
        (Duration::from_secs(1), 0.81, "2"),
        (Duration::from_millis(1001), 0.0, "2"),
        (Duration::from_secs(4), 0.49, "4"),
        (Duration::from_secs(4), 0.999, "5"),
        (Duration::from_secs(60), 0.0, "60"),
        (Duration::from_secs(60), 0.999, "75"),
        (Duration::MAX, 0.0, "86400"),
    ] {
        let detail = Detail { retry_after: Some(wait), ..Detail::default() };
        let answer = local(Reason::CircuitOpen, AnswerKind::Http, &detail, random);
        assert_eq!(field(&answer, "retry-after"), Some(wanted), "{wait:?} {random}");
    }
}

#[test]
fn a_limit_is_described_in_both_fields_of_the_draft() {
    let limit = RateLimitFields { quota: 100, window: 1, remaining: 0, reset: 1 };
    let detail = Detail { rate_limit: Some(limit), ..Detail::default() };
    let answer = local(Reason::RateLimited, AnswerKind::Http, &detail, 0.0);
    assert_eq!(answer.status(), 429);
    assert_eq!(field(&answer, "ratelimit-policy"), Some("\"default\";q=100;w=1"));
    assert_eq!(field(&answer, "ratelimit"), Some("\"default\";r=0;t=1"));
}

#[test]
fn rfc9110_9_3_2_head_gets_the_fields_of_the_full_answer_and_no_body() {
    let full = local(Reason::NoRoute, AnswerKind::Http, &Detail::default(), 0.0);
    let detail = Detail { head: true, ..Detail::default() };
    let head = local(Reason::NoRoute, AnswerKind::Http, &detail, 0.0);
    assert!(head.body().is_empty());
    assert_eq!(head.headers(), full.headers());
    assert_eq!(field(&head, "content-length"), Some(full.body().len().to_string().as_str()));
}

#[test]
fn a_last_answer_closes_its_connection() {
    let detail = Detail { close: true, ..Detail::default() };
    let answer = local(Reason::ConnectionLimit, AnswerKind::Http, &detail, 0.0);
    assert_eq!(field(&answer, "connection"), Some("close"));
}

#[test]
fn the_kind_is_the_requests() {
    let mut request = HeaderMap::new();
    assert_eq!(AnswerKind::of(&request), AnswerKind::Http);
    request.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    assert_eq!(AnswerKind::of(&request), AnswerKind::Grpc);
}

proptest! {
    #[test]
    fn any_text_makes_a_whole_answer(
        text in any::<String>(), ms in any::<u64>(), random in 0.0..1.0_f64,
    ) {
        let detail = Detail {
            route: Some(&text),
            detail: Some(&text),
            retry_after: Some(Duration::from_millis(ms)),
            ..Detail::default()
        };
        let http = local(Reason::ConnectionLimit, AnswerKind::Http, &detail, random);
        let body: Value = serde_json::from_slice(http.body()).unwrap();
        prop_assert_eq!(body["detail"].as_str(), Some(text.as_str()));
        let length: usize = field(&http, "content-length").unwrap().parse().unwrap();
        prop_assert_eq!(length, http.body().len());

        let seconds: f64 = field(&http, "retry-after").unwrap().parse().unwrap();
        let wait = Duration::from_millis(ms).clamp(WAIT_MIN, WAIT_MAX).as_secs_f64();
        prop_assert!(seconds >= wait && seconds <= (wait.ceil() * 1.25).ceil());

        let grpc = local(Reason::ConnectionLimit, AnswerKind::Grpc, &detail, random);
        let message = field(&grpc, "grpc-message").unwrap();
        prop_assert_eq!(decoded(message), format!("{}: {text}", Reason::ConnectionLimit.title()));
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        out.push(u8::from_str_radix(&part[..2], 16).unwrap());
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(out).unwrap()
}
