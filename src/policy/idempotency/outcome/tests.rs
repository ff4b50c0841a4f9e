use proptest::prelude::*;

use super::*;
use crate::policy::health_check::StatusRange;

/// A route whose upstream does not recognise keys.
fn strict() -> Settings {
    Settings::default()
}

/// A route whose upstream does.
fn idempotent() -> Settings {
    Settings { upstream_idempotent: true, ..Settings::default() }
}

fn answer(status: u16) -> Answer {
    Answer {
        status,
        grpc: Grpc::No,
        application: None,
        retry_after: false,
        conflict: false,
        no_store: false,
        body: Body::Whole,
    }
}

fn said(status: u16, said: Application) -> End {
    End::Answered(Answer { application: Some(said), ..answer(status) })
}

fn call(code: u16) -> End {
    End::Answered(Answer { grpc: Grpc::Status(code), ..answer(200) })
}

const STORE: Action = Action::Store { indeterminate: false };
const INDETERMINATE: Action = Action::Store { indeterminate: true };
const BARE: Action = Action::StoreBare { indeterminate: false };

/// The end has this verdict, whoever the upstream is.
fn same(end: End, row: Row, action: Action, again: Again) {
    for s in [strict(), idempotent()] {
        assert_eq!(decide(&s, &end, None), Verdict { action, again, row }, "{end:?}");
    }
}

/// Nobody knows, and only where the upstream recognises keys it is sent again.
fn open_end(end: End, row: Row, doubt: Doubt) {
    let held = Verdict { action: Action::Doubt(doubt), again: Again::No, row };
    assert_eq!(decide(&strict(), &end, None), held, "{end:?}");
    let again = Verdict { action: Action::Retryable(doubt), again: Again::Yes, row };
    assert_eq!(decide(&idempotent(), &end, None), again, "{end:?}");
}

/// The answer is stored as one that leaves open what happened.
fn indeterminate(end: End, row: Row) {
    let held = Verdict { action: INDETERMINATE, again: Again::No, row };
    assert_eq!(decide(&strict(), &end, None), held, "{end:?}");
    let again = Verdict { action: INDETERMINATE, again: Again::Yes, row };
    assert_eq!(decide(&idempotent(), &end, None), again, "{end:?}");
}

#[test]
fn d1_the_application_s_word_comes_first() {
    for status in [200, 409, 429, 500, 503] {
        same(said(status, Application::Final), Row::D1, STORE, Again::No);
        same(said(status, Application::NotExecuted), Row::D1, Action::Release, Again::Yes);
        open_end(said(status, Application::Unknown), Row::D1, Doubt::Application);
    }
    let conflict = Answer { conflict: true, application: Some(Application::Final), ..answer(409) };
    same(End::Answered(conflict), Row::D1, STORE, Again::No);
    // It stands in the head, and so holds for an answer that was cut off.
    let cut = |said| End::Cut(Answer { application: Some(said), ..answer(200) });
    same(cut(Application::Final), Row::D1, BARE, Again::No);
    same(cut(Application::NotExecuted), Row::D1, Action::Release, Again::Yes);
}

#[test]
fn d1_reads_three_words() {
    assert_eq!(Application::parse(b" final "), Some(Application::Final));
    assert_eq!(Application::parse(b"Not-Executed"), Some(Application::NotExecuted));
    assert_eq!(Application::parse(b"unknown"), Some(Application::Unknown));
    for other in [&b""[..], b"finally", b"not executed", b"final, unknown", b"\"final\""] {
        assert_eq!(Application::parse(other), None, "{}", other.escape_ascii());
    }
}

#[test]
fn d2_what_the_proxy_refuses_is_released() {
    same(End::NotSent, Row::D2, Action::Release, Again::Yes);
}

#[test]
fn d3_without_a_connection_nothing_was_executed() {
    same(End::NoConnection, Row::D3, Action::Release, Again::Yes);
}

#[test]
fn d4_a_refused_stream_was_not_executed() {
    same(End::Refused, Row::D4, Action::Release, Again::Elsewhere);
}

#[test]
fn d5_a_head_that_is_not_whole_cannot_be_executed() {
    same(End::HeadUnwritten, Row::D5, Action::Release, Again::Yes);
}

#[test]
fn d6_a_lost_connection_proves_nothing() {
    open_end(End::Lost, Row::D6, Doubt::ConnectionLost);
}

