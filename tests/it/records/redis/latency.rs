//! What an operation takes over loopback. Not part of the tests:
//! `cargo test --release --test it records::redis::latency -- --ignored --nocapture`.

use std::time::Duration;

use outrigger::clock;
use outrigger::records::Store;

use super::ready;
use super::servers::{Server, replica};
use crate::records::contract::{acquire, claim, complete, peek, rid, settle};

const TURNS: u64 = 3_000;

fn say(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 1_000];
    eprintln!("{what}: p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
}

async fn measure(name: &str, store: &dyn Store) {
    let (mut claims, mut completions, mut replays) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..TURNS {
        let start = clock::now();
        let by = acquire(store, rid(n), claim(n)).await;
        let claimed = clock::now();
        settle(store, rid(n), complete(by, &[7; 700])).await;
        let completed = clock::now();
        assert!(peek(store, rid(n)).await.is_some());
        claims.push(claimed - start);
        completions.push(completed - claimed);
        replays.push(clock::now() - completed);
    }
    say(&format!("{name} claim"), claims);
    say(&format!("{name} complete"), completions);
    say(&format!("{name} peek"), replays);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and proves nothing"]
async fn latency() {
    let server = Server::start(&[]).await;
    measure("in memory", &*ready(&server.url(), "{}").await).await;
    let durable = Server::durable().await;
    measure("appendfsync always", &*ready(&durable.url(), "{}").await).await;
    let copied = Server::start(&[]).await;
    let _replica = replica(&copied).await;
    measure("one replica", &*ready(&copied.url(), r#"{ "wait_replicas": 1 }"#).await).await;
}
