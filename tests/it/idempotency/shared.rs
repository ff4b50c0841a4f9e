//! Several proxies, one store.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{ALONE, code, keyed_with, post, ready, said};
use crate::records::redis::Server;
use crate::support::service::{Act, Service};
use crate::support::sidecar::Sidecar;

/// Three proxies of one service that share a Redis.
async fn three(service: &Service, server: &Server, settings: &str) -> Vec<Sidecar> {
    let store = format!("redis: {{ url: \"{}\", op_timeout: 5s }}", server.url());
    let settings =
        format!("store: s, scope: [none], claim_deadline: 5s, commit_deadline: 5s, {settings}");
    let mut all = Vec::new();
    for _ in 0..3 {
        let sidecar = keyed_with(service, &settings, ALONE, &store);
        ready(&sidecar).await;
        all.push(sidecar);
    }
    all
}

/// A hundred equal requests at once, through all of them.
async fn hundred(proxies: &[Sidecar]) -> Vec<(u16, String, bool)> {
    let mut all = JoinSet::new();
    for number in 0..100 {
        let caller = proxies[number % proxies.len()].caller();
        all.spawn(async move {
            let got = caller.send(post("k", "x")).await;
            (got.status, said(&got).to_owned(), got.header("retry-after").is_some())
        });
    }
    all.join_all().await
}

async fn slow() -> Service {
    Service::start(|_| Act::Late(Duration::from_millis(500), 201)).await
}

#[tokio::test]
async fn a_hundred_equal_requests_are_executed_once_and_the_rest_are_told_to_wait() {
    let (service, server) = (slow().await, Server::durable().await);
    let proxies = three(&service, &server, "").await;
    let got = hundred(&proxies).await;
    let executed = got.iter().filter(|(_, said, _)| said == "executed;stored;attempt=1").count();
    assert_eq!((executed, service.hits()), (1, 1));
    for (status, said, waits) in got {
        let fine = match status {
            201 => said.starts_with("executed") || said.starts_with("replayed"),
            409 => said == "rejected;reason=in-progress" && waits,
            _ => false,
        };
        assert!(fine, "{status} {said}");
    }
}

#[tokio::test]
async fn a_hundred_equal_requests_are_executed_once_and_the_rest_wait_for_the_answer() {
    let (service, server) = (slow().await, Server::durable().await);
    let proxies = three(&service, &server, "on_concurrent: wait, max_wait: 20s").await;
    let got = hundred(&proxies).await;
    assert!(got.iter().all(|(status, ..)| *status == 201), "{got:?}");
    let executed = got.iter().filter(|(_, said, _)| said.starts_with("executed")).count();
    assert_eq!((executed, service.hits()), (1, 1));
}

#[tokio::test]
async fn what_one_proxy_executed_another_gives_again_and_a_third_refuses_to_change() {
    let (service, server) = (super::counting().await, Server::durable().await);
    let proxies = three(&service, &server, "").await;
    let first = proxies[0].caller().send(post("k", "x")).await;
    let again = proxies[1].caller().send(post("k", "x")).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    let other = proxies[2].caller().send(post("k", "y")).await;
    assert_eq!((other.status, code(&other).as_str()), (422, "key-reused"));
    assert_eq!(service.hits(), 1);
}