#[test]
fn d7_a_late_answer_is_waited_for_and_then_unknown() {
    same(End::Late, Row::D7, Action::Stay, Again::No);
    // It may still be running: not even to an upstream that recognises keys is it sent beside.
    same(End::TimedOut, Row::D7, Action::Doubt(Doubt::Timeout), Again::No);
}

#[test]
fn d8_an_answer_that_is_cut_off_is_unknown() {
    for status in [200, 404, 500] {
        open_end(End::Cut(answer(status)), Row::D8, Doubt::AnswerCut);
    }
    let no_status = Answer { grpc: Grpc::Missing, ..answer(200) };
    open_end(End::Answered(no_status), Row::D8, Doubt::AnswerCut);
}

#[test]
fn d9_success_is_stored() {
    for status in [200, 201, 202, 204, 299] {
        same(End::Answered(answer(status)), Row::D9, STORE, Again::No);
    }
}

#[test]
fn d10_a_redirect_is_stored_but_not_modified_says_nothing() {
    for status in [300, 301, 303, 307, 399] {
        same(End::Answered(answer(status)), Row::D10, STORE, Again::No);
    }
    open_end(End::Answered(answer(304)), Row::D10, Doubt::Answer);
}

#[test]
fn d11_an_answer_about_the_attempt_is_released() {
    for status in [401, 403, 407, 423, 429] {
        same(End::Answered(answer(status)), Row::D11, Action::Release, Again::No);
    }
    for status in [408, 421, 425] {
        same(End::Answered(answer(status)), Row::D11, Action::Release, Again::Yes);
    }
}

#[test]
fn d12_any_other_client_error_is_the_result() {
    for status in [400, 402, 404, 409, 410, 412, 418, 422, 451, 499] {
        same(End::Answered(answer(status)), Row::D12, STORE, Again::No);
    }
}

#[test]
fn d13_a_server_error_is_stored_as_indeterminate() {
    for status in [500, 501, 505, 507, 599] {
        indeterminate(End::Answered(answer(status)), Row::D13);
    }
    let unknown = Settings { on_5xx: On5xx::Unknown, ..strict() };
    let verdict = decide(&unknown, &End::Answered(answer(500)), None);
    assert_eq!(verdict.action, Action::Doubt(Doubt::Answer));
    let release = Settings { on_5xx: On5xx::Release, ..strict() };
    assert_eq!(decide(&release, &End::Answered(answer(500)), None).action, Action::Release);
    // It says nothing of those that have rows of their own.
    for status in [502, 503, 504] {
        let verdict = decide(&release, &End::Answered(answer(status)), None);
        assert_eq!(verdict.action, Action::Doubt(Doubt::Answer), "{status}");
    }
}

#[test]
fn d14_a_503_that_says_when_to_come_back_is_released() {
    let later = Answer { retry_after: true, ..answer(503) };
    same(End::Answered(later), Row::D14, Action::Release, Again::AfterWait);
}

#[test]
fn d15_a_gateway_s_error_is_unknown() {
    for status in [502, 503, 504, 600, 999] {
        open_end(End::Answered(answer(status)), Row::D15, Doubt::Answer);
    }
    for status in [502, 504] {
        let later = Answer { retry_after: true, ..answer(status) };
        open_end(End::Answered(later), Row::D15, Doubt::Answer);
    }
}

#[test]
fn d16_the_upstream_s_own_layer_is_at_work_on_it() {
    let busy = End::Answered(Answer { conflict: true, ..answer(409) });
    let held = decide(&strict(), &busy, None);
    assert_eq!((held.action, held.row), (Action::Doubt(Doubt::Answer), Row::D16));
    assert_eq!(held.again, Again::AfterWait);
    let again = decide(&idempotent(), &busy, None);
    assert_eq!(again.action, Action::Retryable(Doubt::Answer));
}

#[test]
fn d16_is_known_by_status_and_field() {
    let field = |name: &str| (name == "x-busy").then_some(&b"idempotency_key in use"[..]);
    let of = |header: Option<&str>, contains: Option<&str>| UpstreamConflict {
        status: 409,
        header: header.map(str::to_owned),
        contains: contains.map(str::to_owned),
    };
    assert!(of(None, None).matches(409, field));
    assert!(!of(None, None).matches(422, field));
    assert!(of(Some("x-busy"), None).matches(409, field));
    assert!(!of(Some("x-other"), None).matches(409, field));
    assert!(of(Some("x-busy"), Some("_key in")).matches(409, field));
    assert!(!of(Some("x-busy"), Some("free")).matches(409, field));
    assert!(!of(Some("x-busy"), Some(&"long".repeat(20))).matches(409, field));
}

