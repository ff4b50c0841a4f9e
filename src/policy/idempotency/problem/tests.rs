use super::*;

#[test]
fn every_code_is_found_by_its_name_and_has_its_own() {
    for code in Code::ALL {
        assert_eq!(Code::from_name(code.as_str()), Some(*code));
        assert!(code.detail().ends_with('.') && !code.title().ends_with('.'), "{code:?}");
        assert!((400..=504).contains(&code.status()));
        assert!((1..=16).contains(&code.grpc()));
    }
    assert_eq!(Code::from_name("key_missing"), None);
}

#[test]
fn a_new_key_is_safe_only_where_nothing_can_have_been_executed() {
    let safe: Vec<_> = Code::ALL.iter().filter(|code| code.new_key_safe()).collect();
    use Code::{BodyTooLarge, KeyInvalid, KeyMissing, NotExecuted, ScopeMissing};
    assert_eq!(safe, [&KeyMissing, &KeyInvalid, &ScopeMissing, &BodyTooLarge, &NotExecuted]);
}

#[test]
fn an_unknown_outcome_never_looks_unavailable_to_grpc() {
    // A client of gRPC may repeat what is UNAVAILABLE (14) by itself.
    let repeated: Vec<_> = Code::ALL.iter().filter(|code| code.grpc() == 14).collect();
    assert_eq!(repeated, [&Code::StoreUnavailable, &Code::StoreFull, &Code::NotExecuted]);
    for code in repeated {
        assert_eq!(code.retry_same_key(), RetrySameKey::Now);
    }
    assert_eq!(Code::OutcomeUnknown.grpc(), 2);
}

#[test]
fn links_lead_to_the_page_or_name_the_code() {
    let code = Code::OutcomeUnknown;
    assert_eq!(code.link(None), "urn:outrigger:idempotency:outcome-unknown");
    let page = Some("https://docs.example/keys");
    assert_eq!(code.link(page), "https://docs.example/keys#idempotency-outcome-unknown");
}

#[test]
fn who_is_told_to_wait_may_come_back() {
    for code in Code::ALL.iter().filter(|code| code.asks_to_wait()) {
        assert_ne!(code.retry_same_key(), RetrySameKey::No, "{code:?}");
    }
}
