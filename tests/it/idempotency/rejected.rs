//! What is refused before anything is sent.

use super::{KEYED, code, counting, keyed, keyed_with, post, said};
use crate::support::caller::with_body;

#[tokio::test]
async fn r2_a_key_is_required() {
    let service = counting().await;
    let sidecar = keyed(&service, &format!("{KEYED}, required: true"));
    let got = sidecar.caller().send(with_body("POST", "/charges", "x")).await;
    assert_eq!((got.status, code(&got).as_str()), (400, "key-missing"));
    assert_eq!(said(&got), "rejected;reason=key-missing");
    assert_eq!(got.header("cache-control"), Some("no-store"));
    assert_eq!(service.hits(), 0);
}

#[tokio::test]
async fn r3_a_key_that_cannot_be_read() {
    let service = counting().await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    for wrong in ["\"\"", "a, b", "\"open", "a;b", &"x".repeat(256)] {
        let got = caller.send(post(wrong, "x")).await;
        assert_eq!((got.status, code(&got).as_str()), (400, "key-invalid"), "{wrong}");
        assert_eq!(said(&got), "rejected;reason=key-invalid");
    }
    let mut twice = post("a", "x");
    twice.headers_mut().append("idempotency-key", "b".parse().unwrap());
    assert_eq!(code(&caller.send(twice).await), "key-invalid");
    assert_eq!(service.hits(), 0);
}

#[tokio::test]
async fn r4_nothing_says_whose_it_is() {
    let service = counting().await;
    let sidecar = keyed(&service, "store: s, scope: [\"header:x-tenant\"]");
    let got = sidecar.caller().send(post("k", "x")).await;
    assert_eq!((got.status, code(&got).as_str()), (400, "scope-missing"));
    assert_eq!(service.hits(), 0);
}

#[tokio::test]
async fn another_tenant_with_the_same_key_has_an_operation_of_its_own() {
    let service = counting().await;
    let sidecar = keyed(&service, "store: s, scope: [\"header:x-tenant\"]");
    let caller = sidecar.caller();
    let from = |tenant: &str| {
        let mut request = post("k", "x");
        request.headers_mut().insert("x-tenant", tenant.parse().unwrap());
        request
    };
    assert_eq!(caller.send(from("a")).await.body, "first");
    let other = caller.send(from("b")).await;
    assert_eq!((&*other.body, said(&other)), (&b"second"[..], "executed;stored;attempt=1"));
    assert_eq!(other.header("idempotent-replayed"), None);
    assert_eq!(caller.send(from("a")).await.body, "first");
}

#[tokio::test]
async fn r5_a_body_too_large_to_be_compared() {
    let service = counting().await;
    let sidecar = keyed(&service, &format!("{KEYED}, fingerprint_body: 4B"));
    let got = sidecar.caller().send(post("k", "12345")).await;
    assert_eq!((got.status, code(&got).as_str()), (413, "body-too-large"));
    assert_eq!(said(&got), "rejected;reason=body-too-large");
    assert_eq!(service.hits(), 0);
}

#[tokio::test]
async fn r8_one_byte_of_body_different() {
    let service = counting().await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    caller.send(post("k", "amount=10")).await;
    let got = caller.send(post("k", "amount=11")).await;
    assert_eq!((got.status, code(&got).as_str()), (422, "key-reused"));
    assert_eq!(said(&got), "rejected;reason=key-reused");
    let mut elsewhere = post("k", "amount=10");
    *elsewhere.uri_mut() = "/refunds".parse().unwrap();
    assert_eq!(caller.send(elsewhere).await.status, 422);
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn r16_a_key_older_than_what_the_store_remembers() {
    let service = counting().await;
    let sidecar = keyed(&service, KEYED);
    // A UUID of version 7 from 2023.
    let got = sidecar.caller().send(post("018a2b6c-0000-7000-8000-000000000000", "x")).await;
    assert_eq!((got.status, code(&got).as_str()), (409, "key-expired"));
    assert_eq!(service.hits(), 0);
}

#[tokio::test]
async fn r19_a_store_that_is_full() {
    let service = counting().await;
    let settings = "store: s, scope: [\"header:x-tenant\"]";
    let store = "memory: { max_entries: 10 }";
    let sidecar = keyed_with(&service, settings, super::ALONE, store);
    let caller = sidecar.caller();
    let mut codes = Vec::new();
    for tenant in 0..12 {
        let mut request = post("k", "x");
        request.headers_mut().insert("x-tenant", tenant.to_string().parse().unwrap());
        let got = caller.send(request).await;
        codes.push((got.status, (got.status != 201).then(|| code(&got))));
    }
    assert_eq!(codes[11], (503, Some("store-full".to_owned())), "{codes:?}");
}

#[tokio::test]
async fn r20_a_principal_with_its_whole_share() {
    let service = counting().await;
    let settings = "store: s, scope: [\"header:x-tenant\"]";
    let sidecar = keyed_with(&service, settings, super::ALONE, "memory: { max_entries: 10 }");
    let caller = sidecar.caller();
    let from_one = |key: &str| {
        let mut request = post(key, "x");
        request.headers_mut().insert("x-tenant", "one".parse().unwrap());
        request
    };
    assert_eq!(caller.send(from_one("a")).await.status, 201);
    let got = caller.send(from_one("b")).await;
    assert_eq!((got.status, code(&got).as_str()), (429, "quota"));
    assert!(got.header("retry-after").is_some());
}

#[tokio::test]
async fn where_all_callers_are_one_it_has_the_whole_store() {
    let service = counting().await;
    let sidecar = keyed_with(&service, KEYED, super::ALONE, "memory: { max_entries: 10 }");
    let caller = sidecar.caller();
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(caller.send(post(key, "x")).await.status, 201);
    }
}
