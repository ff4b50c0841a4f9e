use serde_json::{Value, json};

use super::*;

fn told(code: Code) -> Told<'static> {
    Told::of(code, Reason::UpstreamReset)
}

fn body(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

fn header<'a>(answer: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn a_problem_says_all_that_is_known() {
    let told = Told {
        state: Some(State::Unknown),
        operation_ref: Some("op_8Jt"),
        first_seen: Some(1_795_233_600_999),
        observed_status: Some(200),
        ..told(Code::OutcomeUnknown)
    };
    let answer = answer(&Settings::default(), AnswerKind::Http, &told, 0.0);
    assert_eq!(answer.status(), 409);
    assert_eq!(
        body(&answer),
        json!({
            "type": "urn:outrigger:idempotency:outcome-unknown",
            "title": Code::OutcomeUnknown.title(),
            "status": 409,
            "detail": Code::OutcomeUnknown.detail(),
            "code": "outcome-unknown",
            "state": "unknown",
            "operation_ref": "op_8Jt",
            "first_seen": "2026-11-21T04:00:00Z",
            "observed_status": 200,
            "retry_same_key": "later",
            "new_key_safe": false,
        })
    );
    assert_eq!(header(&answer, "content-type"), Some("application/problem+json"));
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    assert_eq!(header(&answer, "idempotency-status"), Some("rejected;reason=outcome-unknown"));
    assert_eq!(header(&answer, "x-outrigger-reason"), Some("upstream_reset"));
    assert_eq!(header(&answer, "content-length"), Some(&*answer.body().len().to_string()));
    // Waiting helps only once somebody is going to ask.
    assert_eq!(header(&answer, "retry-after"), None);
    assert_eq!(header(&answer, "link"), None);
}

#[test]
fn a_cause_decides_the_status_and_is_named() {
    let told = Told {
        status: Some(504),
        proxy_error: Some("http_response_timeout"),
        detail: Some("It took too long."),
        retry_after: Some(Duration::from_secs(30)),
        ..told(Code::OutcomeUnknown)
    };
    let answer = answer(&Settings::default(), AnswerKind::Http, &told, 0.0);
    assert_eq!((answer.status().as_u16(), &body(&answer)["status"]), (504, &json!(504)));
    assert_eq!(body(&answer)["detail"], "It took too long.");
    assert_eq!(header(&answer, "proxy-status"), Some("outrigger;error=http_response_timeout"));
    assert_eq!(header(&answer, "retry-after"), Some("30"));
}

#[test]
fn a_page_is_linked_to_where_there_is_one() {
    let s = Settings {
        docs: Some("https://docs.example/keys".to_owned()),
        status_header: "X-Key-Status".to_owned(),
        ..Settings::default()
    };
    let answer = answer(&s, AnswerKind::Http, &told(Code::KeyReused), 0.0);
    let page = "https://docs.example/keys#idempotency-key-reused";
    assert_eq!(body(&answer)["type"], page);
    assert_eq!(header(&answer, "link"), Some(&*format!("<{page}>; rel=\"describedby\"")));
    assert_eq!(header(&answer, "x-key-status"), Some("rejected;reason=key-reused"));
    assert_eq!(header(&answer, "idempotency-status"), None);
}

#[test]
fn every_code_has_an_answer_in_both_languages() {
    for code in Code::ALL {
        let http = answer(&Settings::default(), AnswerKind::Http, &told(*code), 0.5);
        assert_eq!(http.status().as_u16(), code.status());
        assert_eq!(header(&http, "retry-after").is_some(), code.asks_to_wait(), "{code:?}");
        let grpc = answer(&Settings::default(), AnswerKind::Grpc, &told(*code), 0.5);
        assert_eq!(grpc.status(), 200);
        assert!(grpc.body().is_empty());
        assert_eq!(header(&grpc, "grpc-status"), Some(&*code.grpc().to_string()));
        let pushback: i64 = header(&grpc, "grpc-retry-pushback-ms").unwrap().parse().unwrap();
        assert_eq!(pushback >= 1000, code.asks_to_wait(), "{code:?}");
        assert!(pushback >= 1000 || pushback == -1);
    }
}