#[test]
fn d17_what_streams_is_not_covered_and_never_sent_twice() {
    same(End::Stream, Row::D17, Action::Bypass, Again::No);
    let stream = Answer { body: Body::Streaming, ..answer(200) };
    same(End::Answered(stream), Row::D17, BARE, Again::No);
    same(End::Answered(answer(101)), Row::D17, BARE, Again::No);
}

#[test]
fn d18_of_a_large_answer_the_status_is_stored() {
    let large = |status| End::Answered(Answer { body: Body::TooLarge, ..answer(status) });
    same(large(200), Row::D18, BARE, Again::No);
    same(large(404), Row::D18, BARE, Again::No);
    let verdict = decide(&strict(), &large(500), None);
    assert_eq!(verdict.action, Action::StoreBare { indeterminate: true });
    // What is not stored anyway is not stored because of its size.
    same(large(429), Row::D11, Action::Release, Again::No);
    open_end(large(502), Row::D15, Doubt::Answer);
}

#[test]
fn d18_holds_for_no_store_where_the_route_says_so() {
    let private = End::Answered(Answer { no_store: true, ..answer(200) });
    same(private, Row::D9, STORE, Again::No);
    let s = Settings { honor_no_store: true, ..strict() };
    assert_eq!(
        decide(&s, &private, None),
        Verdict { action: BARE, again: Again::No, row: Row::D9 }
    );
}

#[test]
fn d19_whether_the_client_is_still_there_is_no_evidence() {
    // `End` says nothing of clients: a late answer that nobody waits for any more is stored.
    same(End::Late, Row::D7, Action::Stay, Again::No);
    same(End::Answered(answer(201)), Row::D9, STORE, Again::No);
}

#[test]
fn d20_what_a_shutdown_leaves_is_unknown() {
    same(End::Shutdown, Row::D20, Action::Doubt(Doubt::Shutdown), Again::No);
}

#[test]
fn d21_what_a_dead_process_leaves_is_unknown() {
    same(End::OwnerLost, Row::D21, Action::Doubt(Doubt::OwnerLost), Again::No);
}

#[test]
fn d22_an_answer_that_cannot_be_stored_leaves_the_record_as_it_is() {
    same(End::NotStored, Row::D22, Action::Stay, Again::No);
}

#[test]
fn d23_the_results_of_calls_are_stored() {
    for code in [0, 3, 5, 6, 9, 11, 12] {
        same(call(code), Row::D23, STORE, Again::No);
    }
}

#[test]
fn d24_a_call_s_answer_about_the_attempt_is_released() {
    for code in [7, 16] {
        same(call(code), Row::D24, Action::Release, Again::No);
    }
    for code in [8, 10] {
        same(call(code), Row::D24, Action::Release, Again::AfterWait);
    }
}

#[test]
fn d25_a_call_s_failure_is_stored_as_indeterminate() {
    for code in [2, 13, 15, 17, 999] {
        indeterminate(call(code), Row::D25);
    }
}

#[test]
fn d26_a_call_without_an_answer_is_unknown() {
    for code in [1, 4, 14] {
        open_end(call(code), Row::D26, Doubt::Answer);
    }
}

#[test]
fn a_call_that_was_answered_on_the_way_has_the_status_of_http() {
    let gateway = |grpc| End::Answered(Answer { grpc, ..answer(502) });
    open_end(gateway(Grpc::Missing), Row::D15, Doubt::Answer);
    open_end(gateway(Grpc::Status(0)), Row::D15, Doubt::Answer);
}

