//! What the upstream's answer proves, as the next request under the same key sees it: D1 to D26,
//! where they show in an answer.

use http::{HeaderValue, Request};

use super::{ALONE, code, keyed_at, keyed_with, post, said};
use crate::support::caller::{Caller, Got};
use crate::support::service::{Act, Seen, Service, status};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::raw_upstream;

/// What the second request under a key finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The first one's answer.
    Replayed,
    /// A free key: it is executed.
    Executed,
    /// That nobody knows.
    Unknown,
}

fn with(status: u16, name: &'static str, value: &str) -> Act {
    Act::Answer(status, vec![(name, value.to_owned())], "")
}

/// What is done with the first request under a key, which says it.
fn first(key: &str) -> Act {
    let number = |text: &str| text.parse().unwrap();
    match key.split_once('-').unwrap() {
        ("said", said) => with(200, "idempotency-outcome", said),
        ("failed", said) => with(500, "idempotency-outcome", said),
        ("later", code) => with(number(code), "retry-after", "1"),
        ("grpc", code) => with(200, "grpc-status", code),
        (_, code) => status(number(code)),
    }
}

struct Scene {
    service: Service,
    _sidecar: Sidecar,
    caller: Caller,
}

async fn scene() -> Scene {
    let service = Service::start(|seen: &Seen| {
        let key = seen.header("idempotency-key").unwrap().trim_matches('"');
        // The second request under a key is told from the first by its mark.
        if seen.header("x-second").is_some() { status(299) } else { first(key) }
    })
    .await;
    let sidecar = keyed_with(&service, super::KEYED, ALONE, "memory: {}");
    let caller = sidecar.caller();
    Scene { service, _sidecar: sidecar, caller }
}

fn request(key: &str) -> Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = post(key, "x");
    if key.starts_with("grpc") {
        let kind = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert("content-type", kind);
    }
    request
}

impl Scene {
    /// The first answer, and what the second request finds.
    async fn twice(&self, key: &str) -> (Got, Got, Next) {
        let before = self.service.hits();
        let first = self.caller.send(request(key)).await;
        assert_eq!(self.service.hits(), before + 1, "{key}");
        let mut again = request(key);
        again.headers_mut().insert("x-second", HeaderValue::from_static("1"));
        let second = self.caller.send(again).await;
        let next = match said(&second) {
            "executed;stored;attempt=1" => Next::Executed,
            "rejected;reason=outcome-unknown" => Next::Unknown,
            text if text.starts_with("replayed") => Next::Replayed,
            other => panic!("{key}: {other} {second:?}"),
        };
        let sent = self.service.hits() - before;
        assert_eq!(sent, if next == Next::Executed { 2 } else { 1 }, "{key}");
        (first, second, next)
    }

    async fn all(&self, keys: &[&str], expected: Next) {
        for key in keys {
            let (first, second, next) = self.twice(key).await;
            assert_eq!(next, expected, "{key}: {first:?} {second:?}");
            if next == Next::Replayed {
                assert_eq!(first.status, second.status, "{key}");
                assert_eq!(first.header("grpc-status"), second.header("grpc-status"), "{key}");
            }
        }
    }
}

#[tokio::test]
async fn d1_the_application_knows_best_and_its_word_stays_here() {
    let scene = scene().await;
    let words = [
        ("said-final", Next::Replayed),
        ("failed-final", Next::Replayed),
        ("said-not-executed", Next::Executed),
        ("failed-not-executed", Next::Executed),
        ("said-unknown", Next::Unknown),
    ];
    for (key, expected) in words {
        let (first, second, next) = scene.twice(key).await;
        assert_eq!(next, expected, "{key}");
        for got in [first, second] {
            assert_eq!(got.header("idempotency-outcome"), None, "{key}");
        }
    }
}

#[tokio::test]
async fn d8_an_answer_that_breaks_off_proves_nothing_but_its_status() {
    let upstream = raw_upstream(|mut wire| async move {
        wire.until("x=1").await;
        wire.send("HTTP/1.1 201 Created\r\ncontent-length: 8\r\n\r\nhalf").await;
    })
    .await;
    let sidecar = keyed_at(upstream.address(), super::KEYED, ALONE, "memory: {}");
    let caller = sidecar.caller();
    let first = caller.send(post("k", "x=1")).await;
    assert_eq!((first.status, code(&first).as_str()), (502, "outcome-unknown"));
    let second = caller.send(post("k", "x=1")).await;
    assert_eq!(said(&second), "rejected;reason=outcome-unknown");
    let document: serde_json::Value = serde_json::from_slice(&second.body).unwrap();
    assert_eq!(document["observed_status"], 201);
}

#[tokio::test]
async fn d9_d10_d12_answers_of_the_operation_are_given_again() {
    let keys = ["is-200", "is-201", "is-302", "is-400", "is-402", "is-404", "is-409", "is-410"];
    scene().await.all(&keys, Next::Replayed).await;
    scene().await.all(&["is-412", "is-422", "is-451"], Next::Replayed).await;
}

#[tokio::test]
async fn d11_d14_answers_about_the_attempt_free_the_key() {
    let scene = scene().await;
    let keys = ["is-401", "is-403", "is-407", "is-408", "is-421", "is-423", "is-425", "is-429"];
    scene.all(&keys, Next::Executed).await;
    scene.all(&["later-503"], Next::Executed).await;
}

#[tokio::test]
async fn d13_a_failure_of_the_service_is_its_answer() {
    scene().await.all(&["is-500", "is-501", "is-505"], Next::Replayed).await;
}

#[tokio::test]
async fn d15_who_could_not_answer_may_have_done_it() {
    scene().await.all(&["is-502", "is-503", "is-504"], Next::Unknown).await;
}

#[tokio::test]
async fn d23_to_d26_calls() {
    let scene = scene().await;
    let given = ["grpc-0", "grpc-3", "grpc-5", "grpc-6", "grpc-9", "grpc-11", "grpc-12"];
    scene.all(&given, Next::Replayed).await;
    scene.all(&["grpc-7", "grpc-16", "grpc-8", "grpc-10"], Next::Executed).await;
    scene.all(&["grpc-2", "grpc-13", "grpc-15"], Next::Replayed).await;
    scene.all(&["grpc-1", "grpc-4", "grpc-14"], Next::Unknown).await;
}
