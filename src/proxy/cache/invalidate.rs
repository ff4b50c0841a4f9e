//! What an unsafe method that succeeded has made invalid (RFC 9111, 4.4).

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method};

use super::super::context::Context;
use super::super::headers::framing;
use super::{key_of, target_of};
use crate::policy::cache::reference::on_same_host;
use crate::snapshot::matcher::Target as Wanted;

/// Whether an answer to this method tells that it changed something.
#[must_use]
pub fn changes(method: &Method, status: u16) -> bool {
    !method.is_safe() && matches!(status, 200..=399)
}

/// Forgets the answers of the URI that was asked for, and of those that `Location` and
/// `Content-Location` of its answer name on the same host.
pub fn invalidate(ctx: &Context, request: &HeaderMap, answer: &HeaderMap) {
    if !ctx.worker.proxy.live().snapshot.keeps_answers {
        return;
    }
    let (host, own) = (framing::host_of(&ctx.uri, ctx.seen.host.as_ref()), target_of(&ctx.uri));
    forget(ctx, host, own, request);
    for name in [LOCATION, CONTENT_LOCATION] {
        let named = answer.get(name).and_then(|value| value.to_str().ok());
        let other = named.and_then(|named| on_same_host(host, own, named));
        if let Some(other) = other.filter(|other| other != own) {
            forget(ctx, host, &other, request);
        }
    }
}

/// Forgets the answers of a URI, on this route and on the one that a GET of it takes.
fn forget(ctx: &Context, host: &str, target: &str, request: &HeaderMap) {
    let key = key_of(host, target);
    if let Some(cache) = ctx.route.as_ref().and_then(|route| route.cache.as_ref()) {
        cache.invalidate(&key);
    }
    let live = ctx.worker.proxy.live();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let wanted = Wanted {
        listener: live.site(&ctx.peer.listener).map_or(0, |(index, _)| index),
        host,
        path,
        query,
        method: &Method::GET,
        headers: request,
    };
    let snapshot = &live.snapshot;
    let read = snapshot.matcher.find(&wanted).and_then(|found| snapshot.routes.get(found.index));
    if let Some(cache) = read.and_then(|route| route.cache.as_ref()) {
        cache.invalidate(&key);
    }
}