#[test]
fn a_route_says_what_its_statuses_mean() {
    let range = |from, to| vec![StatusRange { from, to }];
    let s = Settings {
        store_statuses: range(429, 429),
        release_statuses: range(500, 503),
        unknown_statuses: range(200, 204),
        ..Settings::default()
    };
    let of = |status| {
        let Verdict { action, row, .. } = decide(&s, &End::Answered(answer(status)), None);
        (action, row)
    };
    assert_eq!(of(429), (STORE, Row::D11));
    assert_eq!(of(500), (Action::Release, Row::D13));
    assert_eq!(of(503), (Action::Release, Row::D15));
    assert_eq!(of(504), (Action::Doubt(Doubt::Answer), Row::D15));
    assert_eq!(of(201), (Action::Doubt(Doubt::Answer), Row::D9));
    // Not what the application says of this one answer.
    let said = decide(&s, &said(201, Application::Final), None);
    assert_eq!(said.action, STORE);
}

#[test]
fn one_attempt_s_proof_is_not_another_s() {
    let earlier = Some(Doubt::ConnectionLost);
    for end in [End::NoConnection, End::Refused, End::NotSent, End::Answered(answer(429))] {
        let held = decide(&strict(), &end, earlier);
        assert_eq!(held.action, Action::Doubt(Doubt::ConnectionLost), "{end:?}");
        assert_eq!(held.again, Again::No, "{end:?}");
        let again = decide(&idempotent(), &end, earlier);
        assert_eq!(again.action, Action::Retryable(Doubt::ConnectionLost), "{end:?}");
        assert_eq!(again.again, decide(&idempotent(), &end, None).again, "{end:?}");
    }
    let stored = decide(&strict(), &End::Answered(answer(200)), earlier);
    assert_eq!(stored.action, STORE);
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let grpc = prop_oneof![
        Just(Grpc::No),
        Just(Grpc::Missing),
        (0_u16..20).prop_map(Grpc::Status),
        any::<u16>().prop_map(Grpc::Status)
    ];
    let application = prop::option::of(prop_oneof![
        Just(Application::Final),
        Just(Application::NotExecuted),
        Just(Application::Unknown)
    ]);
    let body = prop_oneof![Just(Body::Whole), Just(Body::TooLarge), Just(Body::Streaming)];
    let status = prop_oneof![100_u16..600, any::<u16>()];
    (status, grpc, application, any::<[bool; 3]>(), body).prop_map(
        |(status, grpc, application, [retry_after, conflict, no_store], body)| Answer {
            status,
            grpc,
            application,
            retry_after,
            conflict,
            no_store,
            body,
        },
    )
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        2 => prop::sample::select(vec![
            End::NotSent,
            End::NoConnection,
            End::Refused,
            End::HeadUnwritten,
            End::Lost,
            End::Late,
            End::TimedOut,
            End::Stream,
            End::Shutdown,
            End::OwnerLost,
            End::NotStored,
        ]),
        1 => any_answer().prop_map(End::Cut),
        5 => any_answer().prop_map(End::Answered),
    ]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let on_5xx = prop_oneof![Just(On5xx::Store), Just(On5xx::Unknown), Just(On5xx::Release)];
    (any::<bool>(), any::<bool>(), on_5xx).prop_map(
        |(upstream_idempotent, honor_no_store, on_5xx)| Settings {
            upstream_idempotent,
            honor_no_store,
            on_5xx,
            ..Settings::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_end_has_a_verdict_that_never_sends_twice_without_proof(
        s in any_settings(),
        end in any_end(),
        earlier in prop::option::of(prop::sample::select(Doubt::ALL.to_vec())),
    ) {
        let Verdict { action, again, .. } = decide(&s, &end, earlier);
        match action {
            // Where it may have been executed, it is sent again only if the upstream knows the key.
            Action::Doubt(_) if again != Again::No => {
                let busy = matches!(end, End::Answered(answer) if answer.conflict);
                prop_assert!(busy && again == Again::AfterWait);
            }
            Action::Store { .. } | Action::Retryable(_) => {
                prop_assert!(again == Again::No || s.upstream_idempotent);
            }
            // A stream is over for its client: it cannot be sent again.
            Action::StoreBare { .. } => prop_assert!(again == Again::No || s.upstream_idempotent),
            Action::Stay | Action::Bypass => prop_assert_eq!(again, Again::No),
            Action::Release => prop_assert_eq!(earlier, None),
            Action::Doubt(_) => {}
        }
        if matches!(action, Action::Retryable(_)) {
            prop_assert!(s.upstream_idempotent);
        }
        if matches!(action, Action::Store { .. }) {
            let whole = matches!(end, End::Answered(answer) if answer.body == Body::Whole);
            prop_assert!(whole, "only what is whole can be given again");
        }
    }
}
