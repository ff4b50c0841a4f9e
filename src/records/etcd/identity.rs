//! What the store remembers of itself, under a key of its own.
//!
//! The key is written once, by the first proxy that finds none. Its revision is compared in every
//! read and write, so that a cluster that was emptied, restored or exchanged under us is noticed
//! before anything is concluded from what it has not.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::wire::{Compare, RequestOp, STATUS, StatusRequest, StatusResponse, TxnRequest};
use super::{Inner, wall};
use crate::clock;
use crate::policy::idempotency::record::Millis;
use crate::records::{Cause, Kind};

/// The form of what is under the key.
const VERSION: u8 = 1;
/// The wait between two looks. They also tell whether the store answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time that a look has: it delays nobody.
const LOOK_MIN: Duration = Duration::from_secs(1);

/// A store that we have looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// The revision of its key.
    pub(crate) at: i64,
    /// When it was made, by the clock of the proxy that made it.
    pub(crate) born: Millis,
    /// Shared by all its proxies.
    pub(crate) secret: [u8; 32],
}

/// What is under the key.
#[derive(Serialize, Deserialize)]
struct Written {
    born: Millis,
    secret: [u8; 32],
    config: [u8; 32],
}

/// Looks at the store for ever.
pub(crate) async fn keep(inner: &Inner) {
    let mut size_known_for = 0_u32;
    loop {
        let before = inner.known_identity();
        match look(inner).await {
            Ok(identity) => {
                if before.is_none_or(|before| before.at != identity.at) {
                    tracing::info!(store = %inner.common.name, "etcd: the store is ready");
                }
                inner.found(identity);
                if size_known_for == 0 {
                    measure(inner).await;
                }
                size_known_for = (size_known_for + 1) % 10;
            }
            Err(cause) => inner.not_found(cause),
        }
        tokio::select! {
            () = clock::sleep(LOOK_EVERY) => {}
            () = inner.look_again.notified() => {}
            () = connected(inner), if before.is_none() => {}
        }
    }
}

/// At the start nobody waits longer than it takes to connect.
async fn connected(inner: &Inner) {
    while inner.cluster.channel().is_none() {
        clock::sleep(Duration::from_millis(5)).await;
    }
    // Connected, and yet not found: that is no reason to hurry.
    clock::sleep(Duration::from_millis(50)).await;
}

async fn look(inner: &Inner) -> Result<Identity, Cause> {
    let deadline = clock::now() + inner.op_timeout.max(LOOK_MIN);
    let key = inner.own_key();
    let get = vec![RequestOp::get(key.clone())];
    let question = TxnRequest { success: get.clone(), ..TxnRequest::default() };
    let answer = inner.cluster.read(&question, deadline).await.map_err(|trouble| trouble.cause)?;
    let found = answer.responses.first().and_then(|answer| answer.range.as_ref()?.kvs.first());
    if let Some(found) = found {
        return identity(inner, &found.value, found.mod_revision);
    }
    let mut written = Written { born: wall(), secret: [0; 32], config: inner.common.config };
    SystemRandom::new()
        .fill(&mut written.secret)
        .map_err(|_| Cause::new(Kind::Io, "the system gives no random bytes"))?;
    let mut value = vec![VERSION];
    value.extend(postcard::to_allocvec(&written).unwrap_or_default());
    let question = TxnRequest {
        compare: vec![Compare::unchanged(key.clone(), 0)],
        success: vec![RequestOp::put(key, value.clone(), 0)],
        failure: get,
    };
    // When its fate is not known the next look finds the key, or writes another one.
    let answer = inner.cluster.write(&question, deadline).await.map_err(|trouble| trouble.cause)?;
    if answer.succeeded {
        tracing::warn!(store = %inner.common.name, "etcd: the store was empty; it begins now");
        return identity(inner, &value, answer.header.map_or(0, |header| header.revision));
    }
    let found = answer.responses.first().and_then(|answer| answer.range.as_ref()?.kvs.first());
    let found =
        found.ok_or_else(|| Cause::new(Kind::Protocol, "the store's own key comes and goes"))?;
    identity(inner, &found.value, found.mod_revision)
}

fn identity(inner: &Inner, value: &[u8], at: i64) -> Result<Identity, Cause> {
    let unfit = |words: &str| {
        let key = String::from_utf8_lossy(&inner.own_key()).into_owned();
        Cause::new(Kind::Unfit, format_args!("{words} (key {key})"))
    };
    let written = match value.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes::<Written>(rest).ok(),
        _ => None,
    };
    let written = written.ok_or_else(|| unfit("what the store says of itself is not readable"))?;
    if written.config != inner.common.config {
        return Err(unfit(
            "the store belongs to proxies with other settings (fingerprint_key, namespaces); give \
             this one the same, or another prefix",
        ));
    }
    Ok(Identity { at, born: written.born, secret: written.secret })
}

async fn measure(inner: &Inner) {
    let deadline = clock::now() + inner.op_timeout.max(LOOK_MIN);
    let answer: Result<StatusResponse, _> =
        inner.cluster.once(STATUS, &StatusRequest {}, deadline).await;
    // It is for people, and for advice; the last measure stands.
    if let Ok(answer) = answer {
        inner.shares.measured(answer.in_use, answer.quota);
    }
}
