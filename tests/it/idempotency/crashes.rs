//! What a crash leaves behind, at each place where it matters: the process is killed there, without
//! a last word, and another one opens the same file.

use std::path::Path;
use std::time::Duration;

use crate::support::child::{Child, post};
use crate::support::service::{Act, Service, status};

/// A route that recognises keys, with its records in a file.
fn text(service: &Service, file: &tempfile::TempDir, more: &str) -> String {
    let (address, path) = (service.address, file.path().join("records.redb"));
    format!(
        "runtime: {{ workers: 1, {more} }}\n\
         stores: {{ s: {{ embedded: {{ path: {} }} }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{address}\"] }} }}\n\
         routes: [{{ name: r, upstream: u, retry: {{ mode: off }}, \
         idempotency: {{ store: s, scope: [none], claim_deadline: 5s }} }}]\n",
        path.display()
    )
}

/// Sends the request, to a process that may still be opening its file.
async fn send(socket: &Path) -> String {
    loop {
        let answer = post(socket, "k", "x").await;
        if !answer.contains("store-unavailable") {
            return answer;
        }
    }
}

/// Sends the same request again.
async fn again(child: &Child) -> String {
    send(&child.socket()).await
}

#[tokio::test]
async fn d21_after_the_claim_nothing_was_sent_and_nobody_knows_it() {
    let (service, file) = (Service::always(201).await, tempfile::tempdir().unwrap());
    let mut child = Child::dying_at("after_claim", &text(&service, &file, "")).await;
    assert_eq!(send(&child.socket()).await, "");
    assert!(!child.ended().await.success());
    assert_eq!(service.hits(), 0);
    let next = Child::start(&text(&service, &file, "")).await;
    let answer = again(&next).await;
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    assert!(answer.contains("outcome-unknown"), "{answer}");
    assert_eq!(service.hits(), 0);
}

#[tokio::test]
async fn while_the_upstream_is_at_work_the_outcome_is_unknown() {
    let (service, file) = (Service::start(|_| Act::Hang).await, tempfile::tempdir().unwrap());
    let mut child = Child::start(&text(&service, &file, "")).await;
    let socket = child.socket();
    let cut = tokio::spawn(async move { send(&socket).await });
    service.reached(1).await;
    child.kill().await;
    assert_eq!(cut.await.unwrap(), "");
    let next = Child::start(&text(&service, &file, "")).await;
    let answer = again(&next).await;
    assert!(answer.contains("outcome-unknown"), "{answer}");
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn between_the_upstreams_success_and_its_commit_the_outcome_is_unknown() {
    let (service, file) = (Service::always(201).await, tempfile::tempdir().unwrap());
    let mut child = Child::dying_at("before_commit", &text(&service, &file, "")).await;
    assert_eq!(send(&child.socket()).await, "");
    assert!(!child.ended().await.success());
    assert_eq!(service.hits(), 1);
    let next = Child::start(&text(&service, &file, "")).await;
    let answer = again(&next).await;
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    assert!(answer.contains("outcome-unknown"), "{answer}");
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn after_the_commit_the_answer_is_given_again() {
    let (service, file) = (Service::always(201).await, tempfile::tempdir().unwrap());
    let mut child = Child::dying_at("after_commit", &text(&service, &file, "")).await;
    assert_eq!(send(&child.socket()).await, "");
    assert!(!child.ended().await.success());
    let next = Child::start(&text(&service, &file, "")).await;
    let answer = again(&next).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains("replayed;created="), "{answer}");
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn d20_an_end_that_cannot_wait_leaves_the_outcome_unknown() {
    let hangs = |number: usize| if number == 0 { Act::Hang } else { status(201) };
    let service = Service::start(move |seen| hangs(seen.number)).await;
    let file = tempfile::tempdir().unwrap();
    let drain = "drain: { timeout: 200ms, linger: 0s }";
    let mut child = Child::start(&text(&service, &file, drain)).await;
    let socket = child.socket();
    let cut = tokio::spawn(async move { send(&socket).await });
    service.reached(1).await;
    child.signal("TERM");
    assert!(child.ended().await.success(), "{}", child.said());
    cut.await.unwrap();
    let next = Child::start(&text(&service, &file, "")).await;
    let answer = again(&next).await;
    assert!(answer.contains("outcome-unknown"), "{answer}");
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn an_end_waits_for_what_goes_on_without_its_client() {
    let service = Service::start(|_| Act::Late(Duration::from_millis(300), 201)).await;
    let file = tempfile::tempdir().unwrap();
    let drain = "drain: { timeout: 20s, linger: 0s }";
    let mut child = Child::start(&text(&service, &file, drain)).await;
    let socket = child.socket();
    let gone = tokio::spawn(async move { send(&socket).await });
    service.reached(1).await;
    gone.abort();
    child.signal("TERM");
    assert!(child.ended().await.success(), "{}", child.said());
    let next = Child::start(&text(&service, &file, "")).await;
    let answer = again(&next).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(service.hits(), 1);
}
