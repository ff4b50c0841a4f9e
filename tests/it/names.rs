//! Upstreams whose endpoints are behind a name.

use std::net::Ipv4Addr;
use std::time::Duration;

use outrigger::app::Start;
use tokio::net::TcpListener;

use crate::support::name_server::NameServer;
use crate::support::service::{Service, status};
use crate::support::sidecar::{Sidecar, config_with, eventually};

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ALONE: &str = "retry: { mode: off }, circuit_breaker: { mode: off }";

/// Two services at one port of two addresses; they answer 201 and 202.
async fn pair() -> (u16, Service, Service) {
    loop {
        let one = TcpListener::bind((ONE, 0)).await.unwrap();
        let port = one.local_addr().unwrap().port();
        // Another process may have this port there.
        if let Ok(two) = TcpListener::bind((TWO, port)).await {
            let [one, two] = [(one, 201), (two, 202)]
                .map(|(listener, code)| Service::on(listener, move |_| status(code)));
            return (port, one, two);
        }
    }
}

fn text(port: u16, dns: &str) -> String {
    let upstream = format!(
        "dns: {{ name: \"pay.test:{port}\", refresh: {{ min: 20ms, max: 20ms }}, {dns} }}, \
         load_balancing: {{ policy: round_robin }}, slow_start: 0s"
    );
    config_with(1, &upstream, ALONE)
}

fn start(server: &NameServer, text: String) -> Sidecar {
    Sidecar::with(Start { resolver: Some(server.resolver()), ..Start::new(text, None, None) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_changes_moves_the_traffic() {
    let (server, (port, one, two)) = (NameServer::start().await, pair().await);
    server.answer("pay.test", &[ONE]);
    let sidecar = start(&server, text(port, ""));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 201, "resolved before the first request");
    server.answer("pay.test", &[TWO]);
    eventually("the old address is gone", async || {
        let before = one.hits();
        assert!([201, 202].contains(&caller.get().await.status));
        assert!([201, 202].contains(&caller.get().await.status));
        one.hits() == before
    })
    .await;
    for _ in 0..10 {
        assert_eq!(caller.get().await.status, 202);
    }
    // The connection to what is gone is closed, and its metrics with it.
    one.open(0).await;
    assert!(!sidecar.app().proxy.metrics.render().contains(&one.address.to_string()));
    server.answer("pay.test", &[ONE, TWO]);
    let _ = two.hits();
    eventually("both are used", async || caller.get().await.status == 201).await;
    let (before_one, before_two) = (one.hits(), two.hits());
    for _ in 0..10 {
        caller.get().await;
    }
    assert_eq!((one.hits() - before_one, two.hits() - before_two), (5, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_name_server_changes_nothing_for_a_while() {
    let (server, (port, _one, _two)) = (NameServer::start().await, pair().await);
    server.answer("pay.test", &[ONE]);
    let sidecar = start(&server, text(port, "keep_last_good: 10m"));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 201);
    server.fail("pay.test");
    server.asked(6).await;
    for _ in 0..10 {
        assert_eq!(caller.get().await.status, 201);
    }
    server.answer("pay.test", &[TWO]);
    eventually("the new answer is taken", async || caller.get().await.status == 202).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_is_dropped_and_comes_back() {
    let (server, (port, _one, _two)) = (NameServer::start().await, pair().await);
    server.answer("pay.test", &[ONE]);
    let sidecar = start(&server, text(port, "keep_last_good: 1s"));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 201);
    server.fail("pay.test");
    eventually("the last good answer is too old", async || {
        let got = caller.get().await;
        assert!(got.status == 201 || got.reason() == Some("no_endpoint"), "{got:?}");
        got.status == 503
    })
    .await;
    server.answer("pay.test", &[ONE]);
    eventually("it is known again", async || caller.get().await.status == 201).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_does_not_answer_does_not_stop_the_start() {
    let (server, (port, one, _two)) = (NameServer::start().await, pair().await);
    server.silence("late.test");
    let upstream = format!("endpoints: [\"late.test:{port}\"]");
    let sidecar = start(&server, config_with(1, &upstream, ALONE));
    let caller = sidecar.caller();
    let got = caller.get().await;
    assert_eq!((got.status, got.reason()), (503, Some("no_endpoint")));
    server.answer("late.test", &[ONE]);
    eventually("it is known", async || caller.get().await.status == 201).await;
    assert!(one.hits() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_addresses_stand_side_by_side() {
    let (server, (port, one, two)) = (NameServer::start().await, pair().await);
    server.answer("pay.test", &[ONE]);
    let upstream = format!(
        "endpoints: [\"pay.test:{port}\", {{ address: \"127.0.0.2:{port}\", weight: 3 }}], \
         load_balancing: {{ policy: round_robin }}, slow_start: 0s"
    );
    let sidecar = start(&server, config_with(1, &upstream, ALONE));
    let caller = sidecar.caller();
    eventually("the name is known", async || caller.get().await.status == 201).await;
    let before = (one.hits(), two.hits());
    for _ in 0..8 {
        caller.get().await;
    }
    assert_eq!((one.hits() - before.0, two.hits() - before.1), (2, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_how_a_name_is_resolved_fails_nothing() {
    let (server, (port, one, _two)) = (NameServer::start().await, pair().await);
    server.answer("pay.test", &[ONE]);
    let sidecar = start(&server, text(port, "keep_last_good: 5m"));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 201);
    for minutes in 6..16 {
        // The name server does not answer at the moment of the reload.
        server.silence("pay.test");
        let changed = text(port, &format!("keep_last_good: {minutes}m"));
        assert!(sidecar.app().proxy.reload(&changed).unwrap().changed);
        for _ in 0..3 {
            let got = caller.get().await;
            assert_eq!((got.status, got.reason()), (201, None), "after {minutes}");
        }
        server.answer("pay.test", &[ONE]);
    }
    assert_eq!(one.hits(), 31);
    assert!(one.connections() <= 2, "{}", one.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_while_the_name_server_fails_keeps_what_was_good() {
    let (server, (port, _one, _two)) = (NameServer::start().await, pair().await);
    server.answer("pay.test", &[ONE]);
    let sidecar = start(&server, text(port, "keep_last_good: 1h"));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 201);
    server.fail("pay.test");
    for hours in 2..5 {
        let changed = text(port, &format!("keep_last_good: {hours}h"));
        assert!(sidecar.app().proxy.reload(&changed).unwrap().changed);
        server.asked(4).await;
        assert_eq!(caller.get().await.status, 201, "after {hours}");
    }
    // The time of the failure runs on: a reload is no good answer.
    let changed = text(port, "keep_last_good: 1s");
    assert!(sidecar.app().proxy.reload(&changed).unwrap().changed);
    eventually("the last good answer is too old", async || caller.get().await.status == 503).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_to_another_name_keeps_the_old_until_the_new_is_known() {
    let (server, (port, _one, _two)) = (NameServer::start().await, pair().await);
    server.answer("pay.test", &[ONE]);
    server.silence("new.test");
    let sidecar = start(&server, text(port, ""));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 201);
    let changed = text(port, "").replace("pay.test", "new.test");
    assert!(sidecar.app().proxy.reload(&changed).unwrap().changed);
    for _ in 0..5 {
        assert_eq!(caller.get().await.status, 201);
    }
    server.answer("new.test", &[TWO]);
    eventually("the new name is known", async || {
        let status = caller.get().await.status;
        assert!([201, 202].contains(&status), "{status}");
        status == 202
    })
    .await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while caller.get().await.status != 202 {}
    })
    .await
    .unwrap();
}
