//! Removal of fields that steer us, on sides that are not believed.

use http::{HeaderMap, HeaderName};

use super::names::OWN_PREFIX;

/// The fields that steer us, beside all of [`OWN_PREFIX`].
///
/// `grpc-timeout` and `grpc-previous-rpc-attempts` are not among them: they belong to the protocol
/// between the gRPC client and its server, and from us they can get only less, a shorter deadline
/// or fewer retries.
const STEERING: [&str; 5] = [
    "x-retry-attempt",
    "x-request-timeout-ms",
    "x-envoy-expected-rq-timeout-ms",
    "x-priority",
    "x-brownout",
];

/// Removes what only a trusted side may say: our own fields, the attempt number, deadlines and the
/// priority, also under the name that the configuration gives it. For listeners with `trust: none`;
/// before anything reads them.
pub fn strip_untrusted(headers: &mut HeaderMap, priority: &HeaderName) {
    // Nothing is collected, and so nothing allocated, in a request without such fields.
    let found: Vec<HeaderName> =
        headers.keys().filter(|name| steers(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
    headers.remove(priority);
}

fn steers(name: &str) -> bool {
    // Names in a map are lower case already.
    name.starts_with("x-") && (name.starts_with(OWN_PREFIX) || STEERING.contains(&name))
}

#[cfg(test)]
mod tests;
