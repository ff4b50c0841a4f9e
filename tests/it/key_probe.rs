//! The upstream is asked what became of an operation whose outcome is unknown.

use serde_json::Value;

use crate::support::caller::{Caller, Got, with_body};
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{HEAD, Sidecar, eventually};

/// Reads the first POST and closes its connection; answers questions about it so.
async fn forgetful(known: u16) -> Service {
    Service::start(move |seen| match (seen.method.as_str(), seen.number) {
        ("GET", _) => status(known),
        (_, 0) => Act::Drop,
        _ => status(201),
    })
    .await
}

fn sidecar(service: &Service, settle_delay: &str) -> Sidecar {
    Sidecar::start(&format!(
        "{HEAD}stores: {{ keys: {{ memory: {{}} }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n\
         routes:\n\
         \x20 - name: pay\n\
         \x20   upstream: u\n\
         \x20   idempotency:\n\
         \x20     store: keys\n\
         \x20     scope: [none]\n\
         \x20     probe: {{ path: \"/by-key/{{key}}\", settle_delay: {settle_delay} }}\n",
        service.address
    ))
}

async fn pay(caller: &Caller) -> Got {
    let mut request = with_body("POST", "/pay", "amount=5");
    request.headers_mut().insert("idempotency-key", "\"a/b\"".parse().unwrap());
    caller.send(request).await
}

fn code(got: &Got) -> Value {
    let problem: Value = serde_json::from_slice(&got.body).unwrap_or_default();
    problem["code"].clone()
}

fn posts(service: &Service) -> usize {
    service.seen().iter().filter(|seen| seen.method == "POST").count()
}

fn questions(service: &Service) -> Vec<String> {
    let seen = service.seen();
    seen.iter().filter(|seen| seen.method == "GET").map(|seen| seen.path.clone()).collect()
}

#[tokio::test]
async fn what_the_upstream_knows_of_is_never_sent_again() {
    let service = forgetful(200).await;
    let sidecar = sidecar(&service, "1h");
    let caller = sidecar.caller();
    assert_eq!(code(&pay(&caller).await), "outcome-unknown");
    eventually("its outcome is known", async || {
        let got = pay(&caller).await;
        assert_eq!(got.status, 409, "{:?}", got.body);
        code(&got) == "result-unavailable"
    })
    .await;
    assert_eq!(posts(&service), 1);
    assert_eq!(questions(&service), ["/by-key/a%2Fb"], "asked once, and with the key as one part");
}

#[tokio::test]
async fn what_it_does_not_know_of_frees_the_key_when_it_has_had_its_time() {
    let service = forgetful(404).await;
    let sidecar = sidecar(&service, "1s");
    let caller = sidecar.caller();
    assert_eq!(code(&pay(&caller).await), "outcome-unknown");
    eventually("the key is free", async || pay(&caller).await.status == 201).await;
    assert_eq!(posts(&service), 2);
    assert_eq!(pay(&caller).await.status, 201, "that answer is given again");
    assert_eq!(posts(&service), 2);
}

#[tokio::test]
async fn before_its_time_is_over_a_no_means_nothing() {
    let service = forgetful(404).await;
    let sidecar = sidecar(&service, "1h");
    let caller = sidecar.caller();
    assert_eq!(code(&pay(&caller).await), "outcome-unknown");
    // Once for what was executed, once for what was not.
    eventually("it was asked", async || questions(&service).len() == 2).await;
    let again = pay(&caller).await;
    assert_eq!((again.status, code(&again)), (409, "outcome-unknown".into()));
    assert!(again.header("retry-after").is_some(), "it is being found out");
    assert_eq!(posts(&service), 1);
}

#[tokio::test]
async fn an_upstream_that_says_neither_leaves_it_unknown() {
    let service = forgetful(500).await;
    let sidecar = sidecar(&service, "1s");
    let caller = sidecar.caller();
    assert_eq!(code(&pay(&caller).await), "outcome-unknown");
    eventually("it was asked again", async || questions(&service).len() >= 4).await;
    assert_eq!(code(&pay(&caller).await), "outcome-unknown");
    assert_eq!(posts(&service), 1);
}
