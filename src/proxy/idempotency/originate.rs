//! Beside the caller: a key for each request that has none, the same for all its attempts.
//!
//! With it a retry of an unsafe method is safe where the peer recognises keys, which the route says
//! or the peer's own answers do.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::Keyed;
use crate::clock;
use crate::policy::idempotency::fresh;
use crate::policy::idempotency::response::{self, Bypassed, Heard, Status};
use crate::policy::idempotency::settings::Role;
use crate::proxy::attempt::Tried;
use crate::proxy::context::Context;
use crate::snapshot::keys::Keys;
use crate::snapshot::route::Route;

/// Gives a request its key, if its route mints keys and it has none; and lets the answer to one
/// whose key is recognised nowhere say so.
pub fn mark(ctx: &mut Context, route: &Route, headers: &mut HeaderMap) {
    let Some(keys) = &route.keys else { return };
    match (keys.settings.role, keys.covers(&ctx.method)) {
        (Role::Originate, true) => mint(ctx, keys, headers),
        (Role::Enforce, false) if headers.contains_key(&keys.key_header) => {
            let status = Status::Bypassed(Bypassed::Route);
            keys.metrics.ended(&status);
            ctx.say(keys, &status);
        }
        _ => {}
    }
}

fn mint(ctx: &mut Context, keys: &Arc<Keys>, headers: &mut HeaderMap) {
    if !headers.contains_key(&keys.key_header) {
        let unix = clock::wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut random = [0; fresh::RANDOM];
        fastrand::fill(&mut random);
        let text = fresh::uuid_v7(super::millis(unix), random);
        let quoted = [b"\"", text.as_slice(), b"\""].concat();
        let Ok(value) = HeaderValue::from_bytes(&quoted) else { return };
        headers.insert(keys.key_header.clone(), value);
    }
    ctx.keyed = Some(Box::new(Keyed::new(Arc::clone(keys), None, None)));
}

/// Whether an attempt may be sent again in spite of its method: the peer recognises the key.
pub(super) fn judge(keys: &Keys, tried: &Tried) -> bool {
    if let Ok(answer) = &tried.answer {
        hear(keys, answer.response.headers());
    }
    keys.peer_enforces(tried.at)
}

/// Learns from an answer whether the peer recognises keys.
fn hear(keys: &Keys, headers: &HeaderMap) {
    let Some(value) = headers.get(&keys.status_header) else { return };
    match response::heard(value.as_bytes()) {
        Some(Heard::Answered | Heard::Rejected(_)) => {
            *keys.enforcing.lock() = Some(clock::now());
        }
        Some(Heard::Bypassed) => *keys.enforcing.lock() = None,
        None => {}
    }
}
