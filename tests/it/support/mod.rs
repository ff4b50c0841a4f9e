//! The people of every scene: an upstream, the proxy, a client, and the bytes between them.

pub(crate) mod caller;
pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod name_server;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod reply;
pub(crate) mod secure;
pub(crate) mod service;
pub(crate) mod sidecar;
pub(crate) mod upstream;
pub(crate) mod wire;

pub(crate) use client::client;
pub(crate) use reply::reply;
pub(crate) use upstream::{raw_upstream, upstream};
pub(crate) use wire::Wire;

use std::time::Duration;

/// How long a test waits for what must happen before it says that it did not. Far longer than
/// anything takes, so that a busy machine does not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The time between two looks at a condition that nobody tells of.
const LOOK: Duration = Duration::from_millis(2);

/// Waits for a future, and fails the test with these words when it takes too long.
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let at = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{at}: waited in vain for {what}"),
        }
    }
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    within(what, async move {
        let mut look = tokio::time::interval(LOOK);
        while !holds() {
            look.tick().await;
        }
    })
}
