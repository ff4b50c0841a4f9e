//! Requests under a key, through the whole proxy: one test for each case of the specification's
//! table of requests, R1 to R24, and what they have in common.

mod clients;
mod crashes;
mod outcomes;
mod partition;
mod rejected;
mod replayed;
mod shared;
mod stores;
mod stripe;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use outrigger::config::Environment;

use crate::support::caller::{Got, with_body};
use crate::support::service::{Act, Service};
use crate::support::sidecar::{Sidecar, config_with, eventually};

/// Nothing but the keys acts.
pub(crate) const ALONE: &str = "retry: { mode: off }, circuit_breaker: { mode: off }";
/// One principal, one store in memory.
pub(crate) const KEYED: &str = "store: s, scope: [none]";

/// A proxy whose route `r` recognises keys with these settings.
pub(crate) fn keyed(service: &Service, settings: &str) -> Sidecar {
    keyed_with(service, settings, ALONE, "memory: {}")
}

/// The same with more of the route, and another store.
pub(crate) fn keyed_with(service: &Service, settings: &str, route: &str, store: &str) -> Sidecar {
    keyed_at(service.address, settings, route, store)
}

/// The same in front of whatever is at this address.
pub(crate) fn keyed_at(to: SocketAddr, settings: &str, route: &str, store: &str) -> Sidecar {
    keyed_under("{ mode: off }", to, settings, (route, store))
}

/// The same under a limit of the upstream.
pub(crate) fn keyed_under(
    limit: &str,
    to: SocketAddr,
    settings: &str,
    (route, store): (&str, &str),
) -> Sidecar {
    let upstream =
        format!("endpoints: [\"{to}\"], ejection: {{ mode: off }}, concurrency: {limit}");
    let route = format!("idempotency: {{ {settings} }}, {route}");
    let text = config_with(1, &upstream, &route);
    Sidecar::start(&format!("{text}stores: {{ s: {{ {store} }} }}\n"))
}

/// Waits until the store can be used.
pub(crate) async fn ready(sidecar: &Sidecar) {
    let store = sidecar.app().proxy.stores.get("s").unwrap();
    eventually("the store is ready", async || store.health().ready).await;
}

/// A POST under a key.
pub(crate) fn post(key: &str, body: &'static str) -> Request<Full<Bytes>> {
    let mut request = with_body("POST", "/charges", body);
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

/// What an answer says of the key.
pub(crate) fn said(got: &Got) -> &str {
    got.header("idempotency-status").unwrap_or("nothing")
}

/// The code of a problem document.
pub(crate) fn code(got: &Got) -> String {
    let document: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    document["code"].as_str().unwrap().to_owned()
}

/// A service that answers each request with another body.
pub(crate) async fn counting() -> Service {
    Service::start(|seen| {
        const BODIES: [&str; 4] = ["first", "second", "third", "fourth"];
        let fields = vec![("x-of", seen.number.to_string()), ("set-cookie", "a=b".to_owned())];
        Act::Answer(201, fields, BODIES[seen.number.min(3)])
    })
    .await
}

/// Longer than anything here takes, shorter than a test may.
pub(crate) const SOON: Duration = Duration::from_millis(300);

/// An environment of one variable: a key of 32 bytes.
struct OneVariable(&'static str);

impl Environment for OneVariable {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        let value = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        Ok((name == self.0).then(|| value.to_owned()))
    }
    fn file(&self, _: &std::path::Path) -> Result<String, String> {
        Err("there are no files here".to_owned())
    }
}
